"""The trainer's arithmetic: r = 0 is MT-Backbone bit for bit, r = 1 is MT-Backbone-S; early stopping, determinism."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from msr_models.data.order import epoch_batches
from msr_models.data.source import ResidentRows
from msr_models.data.window import Window, load_window
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model
from msr_models.training import trainer
from msr_models.training.prediction import predict, validate
from msr_models.training.step import reuse_loss
from msr_models.training.trainer import train
from msr_models.training.validation import Validated
from schemas.errors import TrainingError
from schemas.pipeline_spec import TowerReduction, TrainerConfig
from tests.support.batches import LAYOUT, random_batch
from tests.support.tiny_lake import tiny_dataset, write_masks, write_tiny_lake

DAYS = [date(2026, 1, 2), date(2026, 1, 3)]
CONFIG = TrainerConfig(batch_size=96, max_epochs=2, patience=1, learning_rate=0.01, weight_decay=1e-6, seed=3)
OPTIONS = {"embedding_dim": 4, "hidden": [16, 8]}


@pytest.fixture(scope="module")
def window(module_lake: Path) -> Window:
    spec = tiny_dataset()
    write_tiny_lake(spec, DAYS, rows_per_day=300)
    write_masks(spec, "set", DAYS, rows_per_day=300)
    return load_window(spec, DAYS, shared_set_id="set")


def fresh(window: Window, options: dict[str, object] = OPTIONS) -> MultiScenarioModel:
    return build_model("shared_bottom", options, window.layout, window.num_scenarios, CONFIG.seed)


def fit(window: Window, model: MultiScenarioModel, config: TrainerConfig = CONFIG) -> trainer.TrainResult:
    return train(
        model, ResidentRows(window, window.rows_of(DAYS[:1])), ResidentRows(window, window.rows_of(DAYS[1:])), config
    )


def test_ratio_0_is_mt_backbone_bit_for_bit(window: Window) -> None:
    """Against a plain trainer that knows neither masks nor visits: own tower, mean cross entropy, AdamW."""
    plain, epochs = fresh(window), []
    plain.start_from_base_rates(*window.label_counts(window.rows_of(DAYS[:1])))
    optimiser = torch.optim.AdamW(
        plain.parameters(), lr=CONFIG.learning_rate, weight_decay=CONFIG.weight_decay, fused=True
    )
    rows = window.rows_of(DAYS[:1])
    for epoch in (1, 2):
        generator = torch.Generator().manual_seed(CONFIG.seed * 1_000_003 + epoch)
        for part in rows[torch.randperm(len(rows), generator=generator)].split(CONFIG.batch_size):
            batch = window.batch(part)
            loss = F.binary_cross_entropy_with_logits(plain(batch), batch.label_B, reduction="none").mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        epochs.append({key: value.clone() for key, value in plain.state_dict().items()})
    model = fresh(window)
    result = fit(
        window.with_ratio(0.0), model, CONFIG.model_copy(update={"embedding_update": "dense", "weight_average": None})
    )
    for key, value in model.state_dict().items():
        assert torch.equal(value, epochs[result.epochs - 1][key]), key


def test_every_epoch_that_may_be_kept_is_told_and_may_end_the_training(window: Window) -> None:
    data, validation = (ResidentRows(window, window.rows_of(days)) for days in (DAYS[:1], DAYS[1:]))
    told: list[tuple[int, float]] = []
    config = CONFIG.model_copy(update={"max_epochs": 4, "patience": 4})
    result = train(fresh(window), data, validation, config, on_epoch=lambda *epoch: told.append(epoch))
    assert [epoch for epoch, _ in told] == [1, 2, 3, 4]
    assert told[result.epochs - 1][1] == max(score for _, score in told) == -result.validation_calibrated_logloss
    pretrained = build_model("finetune", {**OPTIONS, "pretraining_epochs": 2}, window.layout, window.num_scenarios, 1)
    told.clear()
    train(pretrained, data, validation, config, on_epoch=lambda *epoch: told.append(epoch))
    assert [epoch for epoch, _ in told] == [3, 4], "none of the pretraining is kept"

    def end(epoch: int, _: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh(window), data, validation, config, on_epoch=end)


def test_a_scenario_without_rows_is_told_and_its_tower_stays(window: Window, caplog: pytest.LogCaptureFixture) -> None:
    model, own = fresh(window), window.rows_of(DAYS[:1])
    before = {key: value.clone() for key, value in model.named_parameters() if value.shape[0] == window.num_scenarios}
    rows = own[window.scenario_N[own] != 1]
    train(model, ResidentRows(window, rows), ResidentRows(window, window.rows_of(DAYS[1:])), CONFIG)
    assert f"no training rows of {window.scenario_names[1]}: the weights of such a scenario stay" in caplog.text
    assert before
    for key, value in model.named_parameters():
        if key in before:
            assert torch.equal(value[1], before[key][1]) and not torch.equal(value[0], before[key][0]), key


def test_ratio_0_is_training_without_any_set(window: Window) -> None:
    models = [fresh(window), fresh(window)]
    results = [fit(w, m) for w, m in zip((window, window.with_ratio(0.0)), models, strict=True)]
    assert results[0].validation_logloss == results[1].validation_logloss
    rows = window.rows_of(DAYS[1:])
    assert (predict(models[0], window, rows) == predict(models[1], window, rows)).all()


@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
def test_ratio_1_is_mt_backbone_s(num_scenarios: int) -> None:
    """All rows through all towers, mean over towers: loss and gradients of the dense form."""
    model = build_model("shared_bottom", OPTIONS, LAYOUT, num_scenarios, 1)
    batch = random_batch(60, num_scenarios, share=2.0)
    assert batch.shared_B.all()
    loss = reuse_loss(model.visit(batch), batch.label_B, batch.shared_B, num_scenarios).mean()
    logits_BK = model.scenario_logits(model.embed(batch), batch)
    labels_BK = batch.label_B[:, None].expand_as(logits_BK)
    dense = F.binary_cross_entropy_with_logits(logits_BK, labels_BK, reduction="none").mean(1).mean()
    torch.testing.assert_close(loss, dense, atol=1e-5, rtol=0)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    for mine, theirs in zip(grads, torch.autograd.grad(dense, list(model.parameters())), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_mixes_own_and_all_towers_loss_per_row(reduction: TowerReduction) -> None:
    """Eq. 5 sums a shared row's losses; the default divides them by K."""
    model = build_model("shared_bottom", OPTIONS, LAYOUT, 4, 1)
    batch = random_batch(50, 4, share=0.5)
    assert 0 < batch.shared_B.sum() < 50
    loss_B = reuse_loss(model.visit(batch), batch.label_B, batch.shared_B, 4, reduction)
    logits_BK = model.scenario_logits(model.embed(batch), batch)
    every_BK = F.binary_cross_entropy_with_logits(
        logits_BK, batch.label_B[:, None].expand_as(logits_BK), reduction="none"
    )
    own_B = every_BK.gather(1, batch.scenario_B[:, None]).squeeze(1)
    all_B = every_BK.mean(1) if reduction == "mean" else every_BK.sum(1)
    torch.testing.assert_close(loss_B, torch.where(batch.shared_B, all_B, own_B), atol=1e-5, rtol=1e-5)


