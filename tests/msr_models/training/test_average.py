"""Averages of weights over steps against the mean spelled out, where rows are stepped now and then."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from msr_models.training.optimiser import Optimiser, OptimiserConfig
from schemas.pipeline_spec import EmbeddingUpdate
from tests.msr_models.training.test_optimiser import ROWS, Table, steps

DECAY = 0.8


def averaged(optimiser: Optimiser, model: Table) -> dict[str, Tensor]:
    with optimiser.averaged():
        return copy.deepcopy(model.state_dict())


@pytest.mark.parametrize("update", ["row_sparse", "dense"])
@pytest.mark.parametrize("asked_after", [{15}, {1, 4, 15}])
def test_it_is_the_weighted_mean_of_all_steps(update: EmbeddingUpdate, asked_after: set[int]) -> None:
    model = Table()
    config = OptimiserConfig(learning_rate=0.05, embedding_update=update, weight_average=DECAY)
    optimiser = Optimiser(model, config)
    seen: list[dict[str, Tensor]] = []
    for number, (rows, upstream) in enumerate(steps(15, every_row=False), start=1):
        model.loss(rows, upstream).backward()
        optimiser.step()
        seen.append(copy.deepcopy(model.state_dict()))
        if number not in asked_after:
            continue
        found = averaged(optimiser, model)
        weights = torch.tensor([DECAY ** (number - i) for i in range(1, number + 1)], dtype=torch.float64)
        for name, value in found.items():
            stacked = torch.stack([step[name].double() for step in seen])
            expected = torch.tensordot(weights / weights.sum(), stacked, 1)
            torch.testing.assert_close(value, expected.float(), atol=1e-6, rtol=1e-5)
        for name, value in model.state_dict().items():
            assert torch.equal(value, seen[-1][name]), "the weights themselves go on as they were"
    moved = (averaged(optimiser, model)["embedding.weight"] - model.state_dict()["embedding.weight"]).abs().max()
    assert float(moved) > 1e-3


def test_a_row_that_no_step_names_is_its_own_average() -> None:
    model = Table()
    before = copy.deepcopy(model.state_dict())
    optimiser = Optimiser(model, OptimiserConfig(learning_rate=0.05, weight_average=0.98))
    for _ in range(7):
        model.loss(torch.tensor([1, 3]), torch.ones(2, 4)).backward()
        optimiser.step()
    found = averaged(optimiser, model)["embedding.weight"]
    others = [row for row in range(ROWS) if row not in (1, 3)]
    assert torch.equal(found[others], before["embedding.weight"][others])
    assert not torch.equal(found[1], before["embedding.weight"][1])


def test_a_resumed_average_goes_on() -> None:
    work = steps(9, every_row=False)
    config = OptimiserConfig(learning_rate=0.05, weight_average=DECAY)
    whole, first = Table(), Table()
    optimiser, before = Optimiser(whole, config), Optimiser(first, config)
    for number, (rows, upstream) in enumerate(work):
        for model, stepped in ((whole, optimiser), (first, before)) if number < 4 else ((whole, optimiser),):
            model.loss(rows, upstream).backward()
            stepped.step()
    resumed = Table()
    resumed.load_state_dict(first.state_dict())
    after = Optimiser(resumed, config)
    after.load_state_dict(before.state_dict())
    for rows, upstream in work[4:]:
        resumed.loss(rows, upstream).backward()
        after.step()
    expected, found = averaged(optimiser, whole), averaged(after, resumed)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("steps_done", [0, 1])
def test_before_the_second_step_it_is_the_weights(steps_done: int) -> None:
    model = Table()
    optimiser = Optimiser(model, OptimiserConfig(learning_rate=0.05, weight_average=DECAY))
    for rows, upstream in steps(steps_done, every_row=False):
        model.loss(rows, upstream).backward()
        optimiser.step()
    found = averaged(optimiser, model)
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())
