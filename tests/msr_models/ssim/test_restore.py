"""Sets whose selector was lost or damaged, or that have no masks: the command that an error names repairs it."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable

from jobs import score_shared_instances, search_shared_instances, shared_sets
from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from lake.locations import artifact_path, artifacts_dir, table_uri
from msr_models.data.window import Window
from msr_models.sets.catalogue import find_shared_set
from msr_models.sets.export import export_set
from msr_models.ssim.search import SearchResult, run_search
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.pipeline_spec import SearchSpec
from schemas.tables.shared_instance_sets import SharedSet
from tests.support.set_tables import clear_partition
from tests.support.steps import command_line, search
from tests.support.tiny_lake import SMALL_SEARCH, tiny_dataset, tiny_day, write_tiny_lake

DAYS = [date(2026, 1, d) for d in range(2, 8)]
WINDOW, FIRST, DS = DAYS[:3], DAYS[3], DAYS[5]
ROWS = 200
SETS, MASKS = "shared_instance_sets", "shared_instance_masks"


@pytest.fixture(scope="module")
def searched_lake(module_lake: Path) -> Path:
    spec = tiny_dataset(search=SMALL_SEARCH)
    write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
    search(spec, FIRST)
    return module_lake


@pytest.fixture
def spec(searched_lake: Path, lake: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetSpec:
    """A copy of a lake with a set of the first three days, and the data set's YAML where steps find it by name."""
    shutil.copytree(searched_lake, lake, dirs_exist_ok=True)
    spec = tiny_dataset(search=SMALL_SEARCH)
    (lake / "yaml").mkdir()
    (lake / "yaml" / f"{spec.name}.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True)))
    monkeypatch.setenv("MSR_DATASETS_DIR", str(lake / "yaml"))
    return spec


def score(spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch) -> int:
    return command_line(score_shared_instances, ["--dataset", spec.name, "--ds", str(DS)], monkeypatch)


def named_in(error: str, step: str) -> list[str]:
    """The words of the step's command line that an error names."""
    return shlex.split(error.split(f"python -m jobs.{step} ")[1].split(",")[0].strip())


def the_set(spec: DatasetSpec) -> tuple[SharedSet, Path]:
    found = find_shared_set(spec, DS)
    assert found is not None
    return found, artifact_path(spec, found.selector_uri)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def lose_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("harm", [damage, os.unlink, lose_folder])
@pytest.mark.parametrize("how", ["named command", "search of the window"])
def test_a_lost_or_damaged_selector_is_made_again_with_the_same_bits(
    spec: DatasetSpec,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Path], None],
    how: str,
) -> None:
    found, path = the_set(spec)
    whole, beside = path.read_bytes(), path.with_suffix(".json").read_bytes()
    version = lake_reader.table_version(spec, SETS)
    harm(path)
    assert score(spec, monkeypatch) == 2
    words = named_in(capsys.readouterr().err, "search_shared_instances")
    assert words == ["--dataset", "tiny", "--restore", found.shared_set_id]
    if how != "named command":
        words = ["--dataset", "tiny", "--ds", str(FIRST)]
    # The same rows in other files: content counts
    features, _ = tiny_day(spec, WINDOW[0], ROWS)
    overwrite_partition(features, spec, "scenario_features", {"ds": str(WINDOW[0])})
    assert command_line(search_shared_instances, words, monkeypatch) == 0
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == (whole, beside)
    assert sorted(p.name for p in path.parent.iterdir() if p.name != ".lock") == ["selector.json", "selector.pt"]
    assert lake_reader.table_version(spec, SETS) == version
    assert score(spec, monkeypatch) == 0
    assert command_line(search_shared_instances, words, monkeypatch) == 0
    assert "exists, nothing to do" in capsys.readouterr().out


