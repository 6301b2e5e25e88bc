"""Trains one network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import saliency_losses as sl

from . import checkpoint, distributed, networks
from .accuracy import accuracy
from .journal import Journal
from .loader import load, seed_everything, seed_of, share, shuffled, spread
from .map_head import MapHead
from .optimization import Log, check, compiled, finished, optimizer_of, schedule_of
from .sources.base import Source
from .trial import Trial

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
PICTURES, IMAGES = 4, 4
"""How often TensorBoard gets a picture of the validation images, and of how many."""
TERMS = ("loss", "task_loss", "saliency_loss", "map_head_loss", "train_accuracy")


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        guided: The loss in eval mode; its ``model`` has the weights that the plan keeps.
        epochs: One dictionary per epoch, see :class:`~.results.Result`.
    """

    guided: sl.SaliencyGuidedLoss
    epochs: Log


def train(
    trial: Trial,
    source: Source,
    folder: Path,
    *,
    device: torch.device | str | None = None,
    report: Callable[[str], None] | None = None,
) -> Trained:
    """Trains, or goes on with a training that was cut short, or loads one that is finished.

    What is random in an epoch is a function of the seed and the epoch, so that it does not matter after which epoch a
    training was cut short. Several processes, see :mod:`.distributed`, train as one does.

    Args:
        trial: What to train, how, and with which seed.
        source: Gives the images.
        folder: Of this training alone: gets ``settings.json``, ``log.jsonl``, ``tensorboard``, until the end
            ``checkpoint.pt``, and at the end ``model.pt``.
        device: Where to train; by default on a GPU if there is one.
        report: Called with a line of text after each epoch.

    Raises:
        ValueError: The folder holds another training or a damaged file, or the plan does not fit the data.
        OSError: A file cannot be written.
        FloatingPointError: The loss is not finite.
    """
    arm, plan, seed = trial.arm, trial.plan, trial.seed
    rank, ranks = distributed.rank(), distributed.ranks()
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = torch.float64 if plan.precision == "float64" else torch.float32
    found = distributed.from_first(lambda: checkpoint.resume(folder, trial.settings(source)))

    torch.manual_seed(seed)
    model = networks.build(plan).to(device, dtype).to(memory_format=torch.channels_last)
    guided = networks.tapped(arm, plan).guide(distributed.synchronised(model, device) if ranks > 1 else model)
    if "model" in found:
        guided.model.load_state_dict(found["model"])
        return Trained(guided.eval(), found["log"])

    training, validation = source.training(arm, seed), source.validation()
    images = len(training)
    check(arm, plan, images, ranks)
    example = next(load(training, [list(range(plan.batch // ranks))], device, dtype))
    loss: nn.Module = MapHead(guided, arm.head_weight, example["images"]) if arm.head_weight else guided
    optimizer = optimizer_of(plan, loss)
    schedule = schedule_of(plan, optimizer, images // plan.batch)
    scaler = torch.amp.GradScaler(device.type, enabled=plan.precision == "float16")
    autocast = torch.autocast(device.type, HALF.get(plan.precision), enabled=plan.precision in HALF)

    state: dict[str, Any] = {"loss": loss, "optimizer": optimizer, "schedule": schedule, "scaler": scaler}
    for name, part in state.items() if found else ():
        part.load_state_dict(found[name])
    log, best = found.get("log", []), found.get("best")

    compared = networks.explained(arm, plan).guide(guided.model)
    shown = next(load(validation, [spread(len(validation), IMAGES)], device, dtype))

    call = compiled(loss, guided, example) if plan.compiled else loss
    call = distributed.wrapped(call, device) if ranks > 1 else call
    with Journal(folder, len(log) + 1) if rank == 0 else nullcontext() as journal:
        while not finished(log, plan):
            start, epoch = time.perf_counter(), len(log) + 1
            seed_everything(seed_of(seed, epoch, rank + 1))
            loss.train()
            batches = share(shuffled(images, plan.batch, seed_of(seed, epoch)), rank, ranks)
            sums = torch.zeros(len(TERMS), dtype=torch.float64, device=device)
            for batch in load(training, batches, device, dtype, plan.workers, seed_of(seed, epoch, rank + 1)):
                with autocast:
                    out = call(**batch)
                optimizer.zero_grad()
                scaler.scale(out.loss).backward()
                scale = scaler.get_scale()
                scaler.step(optimizer)
                scaler.update()
                if scaler.get_scale() >= scale:  # else gradients overflowed and the step was left out
                    schedule.step()
                sums += terms(out, batch["targets"])
            guided.weighting.step()

            means = (distributed.total(sums) / (len(batches) * ranks)).tolist()
            entry = {"epoch": epoch, **dict(zip(TERMS, means, strict=True))}
            if not math.isfinite(entry["loss"]):
                raise FloatingPointError(f"the loss of epoch {epoch} is {entry['loss']}; lower the plan's rate")
            with autocast:
                entry["validation_accuracy"] = accuracy(guided.model, validation, device, dtype, plan.workers)
            if not arm.head_weight:
                del entry["map_head_loss"]
            entry["seconds"] = time.perf_counter() - start
            log.append(entry)
            if plan.keep == "best" and entry["validation_accuracy"] == max(e["validation_accuracy"] for e in log):
                best = {name: tensor.detach().clone() for name, tensor in guided.model.state_dict().items()}
            if journal is not None:
                if epoch % math.ceil(plan.epochs / PICTURES) == 0:
                    journal.show(compared, shown, epoch)
                journal.write(entry)
                parts = {name: part.state_dict() for name, part in state.items()}
                checkpoint.save(folder, {**parts, "best": best}, log)
            if report is not None and rank == 0:
                report(
                    f"epoch {epoch}/{plan.epochs}: loss {entry['loss']:.4f}, accuracy {entry['train_accuracy']:.3f} in "
                    f"training, {entry['validation_accuracy']:.3f} in validation"
                )

    guided.unprepare()
    if best is not None:
        guided.model.load_state_dict(best)
    distributed.from_first(lambda: checkpoint.finish(folder, guided.model.state_dict()))
    return Trained(guided.eval(), log)


def terms(out: sl.LossOutput, targets: Tensor) -> Tensor:
    """What is logged of a step, in the order of ``TERMS``."""
    right = (out.output.argmax(1) == targets).double().mean()
    head = out.parts.get("map_head", torch.zeros_like(right))
    return torch.stack([out.loss, out.task_loss, out.saliency_loss, head, right]).detach()
