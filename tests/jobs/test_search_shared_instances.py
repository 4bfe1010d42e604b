"""The search step on a tiny lake: file, masks, catalogue row last; reruns and cut-off runs end the same."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from jobs import search_shared_instances
from lake import reader as lake_reader
from lake.locations import artifact_path
from msr_models.data.window import load_window
from msr_models.sets.catalogue import find_shared_set
from msr_models.sets.describe import show_lines
from msr_models.sets.schedule import needs_search
from msr_models.ssim import publish
from msr_models.ssim.publish import shared_set_id
from msr_models.ssim.ranks import rank_pct
from msr_models.ssim.search import run_search
from msr_models.ssim.store import load_scorer
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.tables import get_table
from tests.support.steps import search
from tests.support.tiny_lake import tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, d) for d in (2, 3, 4)]
DS = date(2026, 1, 5)
ROWS = 400
SEARCH = {
    "window_days": 3,
    "warmup_epochs": 2,
    "epochs": 2,
    "batch_size": 64,
    "embedding_dim": 4,
    "hidden": [16, 8],
    "selector_hidden": [8],
    "learning_rate": 0.01,
    "selector_learning_rate": 0.01,
}


def rows_of(spec: DatasetSpec, table: str) -> pa.Table:
    """Content columns in the order of the keys."""
    found = get_table(table)
    rows = lake_reader.read_table(spec, table, columns=found.content_columns)
    return rows.sort_by([(key, "ascending") for key in found.keys])


@pytest.fixture(scope="module")
def spec(module_lake: Path) -> DatasetSpec:
    spec = tiny_dataset(search=SEARCH)
    write_tiny_lake(spec, [*DAYS, DS], rows_per_day=ROWS)
    search(spec, DS)
    return spec


def test_the_set_is_accepted_and_described(spec: DatasetSpec) -> None:
    (row,) = lake_reader.read_table(spec, "shared_instance_sets").to_pylist()
    assert (row["status"], row["status_reason"]) == ("accepted", "")
    assert (row["window_start"], row["window_end"]) == ("2026-01-02", "2026-01-04")
    assert row["shared_set_id"].startswith("shared_bottom-20260104-")
    assert json.loads(row["config"])["hidden"] == [16, 8]
    assert set(json.loads(row["table_versions"])) >= {"scenario_features", "behaviour_sequences", "vocabularies"}
    path = artifact_path(spec, row["selector_uri"])
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row["selector_sha256"]
    assert json.loads(row["validation_metrics"])["rows"] > 0
    assert json.loads(path.with_suffix(".json").read_text())["curves"]


def test_every_window_row_has_one_mask_and_rates_add_up(spec: DatasetSpec) -> None:
    (row,) = rows_of(spec, "shared_instance_sets").to_pylist()
    masks = rows_of(spec, "shared_instance_masks")
    window = load_window(spec, DAYS)
    assert masks["instance_id"].to_pylist() == window.instance_id_N.tolist()
    assert set(masks["ds"].to_pylist()) == {str(d) for d in DAYS}
    scores = masks["shared_score"].to_numpy()
    np.testing.assert_array_equal(masks["rank_pct"].to_numpy(), rank_pct(scores, np.sort(scores)))
    assert pc.mean(masks["is_shared"]).as_py() == pytest.approx(row["share_rate"])
    assert np.array_equal(masks["is_shared"].to_numpy(), scores > np.float32(row["threshold"]))
    rates = json.loads(row["share_rates"])
    shared, scenario, label = masks["is_shared"].to_numpy(), window.scenario_N.numpy(), window.label_N.numpy()
    for k, name in enumerate(window.scenario_names):
        at = scenario == k
        assert rates[name]["all"] == pytest.approx(shared[at].mean())
        assert rates[name]["label_1"] == pytest.approx(shared[at & (label == 1)].mean())
        assert rates[name]["label_0"] == pytest.approx(shared[at & (label == 0)].mean())


def test_a_second_search_leaves_the_set_alone(spec: DatasetSpec, caplog: pytest.LogCaptureFixture) -> None:
    before = {t: lake_reader.table_version(spec, t) for t in ("shared_instance_sets", "shared_instance_masks")}
    search(spec, DS)
    assert "exists, nothing to do" in caplog.text
    assert before == {t: lake_reader.table_version(spec, t) for t in before}


def test_another_seed_or_setting_is_another_set_but_a_due_date_is_not(spec: DatasetSpec) -> None:
    window = load_window(spec, DAYS)
    changes: list[dict[str, Any]] = [{}, {"seed": 2}, {"epochs": 3}, {"kl_weight": 0.4}]
    ids = [shared_set_id(window, spec.search.model_copy(update=c)) for c in changes]
    assert len(set(ids)) == 4
    assert rows_of(spec, "shared_instance_sets")["shared_set_id"].to_pylist() == ids[:1]
    later = spec.search.model_copy(update={"every_days": 1})
    assert shared_set_id(window, later) == ids[0]


def test_rows_in_another_order_give_the_same_masks(
    spec: DatasetSpec, module_lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another lake: files in another order, and the day of ds itself is not there."""
    expected = rows_of(spec, "shared_instance_masks")
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "other"))
    write_tiny_lake(spec, [*reversed(DAYS)], rows_per_day=ROWS, backwards=True)
    search(spec, DS)
    assert rows_of(spec, "shared_instance_masks").equals(expected)


