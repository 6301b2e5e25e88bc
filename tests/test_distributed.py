"""Two processes train as one does, or a clear error says why they would not."""

import json
import os
import socket
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import oracles
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import extractor
from conftest import network as network_for
from models import batch, plain_net
from torch.nn.parallel import DistributedDataParallel as DDP

import saliency_losses as sl

RANKS = 2
# Which of eight samples have a map: ranks take the first and the second half.
COUNTS = {"equal": "11001010", "unequal": "11110010", "none on one rank": "10110000", "all": "11111111"}


def data():
    images, labels, human = batch(8, dtype=torch.float64)
    return images, labels, human


def network(name="cam"):
    torch.manual_seed(7)
    return network_for(name, plain_net).double()


def flags(counts):
    return torch.tensor([c == "1" for c in COUNTS[counts]])


def single(part, counts, name="cam", **options):
    """The gradients of one process on all samples.

    Computed on each rank: counts are summed over ranks that all hold all samples, and divided by the number of ranks.
    """
    net = network(name)
    images, labels, human = data()
    guided = sl.SaliencyGuidedLoss(net, part, "mse", alpha=0.3, gradient_sync="manual", **options)
    guided(images, labels, human, annotated=flags(counts)).loss.backward()
    return [p.grad for p in net.parameters()]


def agree(net, expected):
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-9)


def mine(rank, *tensors):
    return [t.chunk(RANKS)[rank] for t in tensors]


def exact(rank, name, counts, wrap):
    part = extractor(name)
    images, labels, human, found = mine(rank, *data(), flags(counts))
    net = network(name)
    if wrap == "model":
        guided = sl.SaliencyGuidedLoss(DDP(net), part, "mse", alpha=0.3)
    else:
        guided = DDP(sl.SaliencyGuidedLoss(net, part, "mse", alpha=0.3), static_graph=wrap == "static")
    for _ in range(3):  # static_graph learns on the first step and could go wrong on the next
        net.zero_grad()
        guided(images, labels, human, annotated=found).loss.backward()
        agree(net, single(part, counts, name))


def no_map_on_one_rank(rank):
    images, labels, human = mine(rank, *data())
    net = network()
    guided = DDP(sl.SaliencyGuidedLoss(net, "grad_cam", "mse", alpha=0.3))
    guided(images, labels, human if rank == 0 else None).loss.backward()
    counts = "first half"
    COUNTS[counts] = "11110000"
    agree(net, single(sl.create_extractor("grad_cam"), counts))


def sum_with_a_prior(rank, given):
    """Comparisons are divided by the annotated maps of all processes, priors by all of their maps."""
    everything, (images, labels, human) = data(), mine(rank, *data())
    kl, mse, entropy = map(sl.create_divergence, ("kl", "mse", "entropy"))
    parts = 0.7 * kl + 0.3 * mse + 0.1 * entropy
    net, whole = network(), network()
    guided = DDP(sl.SaliencyGuidedLoss(net, "grad_cam", parts, alpha=0.3))
    guided(images, labels, human if given and rank == 0 else None).loss.backward()
    one = sl.SaliencyGuidedLoss(whole, "grad_cam", parts, alpha=0.3, gradient_sync="none")
    first = torch.arange(8) < 4
    one(*everything[:2], everything[2] if given else None, annotated=first if given else None).loss.backward()
    agree(net, [parameter.grad for parameter in whole.parameters()])


def denominators(rank):
    images, labels, human, found = mine(rank, *data(), flags("unequal"))
    for chosen in ("batch", "sum", 5.0):
        net = network()
        guided = DDP(sl.SaliencyGuidedLoss(net, "cam", "mse", alpha=0.3, denominator=chosen))
        guided(images, labels, human, annotated=found).loss.backward()
        options = {"denominator": chosen}
        if chosen in ("sum", 5.0):  # every rank holds all samples: the sum over ranks is twice that of one process
            options["denominator"] = {"sum": 2.0, 5.0: 10.0}[chosen]
        agree(net, single(sl.create_extractor("cam"), "unequal", **options))


