"""What training asks of every registered model: gradients, losses, states; a new model is found by itself."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.source import ResidentRows
from msr_models.data.window import Window, load_window
from msr_models.models.base import MultiScenarioModel, VisitLogits
from msr_models.models.registry import build_model, known_models
from msr_models.modules.embedding import FieldEmbedding
from msr_models.ssim.objective import gated_logits, shared_instance_loss, tower_losses
from msr_models.training.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.state import Resume
from msr_models.training.step import GraphedStep, TrainStep, make_step, reuse_loss
from msr_models.training.trainer import train
from schemas.pipeline_spec import Precision, TrainerConfig
from tests.support.batches import LAYOUT, random_batch
from tests.support.models import SCENARIOS, build, require_gradients_by_row
from tests.support.tiny_lake import tiny_dataset, write_masks, write_tiny_lake

VISITS = 100


@pytest.mark.parametrize("name", known_models())
def test_every_parameter_gets_a_gradient_when_every_scenario_is_there(name: str) -> None:
    model = build(name)
    torch.nn.functional.softplus(model(random_batch(400, SCENARIOS))).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
        if parameter.shape[0] == SCENARIOS and not key.startswith("copies."):
            assert (parameter.grad.flatten(1) if parameter.dim() > 1 else parameter.grad[:, None]).abs().amax(
                1
            ).min() > 0


@pytest.mark.parametrize("name", known_models())
@pytest.mark.parametrize("num_scenarios", [1, 2, 12])
def test_the_loss_of_a_fixed_number_of_visits_is_that_of_the_exact_one(name: str, num_scenarios: int) -> None:
    fresh, batch = build(name, num_scenarios=num_scenarios), random_batch(50, num_scenarios, share=0.4)
    visits = 50 + int(batch.shared_B.sum()) * (num_scenarios - 1)
    results = []
    for capacity in (None, visits, visits + 100):
        model = copy.deepcopy(fresh)
        torch.manual_seed(7)  # noise of training is that of the rows, however many visits there are
        loss_B = reuse_loss(model.visit(batch, capacity), batch.label_B, batch.shared_B, num_scenarios)
        assert loss_B.isfinite().all()
        gradients = torch.autograd.grad(loss_B.mean(), list(model.parameters()))
        results.append([loss_B, *gradients, *(b.double() for b in model.buffers())])
    for other in results[1:]:
        for exact, fixed in zip(results[0], other, strict=True):
            torch.testing.assert_close(fixed, exact, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", known_models())
@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
@pytest.mark.parametrize("share", [0.0, 0.3, 2.0])
def test_a_search_gives_the_gradients_of_all_towers(name: str, num_scenarios: int, share: float) -> None:
    """In eval mode: statistics of the batch are those of the rows that train a tower, which differ on purpose."""
    model, batch = build(name, num_scenarios=num_scenarios).eval(), random_batch(60, num_scenarios, share=share)
    results = []
    for logits_of in (lambda m, b, g: gated_logits(m, b, g)[0], lambda m, b, _: m.scenario_logits(m.embed(b), b)):
        gate_B = batch.shared_B.float().requires_grad_()
        losses_BK = tower_losses(logits_of(model, batch, gate_B), batch.label_B)
        loss = shared_instance_loss(gate_B, losses_BK, batch.scenario_B)
        results.append([loss, *torch.autograd.grad(loss, [gate_B, *model.parameters()])])
    for mine, every in zip(*results, strict=True):
        torch.testing.assert_close(mine, every, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", known_models())
def test_bf16_products_follow_fp32_and_keep_every_gradient(name: str) -> None:
    model, batch = build(name), random_batch(400, SCENARIOS, share=0.2)
    torch.manual_seed(7)
    exact = model.visit(batch).logits_V
    torch.manual_seed(7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model.visit(batch).logits_V
    assert low.dtype == torch.float32
    assert (low - exact).abs().max() < 0.03 * exact.abs().max()
    assert len(low.unique()) > 0.95 * len(low) > len(low.bfloat16().unique())  # no logit was rounded to eight bits
    exact_gradients = torch.autograd.grad(F.softplus(exact).mean(), list(model.parameters()))
    low_gradients = torch.autograd.grad(F.softplus(low).mean(), list(model.parameters()))
    for (key, _), one, other in zip(model.named_parameters(), exact_gradients, low_gradients, strict=True):
        assert (one - other).norm() < 0.1 * one.norm(), key


@pytest.mark.parametrize("name", known_models())
def test_gradients_by_row_are_those_of_whole_tables(name: str) -> None:
    model, batch = build(name), random_batch(50, SCENARIOS, share=0.2)
    assert any(part is model.embedding for part in model.modules() if isinstance(part, FieldEmbedding))
    require_gradients_by_row(model, batch)


def _loss_and_gradients(model: MultiScenarioModel, batch: Batch, visit: Callable[..., VisitLogits]) -> list[Tensor]:
    torch.manual_seed(7)
    loss_B = reuse_loss(visit(batch, VISITS), batch.label_B, batch.shared_B, 3)
    return [loss_B, *torch.autograd.grad(loss_B.mean(), list(model.parameters()))]


@pytest.mark.slow
@pytest.mark.parametrize("name", known_models())
def test_a_compiled_model_is_the_eager_one(name: str) -> None:
    """Traced by Dynamo and AOTAutograd, whose graphs then run by PyTorch's own kernels; so their backward is covered,
    and what a compiler of kernels would make of the graphs is not (see the next test)."""
    fresh, batch = build(name, num_scenarios=3), random_batch(50, 3, share=0.3)
    eager, compiled = copy.deepcopy(fresh), copy.deepcopy(fresh)
    torch.compiler.reset()
    graph = torch.compile(compiled.visit, backend="aot_eager")
    want = _loss_and_gradients(eager, batch, eager.visit)
    for mine, theirs in zip(_loss_and_gradients(compiled, batch, graph), want, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)
    for mine, theirs in zip(compiled.buffers(), eager.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="PyTorch compiles kernels for a CPU with a C++ compiler")
def test_kernels_made_for_one_model_give_the_eager_scores() -> None:
    model, batch = build("shared_bottom", num_scenarios=3).eval(), random_batch(50, 3)
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(model)(batch), model(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", known_models())
def test_a_trained_model_scores_the_same_after_a_checkpoint(name: str, tmp_path: Path) -> None:
    model = build_model(name, {}, LAYOUT, 3, 1)
    step = TrainStep(model, Optimiser(model, OptimiserConfig(learning_rate=0.01)), "fp32", Processes())
    for seed in range(3):
        step(random_batch(60, 3, seed=seed, share=0.2), 60)
    card = ModelCard(
        model=name,
        options={},
        layout=LAYOUT,
        scenarios=("home", "feed", "ads"),
        seed=5,
        dataset="d",
        vocabulary_version="20260101-a",
    )
    loaded, _ = load_checkpoint(tmp_path / "model.pt", save_checkpoint(tmp_path / "model.pt", model, card))
    batch = random_batch(40, 3, seed=9)
    assert torch.equal(loaded(batch), model.eval()(batch))
    kept = dict((*loaded.named_parameters(), *loaded.named_buffers()))
    for key, value in (*model.named_parameters(), *model.named_buffers()):
        assert torch.equal(kept[key], value), key


class Dying(ResidentRows):
    """Rows whose reader dies before the third step of the run: inside the second epoch."""

    steps = 3

    def batches(self, *args: int, **keywords: int) -> Iterator[Batch]:
        for batch in super().batches(*args, **keywords):
            self.steps -= 1
            if self.steps < 0:
                raise KeyboardInterrupt
            yield batch


@pytest.fixture(scope="module")
def window(module_lake: Path) -> Window:
    spec, days = tiny_dataset(), [date(2026, 1, 2), date(2026, 1, 3)]
    write_tiny_lake(spec, days, rows_per_day=120)
    write_masks(spec, "set", days, rows_per_day=120)
    return load_window(spec, days, shared_set_id="set").with_ratio(0.3)


# Fitted at once in seconds: an interrupted fit begins again.
WITHOUT_EPOCHS = {"logistic_regression"}


@pytest.mark.parametrize("name", sorted(set(known_models()) - WITHOUT_EPOCHS))
def test_an_interrupted_run_ends_with_the_same_bits(name: str, window: Window, tmp_path: Path) -> None:
    days, resume = window.days, Resume(tmp_path / "state.pt", "run", every_steps=1)
    config = TrainerConfig(batch_size=64, max_epochs=2, patience=9, learning_rate=0.01, weight_decay=1e-5, seed=3)

    def fit(rows: type[ResidentRows], resume: Resume | None) -> MultiScenarioModel:
        model = build_model(name, {}, window.layout, window.num_scenarios, 3)
        train(
            model,
            rows(window, window.rows_of(days[:1])),
            ResidentRows(window, window.rows_of(days[1:])),
            config,
            resume=resume,
        )
        return model

    whole = fit(ResidentRows, None).state_dict()
    with pytest.raises(KeyboardInterrupt):
        fit(Dying, resume)
    torch.manual_seed(11)  # the random state of the new process must not matter
    again = fit(ResidentRows, resume).state_dict()
    assert whole.keys() == again.keys()
    assert [key for key, value in whole.items() if not torch.equal(value, again[key])] == []


# Their steps run eagerly.
NOT_CAPTURED = {"finetune", "logistic_regression", "single_task"}


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(set(known_models()) - NOT_CAPTURED))
def test_a_replayed_step_is_an_eager_step(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Captured as a CUDA graph, without waiting for the device, in bf16; on a CPU in fp32 the losses are alike."""
    wide = dataclasses.replace(LAYOUT, num_rows=(9000, 9000, 9000, 9000))
    config = OptimiserConfig(learning_rate=0.003)
    fresh = build_model(name, {}, wide, 3, 1)
    batches = [random_batch(4096, 3, seed=seed, share=0.1) for seed in range(8)]
    runs = []
    for kind in ("cpu", "eager", "replayed"):
        model = copy.deepcopy(fresh) if kind == "cpu" else copy.deepcopy(fresh).cuda()
        optimiser = Optimiser(model, config)
        precision: Precision = "fp32" if kind == "cpu" else "bf16"
        step = TrainStep(model, optimiser, precision, Processes())
        if kind == "replayed":
            step = make_step(model, optimiser, precision, 4096, Processes())
            assert isinstance(step, GraphedStep)
        device = next(model.parameters()).device
        losses = [float(step(batch.to(device), 4096)) for batch in batches]
        buffers = [buffer.double().cpu() for buffer in model.buffers()]
        runs.append((losses, buffers))
    (cpu, _), (eager, at_eager), (replayed, at_replayed) = runs
    assert not caplog.messages
    assert replayed == pytest.approx(eager, abs=2e-3)
    assert replayed == pytest.approx(cpu, abs=5e-3)
    for one, other in zip(at_eager, at_replayed, strict=True):
        torch.testing.assert_close(one, other, atol=0.01, rtol=0.02)
