"""The command line for shared sets on a tiny lake: what it shows, changes and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pds
import pytest
import yaml

from jobs import shared_sets
from jobs.cli import parse
from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from msr_models.sets.catalogue import find_shared_set
from schemas.dataset_spec import DatasetSpec
from schemas.errors import MsrError, SharedSetError
from tests.support.report_lake import training_run, write_run
from tests.support.set_tables import write_drift
from tests.support.tiny_lake import tiny_dataset, write_masks, write_shared_set

D = {d: date(2026, 1, d) for d in range(1, 20)}
ROWS = 200


def command(spec: DatasetSpec, *words: str | Path | date) -> str:
    return "\n".join(parse(shared_sets.COMMANDS, [str(word) for word in words]).lines(spec))


def used_sets(spec: DatasetSpec, *days: int) -> list[str | None]:
    found = [find_shared_set(spec, D[day]) for day in days]
    return [s.shared_set_id if s else None for s in found]


def write_runs(spec: DatasetSpec, day: int, shared_set_id: str, aucs: dict[float, float | None], best: float) -> None:
    """Runs of one day: the one of ratio 0 reads no set."""
    ds = str(D[day])
    rows = [
        training_run(
            ds,
            ratio=ratio,
            arm="ssim" if ratio else "mt_backbone",
            validation_auc=auc,
            is_selected=ratio == best,
            shared_set_id=shared_set_id if ratio else None,
        )
        for ratio, auc in aucs.items()
    ]
    write_run(spec, *rows)


@pytest.fixture
def spec(lake: Path) -> DatasetSpec:
    """Two accepted sets with masks of days 2 to 4 and 4 to 6, one rejected, one of another lineage."""
    spec = tiny_dataset()
    write_shared_set(spec, "early", (D[2], D[4]))
    write_shared_set(spec, "late", (D[4], D[6]))
    write_shared_set(spec, "bad", (D[4], D[7]), status="rejected")
    write_shared_set(
        spec, "foreign", (D[2], D[4]), vocabulary_version="20260101-00000000", scenarios=("a", "b", "c", "d", "e")
    )
    write_masks(spec, "early", [D[2], D[3], D[4]], rows_per_day=ROWS)
    write_masks(spec, "late", [D[4], D[5], D[6]], rows_per_day=ROWS)
    return spec


def test_list_has_one_line_per_set(spec: DatasetSpec) -> None:
    write_runs(spec, 8, "late", {0.0: 0.7, 0.5: 0.71, 1.0: 0.6}, best=0.5)
    write_drift(spec, "late", D[7], is_drifted=True)
    write_drift(spec, "late", D[8], is_drifted=False)
    command(spec, "pin", "early", "--from", D[9])
    command(spec, "unpin", "--from", D[11])
    head, *lines = command(spec, "list").splitlines()
    assert head.split() == ["id", "window", "backbone", "status", "shared", "runs", "drifted", "pinned"]
    cells = {line.split()[0]: line.split() for line in lines}
    assert list(cells) == ["early", "foreign", "late", "bad"]
    late = "late 2026-01-04 .. 2026-01-06 shared_bottom accepted 50.0% 2 1 of 2 days -"
    assert " ".join(cells["late"]) == late
    assert cells["early"][5:] == ["accepted", "50.0%", "0", "-", "from", "2026-01-09", "until", "2026-01-11"]
    assert cells["bad"][5] == "rejected"


def test_list_says_which_of_several_sets_of_one_window_is_used(spec: DatasetSpec) -> None:
    other = spec.search.model_copy(update={"seed": 2}).model_dump_json()
    assert "is used, not" not in command(spec, "list")
    write_shared_set(spec, "zebra", (D[4], D[6]), config=other)
    last = command(spec, "list").splitlines()[-1]
    assert last.startswith("windows that end on 2026-01-06: late is used, not zebra")
    words = last.split("--dataset tiny ")[1].replace("ID", "zebra").split()
    assert used_sets(spec, 7) == ["late"]
    command(spec, *words)
    assert used_sets(spec, 7) == ["zebra"]


def test_list_without_sets_names_the_search(lake: Path) -> None:
    assert "python -m jobs.search_shared_instances --dataset tiny" in command(tiny_dataset(), "list")


def test_show_has_the_row_gains_and_runs(spec: DatasetSpec) -> None:
    write_runs(spec, 8, "late", {0.0: 0.70, 0.5: 0.72, 1.0: 0.6}, best=0.5)
    write_runs(spec, 9, "late", {0.0: 0.70, 0.5: 0.66}, best=0.0)
    write_runs(spec, 10, "late", {0.0: None, 0.5: 0.66}, best=0.5)
    write_runs(spec, 11, "early", {0.0: 0.1, 0.5: 0.9}, best=0.5)
    write_drift(spec, "late", D[7], is_drifted=True)
    write_drift(spec, "late", D[8], is_drifted=False)
    shown = command(spec, "show", "late")
    assert "shared_bottom: +0.0100 on average of 2 days (+0.0000 .. +0.0200)" in shown
    assert "2026-01-08 shared_bottom: r = 0.5, 0.7000 -> 0.7200, +0.0200" in shown
    assert "2026-01-10 shared_bottom: r = 0.5, - -> 0.6600, -" in shown
    assert "2026-01-08: shared_bottom-2026-01-08-0.5, shared_bottom-2026-01-08-1.0" in shown
    assert "2026-01-11" not in shown
    for column in ("threshold", "vocabulary_version", "selector_sha256", "status"):
        assert f"\n{column} " in f"\n{shown}"
    days = [line.split() for line in shown.split("days against the window\n")[1].split("\n\n")[0].splitlines()]
    assert days == [
        ["day", "rows", "psi", "shared", "of", "the", "window", "drifted"],
        ["2026-01-07", "100,000", "0.0000", "50.0%", "50.0%", "home"],
        ["2026-01-08", "100,000", "0.0000", "50.0%", "50.0%", "no"],
    ]
    assert "600 rows of 3 days, 2026-01-04 .. 2026-01-06" in shown
    assert "no day outside the window has been scored yet" in command(spec, "show", "early")


def test_sets_of_another_lineage_have_numbers_for_scenarios(spec: DatasetSpec) -> None:
    """The YAML names its own scenarios, and may have fewer of them."""
    write_drift(tiny_dataset(scenarios=("a", "b", "c", "d", "e")), "foreign", D[7], is_drifted=True)
    assert "scenario 0" in command(spec, "show", "foreign") and "home" not in command(spec, "show", "foreign")
    write_masks(spec, "foreign", [D[4]], rows_per_day=ROWS)
    lines = command(spec, "diff", "early", "foreign").splitlines()
    assert f"foreign is of vocabulary lineage 00000000, not of tiny's {spec.lineage}" in lines[3]
    assert [line.split("  ")[0] for line in lines[5:]] == ["all", "scenario 0", "scenario 1", "scenario 2"]
    assert "home" in command(spec, "diff", "early", "late")


def test_show_has_share_rates_per_scenario_and_label(spec: DatasetSpec) -> None:
    rates = {
        "home": {"all": 0.25, "label_0": 0.2, "label_1": 0.3},
        "ads": {"all": 0.5, "label_0": None, "label_1": 0.5},
    }
    table = lake_reader.read_table(spec, "shared_instance_sets", filters={"shared_set_id": "late"})
    (row,) = table.to_pylist()
    rewrite(spec, row | {"share_rates": json.dumps(rates)})
    lines = [line.split() for line in command(spec, "show", "late").splitlines()]
    assert ["scenario", "all", "label_0", "label_1"] in lines
    assert ["all", "50.0%", "-", "-"] in lines
    assert ["home", "25.0%", "20.0%", "30.0%"] in lines and ["ads", "50.0%", "-", "50.0%"] in lines


def rewrite(spec: DatasetSpec, row: dict[str, object]) -> None:
    rows = pa.table({key: [value] for key, value in row.items()})
    overwrite_partition(rows, spec, "shared_instance_sets", {"shared_set_id": str(row["shared_set_id"])})


def test_a_pin_and_its_end_decide_which_set_days_use(spec: DatasetSpec) -> None:
    assert used_sets(spec, 4, 5, 6, 7, 8, 9, 10) == [None, "early", "early", "late", "late", "late", "late"]
    assert "days from 2026-01-08 on use early instead of the newest set" in command(
        spec, "pin", "early", "--from", D[8]
    )
    assert used_sets(spec, 7, 8, 9, 10) == ["late", "early", "early", "early"]
    assert "use the newest set instead of early" in command(spec, "unpin", "--from", D[10])
    assert used_sets(spec, 7, 8, 9, 10) == ["late", "early", "early", "late"]
    said = command(spec, "pin", "late", "--from", D[9])
    assert "days from 2026-01-09 until 2026-01-10 use late instead of early" in said
    assert used_sets(spec, 8, 9, 10) == ["early", "late", "late"]
    command(spec, "unpin", "--from", D[8])
    assert used_sets(spec, 8, 9, 10) == ["late"] * 3


def test_a_pin_in_the_past_names_the_trained_days_that_a_rerun_would_change(spec: DatasetSpec) -> None:
    write_runs(spec, 8, "late", {0.0: 0.7, 0.5: 0.7}, best=0.5)
    write_runs(spec, 9, "early", {0.0: 0.7, 0.5: 0.7}, best=0.5)
    write_runs(spec, 10, "late", {0.0: 0.7}, best=0.0)
    said = command(spec, "pin", "early", "--from", D[8])
    assert "2 trained days of them used another set or none" in said
    assert said.endswith("2026-01-08, 2026-01-10")
    assert command(spec, "pin", "early", "--from", D[11]).endswith("no trained day of them used another set")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "none"], r"'none' is not in tiny/shared_instance_sets; known: .*early"),
        (["pin", "none", "--from", "2026-01-09"], r"'none' is not in .*known: .*early"),
        (["retire", "none"], r"'none' is not in .*known: .*early"),
        (["export", "none", "--out", "x"], r"'none' is not in .*known: .*early"),
        (["diff", "early", "none"], r"'none' is not in .*known: .*early"),
        (["pin", "early", "--from", "2026-01-04"], r"days up to 2026-01-04, which 2026-01-04 must not see"),
        (["pin", "bad", "--from", "2026-01-09"], r"bad was rejected \(test\)"),
        (["pin", "foreign", "--from", "2026-01-09"], r"lineage '00000000'.*search_shared_instances"),
        (["pin", "early", "--from", "tomorrow"], r"--from tomorrow: not a day; write YYYY-MM-DD"),
        (["pin", "early"], r"--from is missing"),
        (["prune", "early"], r"invalid choice: 'prune'"),
        (["unpin", "--from", "2026-01-09"], r"no shared set of tiny is pinned on 2026-01-09 \(pins: none\)"),
        (["retire", "bad"], r"bad was rejected .* never used"),
        (["diff", "early", "foreign"], r"no instance in common; .*score_shared_instances"),
        (["export", "foreign", "--out", "x"], r"foreign has no masks"),
    ],
)
def test_mistakes_change_nothing(spec: DatasetSpec, words: list[str], message: str) -> None:
    before = lake_reader.table_version(spec, "shared_instance_sets")
    with pytest.raises(MsrError, match=message):
        command(spec, *words)
    assert lake_reader.table_version(spec, "shared_instance_sets") == before
    assert not lake_reader.table_exists(spec, "shared_instance_pins")
    assert not Path("x").exists()


def test_a_retired_set_is_never_found_and_says_so_when_named(spec: DatasetSpec) -> None:
    assert "is retired" in command(spec, "retire", "late", "--reason", "labels were late")
    assert used_sets(spec, 7, 10) == ["early", "early"]
    with pytest.raises(SharedSetError, match=r"late was retired \(labels were late\)"):
        command(spec, "pin", "late", "--from", D[9])
    version = lake_reader.table_version(spec, "shared_instance_sets")
    assert "is retired already (labels were late), nothing to do" in command(spec, "retire", "late")
    assert lake_reader.table_version(spec, "shared_instance_sets") == version
    assert lake_reader.read_table(spec, "shared_instance_sets").num_rows == 4


def test_retiring_a_set_that_runs_use_or_that_is_pinned_is_refused(spec: DatasetSpec) -> None:
    write_runs(spec, 8, "late", {0.0: 0.7, 0.5: 0.7, 1.0: 0.6}, best=0.0)
    message = r"late is used by 2 runs .*: shared_bottom-2026-01-08-0.5, shared_bottom-2026-01-08-1.0;"
    with pytest.raises(SharedSetError, match=message):
        command(spec, "retire", "late")
    command(spec, "pin", "early", "--from", D[9])
    command(spec, "unpin", "--from", D[11])
    with pytest.raises(SharedSetError, match=r"early is pinned from 2026-01-09 on; .*unpin --from 2026-01-09"):
        command(spec, "retire", "early")
    command(spec, "unpin", "--from", D[9])
    command(spec, "retire", "early")
    assert used_sets(spec, 5, 9) == [None, "late"]


def test_export_writes_masks_by_day_and_the_row_and_never_over_files(spec: DatasetSpec, tmp_path: Path) -> None:
    out = tmp_path / "out" / "early"
    assert "600 masks of 3 days" in command(spec, "export", "early", "--out", out)
    row = json.loads((out / "catalogue.json").read_text())
    assert (row["shared_set_id"], row["share_rates"], row["created_at"][:10]) == ("early", {}, "2026-01-01")
    found = pds.dataset(out / "masks", partitioning="hive").to_table()
    columns = ["instance_id", "scenario_id", "shared_score", "rank_pct", "rank_pct_scenario", "is_shared"]
    sort = [("rank_pct", "ascending"), ("instance_id", "ascending")]
    expected = lake_reader.read_table(
        spec, "shared_instance_masks", columns=columns, filters={"shared_set_id": "early"}
    )
    assert found.select(columns).sort_by(sort).equals(expected.sort_by(sort))
    assert {str(ds) for ds in found["ds"].to_pylist()} == {"2026-01-02", "2026-01-03", "2026-01-04"}
    before = (out / "catalogue.json").stat().st_mtime_ns
    with pytest.raises(SharedSetError, match="exists and is not an empty folder"):
        command(spec, "export", "late", "--out", out)
    assert (out / "catalogue.json").stat().st_mtime_ns == before
    (tmp_path / "file").touch()
    with pytest.raises(SharedSetError, match="file exists and is not an empty folder"):
        command(spec, "export", "late", "--out", tmp_path / "file")
    (tmp_path / "empty").mkdir()
    command(spec, "export", "late", "--out", tmp_path / "empty")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "lake", "out"]


def test_the_step_itself_takes_the_data_set_before_or_after_the_command(spec: DatasetSpec, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True)))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "jobs.shared_sets", *words]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    here = ["--dataset", str(path)]
    pinned = run("pin", "early", "--from", "2026-01-09", *here)
    assert (pinned.returncode, pinned.stderr) == (0, "")
    assert used_sets(spec, 9) == ["early"]
    for words in (["pin", "bad", "--from", "2026-01-09"], ["--ds", "2026-01-09", "list"]):
        failed = run(*here, *words)
        assert failed.returncode == 2 and failed.stderr.count("\n") == 1