def accumulation(rank):
    images, labels, human, found = mine(rank, *data(), flags("unequal"))
    net = network()
    guided = DDP(sl.SaliencyGuidedLoss(net, "grad_cam", "mse", alpha=0.3))
    steps, total = 2, 5
    for step, i in enumerate(torch.arange(4).chunk(steps)):
        out_of_sync = guided.no_sync() if step + 1 < steps else torch.enable_grad()
        with out_of_sync:
            out = guided(images[i], labels[i], human[i], annotated=found[i], denominator=total / steps)
            (out.loss / steps).backward()
    agree(net, single(sl.create_extractor("grad_cam"), "unequal"))


def refusals(rank):
    images, labels, human = mine(rank, *data())
    for name in ("grad_cam", "input_gradient", "captum_saliency"):
        guided = sl.SaliencyGuidedLoss(DDP(network(), static_graph=True), extractor(name), "mse")
        with pytest.raises(RuntimeError, match=r"static_graph=True\) leaves every rank with its own gradients"):
            guided(images, labels, human)
    bare = sl.SaliencyGuidedLoss(network(), "cam", "mse")
    with pytest.raises(RuntimeError, match=r"nothing synchronises the gradients.*Wrap the loss"):
        bare(images, labels, human)
    with torch.no_grad():
        bare(images, labels, human)  # evaluation needs no wrapper and waits for nobody
    sl.SaliencyGuidedLoss(network(), "cam", "mse", gradient_sync="manual")(images, labels, human).loss.backward()
    allowed = sl.SaliencyGuidedLoss(DDP(network(), static_graph=True), "cam", "mse")
    allowed(images, labels, human).loss.backward()


def apart(rank):
    """Processes that train apart, with counts of their own, one of them a step longer."""
    images, labels, human, found = mine(rank, *data(), flags("unequal"))
    net, alone = network(), network()
    guided = sl.SaliencyGuidedLoss(net, "cam", "mse", alpha=0.3, gradient_sync="none")
    for _ in range(1 + rank):
        net.zero_grad()
        guided(images, labels, human, annotated=found).loss.backward()
    count = float(found.sum())
    own = sl.SaliencyGuidedLoss(alone, "cam", "mse", alpha=0.3, gradient_sync="none", denominator=count)
    own(images, labels, human, annotated=found).loss.backward()
    agree(net, [p.grad for p in alone.parameters()])


def smaller_group(rank):
    """Counts are those of the processes that average gradients: here, each on its own."""
    groups = [dist.new_group([number]) for number in range(RANKS)]
    images, labels, human, found = mine(rank, *data(), flags("unequal"))
    net, alone = network(), network()
    guided = DDP(sl.SaliencyGuidedLoss(net, "cam", "mse", alpha=0.3), process_group=groups[rank])
    guided(images, labels, human, annotated=found).loss.backward()
    own = sl.SaliencyGuidedLoss(alone, "cam", "mse", alpha=0.3, gradient_sync="none")
    own(images, labels, human, annotated=found).loss.backward()
    agree(net, [p.grad for p in alone.parameters()])


def weight_zero_waits_for_nobody(rank):
    images, labels, human = mine(rank, *data())
    net = network()
    guided = DDP(sl.SaliencyGuidedLoss(net, "grad_cam", "mse", alpha=1.0))
    guided(images, labels, human).loss.backward()
    whole = network()
    torch.nn.functional.cross_entropy(whole(data()[0]), data()[1]).backward()
    agree(net, [p.grad for p in whole.parameters()])


