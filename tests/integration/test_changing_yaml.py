"""A YAML that changes while its lake lives: every key is equal in effect, refused, or rebuilt as from scratch."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobs import build_scenario_features, ingest_impressions
from jobs.hash_tables import hash_lake
from lake.provenance import require_current
from msr_models.data.window import load_window
from schemas.blocks import DatasetBlocks
from schemas.dataset_spec import DatasetSpec
from schemas.errors import MsrError, TableError
from tests.support.changing_log import DAYS as ALL_DAYS
from tests.support.changing_log import build, changed, load, write_log
from tests.support.steps import run_step

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.usefixtures("spark")]

Change = Callable[[dict[str, Any]], None]
DAYS = ALL_DAYS[:3]
TABLES = ("impressions", "vocabularies", "behaviour_sequences", "scenario_features")


def put(path: str, value: Any) -> Change:
    """Set the key at a dotted path; `fields.N` is a position."""

    def change(raw: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        at: Any = raw
        for part in parents:
            at = at[int(part)] if part.isdigit() else at.setdefault(part, {})
        at[int(last) if last.isdigit() else last] = value

    return change


# Content: what the keys make of the log. A change is refused until the days are made anew.
CONTENT: dict[str, Change] = {
    "source.adapter": put("source", {"adapter": "generated"}),
    "source.format": put("source.format", "tsv"),
    "source.header": put("source.header", False),
    "source.delimiter": put("source.delimiter", ";"),
    "source.encoding": put("source.encoding", "latin-1"),
    "source.null_values": put("source.null_values", ["paper"]),
    "source.multi_line": put("source.multi_line", False),
    "source.quote": put("source.quote", "'"),
    "source.generator": put("source", {"adapter": "generated", "generator": {"seed": 8}}),
    "columns.event_time.column": put("columns.event_time.column", "rid"),
    "columns.event_time.format": put("columns.event_time.format", "yyyy-MM-dd'T'HH:mm:ss"),
    "columns.event_time.time_zone": put("columns.event_time.time_zone", "Europe/Berlin"),
    "columns.user": put("columns.user", "what"),
    "columns.item": put("columns.item", "who"),
    "columns.label.column": put("columns.label.column", "paid"),
    "columns.label.threshold": put("columns.label.threshold", 4),
    "columns.further_labels": put("columns.further_labels", {"paid": {"column": "paid", "threshold": 10}}),
    "columns.value": put("columns.value", "liked"),
    "columns.session": put("columns.session", "rid"),
    "columns.natural_key": put("columns.natural_key", ["rid"]),
    "scenario.column": put("scenario.column", "device"),
    "scenario.values": put("scenario.values", ["ads", "home", "cart"]),
    "scenario.buckets": put("scenario", {"column": "liked", "buckets": {"edges": [3], "names": ["low", "high"]}}),
    "fields.name": put("fields.4.name", "labels"),
    "fields.source": put("fields.2.source", "device"),
    "fields.kind": put("fields.3", {"name": "paid", "source": "paid"}),
    "fields.min_count": put("fields.1.min_count", 3),
    "fields.binning.edges": put("fields.3.binning", {"edges": [10, 50]}),
    "fields.dense.transform": put("fields.3.dense", {"transform": "log1p"}),
    "fields.dense.normalise": put("fields.3.dense", {"normalise": "none"}),
    "fields.dense.clip": put("fields.3.dense", {"clip": 3}),
    "fields.binning.quantiles": put("fields.3.binning", {"quantiles": 3}),
    "fields.separator": put("fields.4.separator", "b"),
    "fields.max_values": put("fields.4.max_values", 2),
    "fields.since": put("fields.4.since", "2026-03-03"),
    "fields.max_ids": put("fields.1.max_ids", 3),
    "fields.evict_after_days": put("fields.1.evict_after_days", 1),
    "fields.hash_buckets": put("fields.1.hash_buckets", 7),
    "sequence.behaviour": put("sequence.behaviour", "all"),
    "sequence.item_field": put("sequence.item_field", "user"),
    "sequence.attributes": put("sequence.attributes", []),
    "sequence.max_length": put("sequence.max_length", 3),
    "sequence.lookback_days": put("sequence.lookback_days", 1),
    "statistics.of": put("statistics.of", ["user"]),
    "statistics.lookback_days": put("statistics.lookback_days", 1),
    "vocabulary.fit_days": put("vocabulary.fit_days", 2),
    "vocabulary.refresh_days": put("vocabulary.refresh_days", 2),
    "days.start": put("days.start", "2026-02-28"),
    "days.time_zone": put("days.time_zone", "Asia/Shanghai"),
    "days.late_days": put("days.late_days", 1),
}
# Where the message names another key than the one that was changed
NAMED_AS = {"fields.name": "fields.labels.", "fields.since": "fields.tags.", "source.generator": "source.generator."}
# Nothing in a day's rows: where things lie, which days there are, whether a day is published, and what reads the tables
NO_CONTENT: dict[str, Change] = {
    "description": put("description", "another one"),
    "source.path": put("source.path", "moved/{ds}.csv"),
    "days.end": put("days.end", "2026-03-21"),
    "days.allow_empty": put("days.allow_empty", True),
    "fields.embedding_dim": put("fields.0.embedding_dim", 4),
}
READERS = ("audit", "search", "training", "retain")  # whole blocks: the steps of the tables do not know them
REFUSED = {"name"}  # another data set with tables of its own


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("changing")
    write_log(folder)
    shutil.copytree(folder / "log", folder / "moved")
    return folder


@pytest.fixture(scope="module")
def base(home: Path, module_lake: Path) -> Iterator[DatasetSpec]:
    """The lake as the first YAML made it."""
    dataset = load(home)
    build(dataset, DAYS)
    yield dataset


def keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted keys of a spec; those of a list of specs without positions."""
    found: list[str] = []
    for name, info in model.model_fields.items():
        inner = _model_in(info.annotation)
        key = f"{prefix}{name}"
        whole = key in READERS or key in CONTENT or key in NO_CONTENT
        found += [key] if inner is None or whole else keys_of(inner, f"{key}.")
    return found


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for part in getattr(annotation, "__args__", ()) if (m := _model_in(part))), None)


