"""The gate that a comparison of arms has to pass first: the cue learnable, the shortcut preferred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .comparison import Comparison

LEARNABLE, PREFERRED = 0.90, 0.75


@dataclass(frozen=True)
class Gate:
    """Whether the data of a comparison can show that a shortcut was given up.

    Attributes:
        without_fingerprint: Mean AUC on unseen generators of cross-entropy trained without; None: not trained.
        with_fingerprint: The same, trained with it.
        planted: Whether the data has a planted fingerprint at all.
    """

    without_fingerprint: float | None
    with_fingerprint: float | None
    planted: bool = True

    @classmethod
    def of(cls, comparison: Comparison) -> Gate:
        """The gate of one network on one kind of data."""
        rows = (comparison.unspoilt, comparison.baseline)
        without, printed = (None if row is None else row.mean("auc_unseen") for row in rows)
        return cls(without, printed, "fingerprint" in comparison.data)

    @property
    def state(self) -> Literal["passed", "failed", "not run"]:
        """One failed half is enough; not run while a half is missing and the other does not fail."""
        halves = (self.learnable, self.preferred)
        return "failed" if False in halves else "not run" if None in halves else "passed"

    @property
    def learnable(self) -> bool | None:
        """Whether the visible cue is learnt where there is no fingerprint."""
        return None if self.without_fingerprint is None else self.without_fingerprint >= LEARNABLE

    @property
    def preferred(self) -> bool | None:
        """Whether the fingerprint is preferred; only asked where the gate is run at all."""
        if self.without_fingerprint is None or self.with_fingerprint is None:
            return None
        return self.with_fingerprint <= PREFERRED

    @property
    def verdict(self) -> str:
        """In a sentence."""
        if not self.planted:
            return "No gate: this data has no planted shortcut."
        if self.state == "not run":
            half = "without" if self.without_fingerprint is None else "with"
            return f"Gate not run: cross-entropy was not trained {half} fingerprint, so nothing shows that arms differ."
        if self.state == "passed":
            return "Gate passed: the visible cue can be learnt, and the shortcut is preferred to it."
        return "INVALID: the gate failed, so differences between arms say nothing of giving up a shortcut."

    @property
    def lines(self) -> list[str]:
        """Both halves with their numbers."""
        if self.without_fingerprint is None:
            return []
        lines = [
            f"Visible cue learnable: cross-entropy trained without fingerprint reaches {self.without_fingerprint:.3f} "
            f"AUC on unseen generators (at least {LEARNABLE:.2f}): {_word(self.learnable)}."
        ]
        if self.with_fingerprint is not None:
            lines.append(
                f"Shortcut preferred: cross-entropy trained with fingerprint reaches {self.with_fingerprint:.3f} "
                f"(at most {PREFERRED:.2f}): {_word(self.preferred)}."
            )
        return lines


def _word(passed: bool | None) -> str:
    return "passed" if passed else "FAILED"
