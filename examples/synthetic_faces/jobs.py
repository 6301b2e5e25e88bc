"""Runs trainings in worker processes of one thread each, and shows how they are getting on."""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Protocol, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Job(Protocol):
    """What can be run: a title, a number of reports to expect, and the work itself."""

    @property
    def title(self) -> str:
        """What the progress bar calls it."""

    @property
    def steps(self) -> int:
        """How often :meth:`run` calls ``report``."""

    def run(self, report: Callable[[str], None]) -> Any:
        """Does the work."""


J = TypeVar("J", bound=Job)
_messages: Any = None


def run_all(jobs: Sequence[J], workers: int, console: Console, title: str) -> list[Any]:
    """Runs every job and returns their results in the same order; the first error ends it all."""
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    workers = min(workers, len(jobs))
    pool = ProcessPoolExecutor(workers, context, _prepare, (messages,))
    with pool, Progress(*columns, console=console) as progress:
        overall = progress.add_task(title, total=sum(job.steps for job in jobs))
        lines: dict[int, Any] = {}
        futures = [pool.submit(_run, job) for job in jobs]
        while not all(future.done() for future in futures) or not messages.empty():
            if failed := [future for future in futures if future.done() and future.exception()]:
                pool.shutdown(cancel_futures=True)
                failed[0].result()
            try:
                worker, text, done, total = messages.get(timeout=0.1)
            except queue.Empty:
                continue
            if worker not in lines:
                lines[worker] = progress.add_task("", total=total)
            progress.update(lines[worker], description=f"  {text}", completed=done, total=total)
            progress.advance(overall, int(done > 0))
    return [future.result() for future in futures]


def _prepare(messages: Any) -> None:
    global _messages
    _messages = messages
    torch.set_num_threads(1)


def _run(job: Job) -> Any:
    done = 0

    def report(text: str) -> None:
        nonlocal done
        done += 1
        _messages.put((os.getpid(), f"{job.title}: {text}", done, job.steps))

    _messages.put((os.getpid(), f"{job.title}: rendering", 0, job.steps))
    start = time.perf_counter()
    result = job.run(report)
    return {**result, "seconds": time.perf_counter() - start}