def test_every_key_of_the_yaml_is_tried() -> None:
    tried = {*CONTENT, *NO_CONTENT, *READERS, *REFUSED}
    assert tried == set(keys_of(DatasetBlocks))


@pytest.mark.parametrize("key", CONTENT)
def test_a_key_that_decides_rows_is_refused_by_name_with_the_commands(home: Path, base: DatasetSpec, key: str) -> None:
    dataset = load(home, changed(CONTENT[key]))
    with pytest.raises(MsrError) as error:
        load_window(dataset, DAYS[1:])
    text = str(error.value)
    assert NAMED_AS.get(key, key.rpartition(".")[2]) in text, text
    assert "build_" in text


def test_keys_that_decide_no_rows_change_no_byte(
    home: Path, base: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(hash_lake(base, TABLES, []))

    def all_of_them(raw: dict[str, Any]) -> None:
        for change in NO_CONTENT.values():
            change(raw)
        raw["audit"] = {"max_refused_share": 0.8}
        raw["search"] = {"window_days": 3, "seed": 5}
        raw["training"] = {"window_days": 3, "seed": 9, "start": "scratch"}
        raw["retain"] = {"runs_days": 100}

    dataset = load(home, changed(all_of_them))
    for table in TABLES[:1] + TABLES[2:]:
        require_current(dataset, table, DAYS[1:])
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "scratch"))
    build(dataset, DAYS)
    assert list(hash_lake(dataset, TABLES, [])) == before


# One key of each level: what is named in the error makes the same tables as a fresh lake
REBUILT = ("scenario.values", "fields.min_count", "statistics.of")


@pytest.mark.parametrize("key", REBUILT)
def test_the_named_commands_make_what_a_fresh_lake_has(
    home: Path, base: DatasetSpec, module_lake: Path, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(home, changed(CONTENT[key]))
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "fresh"))
    build(dataset, DAYS)
    fresh = set(hash_lake(dataset, TABLES, []))
    shutil.copytree(module_lake, tmp_path / "old")
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "old"))
    with pytest.raises(TableError) as error:
        load_window(dataset, DAYS[1:])
    steps = re.findall(r"python -m jobs\.(\w+)", str(error.value))
    assert steps[-1] == "build_scenario_features" and (steps[0] == "ingest_impressions") == (key in REBUILT[:1])
    if "ingest_impressions" in steps:
        with pytest.raises(TableError, match="impressions"):  # features alone would be of old rows
            run_step(build_scenario_features, dataset, *DAYS[1:])
        run_step(ingest_impressions, dataset, *DAYS)
    run_step(build_scenario_features, dataset, *DAYS[1:])
    assert fresh <= set(hash_lake(dataset, TABLES, []))
    load_window(dataset, DAYS[1:])
