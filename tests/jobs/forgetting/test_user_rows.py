"""Which records, values and texts are a user's."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.forgetting.user_rows import FORGOTTEN, REPLACEMENT, UserRows
from lake.erase import TableFile
from tests.support.tiny_lake import tiny_dataset

DATASET = tiny_dataset()  # its user column is u


def file_of(folder: Path, rows: pa.Table) -> TableFile:
    pq.write_table(rows, folder / "file.parquet")
    return TableFile(path=folder / "file.parquet", partition={"ds": "2026-01-02"})


def user(text: str) -> UserRows:
    return UserRows(dataset=DATASET, user=text, instance_ids={"2026-01-02": [5]})


@pytest.mark.parametrize(
    ("reason", "raw", "of_7"),
    [
        ("bad_label", '{"u":"7","i":"9"}', True),
        ("bad_label", '{"u": 7, "i": 9}', True),
        ("bad_label", '{"i":9,"u":7.0}', True),
        ("bad_label", '{"u":" 7 ","i":"9"}', True),
        ("bad_label", '{"u":"17","i":"7"}', False),
        ("bad_label", '{"u":null,"i":"7"}', False),
        ("null_user", '{"u":"","price":"7"}', False),
        ("unreadable_record", '{"u":null,"_corrupt":"7,book,web"}', True),
        ("unreadable_record", '{"u":null,"_corrupt":"17,book,web"}', False),
    ],
)
def test_refused_records_go_by_their_user_column(tmp_path: Path, reason: str, raw: str, of_7: bool) -> None:
    file = file_of(tmp_path, pa.table({"reason": [reason], "raw_record": [raw], "detail": ["u"]}))
    assert user("7").find("quarantine")(file).to_pylist() == [of_7]


def test_a_name_with_signs_of_json_and_patterns(tmp_path: Path) -> None:
    raw = ['{"u":"a\\"b.c","i":1}', '{"u":"a\\"bxc","i":1}']
    file = file_of(tmp_path, pa.table({"reason": ["x"] * 2, "raw_record": raw, "detail": [""] * 2}))
    assert user('a"b.c').find("quarantine")(file).to_pylist() == [True, False]


def test_values_of_user_fields_alone_are_replaced_and_keep_their_ids(tmp_path: Path) -> None:
    rows = pa.table({"field": ["user", "item", "user"], "value": ["ann", "ann", "bob"], "id": [3, 4, 5]})
    found = user("ann").find("vocabularies")(file_of(tmp_path, rows))
    assert found.to_pylist() == [True, False, False]
    change = user("ann").change("vocabularies")
    assert change is not None
    assert change(rows, found).to_pydict() == rows.to_pydict() | {"value": [f"{FORGOTTEN} 3", "ann", "bob"]}


def test_texts_lose_words_not_parts_of_words(tmp_path: Path) -> None:
    rows = pa.table({"warnings": ["users u17 and u175", "none"], "failures": ["", "e.g. 'u17'"]})
    found = user("u17").find("audits")(file_of(tmp_path, rows))
    change = user("u17").change("audits")
    assert found.to_pylist() == [True, True] and change is not None
    assert change(rows, found).to_pydict() == {
        "warnings": [f"users {FORGOTTEN} and u175", "none"],
        "failures": ["", f"e.g. '{FORGOTTEN}'"],
    }


def test_a_short_number_is_a_user_only_in_quotes() -> None:
    assert not re.search(user("7").pattern, "7 rows of 17") and re.search(user("7").pattern, "user '7'")
    assert re.sub(user("7").pattern, REPLACEMENT, r'["\"7\" of 7"]') == rf'["\"{FORGOTTEN}\" of 7"]'
    assert re.search(user("70771").pattern, "user 70771 of 9")


def test_masks_go_by_instance_and_day(tmp_path: Path) -> None:
    file = file_of(tmp_path, pa.table({"instance_id": [4, 5]}))
    assert user("ann").find("shared_instance_masks")(file).to_pylist() == [False, True]
