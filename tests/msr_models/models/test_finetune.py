"""Finetune: one model for all rows at first, then one per scenario that starts from it; with the trainer's part."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.data.source import ResidentRows
from msr_models.data.window import Window, load_window
from msr_models.models.finetune import Finetune
from msr_models.models.registry import build_model
from msr_models.training import trainer
from msr_models.training.checkpoint import ModelCard
from msr_models.training.optimiser import Optimiser
from msr_models.training.state import Resume
from msr_models.training.trainer import TrainResult, train
from msr_models.training.validation import Validated
from msr_models.training.warm_start import carry_over
from schemas.errors import TrainingError
from schemas.pipeline_spec import TrainerConfig
from tests.support.batches import LAYOUT, random_batch
from tests.support.tiny_lake import tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, 2), date(2026, 1, 3)]
CONFIG = TrainerConfig(
    batch_size=64, max_epochs=4, patience=9, learning_rate=0.01, weight_decay=1e-5, seed=3, schedule="cosine"
)
OPTIONS = {"embedding_dim": 4, "hidden": [16, 8], "dropout": 0.3, "pretraining_epochs": 2}
BATCHES = 4  # 200 rows in batches of 64


def build(layout: FieldLayout = LAYOUT, num_scenarios: int = 3, **options: object) -> Finetune:
    model = build_model("finetune", OPTIONS | options, layout, num_scenarios, CONFIG.seed)
    assert isinstance(model, Finetune)
    return model


class Dying(ResidentRows):
    """Rows whose reader dies before the batch that would be step number `at`."""

    def __init__(self, window: Window, rows: torch.Tensor, at: int) -> None:
        super().__init__(window, rows)
        self.left = at

    def batches(self, *args: int, **keywords: int) -> Iterator[Batch]:
        for batch in super().batches(*args, **keywords):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield batch


@pytest.fixture(scope="module")
def window(module_lake: Path) -> Window:
    torch.set_num_threads(1)
    write_tiny_lake(tiny_dataset(), DAYS, rows_per_day=200)
    return load_window(tiny_dataset(), DAYS)


def fit(
    window: Window, model: Finetune, resume: Resume | None = None, at: int = -1, config: TrainerConfig = CONFIG
) -> TrainResult:
    rows, validation = (window.rows_of([day]) for day in DAYS)
    return train(model, Dying(window, rows, at), ResidentRows(window, validation), config, resume=resume)


def test_at_first_behaviours_of_all_scenarios_are_those_of_the_one_model() -> None:
    model, batch = build(backbone="optmsm"), random_batch(40, 3)
    want = model.copies[0].eval()(batch.in_one_scenario())
    torch.testing.assert_close(model.eval()(batch), want)
    assert not torch.equal(model(dataclasses.replace(batch, hist_scenario_BL=-batch.hist_scenario_BL)), want)


def test_while_it_pretrains_one_model_scores_and_learns_for_all() -> None:
    model, batch = build(dropout=0.0), random_batch(40, 3, share=0.3)
    visits = model.visit(batch)
    batch_of_one = dataclasses.replace(batch, scenario_B=torch.zeros_like(batch.scenario_B))
    torch.testing.assert_close(visits.logits_V, model.copies[0](batch_of_one)[visits.row_index_V])
    F.softplus(visits.logits_V).sum().backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == key.startswith("copies.0."), key


def test_every_scenario_starts_from_what_all_rows_trained_and_goes_its_own_way() -> None:
    model, batch = build(dropout=0.0), random_batch(40, 3)
    before = model.scenario_logits(model.embed(batch), batch)
    model.end_pretraining()
    assert model.pretraining_epochs == 0
    torch.testing.assert_close(model.scenario_logits(model.embed(batch), batch), before)
    assert len({p.data_ptr() for p in model.parameters()}) == len(list(model.parameters()))
    with torch.no_grad():
        model.get_parameter("copies.1.network.head_bias").add_(1.0)
    after = model.scenario_logits(model.embed(batch), batch)
    torch.testing.assert_close(after - before, torch.tensor([0.0, 1.0, 0.0]).expand(40, 3), atol=1e-6, rtol=0)


def scored(auc: float) -> Validated:
    return Validated(auc=auc, logloss=1.0, calibrated_logloss=1.0)


def test_the_trainer_makes_the_copies_behind_the_pretraining_epochs(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each phase has an optimiser of its own, and the kept epoch is the best of the second."""
    aucs, seen = iter([0.9, 0.8, 0.6, 0.7]), list[tuple[float, bool]]()

    def scripted(model: Finetune, *_: object) -> Validated:
        weights = [c.embedding.get_parameter("weight").detach() for c in model.copies]
        seen.append((float((weights[0] - weights[1]).abs().max()), bool(model.is_pretrained)))
        return scored(next(aucs))

    monkeypatch.setattr(trainer, "validate", scripted)
    made: list[Optimiser] = []

    class Counted(Optimiser):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]  # handed on
            made.append(self)

    monkeypatch.setattr(trainer, "Optimiser", Counted)
    model = build(window.layout, window.num_scenarios)
    result = fit(window, model, config=CONFIG.model_copy(update={"patience": 0, "select_on": "auc"}))
    assert (result.epochs, result.validation_auc) == (4, 0.7)
    assert [pretrained for _, pretrained in seen] == [False, False, True, True]
    assert all(distance > 0 for distance, _ in seen)
    assert [int(optimiser.steps) for optimiser in made] == [2 * BATCHES, 2 * BATCHES]
    assert bool(model.is_pretrained)


