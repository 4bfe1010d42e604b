"""Negative sampling of training rows: which are kept, and that models trained on them predict all rows."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
import torch

from msr_models.data.digest import row_keys
from msr_models.data.sampling import kept_rows, log_odds_shift, sample_negatives
from msr_models.data.source import ResidentRows
from msr_models.data.window import Window, load_window
from msr_models.evaluation.blocks import Floats
from msr_models.evaluation.calibration import fit_calibration
from msr_models.evaluation.metrics import scenario_metrics
from msr_models.models.registry import build_model
from msr_models.training.chain import DayPlan
from msr_models.training.prediction import predict
from msr_models.training.target_data import ReadOptions, load_target_data
from msr_models.training.trainer import train
from schemas.pipeline_spec import Loading, TrainerConfig
from tests.support.planted_log import planted_log
from tests.support.tiny_lake import tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, 2), date(2026, 1, 3), date(2026, 1, 4)]
KEPT = (0.1, 0.3, 1.0)


def test_a_row_is_kept_or_not_whatever_the_others_are() -> None:
    rng = np.random.default_rng(1)
    key_N = row_keys(rng.integers(-(2**62), 2**62, 60_000), DAYS[0])
    scenario_N, label_N = rng.integers(0, 3, 60_000), (rng.random(60_000) < 0.2).astype(np.float32)
    kept_N = kept_rows(key_N, scenario_N, label_N, KEPT, 5)
    assert kept_N[label_N == 1].all()
    for k, share in enumerate(KEPT):
        assert kept_N[(label_N == 0) & (scenario_N == k)].mean() == pytest.approx(share, abs=0.012)
    part = rng.permutation(60_000)[:1000]
    assert (kept_rows(key_N[part], scenario_N[part], label_N[part], KEPT, 5) == kept_N[part]).all()
    other_N = kept_rows(key_N, scenario_N, label_N, KEPT, 6)
    both = (label_N == 0) & (scenario_N == 0)
    assert (kept_N & other_N)[both].mean() == pytest.approx(0.01, abs=0.005), "another seed draws independently"


@pytest.mark.parametrize("loading", ["resident", "streamed"])
def test_training_rows_alone_are_sampled_the_same_in_memory_and_on_disk(lake: object, loading: Loading) -> None:
    spec = tiny_dataset()
    write_tiny_lake(spec, DAYS)
    plan = DayPlan(ds=DAYS[2], train_days=DAYS[:1], validation_days=DAYS[1:2], predecessor=None)
    window = load_window(spec, DAYS[:2])
    rows = window.rows_of(DAYS[:1])
    want = sample_negatives(window, rows, (0.3, 1.0, 1.0), 7)
    read = ReadOptions(loading=loading, seed=7, negative_sampling={"home": 0.3})
    with load_target_data(spec, plan, None, read) as data:
        training = data.training
        assert training.num_rows == len(want) < 400 == len(data.validation.rows) == len(data.test.rows)
        assert training.negatives_kept == training.with_ratio(0.5).negatives_kept == (0.3, 1.0, 1.0)
        got = torch.cat([torch.cat([b.slot_ids_BS, b.label_B[:, None]], 1) for b in training.batches(64, 1, 1)])
        expected = torch.cat([window.slot_ids_NS[want], window.label_N[want, None]], 1)
        assert sorted(got.tolist()) == sorted(expected.tolist())
        counts, positives = window.label_counts(want)
        every, positive = training.label_weights()
        negatives = counts - positives
        assert positive.tolist() == positives.tolist()
        assert every.tolist() == pytest.approx((positives + negatives / torch.tensor([0.3, 1, 1])).tolist())
    with load_target_data(spec, plan, None, ReadOptions(loading=loading)) as data:
        assert data.training.num_rows == 400 and data.training.negatives_kept is None


@pytest.fixture(scope="module")
def logs() -> tuple[Window, Window]:
    """(a log to train on, another one of the same users and items to predict)."""
    sizes: dict[str, Any] = {"rows": 300_000, "users": 60, "items": 40, "shares": (0.5, 0.3, 0.2), "seed": 4}
    return planted_log(**sizes).window, planted_log(**sizes, fresh_rows=True).window


CONFIG = TrainerConfig(batch_size=512, max_epochs=3, learning_rate=0.005, seed=3, schedule="linear", calibration="none")
MODELS: dict[str, dict[str, Any]] = {
    "logistic_regression": {"sequence_pooling": "none"},
    "shared_bottom": {"embedding_dim": 8, "hidden": [16], "sequence_pooling": "none"},
}


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("model_name", MODELS)
def test_a_model_of_sampled_negatives_is_calibrated_on_the_full_log(
    logs: tuple[Window, Window], model_name: str, share: float
) -> None:
    """Predicted over observed clicks of each scenario of the full log: at its optimum by itself, and as it is served.

    With shared rows, a tower learns from rows of other scenarios, which were sampled differently.
    """
    if model_name == "logistic_regression" and share:
        pytest.skip("it has no towers to share among")
    log, full = logs
    log.shared_N[:] = torch.rand(len(log), generator=torch.Generator().manual_seed(1)) < share
    sampled, held_out = sample_negatives(log, torch.arange(100_000), KEPT, 2), torch.arange(100_000, 300_000)
    assert len(sampled) < 60_000
    model = build_model(model_name, MODELS[model_name], log.layout, 3, 1)
    train(model, ResidentRows(log, sampled, KEPT), ResidentRows(log, held_out[:20_000]), CONFIG)
    raw_N, other_N = predict(model, full, torch.arange(len(full))), predict(model, log, held_out)
    assert _ratios(full, raw_N) == pytest.approx([1.0] * 4, abs=0.02 if model_name == "logistic_regression" else 0.05)
    labels, scenarios = log.label_N[held_out].numpy(), log.scenario_N[held_out].numpy()
    served = fit_calibration("platt", other_N, labels, scenarios, log.scenario_names)
    assert _ratios(full, served.apply(raw_N, full.scenario_N.numpy())) == pytest.approx([1.0] * 4, abs=0.02)


def _ratios(full: Window, prob_N: Floats) -> list[float | None]:
    labels, scenarios = full.label_N.numpy(), full.scenario_N.numpy()
    found = scenario_metrics(prob_N, labels, scenarios, full.user_key_N.numpy(), 3)
    return [m.calibration for m in found]


def test_the_shift_is_that_of_the_odds_that_sampling_leaves() -> None:
    p, s = 0.02, 0.1
    left = p / (p + (1 - p) * s)
    z = torch.tensor(p).logit() + log_odds_shift((s,))[0]
    assert float(z.sigmoid()) == pytest.approx(left, abs=1e-6)
    # He et al. 2014, section 6.3: q = p / (p + (1 - p) / w) of the model's p with sampling rate w
    assert left / (left + (1 - left) / s) == pytest.approx(p, abs=1e-9)
