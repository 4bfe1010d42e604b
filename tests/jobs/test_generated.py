"""The generated log: the same rows whatever the order of days, broken records accounted for, a truth that is true."""

from __future__ import annotations

import time
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import roc_auc_score

from jobs.adapters.generated import make_day, make_world
from schemas.dataset_spec import DatasetSpec
from schemas.errors import DatasetSpecError
from schemas.load_dataset import load_dataset
from schemas.source_spec import GeneratorSpec

DAYS = [date(2026, 1, 1) + timedelta(days=n) for n in range(4)]


@pytest.fixture(scope="module")
def dataset() -> DatasetSpec:
    return load_dataset("generated")


@pytest.fixture(scope="module")
def log(dataset: DatasetSpec) -> list[pa.Table]:
    return [make_day(dataset, ds) for ds in DAYS]


def generator(dataset: DatasetSpec) -> GeneratorSpec:
    assert dataset.source.generator is not None
    return dataset.source.generator


def changed(dataset: DatasetSpec, **settings: object) -> DatasetSpec:
    spec = GeneratorSpec.model_validate({**generator(dataset).model_dump(), **settings})
    return dataset.model_copy(update={"source": dataset.source.model_copy(update={"generator": spec})})


def sound(day: pa.Table) -> pa.Table:
    """Rows that were not broken on purpose."""
    return day.filter((pc.field("click") < 2) & pc.field("user").is_valid() & (pc.field("scene") != "popup"))


def test_a_day_is_the_same_in_any_order_and_no_two_days_are(dataset: DatasetSpec, log: list[pa.Table]) -> None:
    for n in reversed(range(len(DAYS))):
        assert make_day(dataset, DAYS[n]).equals(log[n])
    assert not log[0]["click"].equals(log[1]["click"])
    assert not make_day(changed(dataset, seed=8), DAYS[0]).equals(log[0])


def test_rows_broken_records_and_times_add_up(dataset: DatasetSpec, log: list[pa.Table]) -> None:
    for ds, day in zip(DAYS, log, strict=True):
        assert day.num_rows == generator(dataset).rows_per_day
        days = pc.strftime(pc.cast(day["event_time"], pa.timestamp("ms")), "%Y-%m-%d").to_pylist()
        kinds = {
            "null_user": day["user"].null_count,
            "label": pc.sum(pc.equal(day["click"], 7)).as_py(),
            "scene": pc.sum(pc.equal(day["scene"], "popup")).as_py(),
            "time": sum(text != str(ds) for text in days),
        }
        assert kinds == {"null_user": 5, "label": 5, "scene": 5, "time": 5}
        assert day.num_rows - day.group_by(["event_time", "user", "item"]).aggregate([]).num_rows == 4
    whole = make_day(changed(dataset, broken_rows=0), DAYS[0])
    assert whole["user"].null_count == 0 and pc.max(whole["click"]).as_py() == 1


def test_scenarios_are_unequal_and_users_come_back(dataset: DatasetSpec, log: list[pa.Table]) -> None:
    for day in log:
        sizes = {row["values"]: row["counts"] / day.num_rows for row in pc.value_counts(day["scene"]).to_pylist()}
        for name, share in zip(dataset.scenario.names, generator(dataset).scenario_shares, strict=True):
            assert sizes[name] == pytest.approx(share, rel=0.25)
    users = [set(day["user"].to_pylist()) for day in log[:2]]
    assert len(users[0] & users[1]) > 0.5 * len(users[0])
    sessions = log[0].group_by(["user", "scene"]).aggregate([("item", "count")])["item_count"].to_numpy()
    assert np.median(sessions) >= 4


def test_clicks_follow_the_true_probability(log: list[pa.Table]) -> None:
    rows = pa.concat_tables([sound(day) for day in log])
    clicks, probability = rows["click"].to_numpy(), rows["_click_probability"].to_numpy()
    spread = np.sqrt((probability * (1 - probability)).sum())
    assert abs(clicks.sum() - probability.sum()) < 4 * spread
    assert 0.80 < roc_auc_score(clicks, probability) < 0.86
    low = probability < 0.1
    assert clicks[low].mean() == pytest.approx(probability[low].mean(), abs=0.01)


def test_shareable_items_have_one_taste_and_the_others_mislead(dataset: DatasetSpec) -> None:
    spec = generator(dataset)
    world = make_world(spec, dataset.num_scenarios)
    share = world.is_shareable_I
    assert share.mean() == pytest.approx(spec.shareable_items, abs=0.01)
    first, second = world.item_taste_KIR[0], world.item_taste_KIR[1]
    assert (first[share] == second[share]).all() and (world.item_bias_KI[0] == world.item_bias_KI[1])[share].all()
    logits = np.einsum("ur,kir->kui", world.user_factor_UR, world.item_taste_KIR[:, ~share])
    assert abs(np.corrcoef(logits[0].ravel(), logits[1].ravel())[0, 1]) < 0.5


def test_tastes_drift_and_days_far_off_are_quick(dataset: DatasetSpec) -> None:
    far = dataset.days.start + timedelta(days=365)
    started = time.perf_counter()
    drifted = make_day(dataset, far)
    assert time.perf_counter() - started < 3
    still = make_day(changed(dataset, drift=0), far)
    assert drifted["item"].equals(still["item"])
    assert not drifted["_click_probability"].equals(still["_click_probability"])


def test_purchases_follow_clicks_and_change_nothing_else(dataset: DatasetSpec, log: list[pa.Table]) -> None:
    days = [make_day(changed(dataset, purchases=True), ds) for ds in DAYS]
    assert all(day.drop_columns("purchase").equals(plain) for day, plain in zip(days, log, strict=True))
    assert days[1].equals(make_day(changed(dataset, purchases=True), DAYS[1]))
    rows = pa.concat_tables([sound(day) for day in days])
    clicks, purchases = rows["click"].to_numpy(), rows["purchase"].to_numpy()
    assert set(purchases) == {0, 1} and (purchases <= clicks).all()
    assert 0.1 < purchases.sum() / clicks.sum() < 0.3
    # An item's buyers of one day are those of another: there is something to learn
    by_item = [
        dict(pc.filter(day, pc.equal(day["click"], 1)).group_by("item").aggregate([("purchase", "mean")]).to_pydict())
        for day in days
    ]
    rates = [dict(zip(d["item"], d["purchase_mean"], strict=True)) for d in by_item]
    both = sorted(set(rates[0]) & set(rates[1]))
    assert np.corrcoef([rates[0][i] for i in both], [rates[1][i] for i in both])[0, 1] > 0.1


def test_shares_that_do_not_fit_the_scenarios_are_named(dataset: DatasetSpec) -> None:
    with pytest.raises(DatasetSpecError, match=r"scenario_shares: \[0.5, 0.5\] must hold one positive share"):
        make_day(changed(dataset, scenario_shares=(0.5, 0.5)), DAYS[0])
