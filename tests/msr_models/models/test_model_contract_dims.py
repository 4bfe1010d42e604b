"""What every registered model does where fields have rows of their own width; a new model is found by itself."""

from __future__ import annotations

import copy
import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model, known_models
from msr_models.modules.embedding import FieldEmbedding
from msr_models.modules.mixed_embedding import MixedEmbedding
from msr_models.training.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.step import GraphedStep, TrainStep, make_step
from msr_models.training.warm_start import carry_over
from schemas.errors import TrainingError
from schemas.pipeline_spec import Precision
from tests.support.batches import WITH_ATTRIBUTE, WITH_DIMS, random_batch, take
from tests.support.models import SCENARIOS, build, require_gradients_by_row

# Its vectors have width 1, which no field is narrower than
WITH_VECTORS = sorted(set(known_models()) - {"logistic_regression"})


def card(name: str, layout: FieldLayout = WITH_DIMS) -> ModelCard:
    return ModelCard(
        model=name,
        options={},
        layout=layout,
        scenarios=("home", "feed", "ads"),
        seed=5,
        dataset="d",
        vocabulary_version="20260101-a",
    )


def mixed(model: MultiScenarioModel) -> list[MixedEmbedding]:
    return [part for part in model.modules() if isinstance(part, MixedEmbedding)]


@pytest.mark.parametrize("name", WITH_VECTORS)
def test_all_ways_to_score_agree_and_every_weight_trains(name: str) -> None:
    model, batch = build(name, layout=WITH_DIMS), random_batch(400, SCENARIOS, layout=WITH_DIMS)
    torch.nn.functional.softplus(model(batch)).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
    model, batch = model.eval(), random_batch(40, SCENARIOS, share=0.3, layout=WITH_DIMS)
    visits, logits_BK = model.visit(batch), model.scenario_logits(model.embed(batch), batch)
    torch.testing.assert_close(visits.logits_V, logits_BK[visits.row_index_V, visits.scenario_V], atol=1e-5, rtol=0)
    for rows in (torch.tensor([17]), torch.arange(39, -1, -1), torch.zeros(0, dtype=torch.int64)):
        torch.testing.assert_close(model(take(batch, rows)), model(batch)[rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", WITH_VECTORS)
def test_scores_are_those_of_the_model_whose_tables_hold_the_projected_rows(name: str) -> None:
    """So a model knows nothing of widths: its equations, and its own tests, hold as they are."""
    model, plain = build(name, layout=WITH_DIMS).eval(), build(name, layout=WITH_ATTRIBUTE).eval()
    weights = model.state_dict()
    parts = {n: p for n, p in model.named_modules() if isinstance(p, MixedEmbedding)}
    assert parts
    with torch.no_grad():
        for key, weight in plain.state_dict().items():
            part = parts.get(key.removesuffix(".weight"))
            if part is None:
                weight.copy_(weights[key])
            else:
                weight.copy_(torch.cat([part.vectors_of(f) for f in range(WITH_DIMS.num_fields)]))
    batch = random_batch(60, SCENARIOS, share=0.2, layout=WITH_DIMS)
    torch.testing.assert_close(model.visit(batch).logits_V, plain.visit(batch).logits_V, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", WITH_VECTORS)
def test_gradients_by_row_are_those_of_whole_tables(name: str) -> None:
    model, batch = build(name, layout=WITH_DIMS), random_batch(50, SCENARIOS, share=0.2, layout=WITH_DIMS)
    require_gradients_by_row(model, batch)


@pytest.mark.parametrize("name", known_models())
def test_a_trained_model_comes_back_and_starts_the_next_day(name: str, tmp_path: Path) -> None:
    model = build_model(name, {}, WITH_DIMS, 3, 5)
    if model.pretraining_epochs:
        model.end_pretraining()
    fresh = copy.deepcopy(model)
    step = TrainStep(model, Optimiser(model, OptimiserConfig(learning_rate=0.01)), "fp32", Processes())
    for seed in range(3):
        step(random_batch(60, 3, seed=seed, share=0.2, layout=WITH_DIMS), 60)
    for now, was in zip(mixed(model), mixed(fresh), strict=True):
        assert any(not torch.equal(p, q) for p, q in zip(now.parameters(), was.parameters(), strict=True))
    path, batch = tmp_path / "model.pt", random_batch(40, 3, seed=9, layout=WITH_DIMS)
    loaded, read = load_checkpoint(path, save_checkpoint(path, model, card(name)))
    assert read == card(name) and torch.equal(loaded(batch), model.eval()(batch))
    grown = dataclasses.replace(WITH_DIMS, num_rows=(13, 9, 8, 5))
    later = build_model(name, {}, grown, 3, 5)
    carry_over(later, card(name, grown), loaded, card(name))
    assert torch.equal(later.eval()(batch), model(batch)), "ids that were known keep their rows"


# A new field in the middle, of a width that no other has
WIDER = FieldLayout(
    names=("user", "item", "device", "tags", "price"),
    num_slots=(1, 1, 1, WITH_DIMS.num_slots[2], 1),
    num_rows=(*WITH_DIMS.num_rows[:2], 4, *WITH_DIMS.num_rows[2:]),
    item_field=1,
    hist_length=WITH_DIMS.hist_length,
    attribute_fields=(4,),
    embedding_dims=(4, 7, 6, None, 2),
    roles=("user", "item", "feature", "feature", "feature"),
)


@pytest.mark.parametrize("before", [WITH_DIMS, WITH_ATTRIBUTE], ids=["more_widths", "the_first_width"])
@pytest.mark.parametrize("name", ["shared_bottom", "deepfm", "autoint", "pepnet", "single_task"])
def test_a_narrow_field_comes_in(name: str, before: FieldLayout) -> None:
    now = WIDER.with_own_dims(before.own_dims | {"device": 6})
    old, model, untouched = (build_model(name, {}, layout, 3, 5) for layout in (before, now, now))
    with torch.no_grad():
        for count, parameter in enumerate(old.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(count)))
    carry_over(model, card(name, now), old, card(name, before))
    for part, was, new in zip(mixed(model), _embeddings(old), mixed(untouched), strict=True):
        for f, field in enumerate(now.names):
            want_RD = new.vectors_of(f) if field == "device" else was.vectors_of(before.names.index(field))
            assert torch.equal(part.vectors_of(f), want_RD), field


def _embeddings(model: MultiScenarioModel) -> list[MixedEmbedding | FieldEmbedding]:
    copies = getattr(model, "copies", [model])
    return [copy.embedding for copy in copies]


@pytest.mark.parametrize("name", ["shared_bottom", "logistic_regression"])
@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((4, 7, None, 3), r"fields.price.embedding_dim 2, this run has 3; .*training.start: scratch"),
        ((4, None, None, 2), r"fields.item.embedding_dim 7, this run has not set"),
        ((4, 7, 4, 2), r"fields.tags.embedding_dim not set, this run has 4"),
        ((), r"fields.user.embedding_dim 4, this run has not set"),
    ],
)
def test_another_width_is_no_start(name: str, dims: tuple[int | None, ...], message: str) -> None:
    now = dataclasses.replace(WITH_DIMS, embedding_dims=dims)
    model, old = build_model(name, {}, now, 3, 5), build_model(name, {}, WITH_DIMS, 3, 5)
    with pytest.raises(TrainingError, match=message):
        carry_over(model, card(name, now), old, card(name))


