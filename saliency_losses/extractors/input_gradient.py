"""The gradient of the score with respect to the input."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from saliency_losses.extractors.base import (
    EXTRACTORS,
    Explanation,
    Run,
    SaliencyExtractor,
    call_model,
    detached,
    gradients_on,
    own_leaf,
)
from saliency_losses.extractors.gradient import gradient
from saliency_losses.extractors.runs import TappingRun
from saliency_losses.extractors.score import Score, check_score, scores

__all__ = ["InputGradient", "Reduce", "check_reduce", "pick_input", "reduce_channels"]

Reduce = Literal["abs_max", "abs_mean", "mean", "sum", "l2", "none"]


def reduce_channels(grad: Tensor, reduce: Reduce, channel_axis: int = 1) -> Tensor:
    r"""One value per position from the channels of an attribution.

    Args:
        grad: (B, C, \*s), or with another channel axis.
        reduce: ``"abs_max"`` (Simonyan et al. 2014), ``"abs_mean"``, ``"mean"`` (signed, as Harmonization does),
            ``"sum"`` (signed), ``"l2"``, or ``"none"`` for inputs without a channel axis.
        channel_axis: Where the channels are.

    Example:
        >>> reduce_channels(torch.tensor([[[3.0], [-4.0]]]), "l2")
        tensor([[5.]])
    """
    if reduce == "none":
        return grad
    if reduce in ("mean", "sum"):
        return grad.mean(channel_axis) if reduce == "mean" else grad.sum(channel_axis)
    if reduce == "l2":
        norm: Tensor = torch.linalg.vector_norm(grad, dim=channel_axis)
        return norm
    size = grad.abs()
    return size.amax(channel_axis) if reduce == "abs_max" else size.mean(channel_axis)


def check_reduce(reduce: Reduce) -> Reduce:
    """``reduce`` itself, if it is one.

    Raises:
        ValueError: It is not.
    """
    if reduce not in get_args(Reduce):
        raise ValueError(f"reduce must be one of {', '.join(get_args(Reduce))}, got {reduce!r}.")
    return reduce


@EXTRACTORS.register("input_gradient")
class InputGradient(SaliencyExtractor):
    r"""The input gradient: how the score changes with each pixel.

    .. math:: S(b, i) = \operatorname{reduce}_c\, \partial y_b / \partial x(b, c, i)

    Training through it differentiates the whole model twice, about 2.5 times the cost of a plain step.

    With BatchNorm in train mode the scores of a batch depend on all of its samples, and so does the map.

    Args:
        reduce: Over channels, see :func:`~saliency_losses.extractors.input_gradient.reduce_channels`.
        score: What to explain: ``"true"`` (the given class), ``"predicted"``, ``"contrast"`` (the given class minus the
            strongest other), a class index, or ``(output, targets)`` to (B,); see
            :data:`~saliency_losses.extractors.score.Score`.
        input: Which input to explain, where the model takes several: its position or keyword.

    Raises:
        ValueError: On a call: no, or more than one, floating-point input to choose from, or one without influence.
        RuntimeError: On a call with gradients: something in the model has no double backward.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Flatten(), torch.nn.Linear(48, 4), torch.nn.SiLU(), torch.nn.Linear(4, 2))
        >>> InputGradient()(net, torch.rand(5, 3, 4, 4), torch.tensor([0, 1, 1, 0, 1])).saliency.shape
        torch.Size([5, 4, 4])

    Reference:
        Simonyan et al., Deep Inside Convolutional Networks, ICLR workshop 2014; as a training signal: Ross et al.,
        Right for the Right Reasons, IJCAI 2017.
    """

    order = 2
    compiles = True

    def __init__(self, *, reduce: Reduce = "abs_max", score: Score = "true", input: int | str | None = None) -> None:
        super().__init__()
        self.reduce = check_reduce(reduce)
        self.score = check_score(score)
        self.input = input

    def forward(
        self, model: torch.nn.Module, inputs: Any, classes: Tensor | None, *, run: Run | None = None
    ) -> Explanation:
        """See :meth:`SaliencyExtractor.forward`."""
        if isinstance(run, TappingRun) and run.traced:
            pixels, rebuild = pick_input(inputs, self.input, leaf=False)
            output, _, score, (grad,) = run.differentiate_input(
                model, pixels, rebuild, lambda output: scores(self.score, output, classes)
            )
            return Explanation(output, reduce_channels(grad, self.reduce, score.ndim))
        keep = torch.is_grad_enabled()
        with gradients_on() as usable:
            inputs, classes = usable((inputs, classes))
            pixels, rebuild = pick_input(inputs, self.input)
            output = (run or call_model)(model, rebuild(pixels.clone()))
            score = scores(self.score, output, classes)
            grad = gradient(score, pixels, "the input", create_graph=keep)
            saliency = reduce_channels(grad, self.reduce, score.ndim)
        return Explanation(output, saliency) if keep else Explanation(detached(output), saliency.detach())


def pick_input(
    inputs: Any, which: int | str | None = None, *, leaf: bool = True
) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """The input to explain, as a tensor to differentiate with respect to, and what puts one back among the inputs.

    Args:
        inputs: A tensor, or a pytree of tensors.
        which: Position or keyword of the input; by default the only floating-point tensor.
        leaf: Whether it must be on the graph.

    Raises:
        ValueError: There is no such input, or not exactly one to choose from.
    """
    paths, layout = pytree.tree_flatten_with_path(inputs)
    keys = [getattr(path[0], "idx", getattr(path[0], "key", None)) if path else None for path, _ in paths]
    leaves = [leaf for _, leaf in paths]
    fitting = [
        number
        for number, leaf in enumerate(leaves)
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and which in (None, keys[number])
    ]
    if len(fitting) != 1:
        found = {key: tuple(leaf.shape) for key, leaf in zip(keys, leaves, strict=True) if isinstance(leaf, Tensor)}
        raise ValueError(
            f"input={which!r} fits {len(fitting)} floating-point tensors among the inputs {found}, expected one; name "
            "it by position or keyword: InputGradient(input=...)."
        )
    number = fitting[0]
    pixels = leaves[number]
    if leaf and not pixels.requires_grad:
        pixels = own_leaf(pixels)

    def rebuild(tensor: Tensor) -> Any:
        return pytree.tree_unflatten([*leaves[:number], tensor, *leaves[number + 1 :]], layout)

    return pixels, rebuild
