"""One minus the structural similarity of the maps."""

from importlib.metadata import version

import torch
from torch import Tensor

from saliency_losses.divergences.base import DIVERGENCES, Divergence, Reads, masked_mean
from saliency_losses.divergences.normalizer import Normalizer
from saliency_losses.divergences.scales import MINMAX, RAW
from saliency_losses.sizing import Sizing

__all__ = ["SSIM"]


@DIVERGENCES.register("ssim")
class SSIM(Divergence):
    r"""One minus the mean structural similarity of maps from 0 to 1.

    .. math:: 1 - \frac{1}{N} \sum_i \frac{(2 \mu_m \mu_h + c_1)(2 \sigma_{mh} + c_2)}
        {(\mu_m^2 + \mu_h^2 + c_1)(\sigma_m^2 + \sigma_h^2 + c_2)}

    Means, variances and covariance are those of a Gaussian window of deviation 1.5 around position i, beyond the border
    of the mirrored maps; :math:`c_1 = 0.01^2`, :math:`c_2 = 0.03^2`. From 0 (same map) to 2; symmetric. Computed by
    kornia, on maps of two or three axes, and in float64 where the device has it: variances are small differences of
    large numbers, which convolutions in TF32, the default of GPUs, lose.

    A flat map counts as all zeros, and its structure is unlike any but a flat one's: it costs nearly 1 against a human
    map that has something everywhere, and gets no gradient; an annotated but empty human map asks the model for a
    flat map. Unknown cells are zeros on both sides, and left out of the mean.

    Args:
        window: How many positions wide the window is, an odd number; maps need more than half of it per axis. The
            original's is 11; 7 fits class activation maps of 7x7.
        normalize: Of the model's map: a normaliser, or its name.
        human_normalize: Of the human map; under ``"none"`` it must lie in [0, 1].
        sizing: How both maps come to one size.

    Raises:
        ValueError: An option has an unknown value, or the window is even.
        RuntimeError: Maps have three axes, and kornia is older than 0.9.

    Example:
        >>> maps = torch.eye(7)[None]
        >>> SSIM()(torch.cat([maps, maps.flip(1)]), maps.repeat(2, 1, 1)).round(decimals=4)
        tensor([0.0000, 0.9482])

    Reference:
        Wang, Bovik, Sheikh and Simoncelli, Image Quality Assessment: From Error Visibility to Structural Similarity,
        IEEE Transactions on Image Processing 2004.
    """

    spatial = True
    ranks = (2, 3)

    def __init__(
        self,
        *,
        window: int = 7,
        normalize: str | Normalizer = MINMAX,
        human_normalize: str | Normalizer = MINMAX,
        sizing: Sizing = "area",
    ) -> None:
        super().__init__(normalize=normalize, human_normalize=human_normalize, sizing=sizing)
        if window < 3 or window % 2 == 0:
            raise ValueError(f"window must be an odd number of positions, 3 or more, got {window}.")
        self.window = window
        self.smallest = window // 2 + 1
        self.reads: Reads = "mask" if self.human_normalize == RAW else "saliency"

    def compare(self, model: Tensor, human: Tensor, known: Tensor | None) -> Tensor:
        """See :meth:`Divergence.compare`."""
        from kornia.metrics import ssim, ssim3d

        if model.ndim == 4 and version("kornia").split(".")[:2] == ["0", "8"]:
            raise RuntimeError(
                f"kornia {version('kornia')} gives a wrong similarity of maps of three axes; install 0.9 or newer."
            )
        similarity = ssim if model.ndim == 3 else ssim3d
        exact = model.dtype if model.device.type == "mps" else torch.float64
        local = similarity(model.to(exact).unsqueeze(1), human.to(exact).unsqueeze(1), self.window, eps=0.0)
        return 1.0 - masked_mean(local.to(model.dtype).flatten(1), None if known is None else known.flatten(1))
