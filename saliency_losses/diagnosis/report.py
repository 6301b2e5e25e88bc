"""What a preflight found, as data and as text."""

import math
import textwrap
from dataclasses import dataclass, replace

from saliency_losses.diagnosis.facts import Finding, GradientNorms, Reached, Severity, StepCost

__all__ = ["Preflight"]

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")
_SHOWN = 4
_WIDTH = 100


@dataclass(frozen=True)
class Preflight:
    r"""What :func:`~saliency_losses.diagnosis.preflight` found; ``print`` it.

    Attributes:
        findings: Errors first.
        extractor: As it prints.
        layer: Where the map is taken: a layer's name, or words for another place; ``None`` where that is not known.
        why_layer: Why there.
        map_shape: Of the model's maps, (B, \*s) or (B, K, \*s); ``None`` if none was taken.
        human_shape: Of the human maps; ``None`` if there are none.
        reached: Which parameters the saliency loss trains; ``None`` if that could not be found out.
        gradients: How both terms' gradients compare; ``None`` likewise.
        step: What a step costs; ``None`` likewise, or unless asked for.
    """

    findings: tuple[Finding, ...] = ()
    extractor: str = ""
    layer: str | None = None
    why_layer: str = ""
    map_shape: tuple[int, ...] | None = None
    human_shape: tuple[int, ...] | None = None
    reached: Reached | None = None
    gradients: GradientNorms | None = None
    step: StepCost | None = None

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings and notes may stand."""
        return not self.of("error")

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def sorted(self) -> "Preflight":
        """The same, errors first and no code twice."""
        by_code: dict[str, Finding] = {}
        for finding in sorted(self.findings, key=lambda finding: _ORDER.index(finding.severity)):
            by_code.setdefault(finding.code, finding)
        return replace(self, findings=tuple(by_code.values()))

    def __str__(self) -> str:
        counts = [(len(self.of(severity)), severity) for severity in _ORDER]
        told = ", ".join(f"{count} {severity}{'s' if count > 1 else ''}" for count, severity in counts if count)
        lines = [f"Preflight: {'ready' if self.ok else 'not ready'}{', ' + told if told else ''}"]
        lines += [line for key, text in self._facts() for line in _hanging(f"  {key:<11}", text)]
        for finding in self.findings:
            lines += ["", *_hanging(f"  {finding.severity:<11}", f"{finding.code}: {finding.message}")]
            lines += _hanging(f"  {'':<11}-> ", finding.remedy)
        return "\n".join(lines)

    def _facts(self) -> list[tuple[str, str]]:
        facts = [("extractor", self.extractor)]
        if self.layer is not None:
            facts.append(("layer", f"{self.layer} ({self.why_layer})"))
        if self.map_shape is not None:
            human = f", human maps {_sizes(self.human_shape)}" if self.human_shape else ""
            facts.append(("map", f"{_sizes(self.map_shape)}{human}"))
        if self.reached is not None:
            names, missed = self.reached.names, self.reached.missed
            more = f" and {len(missed) - _SHOWN} more" if len(missed) > _SHOWN else ""
            but = f"; not {', '.join(missed[:_SHOWN])}{more}" if missed else ""
            total = len(names) + len(missed)
            share = math.floor(1000 * self.reached.share) / 10
            facts.append(("reached", f"{len(names)} of {total} trainable tensors, {share}% of their values{but}"))
        if self.gradients is not None and self.gradients.task:
            facts.append(("gradients", f"saliency / task = {self.gradients.ratio:.2g}, weighted, where both reach"))
        if self.step is not None:
            step = self.step
            facts.append(
                (
                    "step",
                    f"guided {step.guided_seconds:.3g} s, plain {step.plain_seconds:.3g} s ({step.time_ratio:.2f}x); "
                    f"memory {_mebi(step.guided_bytes)}, {_mebi(step.plain_bytes)} ({step.memory_ratio:.2f}x)",
                )
            )
        return facts


def _hanging(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _mebi(count: int) -> str:
    return f"{count / 2**20:.3g} MiB"
