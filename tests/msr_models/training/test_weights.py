"""Weights of rows in the loss, the regression, the base rates, and in what is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from lake import reader as lake_reader
from msr_models.data.batch import Batch
from msr_models.data.source import ResidentRows
from msr_models.data.streamed import open_streamed_rows
from msr_models.data.window import Window, load_window
from msr_models.experiments.split import select_rows
from msr_models.models.logistic_regression import LogisticRegression
from msr_models.models.registry import build_model
from msr_models.training.chain import DayPlan
from msr_models.training.optimiser import Optimiser
from msr_models.training.prediction import validate
from msr_models.training.processes import Processes
from msr_models.training.regression import fit_path
from msr_models.training.step import TrainStep
from msr_models.training.target_data import ReadOptions, load_target_data
from msr_models.training.trainer import train
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.pipeline_spec import Loading, LossBalance, TrainerConfig
from tests.support.batches import LAYOUT, random_batch, take
from tests.support.tiny_lake import tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, 2), date(2026, 1, 3), date(2026, 1, 4)]
OPTIONS: dict[str, Any] = {"embedding_dim": 4, "hidden": [8]}
CONFIG = TrainerConfig(batch_size=64, max_epochs=2, patience=5, learning_rate=0.01, seed=3)


def weighted_dataset() -> DatasetSpec:
    return tiny_dataset(columns=tiny_dataset().columns.model_dump() | {"weight": "w"})


@pytest.fixture(scope="module")
def window(module_lake: object) -> Iterator[Window]:
    write_tiny_lake(weighted_dataset(), DAYS, rows_per_day=300)
    yield load_window(weighted_dataset(), DAYS[:2])


class _Still:
    """An optimiser that leaves the gradients where they are."""

    others: tuple[()] = ()

    def step(self, gather_rows: object) -> None:
        pass


def gradient(batch: Batch, balance: LossBalance, kept: tuple[float, ...] | None = None) -> list[Tensor]:
    """Loss and gradients of one step."""
    model = build_model("shared_bottom", OPTIONS | {"wide": True}, LAYOUT, 3, 1)
    step = TrainStep(model, cast(Optimiser, _Still()), "fp32", Processes(), balance, negatives_kept=kept)
    loss = step(batch, len(batch))
    return [loss, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("balance", ["rows", "scenarios"])
def test_a_step_takes_a_row_of_weight_2_as_two_rows_and_one_of_weight_0_as_none(balance: LossBalance) -> None:
    batch = random_batch(60, 3, scenarios=[0, 0, 0, 1, 1, 2], share=0.3)
    weight_B = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(4))
    twice = take(batch, torch.repeat_interleave(torch.arange(60), weight_B))
    want, got = gradient(twice, balance), gradient(replace(batch, weight_B=weight_B.float()), balance)
    assert len(want) == len(got) > 5
    for a, b in zip(want, got, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    without = gradient(batch, balance)
    assert max(float((a - b).abs().max()) for a, b in zip(want, without, strict=True)) > 1e-3


def test_a_batch_whose_weights_are_all_0_moves_nothing() -> None:
    batch = replace(random_batch(20, 3), weight_B=torch.zeros(20))
    loss, *gradients = gradient(batch, "scenarios")
    assert float(loss) == 0 and all(torch.equal(g, torch.zeros_like(g)) for g in gradients)


@pytest.mark.parametrize("balance", ["rows", "scenarios"])
@pytest.mark.parametrize("model_name", ["shared_bottom", "logistic_regression"])
def test_a_run_with_weights_of_1_is_the_run_without_bit_for_bit(
    window: Window, balance: LossBalance, model_name: str
) -> None:
    found = []
    for weight_N in (None, torch.ones(len(window)), 1.0 + (window.label_N > 0.5).float()):
        own = replace(window, weight_N=weight_N, shared_N=window.instance_id_N % 3 == 0)
        options = OPTIONS | {"wide": True} if model_name == "shared_bottom" else {}
        model = build_model(model_name, options, own.layout, 3, 1)
        training, validation = (ResidentRows(own, own.rows_of([day])) for day in DAYS[:2])
        result = train(model, training, validation, CONFIG.model_copy(update={"loss_balance": balance}))
        found.append((result.validation, model.state_dict()))
    assert found[0][0] == found[1][0] != found[2][0]
    assert all(torch.equal(v, found[1][1][name]) for name, v in found[0][1].items())
    assert not all(torch.equal(v, found[2][1][name]) for name, v in found[0][1].items())


def test_the_regression_fits_a_row_of_weight_2_as_two_rows(window: Window) -> None:
    weight_N = torch.from_numpy(np.random.default_rng(2).integers(1, 4, len(window)))
    twice = select_rows(replace(window, weight_N=None), torch.repeat_interleave(torch.arange(len(window)), weight_N))
    fits = []
    for own in (replace(window, weight_N=weight_N.float()), twice, replace(window, weight_N=None)):
        model = build_model("logistic_regression", {}, own.layout, 3, 1)
        assert isinstance(model, LogisticRegression)
        training, validation = (ResidentRows(own, own.rows_of([day])) for day in DAYS[:2])
        model.start_from_base_rates(*training.label_weights())
        fits.append((model.base_logit_K, fit_path(model.inputs, model.base_logit_K, training, validation, CONFIG)))
    (base, weighted), (base_of_twice, repeated), (_, without) = fits
    torch.testing.assert_close(base, base_of_twice)
    assert weighted.place == repeated.place
    torch.testing.assert_close(weighted.weight_R, repeated.weight_R, atol=2e-3, rtol=0)
    torch.testing.assert_close(weighted.bias_K, repeated.bias_K, atol=2e-3, rtol=0)
    assert weighted.validation.logloss == pytest.approx(repeated.validation.logloss, abs=1e-5)
    assert without.validation.logloss != pytest.approx(repeated.validation.logloss, abs=1e-4)


def test_weights_are_read_with_their_rows_and_belong_to_the_fingerprint(
    window: Window, lake: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = weighted_dataset()
    write_tiny_lake(spec, DAYS, rows_per_day=300)
    own = load_window(spec, DAYS[:2])
    assert own.fingerprint == window.fingerprint
    rows = lake_reader.read_table(spec, "scenario_features", days=DAYS[:1], columns=["instance_id", "weight"])
    want = dict(zip(rows["instance_id"].to_pylist(), rows["weight"].to_numpy().astype(np.float32), strict=True))
    assert own.weight_N is not None
    first = own.rows_of(DAYS[:1])
    assert own.weight_N[first].tolist() == [want[i] for i in own.instance_id_N[first].tolist()]
    monkeypatch.setattr("tests.support.tiny_lake._weights", lambda *_: np.full(300, 0.5))
    write_tiny_lake(spec, DAYS, rows_per_day=300)
    assert load_window(spec, DAYS[:2]).fingerprint != window.fingerprint


def test_a_data_set_without_weights_has_none(lake: object) -> None:
    write_tiny_lake(tiny_dataset(), DAYS, rows_per_day=50)
    own = load_window(tiny_dataset(), DAYS)
    assert own.weight_N is None and own.batch(torch.arange(3)).weight_B is None
    assert own.counted().tolist() == list(range(150)) and own.weights_of() is None
    assert [v.tolist() for v in own.label_weights()] == [v.tolist() for v in own.label_counts()]


@pytest.mark.parametrize("loading", ["resident", "streamed"])
def test_rows_of_weight_0_are_not_trained_on_and_the_others_have_their_weights(
    lake: object, window: Window, loading: Loading
) -> None:
    spec = weighted_dataset()
    write_tiny_lake(spec, DAYS, rows_per_day=300)
    plan = DayPlan(ds=DAYS[2], train_days=DAYS[:1], validation_days=DAYS[1:2], predecessor=None)
    assert window.weight_N is not None
    counted = window.counted(window.rows_of(DAYS[:1]))
    assert 0 < len(counted) < 300 and bool((window.weight_N[counted] > 0).all())
    with load_target_data(spec, plan, None, ReadOptions(loading=loading)) as data:
        training = data.training
        assert training.num_rows == len(counted) and len(data.validation.rows) == 300
        got = []
        for batch in training.batches(64, 1, 1):
            assert batch.weight_B is not None
            got += list(zip(batch.weight_B.tolist(), batch.label_B.tolist(), strict=True))
        want = zip(window.weight_N[counted].tolist(), window.label_N[counted].tolist(), strict=True)
        assert sorted(got) == sorted(want)
        for found, own in zip(training.label_weights(), window.label_weights(counted), strict=True):
            assert found.tolist() == pytest.approx(own.tolist(), rel=1e-12)
        assert training.label_counts()[0].sum() == len(counted)


def test_streamed_sums_of_weights_do_not_depend_on_files(lake: object, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = weighted_dataset()
    write_tiny_lake(spec, DAYS, rows_per_day=300)
    with open_streamed_rows(spec, DAYS, seed=1) as here:
        want = [v.tolist() for v in here.label_weights()]
    monkeypatch.setattr("lake.reader.STREAM_ROWS", 7)
    write_tiny_lake(spec, DAYS, rows_per_day=300, backwards=True)
    with open_streamed_rows(spec, DAYS, seed=1) as there:
        assert [v.tolist() for v in there.label_weights()] == want


def test_validation_rows_without_any_weight_are_an_error(window: Window) -> None:
    none = replace(window, weight_N=torch.zeros(len(window)))
    model = build_model("shared_bottom", OPTIONS, window.layout, 3, 1)
    with pytest.raises(TrainingError, match=r"all validation rows have weight 0: check columns\.weight"):
        validate(model, none, torch.arange(50))
