"""What every registered model does with dense values; a new model is found by itself."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model, known_models
from msr_models.modules.embedding import FieldEmbedding
from msr_models.training.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.step import TrainStep
from msr_models.training.warm_start import carry_over
from schemas.errors import TrainingError
from tests.support.batches import WITH_DENSE, random_batch, take
from tests.support.models import SCENARIOS, build

# Dense values and rows of their own width at once
BOTH = dataclasses.replace(WITH_DENSE, embedding_dims=(4, 7, None, 2))


def card(name: str, layout: FieldLayout = WITH_DENSE, scenarios: int = 3) -> ModelCard:
    return ModelCard(
        model=name,
        options={},
        layout=layout,
        scenarios=("home", "feed", "ads", "cart")[:scenarios],
        seed=5,
        dataset="d",
        vocabulary_version="20260101-a",
    )


@pytest.mark.parametrize("layout", [WITH_DENSE, BOTH], ids=["dense", "dense_and_dims"])
@pytest.mark.parametrize("name", known_models())
def test_all_ways_to_score_agree_and_every_weight_trains(name: str, layout: FieldLayout) -> None:
    model, batch = build(name, layout=layout), random_batch(400, SCENARIOS, layout=layout)
    torch.nn.functional.softplus(model(batch)).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
    assert any("dense_ZD" in key for key, _ in model.named_parameters())
    model, batch = model.eval(), random_batch(40, SCENARIOS, share=0.3, layout=layout)
    visits, logits_BK = model.visit(batch), model.scenario_logits(model.embed(batch), batch)
    torch.testing.assert_close(visits.logits_V, logits_BK[visits.row_index_V, visits.scenario_V], atol=1e-5, rtol=0)
    for rows in (torch.tensor([17]), torch.arange(39, -1, -1), torch.zeros(0, dtype=torch.int64)):
        torch.testing.assert_close(model(take(batch, rows)), model(batch)[rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", known_models())
def test_a_value_counts_as_one_more_field_with_the_value_times_its_vector(name: str) -> None:
    """Scores are those of a model with two more fields, whose rows hold x_z w_z of each row of the batch."""
    rows = 30
    model, batch = build(name, layout=WITH_DENSE).eval(), random_batch(rows, SCENARIOS, share=0.2, layout=WITH_DENSE)
    assert batch.dense_BZ is not None
    as_fields = dataclasses.replace(
        WITH_DENSE,
        names=(*WITH_DENSE.names, "price_value", "age_value"),
        num_slots=(*WITH_DENSE.num_slots, 1, 1),
        num_rows=(*WITH_DENSE.num_rows, rows, rows),
        dense_names=(),
    )
    plain = build(name, layout=as_fields).eval()
    weights, tables = model.state_dict(), {}
    for key, part in model.named_modules():
        if isinstance(part, FieldEmbedding):
            of_values_ZD = part.dense_ZD if part.dense_ZD is not None else weights["linear_dense_KZ"].t()
            tables[f"{key}.weight"] = [part.weight, *(x_B[:, None] * w_D for x_B, w_D in _pairs(batch, of_values_ZD))]
    with torch.no_grad():
        for key, weight in plain.state_dict().items():
            weight.copy_(torch.cat(tables[key]) if key in tables else weights[key])
    index_B2 = torch.arange(rows, dtype=torch.int32)[:, None].expand(rows, 2)
    wide = dataclasses.replace(batch, slot_ids_BS=torch.cat([batch.slot_ids_BS, index_B2], dim=1), dense_BZ=None)
    torch.testing.assert_close(model.visit(batch).logits_V, plain.visit(wide).logits_V, atol=1e-4, rtol=1e-4)


def _pairs(batch: Batch, weight_ZD: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    assert batch.dense_BZ is not None
    return list(zip(batch.dense_BZ.unbind(1), weight_ZD, strict=True))


@pytest.mark.parametrize("name", known_models())
def test_a_trained_model_comes_back_and_grows_by_a_scenario(name: str, tmp_path: Path) -> None:
    model = build_model(name, {}, WITH_DENSE, 3, 5)
    if model.pretraining_epochs:
        model.end_pretraining()
    fresh = copy.deepcopy(model)
    step = TrainStep(model, Optimiser(model, OptimiserConfig(learning_rate=0.01)), "fp32", Processes())
    for seed in range(3):
        step(random_batch(60, 3, seed=seed, share=0.2, layout=WITH_DENSE), 60)
    moved, before = (_dense(m) for m in (model, fresh))
    assert len(moved) == len(before) > 0 and all(not torch.equal(a, b) for a, b in zip(moved, before, strict=True))
    path, batch = tmp_path / "model.pt", random_batch(40, 3, seed=9, layout=WITH_DENSE)
    loaded, read = load_checkpoint(path, save_checkpoint(path, model, card(name)))
    assert read == card(name) and torch.equal(loaded(batch), model.eval()(batch))
    later = build_model(name, {}, WITH_DENSE, 4, 5)
    carry_over(later, card(name, scenarios=4), loaded, card(name))
    assert all(torch.equal(a, b) for a, b in zip(_dense(later), _dense(loaded), strict=False))


def _dense(model: MultiScenarioModel) -> list[torch.Tensor]:
    return [w.detach().clone() for key, w in model.named_parameters() if key.endswith("dense_ZD")]


def test_other_values_are_no_start() -> None:
    now = dataclasses.replace(WITH_DENSE, dense_names=("price",))
    model, old = (build_model("shared_bottom", {}, layout, 3, 5) for layout in (now, WITH_DENSE))
    with pytest.raises(TrainingError, match=r"fields .*\['dense', 'price', 'age'\].*\['dense', 'price'\]"):
        carry_over(model, card("shared_bottom", now), old, card("shared_bottom"))


def test_a_batch_without_the_values_is_refused() -> None:
    model, batch = build("shared_bottom", layout=WITH_DENSE), random_batch(4, SCENARIOS)
    with pytest.raises(ValueError, match=r"no dense values, the model reads those of \('price', 'age'\)"):
        model(batch)
