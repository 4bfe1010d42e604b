"""The papers' public data sets, on tiny files in their raw formats (tests/data): every line is accounted for."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from jobs.adapters import ali_express, read_raw
from jobs.transforms import canonical
from schemas.dataset_spec import DatasetSpec
from schemas.errors import DatasetSpecError, SourceError
from schemas.load_dataset import load_dataset

pytestmark = pytest.mark.spark
DATA = Path(__file__).parent.parent / "data"
MADE_UP = [date(2001, 1, 1), date(2001, 1, 2), date(2001, 1, 3)]  # two days of training file, one of test file
LOGS = {
    "ali_ccp": ("sample_skeleton_*.csv", MADE_UP),
    "alimama": ("raw_sample.csv", [date(2017, 5, 6), date(2017, 5, 7)]),
    "ali_express": ("??_item_*.csv", MADE_UP[:2]),
    "kuairand": ("log_standard_*.csv", [date(2022, 4, 8), date(2022, 4, 9), date(2022, 4, 22)]),
}
FEW_FIELDS = ("u1", "u9", "i18", "i33", "i47")
OUTCOMES = {
    "ali_ccp": {
        "ok": 29,
        "no_side_record": 2,
        "unreadable_record": 3,
        "bad_sample_id": 1,
        "conversion_without_click": 1,
        "unknown_scenario": 1,
    },
    "alimama": {
        "ok": 20,
        "no_side_record": 1,
        "bad_label": 1,
        "bad_time": 1,
        "null_user": 1,
        "duplicate": 1,
        "unreadable_record": 1,
    },
    "ali_express": {"ok": 73, "no_side_record": 3, "bad_label": 1, "unreadable_record": 1, "duplicate": 1},
    "kuairand": {"ok": 20, "no_side_record": 2, "unknown_scenario": 1, "unreadable_record": 1, "duplicate": 1},
}


@pytest.fixture(autouse=True)
def tiny_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_DATA_DIR", str(DATA))


def dataset_of(name: str, **changes: Any) -> DatasetSpec:
    """The data set on the days that the tiny files have."""
    days = LOGS[name][1]
    whole = load_dataset(name).model_dump() | {"days": {"start": days[0], "end": days[-1]}} | changes
    return DatasetSpec.model_validate(whole)


def classified(spark: SparkSession, dataset: DatasetSpec, ds: date) -> list[Row]:
    return canonical.classify(read_raw(spark, dataset, ds), dataset, ds).collect()


def with_field(dataset: DatasetSpec, **field: Any) -> dict[str, Any]:
    return {"fields": [*dataset.model_dump()["fields"], field]}


def num_lines(folder: Path, pattern: str, header: bool) -> int:
    files = sorted(folder.glob(pattern))
    assert files
    return sum(len(path.read_text(encoding="utf-8").splitlines()) - header for path in files)


@pytest.mark.parametrize("name", LOGS)
def test_every_line_is_published_or_quarantined_on_one_day(spark: SparkSession, name: str) -> None:
    pattern, days = LOGS[name]
    few = [field for field in load_dataset(name).model_dump()["fields"] if field["name"] in FEW_FIELDS]
    dataset = dataset_of(name, **({"fields": few} if name == "ali_express" else {}))  # 79 take a minute
    rows = [row for ds in days for row in classified(spark, dataset, ds)]
    assert Counter(row[canonical.REASON] or "ok" for row in rows) == OUTCOMES[name]
    assert len(rows) == num_lines(DATA / name, pattern, header=name in ("alimama", "kuairand"))
    accepted = [row for row in rows if row[canonical.REASON] is None]
    assert len({row["instance_id"] for row in accepted}) == len(accepted)
    assert {row["scenario_id"] for row in accepted} == set(range(dataset.num_scenarios))
    assert {row["label"] for row in accepted} == {0, 1}
    assert all(row[canonical.DETAIL] for row in rows if row[canonical.REASON] is not None)


def test_ali_ccp_joins_the_shared_features_and_keeps_the_split(spark: SparkSession) -> None:
    dataset = dataset_of("ali_ccp")
    several = {"name": "looked_at", "source": "109_14", "kind": "multi_valued", "max_values": 8}
    dataset = dataset_of("ali_ccp", **with_field(dataset, **several))
    first, second = (classified(spark, dataset, ds) for ds in MADE_UP[:2])
    ok = {row["item_id"]: row for row in first if row[canonical.REASON] is None}
    row = ok["4281833"]  # the third sample
    assert (row["user_id"], row["scenario_id"], row["label"]) == ("100", 0, 0)
    assert row["event_ts"] == datetime(2001, 1, 1, 0, 0, 0, 1000)  # one day in two, a millisecond apart
    assert (row["x_brand"], row["x_user_x_category"], row["x_geography"]) == ("9342395", "9356012", "3864888")
    assert (row["x_user_x_shop"], row["x_looked_at"]) == (None, ["450000", "450010"])
    assert "4281834" not in ok and "4281834" in {row["item_id"] for row in second}
    by_reason = {row[canonical.REASON]: row[canonical.DETAIL] for row in first}
    assert by_reason["bad_sample_id"] == "sample_id=x15"
    assert by_reason["conversion_without_click"] == "conversion=1 click=0"
    assert by_reason["unknown_scenario"] == "301=9351999"
    conversions = [row["label_conversion"] for row in (*first, *second) if row[canonical.REASON] is None]
    clicks = [row["label"] for row in (*first, *second) if row[canonical.REASON] is None]
    assert sum(conversions) == 3 and all(click >= bought for click, bought in zip(clicks, conversions, strict=True))
    users = {ds: {row["user_id"] for row in classified(spark, dataset, ds)} for ds in MADE_UP[2:]}
    assert users == {MADE_UP[2]: {"100", "101", "102", None}}


def test_ali_ccp_needs_a_last_day(spark: SparkSession) -> None:
    for end in (None, MADE_UP[0]):
        dataset = dataset_of("ali_ccp", days={"start": MADE_UP[0], "end": end})
        with pytest.raises(DatasetSpecError, match=r"days\.end: .* of ali_ccp: its log has no times"):
            read_raw(spark, dataset, MADE_UP[0])


def test_alimama_days_are_those_of_beijing_and_users_without_profile_stay(spark: SparkSession) -> None:
    rows = [row for row in classified(spark, dataset_of("alimama"), date(2017, 5, 6)) if row[canonical.REASON] is None]
    times = {row["event_ts"] for row in rows}
    assert {datetime(2017, 5, 6, 0, 30), datetime(2017, 5, 6, 23, 59)} <= times  # in UTC the one before is of the 5th
    unknown = [row for row in rows if row["user_id"] == "581735"]
    assert unknown and all(row["scenario_id"] == 0 and row["x_city_level"] is None for row in unknown)
    (row,) = [row for row in rows if row["user_id"] == "581731"]
    assert (row["item_id"], row["scenario_id"], row["x_brand"], row["value"]) == ("2", 2, None, 172.0)
    assert (row["x_category"], row["x_city_level"], row["x_place"]) == ("6406", "3", "430548_1007")


def test_ali_express_keeps_pages_whole_and_reads_the_countries_of_the_scenario(spark: SparkSession) -> None:
    fields = [field for field in load_dataset("ali_express").model_dump()["fields"] if field["name"] in FEW_FIELDS]
    few = {"scenario": {"column": "country", "values": ["fr"]}, "fields": fields}
    dataset = dataset_of("ali_express", **few, days={"start": MADE_UP[0], "end": MADE_UP[-1]})
    first, second, test = (classified(spark, dataset, ds) for ds in MADE_UP)
    pages = [{row["user_id"] for row in rows} for rows in (first, second)]
    assert pages[0] | pages[1] == {f"fr-train-{n}" for n in range(10, 14)} and not pages[0] & pages[1]
    assert {row["user_id"] for row in test} == {"fr-test-1010", "fr-test-1011"}
    items = (DATA / "ali_express" / "fr_item_test.csv").read_text(encoding="utf-8").splitlines()
    users = (DATA / "ali_express" / "fr_user_test.csv").read_text(encoding="utf-8").splitlines()
    raw = read_raw(spark, dataset, MADE_UP[2]).collect()
    seen = {",".join([row["search_id"], *[row[f"i{n}"] for n in range(1, 48)], row["label"]]) for row in raw}
    assert seen == set(items)
    assert {",".join([row["search_id"], *[row[f"u{n}"] for n in range(1, 33)]]) for row in raw} == set(users)
    clicked = {row["product"]: int(row["label"] in ("1", "2")) for row in raw}  # a purchase is a click
    assert {row["item_id"]: row["label"] for row in test} == clicked and {row["label"] for row in raw} == {
        "0",
        "1",
        "2",
    }


def test_ali_express_names_every_feature_once_with_the_categories_of_public_code() -> None:
    fields = {field.source: field for field in load_dataset("ali_express").fields}
    assert list(fields) == ali_express.USER_FEATURES + ali_express.ITEM_FEATURES
    assert Counter(field.kind for field in fields.values()) == {"numeric": 63, "categorical": 16}


def test_kuairand_joins_users_and_videos_and_adds_random_exposures_when_asked(spark: SparkSession) -> None:
    dataset, (first, _, late) = dataset_of("kuairand"), LOGS["kuairand"][1]
    rows = [row for row in classified(spark, dataset, first) if row[canonical.REASON] is None]
    times = {row["event_ts"] for row in rows}
    assert min(times) == datetime(2022, 4, 8, 0, 11, 5, 388000) and max(times).hour == 23
    (row,) = [row for row in rows if row["user_id"] == "1" and row["event_ts"] == min(times)]
    assert (row["item_id"], row["scenario_id"], row["label"], row["value"]) == ("11", 1, 1, 5011.0)
    assert (row["x_fans"], row["x_tags"], row["x_author"]) == ("[10,100)", ["12", "65"], "441")
    mixed = dataset_of("kuairand", **with_field(dataset, name="random", source="is_rand"))
    exposures = Counter(row["x_random"] for row in classified(spark, mixed, late))
    assert exposures == {"0": 8, "1": 8}


@pytest.mark.parametrize(
    ("name", "lost", "page"),
    [
        ("ali_ccp", "common_features_train.csv", "dataset/408"),
        ("alimama", "user_profile.csv", "dataset/56"),
        ("ali_express", "es_user_train.csv", "dataset/74690"),
        ("kuairand", "video_features_basic_*.csv", "kuairand.com"),
    ],
)
def test_a_missing_file_is_named_with_the_place_to_get_it(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lost: str, page: str
) -> None:
    shutil.copytree(DATA / name, tmp_path / name)
    for path in (tmp_path / name).glob(lost):
        path.unlink()
    monkeypatch.setenv("MSR_DATA_DIR", str(tmp_path))
    with pytest.raises(SourceError) as error:
        read_raw(spark, dataset_of(name), LOGS[name][1][0])
    message = str(error.value)
    assert message.startswith(f"{lost} is missing in {tmp_path / name}: fetch it from https://") and page in message


def test_a_header_without_a_column_is_named(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(DATA / "alimama", tmp_path / "alimama")
    path = tmp_path / "alimama" / "ad_feature.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("brand", "label"), encoding="utf-8")
    monkeypatch.setenv("MSR_DATA_DIR", str(tmp_path))
    with pytest.raises(SourceError, match=r"ad_feature\.csv lacks columns \['brand'\]; it has .*'label'"):
        read_raw(spark, dataset_of("alimama"), date(2017, 5, 6))
