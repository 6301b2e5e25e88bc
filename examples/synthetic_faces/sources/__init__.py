"""Where training, validation and test images come from."""

import argparse
from typing import Any

from examples.synthetic_faces.networks import input_size
from examples.synthetic_faces.plan import Plan

from . import und_layout
from .base import Batch, Batches, Source
from .rendered import RenderedSource
from .und import UndSource

__all__ = [
    "Batch",
    "Batches",
    "RenderedSource",
    "Source",
    "UndSource",
    "add_arguments",
    "from_arguments",
    "from_description",
    "to_arguments",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command line says about data."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", choices=("rendered", "und"), default="rendered", help="(default: %(default)s)")
    group.add_argument(
        "--fingerprint",
        choices=("outside", "face", "marked", "none"),
        default="outside",
        help="where rendered generators leave theirs; none: the training generator leaves none (default: %(default)s)",
    )
    group.add_argument(
        "--drawn",
        choices=("test", "development"),
        default="test",
        help="which test faces and unseen generators: those of the study's claims, or those it was developed on "
        "(default: %(default)s)",
    )
    und_layout.add_arguments(parser)


def from_arguments(options: argparse.Namespace, plan: Plan) -> Source:
    """The source that the command line names.

    Raises:
        ValueError: It cannot be had; the message says why.
    """
    if options.data == "und":
        return UndSource(und_layout.Layout.find(options), input_size(plan.network))
    return RenderedSource(plan.images, plan.validation, plan.test, options.fingerprint, options.drawn)


def from_description(data: dict[str, Any]) -> Source:
    """The source that :meth:`Source.describe` described."""
    if data["kind"] == "und":
        return UndSource(und_layout.Layout.from_description(data), data["size"])
    return RenderedSource(data["images"], data["validation"], data["test"], data["fingerprint"], data["drawn"])


def to_arguments(data: dict[str, Any]) -> list[str]:
    """What to say on the command line for the source that :meth:`Source.describe` described."""
    if data["kind"] == "und":
        return ["--data", "und", *und_layout.Layout.from_description(data).arguments()]
    return ["--data", data["kind"], "--fingerprint", data["fingerprint"], "--drawn", data["drawn"]]