def test_a_search_cut_off_before_the_catalogue_row_ends_the_same_when_run_again(lake: Path) -> None:
    spec = tiny_dataset(search=SEARCH)
    write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "write_rows", _killed)
        with pytest.raises(KeyboardInterrupt):
            search(spec, DS)
    assert find_shared_set(spec, DS) is None
    half = rows_of(spec, "shared_instance_masks")
    search(spec, DS)
    assert rows_of(spec, "shared_instance_masks").equals(half)
    first = rows_of(spec, "shared_instance_sets")
    assert first.num_rows == 1


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_kill_9_and_a_retry_end_in_the_tables_of_an_undisturbed_run(lake: Path, tmp_path: Path) -> None:
    spec = tiny_dataset(search=SEARCH)
    write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True)))
    command = [sys.executable, "-m", "jobs.search_shared_instances", "--dataset", str(path), "--ds", str(DS)]
    command += ["--threads", "1"]
    masks = lake / "tiny" / "shared_instance_masks"
    process = subprocess.Popen(command, env=dict(os.environ))
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(masks.glob("**/*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True)
    sets, found = rows_of(spec, "shared_instance_sets"), rows_of(spec, "shared_instance_masks")
    assert sets.num_rows == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSR_LAKE_ROOT", str(tmp_path / "undisturbed"))
        write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
        search(spec, DS)
        here = rows_of(spec, "shared_instance_sets")
        assert rows_of(spec, "shared_instance_masks").equals(found)
    assert here.equals(sets)


def test_a_rejected_set_is_kept_with_its_reason_and_curves_and_never_found(
    lake: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = tiny_dataset(scenarios=("only",), search=SEARCH)
    write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
    search(spec, DS)
    (row,) = lake_reader.read_table(spec, "shared_instance_sets").to_pylist()
    assert (row["status"], row["status_reason"]) == ("rejected", "one scenario only: there is none to share with")
    curves = artifact_path(spec, row["selector_uri"]).with_suffix(".json")
    assert f"REJECTED: one scenario only: there is none to share with (curves: {curves})" in caplog.text
    shown = "\n".join(show_lines(spec, row["shared_set_id"])).split("curves of the search\n")[1]
    (last,) = [r for r in json.loads(curves.read_text())["curves"] if (r["phase"], r["epoch"]) == ("gate", 2)]
    (gate,) = [line for line in shown.splitlines() if line.startswith("  gate: epoch 2, ")]
    assert f", loss {last['loss']:.6g}, " in gate and f"all epochs: {curves}" in shown
    curves.unlink()
    assert f"{curves} has none" in "\n".join(show_lines(spec, row["shared_set_id"]))
    assert find_shared_set(spec, DS) is None
    answer, reason = needs_search(spec, DS)
    assert (answer, "rejected (one scenario only" in reason) == ("no", True)


def test_nothing_to_search_and_a_missing_day(lake: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = tiny_dataset(search=SEARCH)
    search(spec, date(2026, 1, 2))
    assert "nothing to search" in caplog.text
    write_tiny_lake(spec, [DAYS[0], DAYS[2]], rows_per_day=50)
    with pytest.raises(TrainingError, match=r"no rows of 2026-01-03.*build_scenario_features"):
        search(spec, DS)


@pytest.mark.parametrize(
    ("ds", "expected", "reason"),
    [
        (date(2026, 1, 2), "skip", "the first day with a full window is 2026-01-05"),
        (date(2026, 1, 4), "skip", "the first day with a full window is 2026-01-05"),
        (date(2026, 1, 5), "no", "covers days up to 2026-01-04"),
        (date(2026, 1, 6), "no", "covers days up to 2026-01-04"),
        (date(2026, 1, 7), "yes", "whether 2026-01-05 drifted from shared set .* is not known yet"),
        (date(2026, 1, 11), "yes", "whether 2026-01-05 drifted from shared set .* is not known yet"),
        (date(2026, 1, 12), "yes", "the search of 2026-01-12 is due"),
        (date(2026, 1, 14), "yes", "the search of 2026-01-12 is due"),
    ],
)
def test_needs_search_answers_for_the_day(spec: DatasetSpec, ds: date, expected: str, reason: str) -> None:
    answer, why = needs_search(spec, ds)
    assert answer == expected
    assert pc.match_substring_regex(pa.scalar(why), reason).as_py(), why


def test_a_search_is_due_where_there_is_no_set(
    spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path))
    assert needs_search(spec, DS) == ("yes", f"the search of {DS} is due")


def test_days_trained_in_any_order_rely_on_the_same_search(spec: DatasetSpec) -> None:
    days = [DS + timedelta(days=n) for n in range(16)]
    due = [spec.search_day(day) for day in days]
    assert due == [DS] * 7 + [days[7]] * 7 + [days[14]] * 2
    assert spec.search_day(DS - timedelta(days=1)) is None


def test_needs_search_prints_the_answer_last_and_never_imports_torch(spec: DatasetSpec, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True)))
    watched = (
        "import sys, runpy; sys.modules.update(torch=None, pyspark=None); "
        "runpy.run_module('jobs.needs_search', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", watched, "--dataset", str(path), "--ds", "2026-01-05"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "no"


def test_a_set_that_another_process_made_meanwhile_is_not_mixed_with_ones_own(
    lake: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two searches of one id side by side, whose scores differ as those of two GPUs may: the first to end is kept."""
    spec = tiny_dataset(search=SEARCH)
    write_tiny_lake(spec, DAYS, rows_per_day=100)

    def slower(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(search_shared_instances, "run_search", run_search)
        search(spec, DS)
        result = run_search(*args, **options)
        return replace(result, probs_N=result.probs_N / np.float32(2))

    monkeypatch.setattr(search_shared_instances, "run_search", slower)
    search(spec, DS)
    assert "was published by another process meanwhile" in caplog.text
    (row,) = lake_reader.read_table(spec, "shared_instance_sets").to_pylist()
    masks = rows_of(spec, "shared_instance_masks")
    scorer = load_scorer(artifact_path(spec, row["selector_uri"]), row["selector_sha256"])
    assert masks["rank_pct"].to_pylist() == scorer.masks(load_window(spec, DAYS))["rank_pct"].to_pylist()


def test_of_several_processes_under_a_launcher_the_first_searches(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tiny_dataset(search=SEARCH)
    write_tiny_lake(spec, DAYS, rows_per_day=100)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    search(spec, DS)
    assert not lake_reader.table_exists(spec, "shared_instance_sets")
    monkeypatch.setenv("RANK", "0")
    search(spec, DS)
    assert rows_of(spec, "shared_instance_sets").num_rows == 1
