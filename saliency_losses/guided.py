"""The saliency-guided loss: one forward pass of the model, two terms, one number."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from saliency_losses.denominator import Denominator, check_denominator
from saliency_losses.distributed import check_synchronised, check_wrappers
from saliency_losses.divergences.base import DIVERGENCES, Divergence
from saliency_losses.extractors.base import (
    EXTRACTORS,
    Explanation,
    LayerExplanation,
    Run,
    SaliencyExtractor,
    call_model,
)
from saliency_losses.extractors.gradient import reaches_parameter
from saliency_losses.extractors.prepared_run import PreparedRun
from saliency_losses.human import HumanMaps, check_given, read_human
from saliency_losses.human_values import check_values, warn_of_lost, warn_of_negative
from saliency_losses.inputs import as_classes, asks_for_several, batch_size, tensors_of
from saliency_losses.prepared import prepare
from saliency_losses.task import TaskLoss, joint_weight, task_term
from saliency_losses.term import Compared, divisors_of, has_prior, names_of_parts, saliency_term
from saliency_losses.weighting import Additive, Convex, Weighting
from saliency_losses.weighting.base import WEIGHTINGS

__all__ = ["LossOutput", "SaliencyGuidedLoss"]

_CHECKED_CALLS = 10


class LossOutput(NamedTuple):
    r"""What a guided step gives; a pytree.

    Attributes:
        loss: To call ``backward`` on.
        task_loss: The task's term, not weighted.
        saliency_loss: The saliency's term, not weighted; one value per map under ``reduction="none"``.
        output: What the model returned.
        model_saliency: The model's maps, raw and off the graph, (B, \*s) or (B, K, \*s); ``None`` if none was taken.
        parts: The saliency term by part of the divergence, not weighted, off the graph.
    """

    loss: Tensor
    task_loss: Tensor
    saliency_loss: Tensor
    output: Any
    model_saliency: Tensor | None
    parts: dict[str, Tensor]


class SaliencyGuidedLoss(nn.Module):
    r"""A task loss plus the divergence between where the model looks and where people look.

    .. math:: L = \alpha\, L_{task} + (1 - \alpha)\, \frac{1}{|A|} \sum_{b \in A} D(S_b, H_b)

    over the annotated maps A. The loss holds the model, so that wrappers and optimisers see its parameters; the
    model itself stays as it was. A batch without a map has saliency term 0 and the same alpha.

    Args:
        model: Any module.
        extractor: Finds where it looks: a name or an instance.
        divergence: Compares the maps: a name or an instance.
        alpha: Share of the task, in [0, 1]; 0.5 unless ``saliency_weight`` is given. It scales the task's gradient
            too, so a small alpha also lowers the task's learning rate.
        saliency_weight: Instead of alpha: ``task + saliency_weight * saliency``.
        weighting: Instead of both: another way to combine the terms, a name or an instance.
        task_loss: ``(output, targets)`` to a scalar, or to one value per sample, (B,); by default
            :func:`~saliency_losses.task.cross_entropy`.
        denominator: What the sum over annotated maps is divided by: ``"annotated"`` (their number), ``"batch"`` (the
            number of maps, annotated or not), ``"sum"`` (one), or a number. In grad mode under ``torch.distributed``
            counts and numbers are those of all processes together. Priors on the model's map are for all maps, and a
            number does not speak of them: theirs is the number of maps.
        reduction: ``"mean"``, or ``"none"`` for one loss per sample and one saliency value per map, zero where there is
            no human map; the denominator then plays no part.
        forward: ``(model, inputs)`` to the output, where :func:`~saliency_losses.extractors.call_model` does not do.
        check_values: Whether values of human maps are checked (finite, in the divergence's range, not empty). By
            default on each call for tensors on the CPU, and on the first 10 calls elsewhere, since it waits for the
            device.
        gradient_sync: Who averages gradients where several processes train: a ``"wrapper"`` (any other case is
            refused), the caller (``"manual"``), or nobody, since they train apart (``"none"``: counts are their own).

    Raises:
        ValueError: An unknown name or option, or more than one of alpha, ``saliency_weight`` and ``weighting``.
        TypeError: A part is of the wrong kind.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> guided = SaliencyGuidedLoss(net, extractor="cam", divergence="mse", alpha=0.5)
        >>> images, labels, human_saliency = torch.rand(4, 3, 9, 9), torch.tensor([0, 1, 1, 0]), torch.rand(4, 9, 9)
        >>> out = guided(images, labels, human_saliency)
        >>> out.loss.backward()
        >>> out.model_saliency.shape
        torch.Size([4, 7, 7])

    Reference:
        Boyd et al., CYBORG: Blending Human Saliency Into the Loss Improves Deep Learning, WACV 2023.
    """

    def __init__(
        self,
        model: nn.Module,
        extractor: str | SaliencyExtractor = "cam",
        divergence: str | Divergence = "mse",
        *,
        alpha: float | None = None,
        saliency_weight: float | None = None,
        weighting: str | Weighting | None = None,
        task_loss: TaskLoss | None = None,
        denominator: Denominator = "annotated",
        reduction: Literal["mean", "none"] = "mean",
        forward: Run | None = None,
        check_values: bool | None = None,
        gradient_sync: Literal["wrapper", "manual", "none"] = "wrapper",
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
        if sum(option is not None for option in (alpha, saliency_weight, weighting)) > 1:
            raise ValueError("alpha, saliency_weight and weighting exclude each other; give one.")
        if reduction not in ("mean", "none"):
            raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}.")
        if gradient_sync not in ("wrapper", "manual", "none"):
            raise ValueError(f"gradient_sync must be 'wrapper', 'manual' or 'none', got {gradient_sync!r}.")
        if task_loss is not None and (isinstance(task_loss, type) or not callable(task_loss)):
            raise TypeError(
                f"task_loss must be a callable(output, targets), such as nn.CrossEntropyLoss(), got {task_loss!r}."
            )
        self.model = model
        self.extractor = EXTRACTORS.resolve(extractor)
        self.divergence = DIVERGENCES.resolve(divergence)
        if weighting is None:
            weighting = (
                Additive(saliency_weight) if saliency_weight is not None else Convex(0.5 if alpha is None else alpha)
            )
        self.weighting = WEIGHTINGS.resolve(weighting)
        self.weighting.together = gradient_sync != "none"
        self.weighting.to(next((p.device for p in model.parameters() if not p.is_meta), None))
        self.task_loss = task_loss
        self.denominator = check_denominator(denominator)
        self.reduction = reduction
        self.run = forward
        self.check_values = check_values
        self.gradient_sync = gradient_sync
        self._prepared: dict[bool, PreparedRun] = {}
        self._calls = 0
        self._warned_of_empty = False
        self._warned_of_lost = False
        self._warned_of_negative = False

    def forward(
        self,
        images: Any,
        targets: Any,
        human_saliency: Tensor | None,
        *,
        annotated: Tensor | None = None,
        classes: Tensor | None = None,
        sample_weight: Tensor | None = None,
        task_sample_weight: Tensor | None = None,
        saliency_sample_weight: Tensor | None = None,
        denominator: Denominator | None = None,
    ) -> LossOutput:
        r"""One guided step: the loss and what it is made of.

        Args:
            images: What the model takes: a tensor, a tuple or list (positional) or a mapping (keywords).
            targets: What the task loss takes; by default class indices (B,), where -100 is ignored and its map too, or
                probabilities (B, C).
            human_saliency: (B, \*S) or (B, 1, \*S), at any size; (B, K, \*S) for ``classes`` of shape (B, K). Float,
                uint8 (scaled from 0..255), int8 (-1, 0, 1) or bool. ``None`` means that no sample has a map; priors
                on the model's map apply all the same.
            annotated: Which samples have a map, (B,); which maps exist, (B, K); or which pixels are known, in the shape
                of the maps. All by default. What is not annotated may hold anything.
            classes: Which class each map explains, (B,) or (B, K); the targets by default.
            sample_weight: Factor for each sample's terms, both of them, (B,); it does not enter the denominator. See
                :func:`~saliency_losses.weighting.relative_weights`.
            task_sample_weight: Factor for the task's terms alone, (B,).
            saliency_sample_weight: Factor for the saliency's alone, (B,), or (B, K) for K maps per sample.
            denominator: Instead of the loss's own, for this call. To accumulate gradients over n steps whose losses are
                divided by n, pass the number of annotated maps in all of them, divided by n.

        Raises:
            ValueError: Something does not fit; the message says what was expected.
            TypeError: Something is of the wrong type.
            RuntimeError: The map cannot be trained through; the message says why and what to do.
        """
        batch = batch_size(images)
        training = torch.is_grad_enabled()
        several = asks_for_several(classes)
        self._check_classes(classes)
        check_given(human_saliency, annotated, batch)
        if not self.weighting.needs_saliency:
            return self._task_alone(self._call(images), targets, sample_weight, task_sample_weight)
        prepared = self.model.training in self._prepared
        compiling = torch.compiler.is_compiling()
        if training and not compiling:
            if not prepared:
                check_wrappers(self.model, self.extractor.order)
            if self.gradient_sync == "wrapper":
                check_synchronised(self)
        priors = has_prior(self.divergence)
        if human_saliency is None and not priors:
            output = self._call(images)
            maps = classes.numel() if several and classes is not None else batch
            none = next(tensors_of((output, images))).new_zeros(())
            self._divisors(denominator, none, none, maps)
            return self._task_alone(output, targets, sample_weight, task_sample_weight)
        explained, has_class = (classes, None) if classes is not None else as_classes(targets)
        explanation = self._explain(self.model, images, explained)
        output, saliency = explanation
        if training and not compiling:
            self._check_reaches(saliency)
        self._check_positions(saliency, several)
        layers = explanation.layers if isinstance(explanation, LayerExplanation) else (saliency,)
        compared = self._compared(layers, human_saliency, annotated, has_class, several)
        shape = tuple(saliency.shape[: 1 + several])
        weights = {"sample_weight": sample_weight, "saliency_sample_weight": saliency_sample_weight}
        weight = joint_weight(shape, **weights)
        per_sample = self.reduction == "none"
        own = task_sample_weight
        task = task_term(self.task_loss, output, targets, sample_weight, own_weight=own, per_sample=per_sample)
        divisors = self._divisors(
            denominator, compared.annotated.sum(), compared.explained.sum(), len(compared.annotated)
        )
        term, values, parts = saliency_term(self.divergence, compared, weight, divisors, shape, per_sample=per_sample)
        return LossOutput(self.weighting(task, term, self.model), task, values, output, saliency.detach(), parts)

    def explain(self, images: Any, classes: Tensor | None = None, *, model: nn.Module | None = None) -> Tensor:
        r"""The model's maps without a loss.

        Args:
            images: What the model takes.
            classes: Which class each map explains, (B,) or (B, K); the predicted class by default.
            model: Another model than the one that trains, such as an average of its weights.

        Returns:
            Raw, signed maps (B, \*s) or (B, K, \*s); on the graph while grad mode is on.
        """
        batch_size(images)
        self._check_classes(classes)
        return self._explain(self.model if model is None else model, images, classes).saliency

    def prepare(
        self,
        images: Any,
        targets: Any = None,
        *,
        classes: Tensor | None = None,
        compile: Literal["backbone"] | None = None,
        backend: str | Callable[..., Any] = "inductor",
    ) -> None:
        """Verify the extractor once and leave its hooks on the model, so that ``torch.compile`` takes the whole step.

        Afterwards ``torch.compile(guided, fullgraph=True)`` compiles the step into one graph, where the extractor
        ``compiles``; prepare once in train mode, and once in eval mode to also compile that. Checks that look at
        numbers are made here and in eager steps, never in a compiled graph. Nothing remains of the passes made here:
        buffers, gradients and random state stay as they were. Copies, also pickled ones, are prepared too.

        Args:
            images: A batch, of the size that training uses.
            targets: For scores that are functions of them.
            classes: Instead of the targets, which class each map explains.
            compile: ``"backbone"`` compiles, in place, the modules that finish before the tapped layer, and leaves the
                rest eager; for extractors that take a gradient above a layer and do not compile otherwise.
            backend: Of ``torch.compile``, for the backbone.

        Raises:
            ValueError: The extractor finds no map in this model, or nothing finishes before its layer.
            RuntimeError: The map cannot be trained through.
        """
        if compile not in (None, "backbone"):
            raise ValueError(f"compile must be 'backbone' or None, got {compile!r}.")
        mode = self.model.training
        self._take_down(mode)
        check_wrappers(self.model, self.extractor.order)
        explained = classes if classes is not None else as_classes(targets)[0]
        prepared, explanation = prepare(self.model, self.extractor, images, explained, self.run)
        try:
            self._check_reaches(explanation.saliency)
            if compile == "backbone":
                prepared.compile_below(images, backend)
        except BaseException:
            prepared.close()
            raise
        self._prepared[mode] = prepared

    def unprepare(self) -> None:
        """Take back what :meth:`prepare` did to the model."""
        for mode in list(self._prepared):
            self._take_down(mode)

    def extra_repr(self) -> str:
        """The options that no part prints."""
        return f"denominator={self.denominator!r}, reduction={self.reduction!r}"

    def _check_positions(self, saliency: Tensor, several: bool) -> None:
        if saliency.shape[1 + several :].numel() == 1:
            raise ValueError(
                f"The map of {self.extractor} has a single position, so it cannot say where: take it from an earlier "
                "layer, such as GradCAM(layer=...) of list_layers(model, images), or use larger images."
            )

    def _check_classes(self, classes: Any) -> None:
        score = getattr(self.extractor, "score", None)
        if classes is not None and (score == "predicted" or isinstance(score, int)):
            raise ValueError(f"classes= would be ignored: {self.extractor} explains score={score!r}. Give one of both.")

    def _take_down(self, mode: bool) -> None:
        prepared = self._prepared.pop(mode, None)
        if prepared is not None:
            prepared.close()

    def _extract(self, model: nn.Module, images: Any, classes: Any) -> Explanation:
        """What the extractor gives where the model is called by what was prepared for it, else by ``forward=``."""
        prepared = self._prepared.get(model.training) if model is self.model else None
        if prepared is not None and not prepared.fits(model, self.extractor):
            self.prepare(images, classes=classes, **prepared.compiled_with)
            prepared = self._prepared[model.training]
        run: Run | None = self.run if prepared is None else prepared
        explanation: Explanation = self.extractor(model, images, classes, **({} if run is None else {"run": run}))
        return explanation

    def _why_not_traced(self, model: nn.Module) -> str | None:
        """Why the extractor cannot become part of a compiled graph, or ``None``."""
        prepared = self._prepared.get(model.training) if model is self.model else None
        if prepared is None or not prepared.fits(model, self.extractor):
            return (
                "A guided step compiles only after guided.prepare(images), in the same mode (train or eval) and anew "
                "when modules, model or extractor were replaced."
            )
        if prepared.obstacle is not None:
            return (
                f"This guided step cannot be compiled: {prepared.obstacle}. Leave it eager and compile what lies below "
                "the layer: guided.prepare(images, compile='backbone')."
            )
        return None

    def _check_reaches(self, saliency: Tensor) -> None:
        if not reaches_parameter(saliency):
            raise RuntimeError(
                f"The map of {self.extractor} reaches no trainable parameter, so the saliency loss cannot train "
                "anything: what it depends on is frozen (requires_grad=False), or the extractor took it off the graph "
                "(detach). Unfreeze parameters, choose a layer above trainable ones, or evaluate under torch.no_grad()."
            )

    def _call(self, images: Any) -> Any:
        return (self.run or call_model)(self.model, images)

    def _explain(self, model: nn.Module, images: Any, classes: Any) -> Explanation:
        if asks_for_several(classes) and not self.extractor.maps_per_sample:
            raise ValueError(
                f"{self.extractor} gives one map per sample; classes of shape (B, K) need another extractor."
            )
        why = self._why_not_traced(model) if torch.compiler.is_compiling() else None
        if why is None:
            explanation = self._extract(model, images, classes)
        else:
            compiler: Any = torch._dynamo
            compiler.graph_break(msg=why)
            explanation = compiler.disable(self._extract)(model, images, classes)
        if not isinstance(explanation, Explanation):
            raise TypeError(f"{self.extractor} must return an Explanation(output, saliency), got {type(explanation)}.")
        return explanation

    def _check_values(self, human: HumanMaps, saliency: Tensor, several: bool, all_annotated: bool) -> None:
        self._calls += 1
        check = self.check_values
        if check is None:
            check = saliency.device.type == "cpu" or self._calls <= _CHECKED_CALLS
        if check:
            warn = all_annotated and self.divergence.empty_is_suspicious and not self._warned_of_empty
            per_sample = saliency.shape[1] if several else None
            allowed, reader = self.divergence.human_range, str(self.divergence)
            warned = check_values(human, allowed, per_sample, warn_empty=warn, reader=reader)
            self._warned_of_empty = self._warned_of_empty or warned
            positive = [str(part) for _, part in self.divergence.terms() if part.positive]
            if positive and not self._warned_of_negative:
                self._warned_of_negative = warn_of_negative(saliency, ", ".join(positive))
            nearest = any(part.sizing == "nearest" and part.reads != "nothing" for _, part in self.divergence.terms())
            if nearest and not self._warned_of_lost:
                self._warned_of_lost = warn_of_lost(human, tuple(saliency.shape[1 + several :]), per_sample)

    def _compared(
        self, layers: Sequence[Tensor], human_saliency: Any, annotated: Any, has_class: Tensor | None, several: bool
    ) -> Compared:
        """The maps to compare, one row per map, and which rows count."""
        flat = [maps.flatten(0, 1) if several else maps for maps in layers]
        everywhere = torch.ones(len(flat[0]), dtype=torch.bool, device=flat[0].device)
        explained = everywhere if has_class is None else has_class
        if human_saliency is None:
            return Compared(flat, None, None, ~everywhere, explained)
        human = read_human(human_saliency, annotated, layers[0], several)
        human = human._replace(annotated=human.annotated & explained)
        if not torch.compiler.is_compiling():
            self._check_values(human, layers[0], several, annotated is None)
        maps, rows, known, _ = human
        rows_wide = rows.view(-1, *[1] * (maps.ndim - 1))
        partial = annotated is not None or has_class is not None
        if known is None and partial and self.divergence.scope == "batch":
            known = rows_wide.expand_as(maps)
        return Compared(flat, torch.where(rows_wide, maps, 0.0), known, rows, explained)

    def _task_alone(self, output: Any, targets: Any, weight: Tensor | None, own: Tensor | None) -> LossOutput:
        each = self.reduction == "none"
        task = task_term(self.task_loss, output, targets, weight, own_weight=own, per_sample=each)
        nothing = torch.zeros_like(task)
        parts = dict.fromkeys(names_of_parts(self.divergence), nothing.detach().sum())
        return LossOutput(self.weighting(task, nothing, self.model), task, nothing, output, None, parts)

    def _divisors(
        self, denominator: Denominator | None, annotated: Tensor, explained: Tensor, maps: int
    ) -> list[Tensor | float]:
        chosen = self.denominator if denominator is None else check_denominator(denominator)
        return divisors_of(self.divergence, chosen, annotated, explained, maps, self, self.gradient_sync != "none")