def test_the_same_inputs_give_the_same_bits(window: Window) -> None:
    options = OPTIONS | {"dropout": 0.3}
    shared = window.with_ratio(0.5)
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)  # the caller's random state must not matter
        model = fresh(window, options)
        fit(shared, model)
        runs.append(model.state_dict())
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])


def test_sharing_changes_the_result(window: Window) -> None:
    results = [fit(window.with_ratio(r), fresh(window)).validation_logloss for r in (0.0, 0.5, 1.0)]
    assert len(set(results)) == 3


def test_an_epochs_order_is_a_permutation_of_rows_that_changes_with_the_epoch() -> None:
    rows = torch.arange(100, 205)
    first, second = (torch.cat(list(epoch_batches(rows, 10, 1, epoch))) for epoch in (1, 2))
    assert torch.equal(first.sort().values, rows) and torch.equal(second.sort().values, rows)
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(list(epoch_batches(rows, 10, 1, 1))))
    assert [len(b) for b in epoch_batches(rows, 10, 1, 1)] == [10] * 10 + [5]


@pytest.mark.parametrize(
    ("aucs", "patience", "kept", "seen"),
    [
        ([0.6, 0.7, 0.65, 0.64, 0.9], 1, 2, 4),
        ([0.6, 0.7, 0.65, 0.8, 0.9], 1, 5, 5),
        ([0.6, 0.5, 0.9, 0.9, 0.9], 0, 1, 2),
        ([0.6, 0.6, 0.6, 0.6, 0.6], 9, 1, 5),
    ],
)
@pytest.mark.parametrize("criterion", ["auc", "logloss"])
def test_the_best_epoch_on_the_criterion_is_kept(
    window: Window,
    monkeypatch: pytest.MonkeyPatch,
    criterion: str,
    aucs: list[float],
    patience: int,
    kept: int,
    seen: int,
) -> None:
    weights: list[torch.Tensor] = []

    # The other criterion would keep the last epoch, the logloss before calibration the first
    last = iter(range(1, 6))

    def scripted(model: MultiScenarioModel, *_: object) -> Validated:
        weights.append(model.get_parameter("towers.layers.0.weight").detach().clone())
        value, other = aucs[len(weights) - 1], next(last) / 10
        auc, loss = (value, -other) if criterion == "auc" else (other, -value)
        return Validated(auc=auc, logloss=other, calibrated_logloss=loss)

    monkeypatch.setattr(trainer, "validate", scripted)
    model = fresh(window)
    changes = {"max_epochs": 5, "patience": patience, "select_on": criterion}
    result = fit(window, model, CONFIG.model_copy(update=changes))
    best = result.validation_auc if criterion == "auc" else -result.validation_calibrated_logloss
    assert (result.epochs, best, len(weights)) == (kept, aucs[kept - 1], seen)
    assert torch.equal(model.get_parameter("towers.layers.0.weight"), weights[kept - 1])


