"""torchvision, or an error that says how to get it."""

try:
    from torchvision import tv_tensors
    from torchvision.transforms import v2
except ImportError as error:
    raise ImportError(
        'SaliencyMap and JointTransform need torchvision: pip install "saliency-losses[vision]".'
    ) from error

__all__ = ["tv_tensors", "v2"]
