"""What every registered model must hold to; a new model is found by itself."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model, known_models
from msr_models.modules.embedding import FieldEmbedding
from msr_models.ssim.objective import gated_logits, shared_instance_loss, tower_losses
from msr_models.training.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.step import GraphedStep, TrainStep, make_step, reuse_loss
from tests.support.batches import LAYOUT, random_batch, take

SCENARIOS = 5

# Default options on LAYOUT with 3 scenarios: a change of architecture must be meant.
NUM_PARAMETERS = {
    "adasparse": 42_945,
    "aesm2": 60_953,
    "base_dnn": 21_249,
    "dcn": 58_211,
    "deepfm": 56_618,
    "dffm": 25_633,
    "epnet": 62_323,
    "finetune": 63_651,
    "hmoe": 118_115,
    "logistic_regression": 32,
    "maria": 52_438,
    "mmoe": 117_395,
    "optmsm": 242_221,
    "optmsm_cgc": 474_221,
    "optmsm_moe": 359_181,
    "pepnet": 88_563,
    "ple": 211_635,
    "ppnet": 82_771,
    "sfpnet": 134_062,
    "shared_bottom": 56_531,
    "single_task": 63_651,
    "star": 82_181,
}


# Scenario parameters of these prefixes also work for other scenarios' rows: what their definition feeds to all.
FED_TO_ALL = {"ple": "experts.levels.0.own."}


def build(name: str, seed: int = 1, num_scenarios: int = SCENARIOS) -> MultiScenarioModel:
    """In the phase in which it ends, with weights away from where they start."""
    model = build_model(name, {}, LAYOUT, num_scenarios, seed)
    if model.pretraining_epochs:
        model.end_pretraining()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():  # away from zeros, so that no parameter hides behind a zero factor
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("name", known_models())
@pytest.mark.parametrize("num_scenarios", [1, 2, 3, 12])
def test_visits_forward_and_scenario_logits_are_the_same_numbers(name: str, num_scenarios: int) -> None:
    model = build(name, num_scenarios=num_scenarios).eval()
    batch = random_batch(40, num_scenarios, share=0.3)
    logits_BK = model.scenario_logits(model.embed(batch), batch)
    assert logits_BK.shape == (40, num_scenarios) and logits_BK.dtype == torch.float32
    own = logits_BK.gather(1, batch.scenario_B[:, None]).squeeze(1)
    torch.testing.assert_close(model(batch), own, atol=1e-5, rtol=0)
    visits = model.visit(batch)
    torch.testing.assert_close(visits.logits_V, logits_BK[visits.row_index_V, visits.scenario_V], atol=1e-5, rtol=0)
    assert len(visits.logits_V) == 40 + int(batch.shared_B.sum()) * (num_scenarios - 1)


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
def test_an_absent_scenario_keeps_its_own_parameters(name: str) -> None:
    model = build(name)
    torch.nn.functional.softplus(model(random_batch(100, SCENARIOS, scenarios=[0, 1, 3, 4]))).sum().backward()
    fed_to_all = FED_TO_ALL.get(name, "none")
    own = 0
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None
        if key.startswith("copies."):  # a whole model per scenario
            own += 1
            assert (parameter.grad.abs().max() == 0) == key.startswith("copies.2."), key
        elif parameter.shape[0] == SCENARIOS and not key.startswith(fed_to_all):
            own += 1
            assert parameter.grad[2].abs().max() == 0, key
    assert own


@pytest.mark.parametrize("name", known_models())
def test_rows_score_the_same_alone_and_among_others(name: str) -> None:
    model = build(name).eval()
    batch = random_batch(64, SCENARIOS)
    some = torch.tensor([3, 17, 40])
    torch.testing.assert_close(model(batch)[some], model(take(batch, some)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", known_models())
def test_logits_have_both_signs(name: str) -> None:
    logits = build(name).eval()(random_batch(500, SCENARIOS))
    assert logits.min() < 0 < logits.max()


@pytest.mark.parametrize("name", known_models())
def test_fresh_weights_depend_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(3)
    first = build_model(name, {}, LAYOUT, SCENARIOS, 1).state_dict()
    torch.manual_seed(4)
    second = build_model(name, {}, LAYOUT, SCENARIOS, 1).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", known_models())
def test_an_empty_batch_is_scored(name: str) -> None:
    model = build(name).eval()
    assert model(take(random_batch(4, SCENARIOS), torch.zeros(0, dtype=torch.int64))).shape == (0,)


@pytest.mark.parametrize("name", known_models())
def test_the_number_of_parameters_is_the_one_written_down(name: str) -> None:
    assert name in NUM_PARAMETERS, f"write the number of parameters of {name!r} into NUM_PARAMETERS"
    assert sum(p.numel() for p in build_model(name, {}, LAYOUT, 3, 1).parameters()) == NUM_PARAMETERS[name]


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
    for logits_of in (gated_logits, lambda m, b, _: m.scenario_logits(m.embed(b), b)):
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
def test_a_trained_model_scores_the_same_after_a_checkpoint(name: str, tmp_path: Path) -> None:
    model = build_model(name, {}, LAYOUT, 3, 1)
    step = TrainStep(model, Optimiser(model, OptimiserConfig(learning_rate=0.01)), "fp32", Processes())
    for seed in range(3):
        step(random_batch(60, 3, seed=seed, share=0.2), 60)
    card = ModelCard(
        model=name, options={}, layout=LAYOUT, num_scenarios=3, seed=5, dataset="d", vocabulary_version="20260101-a"
    )
    loaded, _ = load_checkpoint(tmp_path / "model.pt", save_checkpoint(tmp_path / "model.pt", model, card))
    batch = random_batch(40, 3, seed=9)
    assert torch.equal(loaded(batch), model.eval()(batch))
    kept = dict((*loaded.named_parameters(), *loaded.named_buffers()))
    for key, value in (*model.named_parameters(), *model.named_buffers()):
        assert torch.equal(kept[key], value), key


@pytest.mark.parametrize("name", known_models())
def test_nothing_moves_in_eval_mode(name: str) -> None:
    model, batch = build(name).eval(), random_batch(40, SCENARIOS, share=0.2)
    before = {key: value.clone() for key, value in (*model.named_buffers(), *model.named_parameters())}
    first = model(batch)
    model.visit(batch)
    model.scenario_logits(model.embed(batch), batch)
    assert all(torch.equal(value, before[key]) for key, value in (*model.named_buffers(), *model.named_parameters()))
    assert torch.equal(model(batch), first)


@pytest.mark.parametrize("name", known_models())
def test_gradients_by_row_are_those_of_whole_tables(name: str) -> None:
    model, batch = build(name), random_batch(50, SCENARIOS, share=0.2)
    by_row = copy.deepcopy(model)
    tables = [part for part in by_row.modules() if isinstance(part, FieldEmbedding)]
    assert any(table is by_row.embedding for table in tables)
    for table in tables:
        table.row_gradient = True
    for one in (model, by_row):
        torch.manual_seed(7)
        reuse_loss(one.visit(batch), batch.label_B, batch.shared_B, SCENARIOS).mean().backward()
    for (key, whole), part in zip(model.named_parameters(), by_row.parameters(), strict=True):
        assert part.grad is not None and part.grad.is_sparse == any(part is table.weight for table in tables), key
        torch.testing.assert_close(part.grad.to_dense(), whole.grad, atol=1e-6, rtol=1e-5)


# Their steps run eagerly.
NOT_CAPTURED = {"finetune", "logistic_regression", "single_task"}


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(set(known_models()) - NOT_CAPTURED))
def test_a_replayed_step_is_an_eager_step(name: str) -> None:
    """Captured as a CUDA graph, without waiting for the device, in bf16; on a CPU in fp32 the losses are alike."""
    wide = dataclasses.replace(LAYOUT, num_rows=(9000, 9000, 9000, 9000))
    config, said = OptimiserConfig(learning_rate=0.003), list[str]()
    fresh = build_model(name, {}, wide, 3, 1)
    batches = [random_batch(4096, 3, seed=seed, share=0.1) for seed in range(8)]
    runs = []
    for kind in ("cpu", "eager", "replayed"):
        model = copy.deepcopy(fresh) if kind == "cpu" else copy.deepcopy(fresh).cuda()
        optimiser = Optimiser(model, config)
        precision = "fp32" if kind == "cpu" else "bf16"
        step = TrainStep(model, optimiser, precision, Processes())
        if kind == "replayed":
            step = make_step(model, optimiser, precision, 4096, Processes(), said.append)
            assert isinstance(step, GraphedStep)
        device = next(model.parameters()).device
        losses = [float(step(batch.to(device), 4096)) for batch in batches]
        buffers = [buffer.double().cpu() for buffer in model.buffers()]
        runs.append((losses, buffers))
    (cpu, _), (eager, at_eager), (replayed, at_replayed) = runs
    assert not said
    assert replayed == pytest.approx(eager, abs=2e-3)
    assert replayed == pytest.approx(cpu, abs=5e-3)
    for one, other in zip(at_eager, at_replayed, strict=True):
        torch.testing.assert_close(one, other, atol=0.01, rtol=0.02)
