"""Sets from their search to their end on a tiny lake: found, scored, trained with, compared, exported and retired."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.dataset as pds
import pytest

from jobs import search_shared_instances
from jobs.cli import parse
from jobs.shared_sets import COMMANDS
from lake import reader as lake_reader
from lake.locations import artifact_path
from msr_models.ssim.store import load_scorer
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from tests.support import steps
from tests.support.tiny_lake import SMALL_SEARCH, tiny_dataset, write_tiny_lake

pytestmark = pytest.mark.slow

D = {d: date(2026, 1, d) for d in range(1, 12)}
ROWS = 250
SEARCH = SMALL_SEARCH


@pytest.fixture(scope="module")
def spec(module_lake: Path) -> DatasetSpec:
    spec = tiny_dataset(search=SEARCH)
    write_tiny_lake(spec, [D[d] for d in range(2, 10)], rows_per_day=ROWS)
    return spec


@pytest.fixture(scope="module")
def sets(spec: DatasetSpec) -> tuple[str, str]:
    """Ids: searched on the 2nd to the 4th and, after the 5th was trained, on the 4th to the 6th."""
    first = search_shared_instances.search_day(spec, D[5], spec.search)
    train(spec, 5)
    second = search_shared_instances.search_day(spec, D[7], spec.search)
    assert first and second
    return first, second


def train(spec: DatasetSpec, day: int, **options: Any) -> None:
    steps.train(spec, D[day], **options)


def score(spec: DatasetSpec, day: int, **options: Any) -> None:
    steps.score(spec, D[day], **options)


def trained(spec: DatasetSpec, day: int) -> list[tuple[float, str | None, str]]:
    """(ratio, set, run) of a day's runs."""
    rows = lake_reader.read_table(spec, "training_runs", days=[D[day]]).to_pylist()
    return sorted((row["ratio"], row["shared_set_id"], row["run_id"]) for row in rows)


def command(spec: DatasetSpec, *words: str) -> str:
    return "\n".join(parse(COMMANDS, words).lines(spec))


def test_a_backfill_never_sees_a_later_set(spec: DatasetSpec, sets: tuple[str, str]) -> None:
    before = trained(spec, 5)
    assert [used for _, used, _ in before] == [None, sets[0], sets[0]]
    score(spec, 5)
    train(spec, 5, retrain=True)
    assert trained(spec, 5) == before, "the same runs, though a newer set is there now"
    score(spec, 6)
    train(spec, 6)
    assert {used for _, used, _ in trained(spec, 6)} == {None, sets[0]}, "the second set's window ends on the 6th"
    score(spec, 7)
    train(spec, 7)
    assert {used for _, used, _ in trained(spec, 7)} == {None, sets[1]}


def test_a_named_set_is_trained_with(spec: DatasetSpec, sets: tuple[str, str]) -> None:
    with pytest.raises(SharedSetError, match=rf"{sets[1]} was searched in days up to 2026-01-06, which 2026-01-06"):
        train(spec, 6, shared_set=sets[1])
    with pytest.raises(SharedSetError, match=rf"{sets[0]} lacks masks of tiny \(2026-01-06.*--shared-set {sets[0]} "):
        train(spec, 8, shared_set=sets[0])
    score(spec, 8, shared_set=sets[0])
    train(spec, 8, shared_set=sets[0])
    assert {used for _, used, _ in trained(spec, 8)} == {None, sets[0]}


def test_every_ratio_of_the_grid_is_recorded_with_its_validation(spec: DatasetSpec, sets: tuple[str, str]) -> None:
    rows = lake_reader.read_table(spec, "training_runs", days=[D[5]]).to_pylist()
    assert sorted(row["ratio"] for row in rows) == list(spec.training.ratios)
    best = min(rows, key=lambda row: (row["validation_calibrated_logloss"], row["ratio"]))
    assert [row["run_id"] for row in rows if row["is_selected"]] == [best["run_id"]]
    metrics = [json.loads(row["manifest"])["metrics"]["validation_auc"] for row in rows]
    assert metrics == [row["validation_auc"] for row in rows] and None not in metrics


def test_people_find_what_the_search_wrote(spec: DatasetSpec, sets: tuple[str, str], tmp_path: Path) -> None:
    lines = {line.split()[0]: line.split() for line in command(spec, "list").splitlines()}
    assert list(lines) == ["id", *sets] and lines[sets[0]][5] == "accepted"
    shown = command(spec, "show", sets[0])
    row = lake_reader.read_table(spec, "shared_instance_sets", filters={"shared_set_id": sets[0]}).to_pylist()[0]
    for name, rates in json.loads(row["share_rates"]).items():
        assert [name, *(f"{rates[part]:.1%}" for part in ("all", "label_0", "label_1"))] in [
            line.split() for line in shown.splitlines()
        ]
    assert all(run in shown for _, used, run in trained(spec, 5) if used)
    compared = command(spec, "diff", *sets).splitlines()
    rows = {line.split()[0]: line.split() for line in compared[3:]}
    assert list(rows) == ["scenario", "all", *spec.scenario.names]
    assert sum(int(rows[name][1]) for name in spec.scenario.names) == int(rows["all"][1].replace(",", "")) >= ROWS
    out = tmp_path / "out"
    command(spec, "export", sets[0], "--out", str(out))
    kept = json.loads((out / "catalogue.json").read_text())
    masks = pds.dataset(out / "masks", partitioning="hive").to_table()
    where = {"shared_set_id": sets[0]}
    assert masks.num_rows == lake_reader.read_table(spec, "shared_instance_masks", filters=where).num_rows
    assert load_scorer(artifact_path(spec, kept["selector_uri"]), kept["selector_sha256"]).shared_set_id == sets[0]


def test_pins_and_retiring_decide_what_the_next_training_uses(spec: DatasetSpec, sets: tuple[str, str]) -> None:
    command(spec, "pin", sets[0], "--from", "2026-01-09")
    score(spec, 9)
    train(spec, 9)
    assert {used for _, used, _ in trained(spec, 9)} == {None, sets[0]}
    assert "from 2026-01-09 on" in command(spec, "list")
    command(spec, "unpin", "--from", "2026-01-09")
    score(spec, 9)
    train(spec, 9)
    assert {used for _, used, _ in trained(spec, 9)} == {None, sets[1]}
    users = [run for _, used, run in trained(spec, 9) if used]
    with pytest.raises(SharedSetError, match=rf"{sets[1]} is used by .* runs .*{users[0]}"):
        command(spec, "retire", sets[1])
    unused = search_shared_instances.search_day(spec, D[8], spec.search)
    assert unused
    score(spec, 9)
    assert "is retired" in command(spec, "retire", unused, "--reason", "not needed")
    train(spec, 9)
    assert {used for _, used, _ in trained(spec, 9)} == {None, sets[1]}, "the retired set was the newest"