def fully_sharded(rank):
    """FSDP2 around the loss counts as a wrapper, and gives the gradients of one process."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (RANKS,))
    images, labels, human = mine(rank, *data())
    for name, apart in (("cam", False), ("cam", True), ("grad_cam", False)):
        net = network()
        guided = sl.SaliencyGuidedLoss(net, name, "mse", alpha=0.3)
        if apart:  # the classifier's weight is whole during its own call alone
            fully_shard(net[6], mesh=mesh, reshard_after_forward=True)
        fully_shard(guided, mesh=mesh)
        for _ in range(2):
            guided.zero_grad()
            guided(images, labels, human).loss.backward()
        expected = single(sl.create_extractor(name), "all")
        for parameter, gradient in zip(net.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad.full_tensor(), gradient, rtol=1e-6, atol=1e-9)


def evaluation_on_one_rank(rank):
    images, labels, human = data()
    if rank == 0:
        with torch.no_grad():
            sl.SaliencyGuidedLoss(network(), "grad_cam")(images, labels, human)


def weighting(name):
    options = {"balanced": {"layer": "2"}, "normalised": {"batches": 2}}
    return sl.create_weighting(name, **options.get(name, {}))


def one_weight(rank, name, counts):
    """Adaptive weightings weigh on two ranks as in one process, step by step, also where one has no map."""
    images, labels, human, found = mine(rank, *data(), flags(counts))
    nets = network(), network()
    guided = DDP(sl.SaliencyGuidedLoss(nets[0], "cam", "mse", weighting=weighting(name)))
    alone = sl.SaliencyGuidedLoss(nets[1], "cam", "mse", weighting=weighting(name), gradient_sync="manual")
    for step in range(3):
        guided.zero_grad(), alone.zero_grad()
        shift = step / 3
        guided(images + shift, labels, human if found.any() else None, annotated=found).loss.backward()
        alone(data()[0] + shift, *data()[1:], annotated=flags(counts)).loss.backward()
        if name == "balanced":  # the mean norm of halves is not the norm of the whole
            same_on_all_ranks(guided.module.weighting)
            assert int(guided.module.weighting.updates) == step + 1
        else:
            agree(guided.module, [parameter.grad for parameter in alone.parameters()])


def same_on_all_ranks(module):
    for tensor in module.state_dict().values():
        others = [torch.empty_like(tensor) for _ in range(RANKS)]
        dist.all_gather(others, tensor)
        assert torch.equal(*others)


def one_weight_for_samples(rank):
    """Statistics are those of all samples with a map, whichever rank they are on."""
    images, labels, human, found = mine(rank, *data(), flags("unequal"))
    options = {"weighting": "normalised", "reduction": "none"}
    guided = DDP(sl.SaliencyGuidedLoss(network(), "cam", "mse", **options))
    alone = sl.SaliencyGuidedLoss(network(), "cam", "mse", gradient_sync="manual", **options)
    guided(images, labels, human, annotated=found).loss.mean().backward()
    alone(*data(), annotated=flags("unequal")).loss.mean().backward()
    torch.testing.assert_close(guided.module.weighting.rate(), alone.weighting.rate())


def a_weight_each(rank):
    """Processes that train apart, evaluate, or look, wait for nobody."""
    images, labels, human = mine(rank, *data())
    for name in ("dynamic", "normalised", "balanced"):
        guided = sl.SaliencyGuidedLoss(network(), "cam", "mse", weighting=weighting(name), gradient_sync="none")
        for _ in range(1 + rank):
            guided(images, labels, human).loss.backward()
        together = DDP(sl.SaliencyGuidedLoss(network(), "cam", "mse", weighting=weighting(name)))
        if rank == 0:
            with torch.no_grad():
                together.module(images, labels, human)
            assert not sl.preflight(together, images, labels, human, time=False).findings
            sl.diagnose(together, [(images, labels, human)], witness=None)


def learned_weights_need_the_wrapper(rank):
    images, labels, human = mine(rank, *data())
    guided = sl.SaliencyGuidedLoss(DDP(network()), "cam", "mse", weighting="uncertainty")
    with pytest.raises(RuntimeError, match=r"does not synchronise what the weighting learns.*Wrap the loss instead"):
        guided(images, labels, human)
    guided.weighting.requires_grad_(False)
    guided(images, labels, human).loss.backward()


def balanced_around_wrapped_models(rank):
    images, labels, human = mine(rank, *data())
    static = DDP(network(), static_graph=True)
    with pytest.raises(
        RuntimeError, match=r"static_graph=True\), which leaves every rank with its own\. Wrap the loss"
    ):
        sl.SaliencyGuidedLoss(static, "cam", "mse", weighting=weighting("balanced"))(images, labels, human)
    net = network()
    guided = sl.SaliencyGuidedLoss(DDP(net), "cam", "mse", weighting=weighting("balanced"))
    for _ in range(3):
        guided.zero_grad()
        guided(images, labels, human).loss.backward()
        for parameter in net.parameters():
            others = [torch.empty_like(parameter.grad) for _ in range(RANKS)]
            dist.all_gather(others, parameter.grad)
            torch.testing.assert_close(*others, rtol=0, atol=0)


def sharded_weightings(rank):
    """FSDP2 around the loss: learned sigmas are sharded too, and gradients are taken at a layer of the whole."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (RANKS,))
    images, labels, human = mine(rank, *data())
    for name in ("uncertainty", "normalised", "balanced"):
        wrapped, sharded = network(), network()
        expected = DDP(sl.SaliencyGuidedLoss(wrapped, "grad_cam", "mse", weighting=weighting(name)).double())
        guided = sl.SaliencyGuidedLoss(sharded, "grad_cam", "mse", weighting=weighting(name)).double()
        fully_shard(guided, mesh=mesh)
        for _ in range(2):
            expected.zero_grad(), guided.zero_grad()
            expected(images, labels, human).loss.backward()
            guided(images, labels, human).loss.backward()
        for parameter, other in zip(guided.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad.full_tensor(), other.grad, rtol=1e-5, atol=1e-8)
    sharded = network()
    fully_shard(sharded[2], mesh=mesh, reshard_after_forward=True)
    guided = sl.SaliencyGuidedLoss(sharded, "grad_cam", "mse", weighting=weighting("balanced"))
    fully_shard(guided, mesh=mesh)
    with pytest.raises(
        RuntimeError, match=r"sharded parameters of layer '2'\. Name a layer that is not sharded on its own"
    ):
        guided(images, labels, human)


