"""Runs jobs in worker processes of one thread each, and shows how they are getting on."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Protocol, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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
    """Runs every job, also when others fail. Whatever interrupts it, such as Ctrl-C, ends the workers at once.

    Returns:
        Their results in the same order; the exception of a job that failed.
    """
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with (
        ProcessPoolExecutor(min(workers, len(jobs)) or 1, context, _prepare, (messages,)) as pool,
        Progress(*columns, console=console) as progress,
    ):
        futures = [pool.submit(_run, job) for job in jobs]
        try:
            _follow(futures, messages, progress, title, sum(job.steps for job in jobs))
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
    return [future.exception() or future.result() for future in futures]


def succeeded(results: list[Any]) -> list[Any]:
    """The results of jobs that all have to succeed.

    Raises:
        BaseException: The first that a job failed with.
    """
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _follow(futures: list[Future[Any]], messages: Any, progress: Progress, title: str, steps: int) -> None:
    overall = progress.add_task(title, total=steps)
    lines: dict[int, Any] = {}
    while not all(future.done() for future in futures) or not messages.empty():
        try:
            worker, text, done, total = messages.get(timeout=0.1)
        except queue.Empty:
            continue
        if worker not in lines:
            lines[worker] = progress.add_task("", total=total)
        progress.update(lines[worker], description=f"  {text}", completed=done, total=total)
        progress.advance(overall, int(done > 0))


def _prepare(messages: Any) -> None:
    global _messages
    _messages = messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _run(job: Job) -> Any:
    done = 0

    def report(text: str) -> None:
        nonlocal done
        done += 1
        _messages.put((os.getpid(), f"{job.title}: {text}", done, job.steps))

    _messages.put((os.getpid(), f"{job.title}: preparing", 0, job.steps))
    return job.run(report)
