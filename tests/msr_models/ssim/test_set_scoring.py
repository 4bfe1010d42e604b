"""Drift of scored days, and searches that it makes due, on a tiny lake with a strange day."""

from __future__ import annotations

import os
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from jobs import score_shared_instances, search_shared_instances
from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from msr_models.data.window import load_window
from msr_models.sets.catalogue import find_shared_set
from msr_models.sets.drift import read_drift
from msr_models.sets.schedule import needs_search
from msr_models.ssim import set_scoring
from msr_models.ssim.due_searches import do_due_searches
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.tables import get_table
from tests.support.empty_days import publish_empty
from tests.support.lake_copies import copy_lake
from tests.support.set_tables import clear_partition
from tests.support.steps import command_line, score
from tests.support.tiny_lake import SMALL_SEARCH, tiny_dataset, tiny_day, write_tiny_lake

DAYS = [date(2026, 1, d) for d in range(2, 13)]
FIRST, STRANGE = date(2026, 1, 5), date(2026, 1, 6)
ROWS = 300
SEARCH = SMALL_SEARCH
DRIFT = "shared_instance_drift"


def search(spec: DatasetSpec, ds: date) -> None:
    do_due_searches(spec, ds, spec.search, lambda day: search_shared_instances.search_day(spec, day, spec.search))


def rows_of(spec: DatasetSpec, table: str) -> pa.Table:
    """Content columns in the order of the keys."""
    found = get_table(table)
    rows = lake_reader.read_table(spec, table, columns=found.content_columns)
    return rows.sort_by([(key, "ascending") for key in found.keys])


def write_lake(spec: DatasetSpec, days: list[date] = DAYS) -> None:
    """All days alike but STRANGE, on which one user sees one item all day."""
    write_tiny_lake(spec, days, rows_per_day=ROWS)
    features, _ = tiny_day(spec, STRANGE, ROWS)
    for name in ("f_user", "f_item", "f_price"):
        at = features.column_names.index(name)
        features = features.set_column(at, name, pa.array([1] * ROWS, pa.int32()))
    overwrite_partition(features, spec, "scenario_features", {"ds": str(STRANGE)})


@pytest.fixture
def spec(lake: Path) -> DatasetSpec:
    spec = tiny_dataset(search=SEARCH)

    def build() -> None:
        write_lake(spec)
        search(spec, FIRST)

    copy_lake(lake, __name__, build)
    return spec


def test_days_outside_the_window_are_compared_with_it(spec: DatasetSpec, caplog: pytest.LogCaptureFixture) -> None:
    score(spec, date(2026, 1, 7))
    assert "2026-01-06: DRIFTED from the window of shared_bottom-20260104-" in caplog.text
    rows = rows_of(spec, DRIFT)
    assert rows["ds"].to_pylist() == ["2026-01-05"] * 4 + ["2026-01-06"] * 4, "the 4th is of the set's window"
    assert rows["scenario_id"].to_pylist() == [-1, 0, 1, 2] * 2
    drifted = rows.filter(rows["is_drifted"])
    assert set(drifted["ds"].to_pylist()) == {"2026-01-06"}
    assert all(psi > spec.search.drift_psi_limit for psi in drifted["psi"].to_pylist())
    caplog.clear()
    score(spec, date(2026, 1, 7))
    assert "2026-01-07 that drifted from shared_bottom-" in caplog.text, "said again in a rerun"


def test_the_figures_follow_from_the_masks(spec: DatasetSpec) -> None:
    """Recomputed from the masks of window and day with plain quantiles."""
    score(spec, date(2026, 1, 7))
    masks = rows_of(spec, "shared_instance_masks")
    window = masks.filter(pc.less_equal(masks["ds"], "2026-01-04"))
    day = masks.filter(pc.equal(masks["ds"], "2026-01-06"))
    for row in rows_of(spec, DRIFT).filter(pc.equal(rows_of(spec, DRIFT)["ds"], "2026-01-06")).to_pylist():
        here, there = (
            t if row["scenario_id"] < 0 else t.filter(pc.equal(t["scenario_id"], row["scenario_id"]))
            for t in (day, window)
        )
        assert row["rows"] == here.num_rows
        assert row["share_rate"] == pytest.approx(here["is_shared"].to_numpy().mean())
        assert row["window_share_rate"] == pytest.approx(there["is_shared"].to_numpy().mean())
        edges = np.quantile(there["shared_score"].to_numpy(), np.linspace(0.1, 0.9, 9))
        shares = []
        for part in (there, here):
            counts = np.bincount(np.searchsorted(edges, part["shared_score"].to_numpy()), minlength=10)
            shares.append((counts + 0.5) / (counts.sum() + 5))
        assert row["psi"] == pytest.approx(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])), rel=0.1)


