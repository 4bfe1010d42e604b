"""Logs as real exports write them: each row is published with the right values or refused with the true reason."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs.adapters import read_raw
from jobs.transforms import canonical
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SourceError
from tests.support.own_log import DAY, DS, GOOD, HEADER, own_dataset, source, spec, write_csv

pytestmark = pytest.mark.spark


def published(spark: SparkSession, dataset: DatasetSpec) -> list[dict[str, Any]]:
    """Impressions of the day, by time."""
    classified = canonical.classify(read_raw(spark, dataset, DS), dataset, DS)
    rows = canonical.impressions(classified, dataset).orderBy("event_ts", "user_id").collect()
    return [row.asDict() for row in rows]


def refused(spark: SparkSession, dataset: DatasetSpec) -> list[tuple[str, str]]:
    """Reasons and details of the day's refused rows."""
    classified = canonical.classify(read_raw(spark, dataset, DS), dataset, DS)
    return sorted((row["reason"], row["detail"]) for row in canonical.quarantine(classified).collect())


def write(folder: Path, name: str, data: bytes | str) -> None:
    path = folder / "log" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def lines(*rows: str, header: str = HEADER) -> str:
    return "\n".join([header, *rows, ""])


def at(hour: int, row: str = GOOD) -> str:
    return row.replace("T10", f"T{hour}")


BROKEN = at(11).replace("a|b", '"a\nb"')


def test_a_quoted_line_break_is_one_row_with_the_whole_value(spark: SparkSession, tmp_path: Path) -> None:
    in_the_middle = f'{DAY}T12:00:00,"bob\nby",pen,app,0,1,paper,c'
    write_csv(tmp_path, [GOOD, BROKEN, in_the_middle])
    rows = published(spark, own_dataset(tmp_path))
    assert [row["x_tags"] for row in rows] == [["a", "b"], ["a", "b"], ["c"]]
    assert rows[2]["user_id"] == "bob\nby"


def test_without_multi_line_such_a_record_is_refused_once(spark: SparkSession, tmp_path: Path) -> None:
    write_csv(tmp_path, [GOOD, BROKEN, at(12)])
    dataset = own_dataset(tmp_path, source=source("csv", "log/{ds}.csv", multi_line=False))
    assert refused(spark, dataset) == [("line_break", "tags=a\nb")]
    assert len(published(spark, dataset)) == 2


def test_a_quote_that_is_never_closed_costs_its_line_alone(spark: SparkSession, tmp_path: Path) -> None:
    torn = at(11).replace("a|b", '"a')
    inches = at(12).replace("paper", '5" disk')
    write_csv(tmp_path, [GOOD, torn, inches, at(13) + ",surplus", inches.replace("T12", "T14")])
    dataset = own_dataset(tmp_path)
    assert refused(spark, dataset) == [("unclosed_quote", torn), ("unreadable_record", at(13) + ",surplus")]
    assert [row["x_kind"] for row in published(spark, dataset)] == ["paper", '5" disk', '5" disk']


@pytest.mark.parametrize(("encoding", "marked"), [("latin-1", False), ("windows-1252", False), ("utf-16", True)])
def test_encodings(spark: SparkSession, tmp_path: Path, encoding: str, marked: bool) -> None:
    users = ["Käln", "Köln"]
    write(tmp_path, f"{DAY}.csv", lines(*[GOOD.replace("ann", user) for user in users], BROKEN).encode(encoding))
    dataset = own_dataset(tmp_path, source=source("csv", "log/{ds}.csv", encoding=encoding))
    assert [row["user_id"] for row in published(spark, dataset)] == [*users, "ann"]
    if not marked:
        as_utf8 = own_dataset(tmp_path)
        assert Counter(reason for reason, _ in refused(spark, as_utf8)) == {"bad_encoding": 2}


def test_a_byte_order_mark_is_no_part_of_the_first_name(spark: SparkSession, tmp_path: Path) -> None:
    for rows in ([GOOD], [GOOD, BROKEN]):
        write(tmp_path, f"{DAY}.csv", "\ufeff" + lines(*rows))
        assert len(published(spark, own_dataset(tmp_path))) == len(rows)


