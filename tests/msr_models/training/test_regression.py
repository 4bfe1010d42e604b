"""The linear fit: an optimum by an independent gradient, the path of strengths, and what a run starts from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from msr_models.data.source import ResidentRows
from msr_models.data.window import Window, load_window
from msr_models.models.logistic_regression import LogisticRegression
from msr_models.models.registry import build_model
from msr_models.training import regression
from msr_models.training.prediction import predict
from msr_models.training.regression import Design, fit_path
from msr_models.training.trainer import train
from msr_models.training.validation import validated
from schemas.pipeline_spec import TrainerConfig
from tests.support.tiny_lake import tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, 2), date(2026, 1, 3)]


@pytest.fixture(scope="module")
def window(module_lake: object) -> Iterator[Window]:
    write_tiny_lake(tiny_dataset(), DAYS, rows_per_day=600)
    yield load_window(tiny_dataset(), DAYS)


def rows_of(window: Window, day: int) -> ResidentRows:
    return ResidentRows(window, window.rows_of([DAYS[day]]))


def fresh(window: Window) -> LogisticRegression:
    model = build_model("logistic_regression", {}, window.layout, window.num_scenarios, 1)
    assert isinstance(model, LogisticRegression)
    return model


@pytest.mark.parametrize("strength", [30.0, 1.0])
@pytest.mark.parametrize("centre", [0.0, 0.4])
def test_the_fit_is_a_minimum(window: Window, strength: float, centre: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of loss and penalty, by the model's own forward pass, is zero there."""
    monkeypatch.setattr(regression, "STRENGTHS", (strength,))
    monkeypatch.setattr(regression, "ITERATIONS", 2000)
    model, data = fresh(window), rows_of(window, 0)
    with torch.no_grad():
        model.embedding.get_parameter("weight").fill_(centre)
    model.start_from_base_rates(*data.label_counts())
    fit = fit_path(model.inputs, model.base_logit_K, data, rows_of(window, 1), TrainerConfig())
    start = model.embedding.get_parameter("weight").detach().clone()
    model.adopt(fit.weight_R, fit.bias_K)
    batch = window.batch(data.rows)
    loss = F.binary_cross_entropy_with_logits(model(batch), batch.label_B, reduction="sum")
    loss = loss + strength / 2 * (model.embedding.get_parameter("weight") - start).square().sum()
    for gradient in torch.autograd.grad(loss, [model.embedding.get_parameter("weight"), model.bias_K]):
        assert float(gradient.abs().max()) < 0.1
    assert not torch.equal(model.embedding.get_parameter("weight"), start)


def test_the_strength_that_validates_best_is_kept_and_the_path_ends_behind_it(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (data, validation) = fresh(window), (rows_of(window, day) for day in (0, 1))
    scores, real = iter([1.0, 3.0, 2.0, 2.5, 9.0, 9.0]), validated
    with monkeypatch.context() as patched:
        patched.setattr(regression, "validated", lambda *given: replace(real(*given), auc=next(scores)))
        config = TrainerConfig(select_on="auc")
        fit = fit_path(model.inputs, model.base_logit_K, data, validation, config)
    assert fit.place == 2 and next(scores) == 9.0
    assert model.embedding.get_parameter("weight").abs().max() == 0, "the model is left as it was"
    model.adopt(fit.weight_R, fit.bias_K)
    design = Design.of(model.inputs, model.base_logit_K, validation)
    weights = np.concatenate([fit.weight_R.double().numpy(), fit.bias_K.double().numpy()])
    found = design.validate(weights, window.num_scenarios, config.calibration)
    assert found.logloss == pytest.approx(fit.validation.logloss, abs=1e-6)
    assert found.calibrated_logloss == pytest.approx(fit.validation.calibrated_logloss, abs=1e-6)
    assert found.calibrated_logloss < found.logloss


def test_of_too_many_rows_every_nth_is_fitted(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, validation = fresh(window), rows_of(window, 0), rows_of(window, 1)
    third = ResidentRows(window, data.rows[::3])
    want = fit_path(model.inputs, model.base_logit_K, third, validation, TrainerConfig())
    monkeypatch.setattr(regression, "MAX_ROWS", -(-data.num_rows // 3))
    got = fit_path(model.inputs, model.base_logit_K, data, validation, TrainerConfig())
    assert torch.equal(got.weight_R, want.weight_R) and got.place == want.place


def test_a_scenario_without_rows_keeps_its_bias(window: Window) -> None:
    own = window.rows_of(DAYS[:1])
    data = ResidentRows(window, own[window.scenario_N[own] != 1])
    model = fresh(window)
    fit = fit_path(model.inputs, model.base_logit_K, data, rows_of(window, 1), TrainerConfig())
    assert float(fit.bias_K[1]) == 0.0 and float(fit.bias_K[0]) != 0.0


def test_a_wide_model_is_never_worse_on_validation_than_the_linear_fit(window: Window) -> None:
    config = TrainerConfig(batch_size=64, max_epochs=2, learning_rate=5.0, seed=3)
    data, validation = rows_of(window, 0), rows_of(window, 1)
    linear, wide = fresh(window), build_model("shared_bottom", {"wide": True}, window.layout, window.num_scenarios, 3)
    best = train(linear, data, validation, config)
    kept = train(wide, data, validation, config)
    assert kept.epochs == 0, "steps of this size spoil it: the weights that it started with are kept"
    np.testing.assert_allclose(
        predict(wide, window, validation.rows), predict(linear, window, validation.rows), atol=0.01
    )
    assert kept.validation_logloss == pytest.approx(best.validation_logloss, abs=1e-3)


def test_a_warm_start_keeps_its_linear_part(window: Window) -> None:
    config = TrainerConfig(batch_size=64, max_epochs=1, learning_rate=1e-12, weight_decay=0.0, seed=3)
    model = build_model("shared_bottom", {"wide": True}, window.layout, window.num_scenarios, 3)
    train(model, rows_of(window, 0), rows_of(window, 1), config)
    again = build_model("shared_bottom", {"wide": True}, window.layout, window.num_scenarios, 3)
    again.load_state_dict(model.state_dict())
    flipped = replace(window, label_N=1 - window.label_N)
    train(again, rows_of(flipped, 0), rows_of(flipped, 1), config)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, msg=key)
