"""One training: an arm, a plan and a seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .arm import Arm
from .plan import Plan
from .sources.base import Source


@dataclass(frozen=True)
class Trial:
    """What is trained, how, and with which seed."""

    arm: Arm
    plan: Plan
    seed: int

    def settings(self, source: Source) -> dict[str, Any]:
        """Everything that the result depends on; a folder with other settings is another training's."""
        arm = {key: value for key, value in asdict(self.arm).items() if key != "title"}
        return {"arm": arm, "plan": asdict(self.plan), "seed": self.seed, "data": source.describe()}
