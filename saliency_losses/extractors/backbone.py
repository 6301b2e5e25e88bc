"""Which modules of a model have finished before a tensor is tapped, and may be compiled whatever comes after."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from torch import nn

from saliency_losses.extractors.capture import Tap
from saliency_losses.extractors.modules import is_compiled, named_layers, unwrap

__all__ = ["modules_below"]


def modules_below(model: nn.Module, taps: list[Tap], call: Callable[[], Any]) -> list[nn.Module]:
    """The largest modules with parameters of which every call is over before the first tap.

    Args:
        model: The model.
        taps: Where tensors are tapped.
        call: One forward pass.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 5))
        >>> modules_below(net, [Tap("1", "output")], lambda: net(torch.ones(1, 2)))
        [Linear(in_features=2, out_features=3, bias=True)]
    """
    events: list[tuple[str, str]] = []
    with ExitStack() as stack:
        for name, module in named_layers(model):
            enter, leave = _noting(events, "enter", name), _noting(events, "leave", name)
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        call()
    last = {name: number for number, (_, name) in enumerate(events)}
    limit = min(_when(events, tap) for tap in taps)
    return list(_largest(unwrap(model), "", lambda name: last.get(name), limit))


def _noting(events: list[tuple[str, str]], what: str, name: str) -> Callable[..., None]:
    return lambda *_: events.append((what, name))


def _when(events: list[tuple[str, str]], tap: Tap) -> int:
    event = "enter" if tap.place == "input" else "leave", tap.module
    return [number for number, seen in enumerate(events) if seen == event][(tap.call or 1) - 1]


def _largest(module: nn.Module, name: str, last: Callable[[str], int | None], limit: int) -> Iterator[nn.Module]:
    for part, child in module.named_children():
        path = f"{name}.{part}".lstrip(".")
        over = last(path)
        if over is not None and over < limit:
            if next(child.parameters(), None) is not None and not is_compiled(child):
                yield child
        else:
            yield from _largest(unwrap(child), path, last, limit)