def test_a_loss_that_is_not_finite_names_epoch_and_batch(window: Window) -> None:
    with pytest.raises(TrainingError, match=r"not finite in epoch 1, batch 2; .*learning_rate"):
        fit(window, fresh(window), CONFIG.model_copy(update={"learning_rate": 1e30}))


def test_one_class_cannot_be_trained(window: Window) -> None:
    with pytest.raises(TrainingError, match="all 300 labels"):
        fit(dataclasses.replace(window, label_N=torch.ones(len(window))), fresh(window))


def test_validation_without_both_classes_falls_back_to_logloss(window: Window) -> None:
    labels = window.label_N.clone()
    labels[window.rows_of(DAYS[1:])] = 1.0
    result = fit(dataclasses.replace(window, label_N=labels), fresh(window))
    assert result.validation_auc is None and result.validation_logloss > 0


def test_it_learns_the_planted_taste(lake: Path) -> None:
    spec = tiny_dataset()
    write_tiny_lake(spec, DAYS, rows_per_day=3000)
    window = load_window(spec, DAYS)
    model, rows = fresh(window), window.rows_of(DAYS[1:])
    before = validate(model, window, rows)
    result = fit(window, model, CONFIG.model_copy(update={"max_epochs": 6, "patience": 6}))
    # Labels are drawn with logit +-1.5: nobody can expect more than .82, give or take .01 on these rows
    assert before.auc is not None and before.auc < 0.6
    assert result.validation_auc is not None and 0.72 < result.validation_auc < 0.83
    after = validate(model, window, rows, CONFIG.calibration)
    assert (after.auc, after.logloss) == (result.validation_auc, result.validation_logloss)
    assert after.calibrated_logloss == result.validation_calibrated_logloss < after.logloss