def test_rows_that_were_corrected_since_are_read_as_they_were(
    spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, path = the_set(spec)
    whole = path.read_bytes()
    path.unlink()
    features, sequences = tiny_day(spec, WINDOW[1], ROWS, seed=4)
    overwrite_partition(sequences, spec, "behaviour_sequences", {"ds": str(WINDOW[1])})
    overwrite_partition(features, spec, "scenario_features", {"ds": str(WINDOW[1])})
    words = ["--dataset", "tiny", "--restore", found.shared_set_id]
    assert command_line(search_shared_instances, words, monkeypatch) == 0
    assert path.read_bytes() == whole
    path.unlink()
    table = DeltaTable(table_uri(spec, "scenario_features"))
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    capsys.readouterr()
    assert command_line(search_shared_instances, words, monkeypatch) == 2
    error = capsys.readouterr().err
    assert "are not those that were searched" in error and "--seed 2" in error


def test_where_the_search_ends_in_another_file_the_named_commands_give_another_set(
    spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on another machine. The set is tied with the new one, and the pin decides."""
    found, path = the_set(spec)
    (row,) = lake_reader.read_table(spec, SETS).to_pylist()
    changed = pa.Table.from_pylist([row | {"selector_sha256": "0" * 64}])
    overwrite_partition(changed, spec, SETS, {"shared_set_id": found.shared_set_id})
    before = path.read_bytes()
    words = ["--dataset", "tiny", "--restore", found.shared_set_id]
    assert command_line(search_shared_instances, words, monkeypatch) == 2
    error = capsys.readouterr().err
    assert "its search gives another selector here" in error and path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir() if p.name != ".lock") == ["selector.json", "selector.pt"]
    assert command_line(search_shared_instances, named_in(error, "search_shared_instances"), monkeypatch) == 0
    assert f"{found.shared_set_id} is used, not" in capsys.readouterr().out
    (new,) = set(lake_reader.read_table(spec, SETS)["shared_set_id"].to_pylist()) - {found.shared_set_id}
    pin = [new if word == "ID" else word for word in named_in(error, "shared_sets")]
    assert command_line(shared_sets, pin, monkeypatch) == 0
    assert score(spec, monkeypatch) == 0
    assert set(lake_reader.read_table(spec, MASKS, days=[FIRST, DAYS[4]])["shared_set_id"].to_pylist()) == {new}


def test_without_masks_an_export_names_the_command_that_makes_them(
    spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found, _ = the_set(spec)
    for day in WINDOW:
        clear_partition(spec, MASKS, {"shared_set_id": found.shared_set_id, "ds": str(day)})
    with pytest.raises(SharedSetError, match="has no masks") as error:
        export_set(spec, found.shared_set_id, tmp_path / "out")
    assert command_line(score_shared_instances, named_in(str(error.value), "score_shared_instances"), monkeypatch) == 0
    assert export_set(spec, found.shared_set_id, tmp_path / "out") == (3, 3 * ROWS)


def test_scores_that_are_not_finite_leave_nothing_behind(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tiny_dataset(search=SMALL_SEARCH)
    write_tiny_lake(spec, WINDOW, rows_per_day=ROWS)

    def diverged(window: Window, spec: SearchSpec, *, device: str) -> SearchResult:
        result = run_search(window, spec, device=device)
        return replace(result, probs_N=np.full_like(result.probs_N, np.nan))

    monkeypatch.setattr(search_shared_instances, "run_search", diverged)
    with pytest.raises(SharedSetError, match="scores are not finite"):
        search_shared_instances.search_day(spec, FIRST, spec.search)
    assert not lake_reader.table_exists(spec, MASKS) and not lake_reader.table_exists(spec, SETS)
    assert not list(artifacts_dir(spec).rglob("selector.*"))


def test_a_restore_takes_no_other_settings(
    spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--dataset", "tiny", "--restore", the_set(spec)[0].shared_set_id, "--seed", "3"]
    assert command_line(search_shared_instances, words, monkeypatch) == 2
    assert "leave out --seed, --window and days" in capsys.readouterr().err