def test_a_rerun_and_another_order_write_the_same_rows(spec: DatasetSpec) -> None:
    score(spec, date(2026, 1, 8), date(2026, 1, 9))
    expected = {table: rows_of(spec, table) for table in (DRIFT, "shared_instance_masks")}
    found = find_shared_set(spec, FIRST)
    assert found is not None
    version = lake_reader.table_version(spec, DRIFT)
    score(spec, date(2026, 1, 9))
    assert lake_reader.table_version(spec, DRIFT) == version, "nothing was left to do"
    lost = {STRANGE: [DRIFT], date(2026, 1, 7): ["shared_instance_masks"], date(2026, 1, 8): list(expected)}
    for day, tables in lost.items():
        for table in tables:
            where = {"shared_set_id": found.shared_set_id, "ds": str(day)}
            clear_partition(spec, table, where)
    for ds in (date(2026, 1, 8), date(2026, 1, 9)):
        score(spec, ds)
    assert all(rows_of(spec, table).equals(rows) for table, rows in expected.items())


def test_limits_of_the_data_set_decide_and_leave_the_sets_id_alone(spec: DatasetSpec) -> None:
    loose = tiny_dataset(search={**SEARCH, "drift_psi_limit": 99, "drift_share_limit": 1.0})
    before = rows_of(spec, "shared_instance_sets")
    search_shared_instances.search_day(loose, FIRST, loose.search)
    assert rows_of(loose, "shared_instance_sets").equals(before)
    score(loose, date(2026, 1, 7))
    assert not any(rows_of(loose, DRIFT)["is_drifted"].to_pylist())


def test_limits_that_are_changed_later_take_flags_back_and_raise_them(spec: DatasetSpec) -> None:
    """The figures stay; what they mean is asked of the limits of now, by the schedule and by people alike."""
    score(spec, date(2026, 1, 7))
    found = find_shared_set(spec, FIRST)
    assert found is not None
    before = lake_reader.read_table(spec, DRIFT)
    loose = tiny_dataset(search={**SEARCH, "drift_psi_limit": 99, "drift_share_limit": 1.0})
    strict = tiny_dataset(search={**SEARCH, "drift_psi_limit": 0, "drift_share_limit": 0})
    answers = [needs_search(known, date(2026, 1, 8))[0] for known in (spec, loose, strict)]
    assert answers == ["yes", "no", "yes"]
    flagged = {
        name: [day.ds for day in read_drift(known, found.shared_set_id) if day.drifted]
        for name, known in {"spec": spec, "loose": loose, "strict": strict}.items()
    }
    assert flagged == {"spec": ["2026-01-06"], "loose": [], "strict": ["2026-01-06"]}, "chance is no drift, ever"
    assert lake_reader.read_table(spec, DRIFT).equals(before)
    stored = {(row["ds"], row["scenario_id"]): row["is_drifted"] for row in before.to_pylist()}
    parts = {(day.ds, part.scenario_id): part for day in read_drift(spec, found.shared_set_id) for part in day.parts}
    assert {key: part.is_drifted for key, part in parts.items()} == stored, "the same limits: the same flags"


def test_masks_are_never_there_without_the_comparison(spec: DatasetSpec) -> None:
    """A writer that dies in between leaves a day that is scored again, not one whose drift is never known."""
    found = find_shared_set(spec, FIRST)
    assert found is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(set_scoring, "write_rows", _dies)
        with pytest.raises(KeyboardInterrupt):
            score(spec, STRANGE)
    assert FIRST not in lake_reader.published_days(spec, "shared_instance_masks")
    score(spec, STRANGE)
    assert lake_reader.published_days(spec, DRIFT) == {FIRST}


