"""What TensorBoard shows of a training."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import torch
from torch.utils.tensorboard import SummaryWriter

import saliency_losses as sl
from saliency_losses.viz import grid

from .sources.base import Batch


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

    @torch.no_grad()
    def show(self, compared: sl.SaliencyGuidedLoss, batch: Batch, epoch: int) -> None:
        """Draws where the network looks on some images, and where people look."""
        maps = compared.eval().explain(batch["images"], batch["targets"])
        picture = grid(batch["images"].float().cpu(), batch["human_saliency"].float().cpu(), maps.float().cpu())
        self.writer.add_image("validation", picture, epoch, dataformats="HWC")
