"""What TensorBoard shows of a training."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter


class Journal:
    """Writes each epoch's numbers once, also where an epoch is trained again after a kill.

    Args:
        folder: The training's.
        epoch: The epoch that comes first; what was written of it and of later ones counts no more.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.close()

    def write(self, entry: dict[str, float]) -> None:
        """Writes one epoch's numbers."""
        for name, value in entry.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, int(entry["epoch"]))
        self.writer.flush()