def _dies(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_day_published_empty_did_not_drift(lake: Path) -> None:
    spec = tiny_dataset(search=SEARCH, days={"start": "2026-01-01", "allow_empty": True})
    write_tiny_lake(spec, [day for day in DAYS if day != FIRST], rows_per_day=ROWS)
    publish_empty(spec, FIRST)
    search(spec, date(2026, 1, 7))
    rows = rows_of(spec, DRIFT).to_pylist()
    assert [(row["ds"], row["rows"], row["psi"], row["is_drifted"]) for row in rows] == [
        (str(FIRST), 0, None, False)
    ] * 4
    assert needs_search(spec, date(2026, 1, 7))[0] == "no"


def run_days(spec: DatasetSpec, days: list[date]) -> list[str]:
    """Search and score as the daily steps do, then each day's set."""
    for ds in days:
        if needs_search(spec, ds)[0] == "yes":
            search(spec, ds)
        assert needs_search(spec, ds)[0] == "no"
        score(spec, ds)
    return [found.shared_set_id for ds in sorted(days) if (found := find_shared_set(spec, ds))]


@pytest.mark.slow
def test_days_in_any_order_search_and_use_the_same_sets(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tiny_dataset(search=SEARCH)
    days = [FIRST + timedelta(days=n) for n in range(8)]
    orders = {"forwards": days, "backwards": days[::-1], "mixed": [days[i] for i in (4, 1, 6, 3, 0, 7, 2, 5)]}
    used, catalogues = {}, {}
    for name, order in orders.items():
        monkeypatch.setenv("MSR_LAKE_ROOT", str(lake / name))
        write_lake(spec)
        used[name] = run_days(spec, order)
        catalogues[name] = rows_of(spec, "shared_instance_sets")
        assert run_days(spec, days) == used[name], "a rerun changes nothing"
    assert catalogues["forwards"]["window_end"].to_pylist()[:2] == ["2026-01-04", "2026-01-07"], "drift made the second"
    assert used["forwards"] == used["backwards"] == used["mixed"]
    assert catalogues["forwards"].equals(catalogues["backwards"]) and catalogues["forwards"].equals(catalogues["mixed"])


def test_a_day_that_cannot_be_scored_names_what_is_missing(lake: Path) -> None:
    spec = tiny_dataset(search=SEARCH)
    write_tiny_lake(spec, DAYS[:3], rows_per_day=ROWS)
    search(spec, FIRST)
    assert needs_search(spec, date(2026, 1, 7))[0] == "yes"
    with pytest.raises(Exception, match=r"2026-01-05.*build_scenario_features"):
        search(spec, date(2026, 1, 7))


def run_command(words: list[str], spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step's own command line, the data set's name looked up in a folder of YAMLs."""
    folder = Path(os.environ["MSR_LAKE_ROOT"]) / "yaml"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{spec.name}.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True)))
    monkeypatch.setenv("MSR_DATASETS_DIR", str(folder))
    assert command_line(score_shared_instances, words, monkeypatch) == 0


def test_the_command_that_an_error_names_makes_the_missing_masks(
    spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = date(2026, 1, 8)
    found = find_shared_set(spec, ds)
    assert found is not None
    window = [ds - timedelta(days=n) for n in (3, 2, 1)]
    score(spec, STRANGE)
    with pytest.raises(SharedSetError, match=r"lacks masks of tiny \(2026-01-06: .*, 2026-01-07: 300 of 300") as error:
        load_window(spec, window, shared_set_id=found.shared_set_id)
    words = str(error.value).split("python -m jobs.score_shared_instances ")[1].split()
    run_command(words, spec, monkeypatch)
    load_window(spec, window, shared_set_id=found.shared_set_id)


@pytest.mark.parametrize("missing", [[2], [2, 4]])
def test_the_named_command_mends_days_of_the_sets_own_window_too(
    spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch, missing: list[int]
) -> None:
    """Training rows may be read without the days that follow them: then no day's training window is the one to name."""
    found = find_shared_set(spec, FIRST)
    assert found is not None
    expected = rows_of(spec, "shared_instance_masks")
    for number in missing:
        where = {"shared_set_id": found.shared_set_id, "ds": f"2026-01-{number:02}"}
        clear_partition(spec, "shared_instance_masks", where)
    with pytest.raises(SharedSetError, match=r"--window exact$") as error:
        load_window(spec, DAYS[:3], shared_set_id=found.shared_set_id)
    words = str(error.value).split("python -m jobs.score_shared_instances ")[1].split()
    run_command(words, spec, monkeypatch)
    assert rows_of(spec, "shared_instance_masks").equals(expected)
    with pytest.raises(SharedSetError, match=r"name it with --shared-set ID, see 'python -m jobs.shared_sets"):
        score(spec, FIRST, window="exact")