def test_parquet_text_that_is_no_utf8_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    names = pa.array([b"K\xf6ln", b"ann"], pa.binary())
    table = pa.table(
        {name: pa.array([value] * 2) for name, value in zip(HEADER.split(","), GOOD.split(","), strict=True)}
    )
    write(tmp_path, f"{DAY}.parquet", b"")
    pq.write_table(table.set_column(1, "who", names), tmp_path / "log" / f"{DAY}.parquet")
    dataset = own_dataset(tmp_path, source=source("parquet", "log/{ds}.parquet"))
    assert refused(spark, dataset) == [("bad_encoding", "who=K\ufffdln")]


def test_blanks_of_every_kind_around_values_do_not_count(spark: SparkSession, tmp_path: Path) -> None:
    spaced = ", ".join(at(11).replace("web", "\xa0web\u2007").replace("a|b", "\u202fa | \ufeffb").split(","))
    quoted = at(12).replace(",ann,", ', "o, b" ,')
    write_csv(tmp_path, [GOOD, spaced, quoted])
    rows = published(spark, own_dataset(tmp_path))
    assert [row["user_id"] for row in rows] == ["ann", "ann", "o, b"]
    assert {row["scenario_id"] for row in rows} == {0}
    assert rows[1]["x_tags"] == ["a", "b"] and rows[1]["x_kind"] == "paper"


def test_texts_that_mean_missing(spark: SparkSession, tmp_path: Path) -> None:
    write_csv(
        tmp_path,
        [
            GOOD.replace("2.5", " NULL "),
            at(11).replace("paper", "\\N").replace("a|b", "a|NA"),
            at(12).replace("ann", "NULL"),
            at(13).replace("paper", "null"),
        ],
    )
    dataset = own_dataset(tmp_path, source=source("csv", "log/{ds}.csv", null_values=["NULL", "\\N", "NA"]))
    rows = published(spark, dataset)
    assert [row["value"] for row in rows] == [None, 2.5, 2.5]
    assert [row["x_kind"] for row in rows] == ["paper", None, "null"] and rows[1]["x_tags"] == ["a"]
    assert refused(spark, dataset) == [("null_user", "who=NULL")]


