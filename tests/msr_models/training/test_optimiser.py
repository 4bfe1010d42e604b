"""Row-sparse steps against PyTorch's dense optimisers, and against a slow loop over rows that spells the rule out."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from msr_models.modules.embedding import FieldEmbedding
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.row_gradients import RowMerger
from msr_models.training.slices import ADAGRAD_EPS, ADAM_EPS
from schemas.pipeline_spec import EmbeddingUpdate, OptimiserKind
from tests.support.batches import LAYOUT

ROWS, WIDTH = LAYOUT.total_rows, 4


class Table(torch.nn.Module):
    """An embedding table and one dense parameter; the loss is linear in the rows that are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = FieldEmbedding(LAYOUT, WIDTH, torch.Generator().manual_seed(0))
        self.dense = torch.nn.Parameter(torch.linspace(-1, 1, WIDTH))

    def loss(self, rows: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
        picked = torch.nn.functional.embedding(rows, self.embedding.weight, sparse=self.embedding.row_gradient)
        return (torch.tanh(picked) * upstream * self.dense).sum()


def steps(count: int, every_row: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    found = []
    for _ in range(count):
        rows = torch.randint(0, ROWS, (7,), generator=generator)
        rows = torch.cat([torch.randperm(ROWS, generator=generator), rows]) if every_row else rows
        found.append((rows, torch.randn(len(rows), WIDTH, generator=generator)))
    return found


def run(model: Table, config: OptimiserConfig, work: list[tuple[torch.Tensor, torch.Tensor]]) -> Table:
    optimiser = Optimiser(model, config)
    for rows, upstream in work:
        model.loss(rows, upstream).backward()
        optimiser.step()
    return model


@pytest.mark.parametrize("kind", ["adam", "adagrad"])
@pytest.mark.parametrize("decay", [0.0, 0.03])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_it_is_the_dense_optimiser_when_every_row_is_touched(
    kind: OptimiserKind, decay: float, clip: float | None
) -> None:
    work = steps(12, every_row=True)
    config = OptimiserConfig(kind=kind, learning_rate=0.02, weight_decay=decay, gradient_clip=clip)
    mine, dense = run(Table(), config, work), Table()
    parameters = list(dense.parameters())
    optimiser = (
        torch.optim.AdamW(parameters, lr=0.02, weight_decay=decay, eps=ADAM_EPS)
        if kind == "adam"
        else torch.optim.Adagrad(parameters, lr=0.02, eps=ADAGRAD_EPS)
    )
    for rows, upstream in work:
        optimiser.zero_grad()
        dense.loss(rows, upstream).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        if kind == "adagrad":  # PyTorch has no decoupled decay there
            for parameter in parameters:
                parameter.data.mul_(1 - 0.02 * decay)
        optimiser.step()
    for key, value in mine.state_dict().items():
        torch.testing.assert_close(value, dense.state_dict()[key], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["adam", "adagrad"])
def test_rows_that_no_look_up_names_stay_and_the_others_follow_the_lazy_rule(kind: OptimiserKind) -> None:
    """Row by row, number by number: decay only when touched, Adam's correction by the optimiser's count of steps."""
    work, rate, decay = steps(9, every_row=False), 0.05, 0.1
    fresh = Table()
    mine = run(copy.deepcopy(fresh), OptimiserConfig(kind=kind, learning_rate=rate, weight_decay=decay), work)
    weight = fresh.embedding.weight.detach().double().tolist()
    first, second = ([[0.0] * WIDTH for _ in range(ROWS)] for _ in range(2))
    dense = copy.deepcopy(fresh)
    follow = Optimiser(dense, OptimiserConfig(kind=kind, learning_rate=rate, weight_decay=decay))
    for step, (rows, upstream) in enumerate(work, start=1):
        scale = dense.dense.detach().double()
        grads = {int(r): [0.0] * WIDTH for r in rows}
        for row, up in zip(rows.tolist(), upstream.double().tolist(), strict=True):
            for d in range(WIDTH):
                grads[row][d] += up[d] * float(scale[d]) * (1 - math.tanh(weight[row][d]) ** 2)
        for row, grad in grads.items():
            for d in range(WIDTH):
                g = grad[d]
                weight[row][d] *= 1 - rate * decay
                if kind == "adam":
                    first[row][d] = 0.9 * first[row][d] + 0.1 * g
                    second[row][d] = 0.999 * second[row][d] + 0.001 * g * g
                    up_, down = first[row][d] / (1 - 0.9**step), math.sqrt(second[row][d] / (1 - 0.999**step))
                    weight[row][d] -= rate * up_ / (down + ADAM_EPS)
                else:
                    second[row][d] += g * g
                    weight[row][d] -= rate * g / (math.sqrt(second[row][d]) + ADAGRAD_EPS)
        dense.loss(rows, upstream).backward()
        follow.step()
    got = mine.embedding.weight.detach()
    torch.testing.assert_close(got, torch.tensor(weight, dtype=torch.float32), atol=1e-5, rtol=1e-4)
    touched = {int(r) for rows, _ in work for r in rows}
    left = sorted(set(range(ROWS)) - touched)
    assert left and torch.equal(got[left], fresh.embedding.weight[left])


def test_merging_is_a_sum_over_equal_rows() -> None:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(0, 50, (400,), generator=generator)
    grads = torch.randn(400, 3, generator=generator)
    merged = RowMerger(50, torch.device("cpu")).merge(rows, grads)
    assert sorted(merged.rows_U.tolist()) == sorted(set(rows.tolist()))
    want = torch.zeros(50, 3).index_add_(0, rows, grads)
    torch.testing.assert_close(merged.grad_UD, want[merged.rows_U])
    torch.testing.assert_close(merged.squared_norm(), want.square().sum())


def test_a_batch_without_rows_merges_to_nothing() -> None:
    merged = RowMerger(5, torch.device("cpu")).merge(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3))
    assert merged.rows_U.shape == (0,) and merged.grad_UD.shape == (0, 3) and float(merged.squared_norm()) == 0


def test_rows_above_2_to_the_24_stay_apart() -> None:
    rows = torch.tensor([2**24, 2**24 + 1, 2**24])
    merged = RowMerger(2**24 + 2, torch.device("cpu")).merge(rows, torch.tensor([[1.0], [2.0], [4.0]]))
    assert dict(zip(merged.rows_U.tolist(), merged.grad_UD[:, 0].tolist(), strict=True)) == {2**24: 5.0, 2**24 + 1: 2.0}


@pytest.mark.parametrize("update", ["row_sparse", "dense"])
def test_a_saved_optimiser_goes_on_with_the_same_bits(update: EmbeddingUpdate) -> None:
    config, work = OptimiserConfig(embedding_update=update, learning_rate=0.02), steps(8, every_row=False)
    whole = run(Table(), config, work)
    half = Table()
    optimiser = Optimiser(half, config)
    for rows, upstream in work[:3]:
        half.loss(rows, upstream).backward()
        optimiser.step()
    saved, weights = optimiser.state_dict(), copy.deepcopy(half.state_dict())
    resumed = Table()
    resumed.load_state_dict(weights)
    optimiser = Optimiser(resumed, config)
    optimiser.load_state_dict(saved)
    for rows, upstream in work[3:]:
        resumed.loss(rows, upstream).backward()
        optimiser.step()
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_the_learning_rate_factor_scales_tables_and_other_parameters() -> None:
    work = steps(1, every_row=True)
    moved = []
    for factor in (1.0, 0.25):
        model, before = Table(), Table()
        optimiser = Optimiser(model, OptimiserConfig(learning_rate=0.01))
        optimiser.set_learning_rate_factor(factor)
        model.loss(*work[0]).backward()
        optimiser.step()
        moved.append([(a - b).abs().max() for a, b in zip(model.parameters(), before.parameters(), strict=True)])
    for full, quarter in zip(*moved, strict=True):
        torch.testing.assert_close(quarter, full / 4, rtol=1e-3, atol=1e-6)
