"""Batches of annotated samples, and samples as batches."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliency_losses.data import AnnotatedBatchSampler, collate


@st.composite
def cases(draw):
    world_size = draw(st.integers(1, 3))
    size = world_size * draw(st.integers(1, 6))
    annotated = draw(st.integers(1, 30))
    others = draw(st.integers(0, 30))
    per_batch = draw(st.integers(1, max(1, size - 1) if others else size))
    if others and per_batch >= size:
        others = 0
    mask = torch.zeros(annotated + others, dtype=torch.bool)
    mask[draw(st.permutations(range(annotated + others)))[:annotated]] = True
    return mask, size, per_batch, world_size, draw(st.integers(0, 5))


@given(cases())
def test_an_epoch(case):
    mask, size, per_batch, world_size, epoch = case
    ranks = [
        AnnotatedBatchSampler(mask, size, annotated_per_batch=per_batch, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    alone = AnnotatedBatchSampler(mask, size, annotated_per_batch=per_batch)
    for sampler in (*ranks, alone):
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in ranks]
    batches = list(alone)
    others = int((~mask).sum())
    room = size - per_batch
    assert len(batches) == len(alone) == max(math.ceil(others / room) if others else 0, math.ceil(len(mask) / size))
    seen = Counter(index for batch in batches for index in batch)
    assert set(seen) == set(range(len(mask)))
    assert all(seen[index] == 1 for index in (~mask).nonzero().flatten().tolist())
    counts = [seen[index] for index in mask.nonzero().flatten().tolist()]
    assert max(counts) - min(counts) <= 1
    for at, batch in enumerate(batches):
        assert len(batch) == size
        assert sum(bool(mask[index]) for index in batch) >= per_batch
        together = [share[at] for share in shares]
        assert {len(one) for one in together} == {size // world_size}
        assert sorted(index for one in together for index in one) == sorted(batch)
        of_rank = [sum(bool(mask[index]) for index in one) for one in together]
        assert max(of_rank) - min(of_rank) <= 1


def test_the_order_is_that_of_seed_and_epoch():
    def order(seed=0, epoch=0):
        sampler = AnnotatedBatchSampler(torch.arange(40) < 9, 8, annotated_per_batch=4, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order() == order()
    assert len({str(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_annotated_samples_are_shuffled_anew_each_time():
    sampler = AnnotatedBatchSampler(torch.arange(64) < 8, 8, annotated_per_batch=4)
    turns = torch.tensor([index for batch in sampler for index in batch if index < 8])[:56].view(7, 8)
    assert turns.sort(1).values.eq(torch.arange(8)).all()
    assert len(turns.unique(dim=0)) == 7


def test_the_mask_may_come_in_any_form():
    expected = list(AnnotatedBatchSampler(torch.tensor([True, False, True]), 2, annotated_per_batch=1))
    for mask in (
        [True, False, True],
        np.array([True, False, True]),
        torch.tensor([[True, False], [False, False], [True, True]]),
    ):
        assert list(AnnotatedBatchSampler(mask, 2, annotated_per_batch=1)) == expected


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (2, {"annotated_per_batch": 0}, "annotated_per_batch must be from 1 to batch_size=4, got 0"),
        (2, {"annotated_per_batch": 5}, "annotated_per_batch must be from 1 to batch_size=4, got 5"),
        (0, {"annotated_per_batch": 1}, "None of the 6 samples is annotated; use torch's own samplers"),
        (2, {"annotated_per_batch": 4}, "annotated_per_batch=4 leaves no place in a batch of 4 for the 4 samples"),
        (2, {"annotated_per_batch": 1, "rank": 0}, "rank and world_size go together, got rank=0 and world_size=None"),
        (
            2,
            {"annotated_per_batch": 1, "rank": 3, "world_size": 2},
            "rank must be from 0 to world_size - 1, got rank=3",
        ),
        (
            2,
            {"annotated_per_batch": 1, "rank": 0, "world_size": 3},
            "samples of all ranks together, and 4 cannot be sh",
        ),
    ],
)
def test_numbers_that_do_not_fit(count, options, message):
    with pytest.raises(ValueError, match=message):
        AnnotatedBatchSampler(torch.arange(6) < count, 4, **options)


def test_data_that_does_not_say_what_is_annotated():
    with pytest.raises(
        ValueError, match=r"data must be a dataset, or bool of shape \(N,\) or \(N, K\), got torch.int64"
    ):
        AnnotatedBatchSampler(torch.arange(6), 4, annotated_per_batch=1)
    with pytest.raises(TypeError, match=r"data must be a dataset that says which samples are annotated, .* got Subset"):
        AnnotatedBatchSampler(torch.utils.data.Subset([1, 2], [0]), 4, annotated_per_batch=1)


def test_ranks_are_those_of_the_process_group(monkeypatch):
    sampler = AnnotatedBatchSampler(torch.arange(8) < 4, 4, annotated_per_batch=2)
    alone = list(sampler)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    assert list(sampler) == [batch[1::2] for batch in alone]
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    with pytest.raises(ValueError, match="4 cannot be shared by 3; take a multiple"):
        next(iter(sampler))


# Batches


def sample(size=(8, 8), **other):
    return {"image": torch.rand(3, *size), "target": 1, "human_saliency": torch.rand(size), "annotated": True, **other}


def test_a_batch_has_the_keywords_of_a_guided_step():
    batch = collate([sample(), sample(annotated=False, target=0, name="left out")])
    assert {key: (tuple(value.shape), value.dtype) for key, value in batch.items()} == {
        "images": ((2, 3, 8, 8), torch.float32),
        "targets": ((2,), torch.int64),
        "human_saliency": ((2, 8, 8), torch.float32),
        "annotated": ((2,), torch.bool),
    }
    assert batch["annotated"].tolist() == [True, False]
    several = collate([sample(annotated=torch.tensor([True, False]), human_saliency=torch.rand(2, 8, 8))] * 3)
    assert several["annotated"].shape == (3, 2)


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (sample((8, 9)), ValueError, r"Sample 0 .* has image of shape \(3, 8, 8\), sample 2 \(3, 8, 9\): .*Pass size="),
        (sample(human_saliency=torch.rand(2, 8, 8)), ValueError, r"human_saliency of shape \(8, 8\), sample 2 \(2, 8"),
        (sample(annotated=torch.tensor([True])), ValueError, r"annotated of shape \(\), sample 2 \(1,\)"),
        (sample(image="a.png"), TypeError, r"Sample 2 of the batch: image is str, expected a tensor; let transform="),
        ({"image": torch.rand(3, 8, 8)}, TypeError, "Sample 2 of the batch has no 'target', but: image"),
        (torch.rand(3), TypeError, "Sample 2 of the batch has no 'image', but: Tensor"),
    ],
)
def test_samples_that_make_no_batch(other, error, message):
    with pytest.raises(error, match=message):
        collate([sample(), sample(), other])


def test_a_batch_has_a_sample():
    with pytest.raises(ValueError, match="A batch has at least one sample"):
        collate([])