def test_tab_separated_quotes_are_text_unless_the_yaml_says_so(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = lines(GOOD.replace("ann", '"ann"')).replace(",", "\t")
    write(tmp_path, f"{DAY}.tsv", text)
    plain = own_dataset(tmp_path, source=source("tsv", "log/{ds}.tsv"))
    assert published(spark, plain)[0]["user_id"] == '"ann"'
    assert f"{DAY}.tsv has values in quotes" in caplog.text and "source.quote" in caplog.text
    quoted = own_dataset(tmp_path, source=source("tsv", "log/{ds}.tsv", quote='"'))
    assert published(spark, quoted)[0]["user_id"] == "ann"


class TestFilesOfOneDay:
    """Several files, each with a schema of its own."""

    def dataset(self, folder: Path) -> DatasetSpec:
        return own_dataset(folder, source=source("csv", "log/{ds}/"))

    def test_columns_in_another_order_are_read_by_name(self, spark: SparkSession, tmp_path: Path) -> None:
        write(tmp_path, f"{DAY}/a.csv", lines(GOOD))
        header = HEADER.replace("who,what", "what,who") + ",more"
        write(tmp_path, f"{DAY}/b.csv", lines(at(11).replace("ann,book", "book,ann") + ",x", header=header))
        write(tmp_path, f"{DAY}/empty.csv", "")
        rows = published(spark, self.dataset(tmp_path))
        assert [(row["user_id"], row["item_id"]) for row in rows] == [("ann", "book")] * 2

    def test_a_column_that_one_file_lacks(
        self, spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write(tmp_path, f"{DAY}/a.csv", lines(GOOD))
        write(tmp_path, f"{DAY}/b.csv", lines(at(11).replace(",paper", ""), header=HEADER.replace(",kind", "")))
        rows = published(spark, self.dataset(tmp_path))
        assert [row["x_kind"] for row in rows] == ["paper", None]
        assert "b.csv lacks columns ['kind']" in caplog.text
        renamed = HEADER.replace("who", "visitor")
        write(tmp_path, f"{DAY}/b.csv", lines(at(11), header=renamed))
        with pytest.raises(SourceError, match=rf"{DAY}/, file b\.csv, lacks columns \['who'\].*'visitor'"):
            published(spark, self.dataset(tmp_path))

    def test_a_doubled_header_is_named(self, spark: SparkSession, tmp_path: Path) -> None:
        write(tmp_path, f"{DAY}/a.csv", lines(GOOD))
        write(tmp_path, f"{DAY}/b.csv", lines(at(11), header=HEADER.replace("paid", "who")))
        with pytest.raises(SourceError, match=r"b\.csv: columns \['who', 'who'\] have one name"):
            published(spark, self.dataset(tmp_path))

    def test_parquet_files_of_several_types_and_schemas(
        self, spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        base = {"what": ["book"], "where": ["web"], "liked": [1], "kind": ["paper"], "tags": [["a", "b"]]}
        day = datetime.fromisoformat(DAY)
        times = [day.replace(hour=hour) for hour in range(4)]
        users = [pa.array([7], pa.int32()), pa.array([7], pa.int64()), pa.array([7.0]), pa.array([7.5])]
        folder = tmp_path / "log" / DAY
        folder.mkdir(parents=True)
        for number, (time, who) in enumerate(zip(times, users, strict=True)):
            table = pa.table(base | {"at": pa.array([time], pa.timestamp("us")), "who": who})
            if number:
                table = table.append_column("paid", pa.array([2.5]))
            pq.write_table(table, folder / f"part-{number}.parquet")
        dataset = own_dataset(tmp_path, source=source("parquet", "log/{ds}"))
        rows = published(spark, dataset)
        assert [row["user_id"] for row in rows] == ["7", "7", "7"] and [row["value"] for row in rows] == [
            None,
            2.5,
            2.5,
        ]
        assert refused(spark, dataset) == [("float_id", "who=7.5")]
        assert "part-0.parquet lacks columns ['paid']" in caplog.text


def test_one_id_whatever_its_storage_type(spark: SparkSession, tmp_path: Path) -> None:
    columns = spec()["columns"] | {"natural_key": ["who", "what", "at"]}
    keys = {}
    day = datetime.fromisoformat(f"{DAY}T10:00:00")
    table = pa.table({
        "at": pa.array([day] * 4, pa.timestamp("ns")),
        "who": [126.0, None, 0.5, float("nan")],
        "what": pa.array(["8.00", "9.00", "9.00", "9.00"]).cast(pa.decimal128(10, 2)),
        "where": ["web"] * 4, "liked": [True] * 4, "paid": [1.0] * 4, "kind": ["x"] * 4, "tags": [["a"]] * 4,
    })  # fmt: skip
    write(tmp_path, f"{DAY}.csv", lines(f"{DAY} 10:00:00,126,8,web,Y,1,x,a"))
    pq.write_table(table, tmp_path / "log" / f"{DAY}.parquet")
    for format in ("csv", "parquet"):
        dataset = own_dataset(tmp_path, source=source(format, f"log/{{ds}}.{format}"), columns=columns)
        rows = published(spark, dataset)
        keys[format] = [(row["user_id"], row["item_id"], row["event_ts"], row["instance_id"]) for row in rows]
    assert keys["csv"] == keys["parquet"] and keys["csv"][0][:2] == ("126", "8")
    assert [reason for reason, _ in refused(spark, dataset)] == ["float_id", "null_user", "null_user"]


def test_json_lines_without_nulls_and_with_nested_fields(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"at": f"{DAY}T10:00:00", "who": 7.0, "what": "book", "ctx": {"place": "web"}, "liked": 1, "tags": ["a", 1]}
    records = [row, row | {"what": "pen", "tags": []}]
    write(tmp_path, f"{DAY}.jsonl", "\n".join(map(json.dumps, records)))
    changes = {
        "source": source("jsonl", "log/{ds}.jsonl"),
        "scenario": {"column": "ctx.place", "values": ["web", "app"]},
    }
    rows = published(spark, own_dataset(tmp_path, **changes))
    assert {(row["user_id"], row["scenario_id"], row["value"], row["x_kind"]) for row in rows} == {("7", 0, None, None)}
    assert f"no line of {DAY}.jsonl has ['paid', 'kind']" in caplog.text
    without = [{name: value for name, value in record.items() if name != "who"} for record in records]
    write(tmp_path, f"{DAY}.jsonl", "\n".join(map(json.dumps, without)))
    with pytest.raises(SourceError, match=rf"file {DAY}\.jsonl, lacks columns \['who'\]"):
        published(spark, own_dataset(tmp_path, **changes))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("kind", ["paper"], "column 'kind' holds lists, which only a field of kind multi_valued takes"),
        ("who", {"id": 1}, r"column 'who' holds nested values; name one of its fields: who\.id"),
    ],
)
def test_lists_and_structs_where_one_value_is_due(
    spark: SparkSession, tmp_path: Path, column: str, value: object, message: str
) -> None:
    row = dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | {column: value}
    write(tmp_path, f"{DAY}.jsonl", json.dumps(row))
    with pytest.raises(SourceError, match=message):
        published(spark, own_dataset(tmp_path, source=source("jsonl", "log/{ds}.jsonl")))


@pytest.mark.parametrize(
    "name",
    ["_{ds}.csv", ".{ds}.csv", "shop[1]/{ds}.csv", "_{ds}/a.csv", "{{ds}}.csv", "Küche/{ds}.csv", "a b/{ds}#1.csv"],
)
def test_file_names_that_look_like_patterns_or_hidden_files(spark: SparkSession, tmp_path: Path, name: str) -> None:
    write(tmp_path, name.replace("{ds}", DAY), lines(GOOD, BROKEN))
    rows = published(spark, own_dataset(tmp_path, source=source("csv", f"log/{name}")))
    assert len(rows) == 2
    raw = read_raw(spark, own_dataset(tmp_path, source=source("csv", f"log/{name}")), DS).collect()
    assert {row["_source"] for row in raw} == {name.replace("{ds}", DAY).rsplit("/", 1)[-1]}


def test_folders_named_like_columns_are_columns(spark: SparkSession, tmp_path: Path) -> None:
    header, row = HEADER.replace(",where", ""), GOOD.replace(",web", "")
    write(tmp_path, f"{DAY}/where=web/a.csv", lines(row, header=header))
    write(tmp_path, f"{DAY}/where=app/a.csv", lines(row, header=header))
    rows = published(spark, own_dataset(tmp_path, source=source("csv", "log/{ds}")))
    assert len(rows) == 1  # one natural key
    assert [reason for reason, _ in refused(spark, own_dataset(tmp_path, source=source("csv", "log/{ds}")))] == [
        "duplicate"
    ]


def test_a_folder_without_files_is_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log" / DAY).mkdir(parents=True)
    with pytest.raises(SourceError, match=rf"log/{DAY} holds no files"):
        published(spark, own_dataset(tmp_path, source=source("parquet", "log/{ds}")))


def test_another_format_than_the_yaml_says_is_named(spark: SparkSession, tmp_path: Path) -> None:
    write_csv(tmp_path, [GOOD])
    with pytest.raises(SourceError, match=rf"{DAY}\.csv: is no Parquet file .*source\.format"):
        published(spark, own_dataset(tmp_path, source=source("parquet", "log/{ds}.csv")))
    with pytest.raises(SourceError, match=rf"{DAY}\.csv holds no line that is a JSON object; fix source\.format"):
        published(spark, own_dataset(tmp_path, source=source("jsonl", "log/{ds}.csv")))
