"""Every mistake in a data set's YAML is one error that names file, key, value and remedy."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.dataset_spec import DatasetSpec
from schemas.errors import DatasetSpecError
from schemas.load_dataset import known_datasets, load_dataset
from schemas.provenance import settings_of
from schemas.tables import get_table
from tests.support.own_log import spec


def load(folder: Path, raw: Any) -> DatasetSpec:
    path = folder / "own.yaml"
    path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw), encoding="utf-8")
    return load_dataset(str(path))


def changed(key: str, value: Any) -> dict[str, Any]:
    """The sound YAML with one key, given by its dotted path, replaced (None: removed)."""
    raw = spec()
    *parents, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    place: Any = raw
    for part in parents:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return raw


FIELD = {"name": "user", "source": "who"}
MISTAKES = [
    ("scenarios", {}, r"scenarios: unknown key .*did you mean 'scenario'\?"),
    ("source.formt", "csv", r"source\.formt: unknown key with value 'csv'; did you mean 'format'\?"),
    ("fields.1.sorce", "x", r"fields\.1\.sorce: unknown key .*did you mean 'source'\?"),
    ("columns.user", None, r"columns\.user: is missing; add it"),
    ("source.adapter", "file", r"source\.adapter: 'file': .*'files'"),
    ("source.format", "xml", r"source\.format: 'xml': .*'csv', 'tsv', 'parquet'"),
    ("source.path", None, r"needs path and format"),
    ("name", "My Log", r"name: 'My Log': "),
    ("columns.label.threshold", "high", r"columns\.label\.threshold: 'high': "),
    ("scenario.values", [], r"scenario\.values: .*at least 1"),
    ("scenario.values", ["web", "web"], r"scenario names repeat: \['web', 'web'\]"),
    ("scenario.values", ["web", True], r"scenario\.values\.1: True: YAML reads this as True, not as text; quote it"),
    ("source.null_values", [None], r"source\.null_values\.0: .*reads this as None, not as text; quote it"),
    ("source.encoding", "klingon", r"source\.encoding: 'klingon': is no encoding that can be read; use one of ascii"),
    ("source", {"adapter": "files", "format": "jsonl", "path": "x", "quote": "'"}, r"quote applies to format csv and"),
    ("days.time_zone", "Asia/Shangai", r"time_zone 'Asia/Shangai' is not a time zone"),
    ("days.late_days", -1, r"days\.late_days: -1: "),
    ("scenario.buckets", {"edges": [1], "names": ["a", "b"]}, r"either values .* or buckets"),
    ("scenario", {"column": "paid", "buckets": {"edges": [1], "names": ["a"]}}, r"make 2 buckets, but 1 names"),
    ("scenario", {"column": "paid", "buckets": {"edges": [2, 1], "names": ["a", "b", "c"]}}, r"must ascend"),
    ("fields", [], r"fields: .*at least 1"),
    ("fields.1.name", "user", r"field names repeat: \['user'\]"),
    ("fields.3.binning", None, r"kind numeric needs binning"),
    ("fields.3.binning", {"edges": [2, 2]}, r"must ascend"),
    ("fields.3.binning", {"edges": [2], "quantiles": 3}, r"either edges or quantiles"),
    ("fields.3.binning", {"quantiles": 1}, r"fields\.3\.binning\.quantiles: 1: "),
    ("fields.4.max_values", 1, r"multi_valued needs max_values above 1"),
    ("fields.0.min_count", 0, r"fields\.0\.min_count: 0: "),
    ("fields.3.max_ids", 9, r"max_ids has no effect on kind numeric"),
    ("fields.0.max_ids", 0, r"fields\.0\.max_ids: 0: "),
    ("fields.0", FIELD | {"hash_buckets": 9, "max_ids": 9}, r"max_ids has no effect with hash_buckets"),
    ("fields.0", FIELD | {"hash_buckets": 9, "min_count": 2}, r"min_count has no effect with hash_buckets"),
    ("fields.0.evict_after_days", 2, r"evict_after_days 2 of field 'user' is below vocabulary\.fit_days 3.*raise it"),
    ("retain", {"runs_days": 0}, r"retain\.runs_days: 0: "),
    ("retain", {"runs": 3}, r"retain\.runs: unknown key with value 3"),
    ("retain", {"features_days": 7}, r"retain\.features_days 7 is below 13, the days that .*raise it"),
    ("sequence", {"item_field": "itm"}, r"sequence names field 'itm'.*use one of \['item', 'kind', 'user'\]"),
    ("sequence", {"attributes": ["tags"]}, r"sequence names field 'tags', which is not a categorical field"),
    ("sequence", {"lookback_days": 0}, r"sequence\.lookback_days: 0: "),
    ("statistics", {"of": ["shop"]}, r"statistics\.of\.0: 'shop': "),
    (
        "training",
        {"models": [{"name": "star", "options": {"hidden": {"a": 1}}}]},
        r"own\.yaml: training\.models\.0\.options\.hidden: \{'a': 1\} is not an option: give a number[^|]*$",
    ),
    (
        "training",
        {"models": [{"name": "star"}, {"name": "dcn", "trainer": {"learning_rat": 0.1}}]},
        r"models: trainer of 'dcn': no option 'learning_rat'; did you mean 'learning_rate'\?",
    ),
    (
        "training",
        {"models": [{"name": "dcn", "trainer": {"learning_rate": -1}}]},
        r"models: trainer of 'dcn': option learning_rate: -1 is not allowed: .*greater than 0",
    ),
    (
        "training",
        {"models": [{"name": "dcn", "trainer": {"seed": 2}}]},
        r"models: trainer of 'dcn': option seed: all .*once",
    ),
    ("training", {"models": []}, r"training\.models: names no model; give at least 1"),
    ("source.negative_sampling", 0, r"source\.negative_sampling: 0: the share, 0, does not lie in \(0, 1\]"),
    ("source.negative_sampling", {"web": 2}, r"the share of web, 2, does not lie in \(0, 1\]"),
    ("source.negative_sampling", {"tv": 0.1}, r"source\.negative_sampling names 'tv', which is no scenario; use some"),
    ("training", {"negative_sampling": {"tv": 0.1}}, r"training\.negative_sampling names 'tv', which is no scenario"),
    ("training", {"negative_sampling": "few"}, r"the share, 'few', does not lie in \(0, 1\]"),
    ("days.start", "soon", r"days\.start: 'soon': "),
    ("days.end", "2026-02-01", r"end 2026-02-01 lies before start 2026-03-01"),
    ("days.start", None, r"days\.start: is missing; add it"),
]


@pytest.mark.parametrize(("key", "value", "message"), MISTAKES)
def test_a_mistake_is_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(DatasetSpecError, match=message) as error:
        load(tmp_path, changed(key, value))
    assert str(tmp_path / "own.yaml") in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [own", "is not valid YAML"),
        ("name: own\ndays: {start: 2026-03-41}", "is not valid YAML: day is out of range for month"),
        ("- name: own", "holds list, not a mapping"),
        ("", "holds NoneType, not a mapping"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetSpecError, match=message) as error:
        load(tmp_path, text)
    assert "own.yaml" in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(DatasetSpecError, match=r"own\.yaml: cannot be read"):
        load_dataset(str(tmp_path / "own.yaml"))
    with pytest.raises(DatasetSpecError, match="does not exist; check the path"):
        load_dataset(str(tmp_path / "other.yaml"))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(DatasetSpecError, match=r"did you mean 'movielens_age'.*known: .*generated"):
        load_dataset("movielens_ages")
    with pytest.raises(DatasetSpecError, match=r"'xyz' is unknown; known: ali_ccp"):
        load_dataset("xyz")


def test_own_folder_comes_first_and_paths_count_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_DATASETS_DIR", str(tmp_path))
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(spec()), encoding="utf-8")
    assert "own" in known_datasets()
    assert load_dataset("own").source.path == str(tmp_path / "log" / "{ds}.csv")


def test_variables_in_a_path_must_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGS", "/logs")
    raw = changed("source.path", "${LOGS}/{ds}.csv")
    assert load(tmp_path, raw).source.path == "/logs/{ds}.csv"
    literal = changed("source.path", "/a/$LOGS/$$b/{ds}.csv")
    assert load(tmp_path, literal).source.path == "/a/$LOGS/$b/{ds}.csv"
    monkeypatch.delenv("LOGS")
    with pytest.raises(DatasetSpecError, match=r"source\.path: .*names a variable that is not set; export it"):
        load(tmp_path, raw)


@pytest.mark.parametrize("name", known_datasets())
def test_vocabulary_versions_depend_on_the_day_alone(name: str) -> None:
    dataset = load_dataset(name)
    first = dataset.first_feature_day
    assert dataset.vocabulary_version(date.fromordinal(first.toordinal() - 1)) is None
    assert dataset.vocabulary_version(first) == f"{first:%Y%m%d}-{dataset.lineage}"
    assert all(day < first for day in dataset.days_before(first, 100))
    for change in ({"fields": dataset.fields[:-1]}, {"columns": dataset.columns.model_copy(update={"user": "u"})}):
        other = DatasetSpec.model_validate(dataset.model_copy(update=change).model_dump())
        assert other.lineage != dataset.lineage, change


@pytest.mark.parametrize(("path", "where"), [("log/{ds}.csv", "yaml"), ("${MSR_DATA_DIR}/log.csv", ".")])
def test_source_paths_are_absolute_for_servers_that_run_elsewhere(
    tmp_path: Path, path: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSR_DATA_DIR", raising=False)
    (tmp_path / "yaml").mkdir()
    load(tmp_path / "yaml", changed("source.path", path))
    found = Path(load_dataset("yaml/own.yaml").source.path or "")
    folder = tmp_path / where / ("data" if "MSR" in path else "")
    assert found.is_absolute() and found == folder / path.removeprefix("${MSR_DATA_DIR}/")


def test_a_remote_source_stays_as_it_is(tmp_path: Path) -> None:
    assert load(tmp_path, changed("source.path", "s3://b/{ds}.csv")).source.path == "s3://b/{ds}.csv"


def test_late_rows_need_a_file_per_day(tmp_path: Path) -> None:
    days = {"start": "2026-03-01", "late_days": 1}
    raw = spec(days=days, source={"adapter": "files", "format": "csv", "path": "log/all.csv"})
    with pytest.raises(DatasetSpecError, match=r"days\.late_days needs a file per day"):
        load(tmp_path, raw)


def test_whole_numbers_are_scenarios_as_they_are_written(tmp_path: Path) -> None:
    assert load(tmp_path, changed("scenario.values", [1, "2"])).scenario.names == ("1", "2")


TWO_LABELS = {"columns": spec()["columns"] | {"further_labels": {"paid": {"column": "paid", "threshold": 2}}}}


@pytest.mark.parametrize(
    ("columns", "training", "message"),
    [
        ({"raw": {"column": "paid"}}, {}, r"columns\.further_labels: 'raw' would name a column of predictions"),
        ({"Paid": {"column": "paid"}}, {}, r"columns\.further_labels\.Paid"),
        (
            {"paid": {"coluumn": "paid"}},
            {},
            r"columns\.further_labels\.paid\.coluumn: unknown key with value 'paid'; did you mean 'column'\?",
        ),
        (
            {"paid": {"column": "paid"}},
            {"weights": {"paidd": 2}},
            r"training\.labels\.weights names 'paidd'; columns\.further_labels has \['paid'\]: name one of them",
        ),
        ({}, {"esmm": True}, r"training\.labels\.esmm needs a label beside the main one: add columns\.further_labels"),
        (
            {"paid": {"column": "paid"}},
            {"weights": {"paid": 0}},
            r"training\.labels\.weights\.paid: 0: .*greater than 0",
        ),
    ],
)
def test_a_mistake_in_further_labels_is_named(tmp_path: Path, columns: Any, training: Any, message: str) -> None:
    raw = spec(columns=spec()["columns"] | {"further_labels": columns}, training={"labels": training})
    with pytest.raises(DatasetSpecError, match=message) as error:
        load(tmp_path, raw)
    assert "\n" not in str(error.value)


def test_negatives_are_not_sampled_where_a_row_has_further_labels(tmp_path: Path) -> None:
    raw = spec(**TWO_LABELS, training={"negative_sampling": 0.1})
    with pytest.raises(DatasetSpecError, match=r"training\.negative_sampling .* would bias 'paid'"):
        load(tmp_path, raw)


def test_further_labels_add_columns_and_expectations_and_nothing_without_them(tmp_path: Path) -> None:
    one, two = load(tmp_path, spec()), load(tmp_path, spec(**TWO_LABELS))
    for table in ("impressions", "scenario_features"):
        plain, wide = (get_table(table).for_dataset(dataset) for dataset in (one, two))
        assert [name for name in wide.column_names if name not in plain.column_names] == ["label_paid"]
        checked = [e for e in wide.expectations if e.kwargs.get("column") == "label_paid"]
        assert len(checked) == (table == "impressions") and len(plain.expectations) + len(checked) == len(
            wide.expectations
        )
    day = one.days.start
    before, after = (settings_of(dataset, "impressions", day) for dataset in (one, two))
    assert sorted(after.keys() - before.keys()) == [
        "columns.further_labels.paid.column",
        "columns.further_labels.paid.threshold",
    ]
    assert one.lineage != two.lineage, "a row without the label is refused: it adds no value to a vocabulary"


def test_settings_of_labels_are_in_a_dump_only_where_they_are_given(tmp_path: Path) -> None:
    one = load(tmp_path, spec(**TWO_LABELS))
    two = load(tmp_path, spec(**TWO_LABELS, training={"labels": {"weights": {"paid": 3}}}))
    assert "labels" not in one.training.trainer.model_dump()
    assert two.training.trainer.model_dump()["labels"] == {"weights": {"paid": 3.0}, "esmm": False}
