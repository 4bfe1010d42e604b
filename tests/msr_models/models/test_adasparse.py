"""AdaSparse against its formulas; what is cut, what that costs, and which steps count."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from msr_models.data.order import num_batches
from msr_models.data.source import ResidentRows
from msr_models.models.adasparse import AdaSparse
from msr_models.models.registry import build_model
from msr_models.models.single_task import ScenarioCopies
from msr_models.ssim.search_state import SearchState
from msr_models.training.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from msr_models.training.state import Resume
from msr_models.training.trainer import train
from schemas.errors import TrainingError
from schemas.pipeline_spec import SearchSpec, TrainerConfig
from tests.support.batches import LAYOUT, random_batch
from tests.support.planted_log import planted_log

PLANNED = 16
FORMS = ["binarisation", "scaling", "fusion"]
OPTIONS = {
    "embedding_dim": 4,
    "hidden": [9, 7],
    "alpha": [1.0, 5.0],
    "sparsity_weight": [0.5, 2.5],
    "growth_share": 0.5,
}


def build(form: str = "fusion", steps: int = 0, **options: object) -> AdaSparse:
    model = build_model("adasparse", OPTIONS | {"form": form} | options, LAYOUT, 3, 1)
    assert isinstance(model, AdaSparse)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        model.plan_steps(PLANNED)
        model.num_steps.fill_(steps)
    return model


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def factor(form: str, v: float, alpha: float) -> float:
    """π of one neuron, β = 2 and ε = 0.25."""
    if form == "scaling":
        return 2 * sigmoid(v)
    gate = sigmoid(alpha * v) * (2 if form == "fusion" else 1)
    if gate <= 0.25:
        return 0.0
    return 1.0 if form == "binarisation" else gate


def transcribed(model: AdaSparse, e: Tensor, s: int, alpha: float) -> tuple[float, list[float]]:
    """(logit, share of cut neurons of every layer) of one row."""
    h, sparsity = e, []
    for layer, pruner in zip(model.layers, model.pruners, strict=True):
        h = (h @ layer.weight[0] + layer.bias[0]).relu()
        weight = torch.cat([pruner.first_weight_IO, pruner.second_weight_JO])
        v = (torch.cat([h, model.scenario_KD[s]]) @ weight + pruner.bias_O).tolist()
        factors = [factor(model.config.form, x, alpha) for x in v]
        sparsity.append(sum(f == 0 for f in factors) / len(factors))
        h = h * torch.tensor(factors)
    last = model.head.layers[0]
    return (h @ last.weight[0, :, 0] + last.bias[0, 0]).item(), sparsity


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("steps", "alpha"), [(0, 1.0), (4, 3.0), (8, 5.0), (99, 5.0)])
def test_logits_are_those_of_the_weighted_neurons(form: str, steps: int, alpha: float) -> None:
    model, batch = build(form, steps).eval(), random_batch(20, 3, share=0.3)
    visits, e_BE = model.visit(batch), model.embed(batch)
    assert visits.penalty is None
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = [transcribed(model, e_BE[row], s, alpha)[0] for row, s in pairs]
    torch.testing.assert_close(visits.logits_V, torch.tensor(want), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("form", ["binarisation", "fusion"])
@pytest.mark.parametrize("extra", [None, 30])
@pytest.mark.parametrize(("steps", "alpha", "weight"), [(0, 1.0, 0.5), (4, 3.0, 1.5), (20, 5.0, 2.5)])
def test_the_penalty_is_that_of_layers_outside_the_range(
    form: str, extra: int | None, steps: int, alpha: float, weight: float
) -> None:
    model, batch = build(form, steps, min_sparsity=0.3, max_sparsity=0.5), random_batch(20, 3, share=0.3)
    real = 20 + 2 * int(batch.shared_B.sum())
    e_BE = model.embed(batch)
    visits = model.visit(batch, None if extra is None else real + extra)
    terms, inside = [], 0
    for row, s in zip(visits.row_index_V[:real].tolist(), visits.scenario_V[:real].tolist(), strict=True):
        for r in transcribed(model, e_BE[row], s, alpha)[1]:
            inside += 0.3 <= r <= 0.5
            terms.append(0.0 if 0.3 <= r <= 0.5 else (r - 0.4) ** 2)
    assert visits.penalty is not None and 0 < inside < len(terms)
    assert visits.penalty.item() == pytest.approx(weight * sum(terms) / len(terms), rel=1e-5)
    gradients = torch.autograd.grad(visits.penalty, list(model.pruners.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_too_few_cut_neurons_push_down_and_too_many_push_up() -> None:
    batch = random_batch(40, 3)
    for bias, sign in ((3.0, 1), (-3.0, -1)):
        model = build("binarisation")
        with torch.no_grad():
            for pruner in model.pruners:
                pruner.first_weight_IO.zero_()
                pruner.second_weight_JO.zero_()
                pruner.bias_O.fill_(bias)
        penalty = model.visit(batch).penalty
        assert penalty is not None
        for gradient in torch.autograd.grad(penalty, [pruner.bias_O for pruner in model.pruners]):
            assert (gradient * sign).min() > 0


def test_scaling_cuts_nothing_and_has_no_penalty() -> None:
    assert build("scaling").visit(random_batch(20, 3)).penalty is None


def test_only_training_steps_with_gradients_count() -> None:
    model, batch = build(), random_batch(20, 3, share=0.2)
    model.visit(batch)
    model(batch)
    assert int(model.num_steps) == 2
    with torch.no_grad():
        model(batch)
    model.eval()
    model(batch)
    model.visit(batch)
    model.scenario_logits(model.embed(batch), batch)
    assert int(model.num_steps) == 2


def grown(model: AdaSparse) -> float:
    return float(model._grown((0.0, 1.0)))


def test_growth_is_a_share_of_the_planned_steps_and_goes_on_from_where_weights_come_from() -> None:
    model = build(steps=2)
    assert grown(model) == 0.25, "two of half of sixteen"
    model.plan_steps(400)
    assert grown(model) == 0.25
    model.num_steps.fill_(100)
    assert grown(model) == pytest.approx(0.25 + 0.75 * 0.5)
    model.num_steps.fill_(400)
    model.plan_steps(10)
    assert grown(model) == 1.0
    unplanned = build_model("adasparse", OPTIONS, LAYOUT, 3, 1)
    assert isinstance(unplanned, AdaSparse)
    unplanned.visit(random_batch(20, 3))
    assert grown(unplanned) == 0.0, "without a plan"


@pytest.mark.parametrize("epochs", [1, 4])
def test_the_trainer_and_the_search_plan_their_steps(epochs: int) -> None:
    log = planted_log(rows=400, users=30, items=20, shares=(3, 2, 1)).window
    rows = ResidentRows(log, torch.arange(len(log)))
    config = TrainerConfig(max_epochs=epochs, batch_size=64, patience=9)
    model = build_model("adasparse", OPTIONS | {"growth_share": 1.0}, log.layout, 3, 1)
    assert isinstance(model, AdaSparse)
    result = train(model, rows, rows, config)
    assert (int(model.planned_steps), grown(model)) == (7 * epochs, result.epochs / epochs)
    for backbone in ("single_task", "finetune"):
        copies = build_model(backbone, {"backbone": "adasparse"}, log.layout, 3, 1)
        assert isinstance(copies, ScenarioCopies)
        copies.plan_steps(12)
        assert [copy.state_dict()["planned_steps"].item() for copy in copies.copies] == [12] * 3
    small: dict[str, Any] = {"batch_size": 64, "embedding_dim": 4, "hidden": (8,), "warmup_epochs": epochs, "epochs": 2}
    for objective, both in (("reference", epochs), ("joint", epochs + 2)):
        state = SearchState(log, SearchSpec.model_validate(small | {"backbone": "adasparse", "objective": objective}))
        assert state.model.state_dict()["planned_steps"].item() == both * num_batches(len(state.rows), 64)


def test_a_resumed_run_goes_on_growing(tmp_path: Path) -> None:
    log = planted_log(rows=400, users=30, items=20, shares=(3, 2, 1)).window
    rows = ResidentRows(log, torch.arange(len(log)))
    config = TrainerConfig(max_epochs=4, batch_size=64, patience=9)
    weights = []
    for stops in (False, True):
        resume = Resume(tmp_path / f"{stops}.pt", "run")
        seen: list[int] = []

        def stop(epoch: int, _: float, seen: list[int] = seen, stops: bool = stops) -> None:
            seen.append(epoch)
            if stops and epoch == 2:
                raise KeyboardInterrupt

        for attempt in range(2 if stops else 1):
            model = build_model("adasparse", OPTIONS, log.layout, 3, 1)
            with pytest.raises(KeyboardInterrupt) if stops and attempt == 0 else nullcontext():
                train(model, rows, rows, config, resume=resume, on_epoch=stop if attempt == 0 else None)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_checkpoint_keeps_how_hard_neurons_are_cut(tmp_path: Path) -> None:
    model, batch = build(steps=3).eval(), random_batch(20, 3)
    options = OPTIONS | {"form": "fusion"}
    card = ModelCard(
        model="adasparse",
        options=options,
        layout=LAYOUT,
        scenarios=("home", "feed", "ads"),
        seed=5,
        dataset="d",
        vocabulary_version="20260101-a",
    )
    loaded, _ = load_checkpoint(tmp_path / "model.pt", save_checkpoint(tmp_path / "model.pt", model, card))
    assert isinstance(loaded, AdaSparse) and int(loaded.num_steps) == 3
    assert torch.equal(loaded(batch), model(batch))
    assert (int(loaded.planned_steps), float(loaded.grown_before)) == (PLANNED, 0.0)
    loaded.num_steps.zero_()
    assert not torch.equal(loaded(batch), model(batch))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_sparsity": 0.5, "max_sparsity": 0.2}, "min_sparsity 0.5 is above max_sparsity 0.2"),
        ({"alpha": [3.0, 1.0]}, r"alpha \[3.0, 1.0\] decreases"),
        ({"sparsity_weight": [0.2, 0.1]}, r"sparsity_weight \[0.2, 0.1\] decreases"),
        ({"form": "sign"}, "'sign' is not allowed"),
    ],
)
def test_options_that_contradict_each_other_are_errors(options: dict[str, object], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        build_model("adasparse", options, LAYOUT, 3, 1)