def test_patience_counts_from_the_kept_epochs_alone(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    aucs = iter([0.9, 0.8, 0.6, 0.5, 0.9])
    monkeypatch.setattr(trainer, "validate", lambda *_: scored(next(aucs)))
    config = CONFIG.model_copy(update={"max_epochs": 5, "patience": 0, "select_on": "auc"})
    result = fit(window, build(window.layout, window.num_scenarios), config=config)
    assert (result.epochs, result.validation_auc) == (3, 0.6) and next(aucs) == 0.9


@pytest.mark.parametrize(
    ("every", "deaths"), [(0, [5, 2 * BATCHES, 3 * BATCHES + 2]), (3, [1, 2 * BATCHES - 1, 2 * BATCHES + 2])]
)
def test_an_interruption_in_any_phase_changes_nothing(
    window: Window, tmp_path: Path, every: int, deaths: list[int]
) -> None:
    whole = build(window.layout, window.num_scenarios)
    result = fit(window, whole)
    for at in deaths:
        resume = Resume(tmp_path / f"{every}-{at}.pt", "run", every)
        with pytest.raises(KeyboardInterrupt):
            fit(window, build(window.layout, window.num_scenarios), resume, at)
        torch.manual_seed(at)
        again = build(window.layout, window.num_scenarios)
        resumed = fit(window, again, resume)
        assert (resumed.epochs, resumed.validation_auc) == (result.epochs, result.validation_auc), at
        for key, value in whole.state_dict().items():
            assert torch.equal(value, again.state_dict()[key]), (at, key)


def test_epochs_that_are_all_pretraining_are_refused(window: Window) -> None:
    model = build(window.layout, window.num_scenarios)
    with pytest.raises(TrainingError, match=r"max_epochs 2 leaves no epoch after .*pretraining_epochs 2; raise"):
        fit(window, model, config=CONFIG.model_copy(update={"max_epochs": 2}))


def test_a_model_of_the_day_before_goes_on_with_its_copies(window: Window) -> None:
    before = build(window.layout, window.num_scenarios)
    fit(window, before)
    card = ModelCard(
        model="finetune",
        options=OPTIONS,
        layout=window.layout,
        scenarios=window.scenario_names,
        seed=3,
        dataset="d",
        vocabulary_version="20260101-a",
    )
    model = build(window.layout, window.num_scenarios)
    carry_over(model, card, before, card)
    assert model.pretraining_epochs == 0
    result = fit(window, model, config=CONFIG.model_copy(update={"max_epochs": 1}))
    assert result.epochs == 1
    assert not torch.equal(
        model.copies[0].embedding.get_parameter("weight"), model.copies[1].embedding.get_parameter("weight")
    )
