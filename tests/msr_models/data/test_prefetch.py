"""Batches ahead of their consumer: order, errors, ends, and time waited."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import fields

import pytest
import torch

from msr_models.data.batch import Batch
from msr_models.data.prefetch import AHEAD, Prefetch


def make_batch(i: int, rows: int = 4) -> Batch:
    return Batch(
        slot_ids_BS=torch.full((rows, 3), i, dtype=torch.int32),
        hist_ids_BLA=torch.full((rows, 2, 2), -i, dtype=torch.int32),
        hist_scenario_BL=torch.full((rows, 2), i, dtype=torch.int16),
        scenario_B=torch.full((rows,), i),
        label_B=torch.full((rows,), float(i)),
        shared_B=torch.full((rows,), i % 2 == 0),
    )


class Source:
    """Counts what was taken of it and notes its end."""

    def __init__(self) -> None:
        self.taken = 0
        self.ended = False

    def batches(self, count: int, *, seconds: float = 0.0, broken_at: int = -1) -> Iterator[Batch]:
        try:
            for i in range(count):
                if i == broken_at:
                    raise ValueError(f"broken at {i}")
                time.sleep(seconds)
                self.taken += 1
                yield make_batch(i)
        finally:
            self.ended = True


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return str(request.param)


def test_batches_come_in_order_with_all_columns(device: str) -> None:
    got = list(Prefetch(Source().batches(9), device))
    assert len(got) == 9
    for i, batch in enumerate(got):
        for f in fields(batch):
            column = getattr(batch, f.name)
            if not isinstance(column, torch.Tensor):
                continue
            assert column.device.type == device and torch.equal(column.cpu(), getattr(make_batch(i), f.name))


def test_an_error_reaches_the_consumer_in_its_place(device: str) -> None:
    source = Source()
    batches = Prefetch(source.batches(9, broken_at=2), device)
    assert [int(next(batches).scenario_B[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="broken at 2"):
        next(batches)
    assert source.ended


def test_leaving_early_closes_the_source_and_ends_the_thread(device: str) -> None:
    source, before = Source(), threading.active_count()
    with Prefetch(source.batches(1_000), device) as batches:
        next(batches)
    assert source.ended and threading.active_count() == before
    assert source.taken <= 1 + AHEAD + 1 and list(batches) == []


def test_dropping_the_iterator_ends_the_thread(device: str) -> None:
    source, before = Source(), threading.active_count()
    batches = Prefetch(source.batches(1_000), device)
    next(batches)
    del batches
    end = time.monotonic() + 5
    while time.monotonic() < end and not (source.ended and threading.active_count() == before):
        time.sleep(0.01)
    assert source.ended and threading.active_count() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_slow_consumer_computes_on_whole_batches() -> None:
    batches = Prefetch((make_batch(i, 50_000) for i in range(40)), "cuda")
    next(batches)
    weight = torch.randn(2_048, 2_048, device="cuda")
    for i, batch in enumerate(batches, 1):
        for _ in range(5):
            weight = weight @ weight / weight.norm()
        assert bool((batch.slot_ids_BS == i).all()) and bool((batch.label_B == i).all())
        time.sleep(0.01)