def test_a_table_that_the_model_makes_for_itself_has_no_narrow_rows() -> None:
    """Linear parts have one weight per id (and scenario)."""
    model = build_model("deepfm", {"wide": True}, WITH_DIMS, 3, 1)
    shapes = {tuple(p.weight.shape) for p in model.modules() if isinstance(p, FieldEmbedding)}
    assert {(29, 1), (29, 3)} < shapes and (9, 7) in shapes


def test_a_width_above_the_models_is_told(caplog: pytest.LogCaptureFixture) -> None:
    from msr_models.training.start import _tell_wider_fields

    layout = dataclasses.replace(WITH_DIMS, embedding_dims=(4, 64, None, 40))
    with caplog.at_level(logging.WARNING):
        _tell_wider_fields(build_model("logistic_regression", {}, layout, 3, 1), "lr")
        _tell_wider_fields(build_model("shared_bottom", {}, WITH_DIMS, 3, 1), "narrow")
        assert not caplog.messages
        _tell_wider_fields(build_model("shared_bottom", {}, layout, 3, 1), "sb")
    (line,) = caplog.messages
    assert line.startswith("sb embedding_dim of item (64), price (40) is above the model's 16")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["shared_bottom", "deepfm", "autoint", "sfpnet", "optmsm", "adasparse"])
def test_a_replayed_step_is_an_eager_step(name: str, caplog: pytest.LogCaptureFixture) -> None:
    wide = dataclasses.replace(WITH_DIMS, num_rows=(9000, 9000, 9000, 9000))
    batches = [random_batch(4096, 3, seed=seed, share=0.1, layout=wide) for seed in range(8)]
    fresh, runs = build_model(name, {}, wide, 3, 1), []
    for kind in ("cpu", "eager", "replayed"):
        model = copy.deepcopy(fresh) if kind == "cpu" else copy.deepcopy(fresh).cuda()
        optimiser = Optimiser(model, OptimiserConfig(learning_rate=0.003))
        precision: Precision = "fp32" if kind == "cpu" else "bf16"
        step = TrainStep(model, optimiser, precision, Processes())
        if kind == "replayed":
            step = make_step(model, optimiser, precision, 4096, Processes())
            assert isinstance(step, GraphedStep)
        device = next(model.parameters()).device
        runs.append([float(step(batch.to(device), 4096)) for batch in batches])
    assert not caplog.messages
    assert runs[2] == pytest.approx(runs[1], abs=2e-3) and runs[2] == pytest.approx(runs[0], abs=5e-3)