def cases():
    """Name, function and arguments of everything that two processes do."""
    for name in sorted(oracles.EXTRACTORS):  # what is drawn differs from process to process
        for wrap in ("loss", "static", "model"):
            for counts in COUNTS:
                yield f"{name}, {wrap} wrapped, {counts}", exact, (name, counts, wrap)
    for name in sl.list_weightings():
        for counts in COUNTS:
            yield f"{name}, {counts}", one_weight, (name, counts)
    for given in (True, False):
        yield f"a sum with a prior, {'maps on one rank' if given else 'no map'}", sum_with_a_prior, (given,)
    for function in (
        sharded_weightings,
        balanced_around_wrapped_models,
        one_weight_for_samples,
        a_weight_each,
        learned_weights_need_the_wrapper,
        no_map_on_one_rank,
        denominators,
        accumulation,
        refusals,
        apart,
        smaller_group,
        weight_zero_waits_for_nobody,
        fully_sharded,
        evaluation_on_one_rank,
    ):
        yield function.__name__, function, ()


def worker(rank, port, results):
    sys.path.insert(0, str(Path(__file__).parent))
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=RANKS, timeout=timedelta(seconds=60))
    errors = {}
    for name, function, args in cases():
        try:
            function(rank, *args)
            errors[name] = ""
        except Exception:  # one case must not hide the others
            errors[name] = traceback.format_exc()
        dist.barrier()
    (Path(results) / f"{rank}.json").write_text(json.dumps(errors))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """What went wrong, by rank and case: one pair of processes runs them all, since starting processes is slow."""
    results = tmp_path_factory.mktemp("ranks")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    mp.spawn(worker, (port, str(results)), nprocs=RANKS)
    return [json.loads((results / f"{rank}.json").read_text()) for rank in range(RANKS)]


@pytest.mark.parametrize("case", [name for name, _, _ in cases()])
def test_two_processes(case, errors):
    assert [ranks[case] for ranks in errors] == [""] * RANKS
