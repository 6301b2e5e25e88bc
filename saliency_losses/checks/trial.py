"""The guided step that preflight tries, on copies of the batch and of the loss, and what it shows."""

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from saliency_losses.checks import gradients, maps, structure
from saliency_losses.checks.cost import step_cost
from saliency_losses.checks.facts import Finding, StepCost
from saliency_losses.checks.failures import as_finding
from saliency_losses.checks.report import Preflight
from saliency_losses.checks.sandbox import changes, fresh
from saliency_losses.checks.survey import survey
from saliency_losses.checks.wrappers import wrappers
from saliency_losses.extractors.auto import Auto
from saliency_losses.extractors.base import call_model
from saliency_losses.extractors.gradient import hides_parameters
from saliency_losses.extractors.modules import compiled_on_the_way, unwrap
from saliency_losses.guided import LossOutput, SaliencyGuidedLoss
from saliency_losses.human import read_human
from saliency_losses.inputs import asks_for_several
from saliency_losses.task import task_term
from saliency_losses.weighting import Scheduled, Weighting

__all__ = ["Trial"]

_PARALLEL = (DistributedDataParallel, nn.DataParallel)


class Trial:
    """The step, on copies of the batch and a copy of the loss that holds the same model."""

    def __init__(self, loss: SaliencyGuidedLoss, batch: tuple[Any, Any, Any], options: dict[str, Any]) -> None:
        self.original = loss
        self.loss = SaliencyGuidedLoss.__new__(SaliencyGuidedLoss)
        vars(self.loss).update(vars(loss))
        bare = loss.model.module if isinstance(loss.model, _PARALLEL) else loss.model
        self.loss._modules = {**loss._modules, "model": bare, "weighting": _weighting(loss.weighting)}
        self.loss.gradient_sync = "none"
        self.loss.check_values = True
        self.images, self.targets, self.human = batch
        self.options = options
        self.found: list[Finding] = []
        self.behind: set[str] = set()

    def report(self, outer: nn.Module, *, time: bool) -> Preflight:
        """Everything that can be found."""
        loss = self.loss
        shape = None if self.human is None else tuple(self.human.shape)
        report = Preflight(extractor=str(loss.extractor), human_shape=shape)
        self.found += wrappers(self.original, outer)
        possible = not {"uninitialised", "sharded"} & {finding.code for finding in self.found}
        self.found += structure.modes(loss)
        self.found += structure.precision(loss.model, self.images)
        self.found += maps.image_values(self.images)
        if possible and loss.weighting.needs_saliency:
            if compiled_on_the_way(loss.model) is None:
                with self._failing():
                    report = self._look(report)
            with self._failing():
                report = self._step(report, time)
                if report.layer is None and hasattr(loss.extractor, "layer"):
                    report = self._look(report)  # which layer of tokens counts, the step has told
        return dataclasses.replace(report, findings=tuple(self.found))

    def _look(self, report: Preflight) -> Preflight:
        """Where the map is taken, and what lies behind."""
        loss = self.loss
        seen = survey(loss.model, fresh(self.images), loss.run)
        extractor = loss.extractor
        if isinstance(extractor, Auto):
            extractor = extractor.choose(loss.model, fresh(self.images), run=loss.run)
            report = dataclasses.replace(report, extractor=f"{loss.extractor}, here {extractor}")
        source = seen.source(extractor)
        if source is None:
            return report
        behind = seen.behind(source)
        self.found += structure.behind_the_layer(source, behind, extractor, unwrap(loss.model).training)
        self.behind = set(behind) if source.tap is not None else set()
        return dataclasses.replace(report, layer=source.place, why_layer=source.why)

    def _step(self, report: Preflight, time: bool) -> Preflight:
        """What a step gives: the second, since the first of a model goes another way."""
        loss, parameters = self.loss, gradients.trainable(self.loss.model)
        versions = {name: parameter._version for name, parameter in parameters.items()}
        self._guided(fresh(self.images))
        images = fresh(self.images)
        out = self._guided(images)
        self.found += changes(images, parameters, versions)
        human = None
        if out.model_saliency is not None:
            report = dataclasses.replace(report, map_shape=tuple(out.model_saliency.shape))
            several = asks_for_several(self.options.get("classes"))
            if self.human is not None:
                human = read_human(self.human, self.options.get("annotated"), out.model_saliency, several)
            self.found += maps.model_maps(out.model_saliency.flatten(0, int(several)), human, loss.extractor)
        told = loss.divergence.empty_is_suspicious and self.options.get("annotated") is None
        priors = [part.reads == "nothing" for _, part in loss.divergence.terms()]
        if not all(priors):
            self.found += maps.human_maps(human, empty_is_suspicious=told, priors=any(priors))
        if any(priors) or (human is not None and bool(human.annotated.any())):
            report = self._gradients(report, out, parameters)
        del out
        if time and report.reached is not None:
            report = dataclasses.replace(report, step=self._cost(parameters))
        return report

    def _gradients(self, report: Preflight, out: LossOutput, parameters: dict[str, Tensor]) -> Preflight:
        """Whom the saliency loss reaches, and how much."""
        if hides_parameters(out.loss):
            self.found.append(
                Finding(
                    "note",
                    "reentrant_checkpoint",
                    "Reentrant checkpointing, below the layer, hides which parameters the saliency loss reaches.",
                    "Checkpoint with use_reentrant=False, at the same cost.",
                )
            )
            return report
        terms = gradients.term_gradients(out, self.loss.weighting, parameters)
        if all(finding.severity != "error" for finding in self.found):
            self.found += gradients.gradient_findings(terms, out, self.loss.weighting, self.behind)
        return dataclasses.replace(report, reached=terms.reached, gradients=terms.norms)

    def _cost(self, parameters: dict[str, Tensor]) -> StepCost:
        def guided() -> Tensor:
            return self._guided(fresh(self.images)).loss.mean()

        known = [*self.loss.parameters(), *self.loss.buffers()]
        return step_cost(self._plain, guided, list(parameters.values()), known)

    def _guided(self, images: Any) -> LossOutput:
        out: LossOutput = self.loss(images, self.targets, self.human, **self.options)
        return out

    def _plain(self) -> Tensor:
        loss = self.loss
        output = (loss.run or call_model)(loss.model, fresh(self.images))
        weight, own = (self.options.get(name) for name in ("sample_weight", "task_sample_weight"))
        return task_term(loss.task_loss, output, self.targets, weight, own_weight=own, per_sample=False)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn what is raised inside into a finding."""
        try:
            yield
        except Exception as error:
            self.found.append(as_finding(error))


def _weighting(weighting: Weighting) -> Weighting:
    """A copy for this process alone; one that only its schedule switches off is switched on, to be examined."""
    own = copy.deepcopy(weighting)
    own.together = False
    return own.unscheduled() if isinstance(own, Scheduled) and own.scheduled_off else own
