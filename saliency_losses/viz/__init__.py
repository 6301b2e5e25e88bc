"""Pictures of maps: uint8 arrays (H, W, 3), or (B, H, W, 3) for batches, that every viewer takes as they are.

That is ``PIL.Image.fromarray``, ``matplotlib.pyplot.imshow``, ``SummaryWriter.add_image(..., dataformats="HWC")`` and
``wandb.Image``. Needs matplotlib and Pillow: ``pip install "saliency-losses[viz]"``.
"""

from saliency_losses.viz.average import average_map
from saliency_losses.viz.grid import grid
from saliency_losses.viz.overlay import overlay

__all__ = ["average_map", "grid", "overlay"]
