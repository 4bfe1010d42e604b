"""A captured step computes what an eager one does; a fixed number of visits changes nothing."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn

from msr_models.data.batch import Batch
from msr_models.models.base import MultiScenarioModel, VisitLogits
from msr_models.models.registry import build_model
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.row_gradients import RowMerger
from msr_models.training.step import GraphedStep, TrainStep, balance_of_scenarios, make_step, reuse_loss
from tests.support.batches import LAYOUT, random_batch

OPTIONS = {"embedding_dim": 8, "hidden": [32, 16]}
CONFIG = OptimiserConfig(learning_rate=0.01, weight_decay=1e-4, gradient_clip=1.0)


# A table of few rows would be merged by PyTorch itself, which waits for the device.
WIDE = dataclasses.replace(LAYOUT, num_rows=(9000, 9000, 9000, 9000))


def build(num_scenarios: int = 3, dropout: float = 0.0) -> MultiScenarioModel:
    return build_model("shared_bottom", OPTIONS | {"dropout": dropout}, WIDE, num_scenarios, 1)


@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
def test_the_loss_of_a_fixed_number_of_visits_is_that_of_the_exact_one(num_scenarios: int) -> None:
    model, batch = build(num_scenarios), random_batch(50, num_scenarios, share=0.4)
    visits = 50 + int(batch.shared_B.sum()) * (num_scenarios - 1)
    results = []
    for capacity in (None, visits, visits + 100):
        loss_B = reuse_loss(model.visit(batch, capacity), batch.label_B, batch.shared_B, num_scenarios)
        results.append([loss_B, *torch.autograd.grad(loss_B.mean(), list(model.parameters()))])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_scenarios_weigh_the_same_however_many_rows_they_have() -> None:
    """The mean over the scenarios that are there of each one's mean, and with it the gradient."""
    batch = random_batch(90, 4, scenarios=[0, 0, 0, 0, 1, 3], share=0.3)
    loss_B = torch.rand(90, generator=torch.Generator().manual_seed(1))
    factor_B = balance_of_scenarios(batch.scenario_B, 4, Processes())
    means = [float(loss_B[batch.scenario_B == k].mean()) for k in (0, 1, 3)]
    assert float((loss_B * factor_B).mean()) == pytest.approx(sum(means) / 3, abs=1e-6)
    assert float(factor_B.mean()) == pytest.approx(1.0)
    found = {}
    for balance in ("rows", "scenarios"):
        model = build(4, dropout=0.0)
        step = TrainStep(model, Optimiser(model, CONFIG), "fp32", Processes(), loss_balance=balance)
        visits = model.visit(batch)
        every_B = reuse_loss(visits, batch.label_B, batch.shared_B, 4)
        found[balance] = float(step(batch, 90))
        want = every_B.mean() if balance == "rows" else (every_B * factor_B).mean()
        assert found[balance] == pytest.approx(float(want.detach()), abs=1e-5)
    assert found["rows"] != pytest.approx(found["scenarios"], abs=1e-4)


def test_a_step_on_a_cpu_is_eager() -> None:
    model = build()
    assert type(make_step(model, Optimiser(model, CONFIG), "fp32", 8, Processes())) is TrainStep


def _train(step: TrainStep, device: str, steps: int = 12) -> list[float]:
    losses = []
    for seed in range(steps):  # shares differ, so that several numbers of visits are captured
        batch = random_batch(4096, 3, seed=seed, share=0.1 + 0.05 * (seed % 3)).to(device)
        losses.append(step(batch, len(batch)))
    odd = random_batch(100, 3, seed=99, share=0.2).to(device)
    losses.append(step(odd, len(odd)))
    return [float(loss) for loss in losses]


@pytest.mark.gpu
def test_a_replayed_step_is_an_eager_step(caplog: pytest.LogCaptureFixture) -> None:
    fresh = build().cuda()
    eager, replayed = copy.deepcopy(fresh), copy.deepcopy(fresh)
    losses = _train(TrainStep(eager, Optimiser(eager, CONFIG), "bf16", Processes()), "cuda")
    step = make_step(replayed, Optimiser(replayed, CONFIG), "bf16", 4096, Processes())
    assert isinstance(step, GraphedStep)
    assert _train(step, "cuda") == pytest.approx(losses, abs=2e-3)
    assert not caplog.messages and len(step._graphs) >= 2
    for key, value in replayed.state_dict().items():
        torch.testing.assert_close(value, eager.state_dict()[key], atol=0.02, rtol=0.05)


@pytest.mark.gpu
def test_a_gpu_in_bf16_follows_a_cpu_in_fp32() -> None:
    fresh = build()
    on_cpu, on_gpu = copy.deepcopy(fresh), copy.deepcopy(fresh).cuda()
    losses = _train(TrainStep(on_cpu, Optimiser(on_cpu, CONFIG), "fp32", Processes()), "cpu")
    step = make_step(on_gpu, Optimiser(on_gpu, CONFIG), "bf16", 4096, Processes())
    assert _train(step, "cuda") == pytest.approx(losses, abs=5e-3)


@pytest.mark.gpu
def test_dropout_differs_from_replay_to_replay() -> None:
    model = build(dropout=0.5).cuda()
    step = make_step(model, Optimiser(model, OptimiserConfig(learning_rate=1e-12)), "bf16", 4096, Processes())
    batch = random_batch(4096, 3, share=0.1).to("cuda")
    losses = [float(step(batch, len(batch))) for _ in range(10)]
    assert len(set(losses)) == 10


class _Waiting(nn.Module):
    """A model that reads a value back in its forward pass."""

    num_scenarios = 3

    def __init__(self, inner: MultiScenarioModel) -> None:
        super().__init__()
        self.inner = inner

    def visit(self, batch: Batch, capacity: int | None = None) -> VisitLogits:
        visits = self.inner.visit(batch, capacity)
        assert float(visits.logits_V.detach().sum()) != 0.125
        return visits


@pytest.mark.gpu
def test_a_model_that_cannot_be_captured_trains_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    model = _Waiting(build()).cuda()
    step = make_step(model, Optimiser(model, CONFIG), "bf16", 4096, Processes())  # type: ignore[arg-type]  # a plain module around a model
    losses = _train(step, "cuda")
    assert len(caplog.messages) == 1 and "CUDA graph" in caplog.messages[0]
    plain = build().cuda()
    expected = _train(TrainStep(plain, Optimiser(plain, CONFIG), "bf16", Processes()), "cuda")
    assert losses == pytest.approx(expected, abs=2e-3)
    assert len(torch.randn(8, device="cuda").unique()) == 8, "random numbers can be drawn again"


@pytest.mark.gpu
def test_rows_merge_on_a_gpu_as_on_a_cpu() -> None:
    generator = torch.Generator().manual_seed(3)
    rows, grads = torch.randint(0, 50, (4000,), generator=generator), torch.randn(4000, 8, generator=generator)
    on_gpu = RowMerger(50, torch.device("cuda")).merge(rows.cuda(), grads.cuda())
    want = torch.zeros(50, 8).index_add_(0, rows, grads)
    torch.testing.assert_close(on_gpu.grad_UD.cpu(), want[rows], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(on_gpu.squared_norm().cpu(), want.square().sum(), atol=1e-2, rtol=1e-4)
