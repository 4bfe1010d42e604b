"""Adapters against real files: every format, bad lines kept, broken sources refused in one line."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs.adapters import ADAPTERS, read_raw
from jobs.transforms import canonical
from schemas.dataset_spec import DatasetSpec
from schemas.errors import DatasetSpecError, SourceError
from schemas.load_dataset import load_dataset
from schemas.source_spec import SourceSpec
from tests.support.own_log import DAY, DS, GOOD, HEADER, own_dataset, source, spec, write_csv

pytestmark = pytest.mark.spark


def outcome(spark: SparkSession, dataset: DatasetSpec, ds: date = DS) -> Counter[str]:
    """Rows by reason, accepted ones under 'ok'."""
    raw = read_raw(spark, dataset, ds)
    classified = canonical.classify(raw, dataset, ds).select(canonical.REASON).collect()
    return Counter(row[canonical.REASON] or "ok" for row in classified)


def test_every_adapter_of_the_spec_is_registered() -> None:
    assert set(ADAPTERS) == set(get_args(SourceSpec.model_fields["adapter"].annotation))


def test_lines_that_cannot_be_parsed_are_kept_as_unreadable(spark: SparkSession, tmp_path: Path) -> None:
    dataset = own_dataset(tmp_path)
    quoted = f'{DAY}T10:00:01,"o""hara, b.",pen,app,0,,paper,'
    write_csv(tmp_path, [GOOD, quoted, f"{DAY}T10:00:02,ann,book", GOOD + ",surplus", "\x00garbage"])
    raw = read_raw(spark, dataset, DS)
    classified = canonical.classify(raw, dataset, DS)
    refused = {row["detail"]: row for row in canonical.quarantine(classified).collect()}
    assert set(refused) == {f"{DAY}T10:00:02,ann,book", GOOD + ",surplus", "\x00garbage"}
    assert {row["reason"] for row in refused.values()} == {"unreadable_record"}
    assert {row["source"] for row in refused.values()} == {f"{DAY}.csv"}
    accepted = canonical.impressions(classified, dataset).orderBy("event_ts").collect()
    assert [row["user_id"] for row in accepted] == ["ann", 'o"hara, b.']
    assert accepted[0]["x_tags"] == ["a", "b"] and accepted[1]["x_paid"] is None


def test_all_formats_give_the_same_impressions(spark: SparkSession, tmp_path: Path) -> None:
    lines = [GOOD, f"{DAY}T11:00:00,bob,pen,app,0,,paper,c", f"{DAY}T12:00:00,bob,pen,tv,0,1,paper,c"]
    own_dataset(tmp_path)
    table = pacsv.read_csv(
        write_csv(tmp_path, lines),
        convert_options=pacsv.ConvertOptions(column_types={"at": pa.string()}, strings_can_be_null=True),
    )
    folder = tmp_path / "log"
    (folder / f"{DAY}.tsv").write_text("\n".join([HEADER, *lines]).replace(",", "\t"), encoding="utf-8")
    typed = table.set_column(0, "at", table["at"].cast(pa.timestamp("us")))
    tags = pa.array([["a", "b"], ["c"], ["c"]])
    pq.write_table(typed.set_column(7, "tags", tags), folder / f"{DAY}.parquet")
    records = [{key: value for key, value in row.items() if value is not None} for row in table.to_pylist()]
    text = "\n".join([*map(json.dumps, records), '{"at": broken'])
    (folder / f"{DAY}.jsonl").write_text(text, encoding="utf-8")
    with gzip.open(folder / f"{DAY}.csv.gz", "wt", encoding="utf-8") as handle:
        handle.write("\n".join([HEADER, *lines]))
    seen = {}
    for format, ending in [
        ("csv", "csv"),
        ("csv", "csv.gz"),
        ("tsv", "tsv"),
        ("parquet", "parquet"),
        ("jsonl", "jsonl"),
    ]:
        dataset = own_dataset(tmp_path, source=source(format, f"log/{{ds}}.{ending}"))
        classified = canonical.classify(read_raw(spark, dataset, DS), dataset, DS)
        seen[ending] = sorted(map(str, canonical.impressions(classified, dataset).collect()))
        reasons = sorted(row["reason"] for row in canonical.quarantine(classified).collect())
        assert reasons == ["unknown_scenario"] + (["unreadable_record"] if ending == "jsonl" else [])
    assert len(seen["csv"]) == 2
    assert all(rows == seen["csv"] for rows in seen.values())


def test_a_log_without_a_file_per_day_is_cut_by_event_time(spark: SparkSession, tmp_path: Path) -> None:
    columns = spec()["columns"] | {"event_time": {"column": "at", "time_zone": "America/New_York"}}
    dataset = own_dataset(tmp_path, source=source("csv", "log"), columns=columns)
    late, next_day = GOOD.replace("T10", "T18"), GOOD.replace("T10", "T19")  # 19:00 in New York is midnight UTC
    write_csv(tmp_path, [late, next_day], "a.csv")
    write_csv(tmp_path, [GOOD.replace(DAY, "when?"), "no,commas", GOOD], "b.csv")
    assert outcome(spark, dataset) == {"ok": 2}
    assert outcome(spark, dataset, date(2026, 3, 3)) == {"ok": 1}
    assert outcome(spark, dataset, date(2026, 3, 1)) == {"bad_time": 1, "unreadable_record": 1}


def test_several_files_of_a_day_and_one_that_is_delivered_twice(spark: SparkSession, tmp_path: Path) -> None:
    dataset = own_dataset(tmp_path, source=source("csv", "log/{ds}/*.csv"))
    (tmp_path / "log" / DAY).mkdir()
    for name in ("part-0.csv", "part-0-again.csv"):
        write_csv(tmp_path, [GOOD, GOOD.replace("T10", "T11"), GOOD.replace(DAY, "2026-03-05")], f"{DAY}/{name}")
    assert outcome(spark, dataset) == {"ok": 2, "duplicate": 2, "time_outside_day": 2}


def test_a_missing_file_is_named(spark: SparkSession, tmp_path: Path) -> None:
    for format in ("csv", "parquet", "jsonl"):
        with pytest.raises(SourceError, match=rf"nothing at .*log/{DAY}\.x; deliver it"):
            read_raw(spark, own_dataset(tmp_path, source=source(format, "log/{ds}.x")), DS)


@pytest.mark.parametrize("format", ["csv", "parquet", "jsonl"])
def test_a_file_that_holds_something_else_is_named(spark: SparkSession, tmp_path: Path, format: str) -> None:
    dataset = own_dataset(tmp_path, source=source(format, "log/{ds}.bin"))
    path = tmp_path / "log" / f"{DAY}.bin"
    for content in (b"", b"PAR1 but not really\n\xff\xfe", b"\x1f\x8b broken"):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=rf"{DAY}|lacks columns") as error:
            read_raw(spark, dataset, DS)
        assert "\n" not in str(error.value)


def test_a_torn_archive_is_named(spark: SparkSession, tmp_path: Path) -> None:
    dataset = own_dataset(tmp_path, source=source("csv", "log/{ds}.csv.gz"))
    lines = [HEADER] + [GOOD.replace("ann", f"user{n}") for n in range(50_000)]
    whole = gzip.compress("\n".join(lines).encode())
    (tmp_path / "log" / f"{DAY}.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=rf"{DAY}\.csv\.gz ends in the middle of its compressed data") as error:
        read_raw(spark, dataset, DS)
    assert "\n" not in str(error.value)


def test_a_wrong_column_is_named_with_those_there_are(spark: SparkSession, tmp_path: Path) -> None:
    dataset = own_dataset(tmp_path)
    write_csv(tmp_path, [GOOD], header=HEADER.replace("liked", "clicked"))
    with pytest.raises(SourceError, match=r"lacks columns \['liked'\]; it has \['at', 'who', .*'clicked'"):
        read_raw(spark, dataset, DS)


def test_a_reserved_column_name_and_a_wrong_pattern_are_named(spark: SparkSession, tmp_path: Path) -> None:
    dataset = own_dataset(tmp_path)
    write_csv(tmp_path, [GOOD + ",x"], header=HEADER + ",_source")
    with pytest.raises(SourceError, match=r"columns \['_source'\] .* reserved"):
        read_raw(spark, dataset, DS)
    write_csv(tmp_path, [GOOD])
    columns = spec()["columns"] | {"event_time": {"column": "at", "format": "yyyy-MM-dd nonsense"}}
    whole_log = own_dataset(tmp_path, source=source("csv", "log/*.csv"), columns=columns)
    with pytest.raises(DatasetSpecError, match=r"columns\.event_time\.format: 'yyyy-MM-dd nonsense'"):
        read_raw(spark, whole_log, DS)


def write_movielens(folder: Path) -> None:
    folder.mkdir(parents=True)
    ratings = ["u1\tToy (1995)\t5\t973814400", "u1\tLost (1999)\t3\t973814401", "u9\tToy (1995)\t4\t973814402"]
    ratings += ["u2\tToy (1995)\t2\t973900800", "u2\tToy (1995)\t2", "u2\tToy (1995)\t6x\t973814403"]
    files = {
        "inter": ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *ratings],
        "user": [
            "user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token",
            *["u1\t1\tF\t10\t48067", "u2\t25\tM\t16\t70072", "u2\t25\tM\t16\t70072"],
        ],
        "item": [
            "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token",
            "Toy (1995)\tToy\t1995\tAnimation Children's Comedy",
        ],
    }
    for name, lines in files.items():
        (folder / f"ml-1m.{name}").write_text("\n".join([*lines, ""]), encoding="utf-8")


def test_movielens_joins_the_side_files_and_loses_no_rating(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_DATA_DIR", str(tmp_path))
    write_movielens(tmp_path / "ml-1m")
    dataset = load_dataset("movielens_age")
    first = date(2000, 11, 10)
    raw = read_raw(spark, dataset, first)
    classified = canonical.classify(raw, dataset, first).collect()
    assert Counter(row[canonical.REASON] or "ok" for row in classified) == {
        "ok": 1,
        "no_side_record": 2,
        "unreadable_record": 1,
        "bad_label": 1,
    }
    assert {row[canonical.DETAIL] for row in classified if row[canonical.REASON] == "no_side_record"} == {
        "no item_id=Lost (1999) in ml-1m.item",
        "no user_id=u9 in ml-1m.user",
    }
    (row,) = [row for row in classified if row[canonical.REASON] is None]
    assert (row["scenario_id"], row["label"], row["value"]) == (0, 1, 5.0)
    assert row["x_genres"] == ["Animation", "Children's", "Comedy"] and row["x_first_genre"] == "Animation"
    assert outcome(spark, dataset, date(2000, 11, 11)) == {"ok": 1}
    (tmp_path / "ml-1m" / "ml-1m.item").write_text("item_id:token\tgenre:token\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"ml-1m.item lacks columns \['release_year'\]"):
        read_raw(spark, dataset, first)
