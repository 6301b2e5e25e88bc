"""Two processes give the metrics of one, whatever share each has; two threads in their place where time is short."""

import json
import os
import socket
import sys
import threading
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from metric_oracles import READS, draw

import saliency_losses.metrics as M

RANKS, SAMPLES = 2, 7
SHARES = {"equal": 4, "one sample on one": 6, "nothing on one": 7}
NAMES = M.list_metrics()


def batches(name):
    """Seven batches of one sample, the third of which is not annotated."""
    maps = draw(name, SAMPLES, (5, 6))
    for index in range(SAMPLES):
        one = [x[:, index : index + 1] if READS[name] == "runs" else x[index : index + 1] for x in maps]
        yield one[0], (None if len(one) == 1 else one[1]), torch.tensor([index != 2])


def reduced(rank, name, first, drawn, **gathering):
    alone, together = M.create_metric(name, sync_on_compute=False), M.create_metric(name, **gathering)
    for index, batch in enumerate(drawn):
        alone.update(*batch)
        if (index < first) == (rank == 0):
            together.update(*batch)
    torch.testing.assert_close(together.compute(), alone.compute(), rtol=1e-12, atol=1e-12)


def cases():
    return {f"{name}, {share}": (name, first) for name in NAMES for share, first in SHARES.items()}


def worker(rank, port, results):
    sys.path.insert(0, str(Path(__file__).parent))
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="The ``compute`` method")  # of a process that has seen nothing
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=RANKS, timeout=timedelta(seconds=60))
    errors = {}
    for case, arguments in cases().items():
        torch.manual_seed(0)
        try:
            reduced(rank, *arguments, list(batches(arguments[0])))
            errors[case] = ""
        except Exception:  # one case must not hide the others
            errors[case] = traceback.format_exc()
        dist.barrier()
    (Path(results) / f"{rank}.json").write_text(json.dumps(errors))
    dist.destroy_process_group()


class Meeting:
    """Gathers states of two threads as torch.distributed gathers those of two processes."""

    def __init__(self):
        self.barrier = threading.Barrier(RANKS, timeout=60)
        self.brought = [None] * RANKS

    def rank(self, rank):
        def gather(state, group=None):
            self.brought[rank] = state
            self.barrier.wait()
            brought = list(self.brought)
            self.barrier.wait()
            assert len({(one.dtype, one.ndim) for one in brought}) == 1, "no process group gathers these"
            return brought

        return {"dist_sync_fn": gather, "distributed_available_fn": lambda: True}


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("case", cases())
def test_two_threads_give_the_value_of_one(case):
    meeting = Meeting()
    name, first = cases()[case]
    drawn = list(batches(name))

    def work(rank):
        try:
            reduced(rank, name, first, drawn, **meeting.rank(rank))
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(RANKS) as pool:
        list(pool.map(work, range(RANKS)))


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """What went wrong, by rank and case: one pair of processes runs them all, since starting processes is slow."""
    results = tmp_path_factory.mktemp("ranks")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    mp.spawn(worker, (port, str(results)), nprocs=RANKS)
    return [json.loads((results / f"{rank}.json").read_text()) for rank in range(RANKS)]


@pytest.mark.slow
@pytest.mark.parametrize("case", cases())
def test_two_processes_give_the_value_of_one(case, errors):
    assert [ranks[case] for ranks in errors] == [""] * RANKS
