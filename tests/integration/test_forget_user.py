"""A user is erased from every file of lake and artifacts, and does not come back; proven by reading all of them."""

from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import forget_user
from jobs.cli import OptionsError, StepArgs
from jobs.forget_user import ForgetOptions
from jobs.hash_tables import hash_lake
from lake.hash64 import hash64
from lake.locations import artifacts_dir, report_dir
from lake.reader import open_table, read_table, table_exists
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.load_dataset import load_dataset
from schemas.tables import table_names
from tests.support.steps import run_step, train
from tests.support.tiny_log import DAYS, TEST_DAY, write_log

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.usefixtures("spark")]

USER = "erase-me-Łukasz-4711"
FEATURE_STEPS = ("ingest_impressions", "build_vocabularies", "build_behaviour_sequences", "build_scenario_features")
TRAINING_STEPS = ("search_shared_instances", "score_shared_instances", "train_target_model", "evaluate", "report")


def run(dataset: DatasetSpec, steps: Sequence[str], *days: date) -> None:
    for step in steps:
        run_step(importlib.import_module(f"jobs.{step}"), dataset, *days)


def forget(dataset: DatasetSpec, *, dry_run: bool = False, yes: bool = False) -> None:
    options = ForgetOptions(user=USER, dry_run=dry_run, yes=yes)
    forget_user.step(StepArgs(dataset=dataset, days=[], options=options))


def rename_a_user(folder: Path) -> None:
    """The log's most frequent user gets the name, on every day also in a record that is refused."""
    first = (folder / "log" / f"{DAYS[0]}.csv").read_text(encoding="utf-8").splitlines()
    names = first[0].replace('"', "").split(",")
    column, label = names.index("user"), names.index("click")
    users = [line.split(",")[column] for line in first[1:] if line.split(",")[column].strip('"')]
    frequent = max(set(users), key=users.count)
    for day in DAYS:
        path = folder / "log" / f"{day}.csv"
        lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines[1:]:
            if line[column] == frequent:
                line[column] = USER
        refused = list(next(line for line in lines[1:] if line[column] == USER))
        refused[label] = "maybe"
        text = "\n".join(",".join(line) for line in [*lines, refused])
        path.write_text(text + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def dataset(module_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> DatasetSpec:
    folder = tmp_path_factory.mktemp("log") / "own"
    path = write_log(folder)
    rename_a_user(folder)
    spec = load_dataset(str(path))
    run(spec, FEATURE_STEPS, *DAYS)
    run(spec, TRAINING_STEPS, TEST_DAY)
    run(spec, FEATURE_STEPS, DAYS[1])  # old versions of two days
    for table in ("scenario_features", "impressions"):
        open_table(spec, table).create_checkpoint()
    run(spec, ["ingest_impressions"], DAYS[0])
    (artifacts_dir(spec) / "resume").mkdir(exist_ok=True)
    (artifacts_dir(spec) / "resume" / "run.pt").write_bytes(struct.pack("<q", hash64(USER)))
    (artifacts_dir(spec) / "docs").mkdir()
    (artifacts_dir(spec) / "docs" / "day.html").write_text(f"<td>{USER}</td>", encoding="utf-8")
    (report_dir() / "docs.html").write_text(f"examples: {USER}", encoding="utf-8")
    return spec


def traces(root: Path, numbers: set[int]) -> Iterator[str]:
    """Files that hold the id or one of the numbers: as bytes, as text, or as a decoded value of a Parquet file."""
    texts = [USER, json.dumps(USER)[1:-1], *map(str, numbers)]
    as_bytes = [*(text.encode() for text in texts), *(struct.pack("<q", n) for n in numbers)]
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        data = path.read_bytes()
        found = any(part in data for part in as_bytes)
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                decoded = json.dumps(file.read().to_pylist(), default=str, ensure_ascii=False)
            found = found or any(text in decoded for text in texts)
        if found:
            yield path.relative_to(root).as_posix()


def numbers_of(dataset: DatasetSpec) -> set[int]:
    """The user's 64-bit hash and instances."""
    rows = read_table(dataset, "impressions", columns=["user_id", "instance_id"], filters={"user_id": USER})
    assert len(rows) > 20
    return {hash64(USER), *rows["instance_id"].to_pylist()}


def test_the_user_goes_everywhere_and_does_not_come_back(
    dataset: DatasetSpec, module_lake: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers, before = numbers_of(dataset), list(hash_lake(dataset, table_names(), []))
    tables = [name for name in table_names() if table_exists(dataset, name)]
    versions = {name: open_table(dataset, name).version() for name in tables}
    found = {path.split("/")[1] for path in traces(module_lake, numbers)}
    assert {"impressions", "quarantine", "behaviour_sequences", "scenario_features", "vocabularies"} <= found
    assert {"shared_instance_masks", "_artifacts"} <= found
    assert any("_delta_log" in path for path in traces(module_lake, numbers)), "the log holds least and greatest values"
    run_id = read_table(dataset, "training_runs", columns=["run_id"])["run_id"].to_pylist()[0]

    forget(dataset, dry_run=True)
    assert list(hash_lake(dataset, table_names(), [])) == before
    assert f"run {run_id} was made from days with rows of the user and can no longer be repeated" in caplog.text

    forget(dataset, yes=True)
    assert list(traces(module_lake, numbers)) == []
    for name, newest in versions.items():
        assert open_table(dataset, name).version() == newest, "no version was added"
        for version in range(newest + 1):
            read_table(dataset, name, version=version)  # every version is still readable
    others = {h.ds: h for h in before if h.table == "impressions"}
    assert all(0 < h.rows < others[h.ds].rows for h in hash_lake(dataset, ["impressions"], []))

    kept = list(hash_lake(dataset, ["impressions", "vocabularies"], []))
    run(dataset, ["audit_tables"], *DAYS[1:])
    run(dataset, FEATURE_STEPS, *DAYS)
    assert list(traces(module_lake, numbers)) == []
    assert list(hash_lake(dataset, ["impressions", "vocabularies"], [])) == kept
    audits = read_table(dataset, "audits", filters={"table_name": "impressions"}).to_pylist()
    for audit in audits:
        assert audit["rows_in"] == audit["rows_published"] + audit["rows_quarantined"]
        assert json.loads(audit["quarantine_reasons"])["forgotten_user"] >= 2
    quarantined = read_table(dataset, "quarantine", filters={"reason": "forgotten_user"})
    assert set(quarantined["raw_record"].to_pylist()) == {"{}"}


def test_a_run_of_the_users_days_is_refused(dataset: DatasetSpec) -> None:
    manifest = next((artifacts_dir(dataset) / "runs").glob("*/manifest.json"))
    with pytest.raises(TrainingError, match="are not those of the manifest"):
        train(dataset, manifest=manifest)


def test_it_is_only_done_on_purpose(dataset: DatasetSpec) -> None:
    for both in (False, True):
        with pytest.raises(OptionsError, match=r"either --dry-run, .* or --yes"):
            forget(dataset, dry_run=both, yes=both)
