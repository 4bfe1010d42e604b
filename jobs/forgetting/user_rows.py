"""Which rows of each table belong to a user, and what takes their place."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lake.erase import TableFile, table_files
from lake.hash64 import hash64
from lake.locations import table_uri
from lake.reader import table_exists
from schemas.dataset_spec import DatasetSpec

FORGOTTEN = "<forgotten user>"
REPLACEMENT = rf"\1{FORGOTTEN}\2"  # of UserRows.pattern
SHORT_NUMBER = 5  # digits: such an id alone is no sign of the user in a text


@dataclass(frozen=True, kw_only=True)
class UserRows:
    """A user of a data set; instance_ids: those of the user's impressions, by day."""

    dataset: DatasetSpec
    user: str
    instance_ids: dict[str, list[int]] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> int:
        """user_key."""
        return hash64(self.user)

    def find(self, table: str) -> Callable[[TableFile], pa.Array]:
        """The function that marks the user's rows in a file of the table."""
        return {
            "shared_instance_masks": self._by_instance,
            "generated_truth": self._by_instance,
            "scenario_features": self._by_key,
            "behaviour_sequences": self._by_key,
            "impressions": self._by_id,
            "quarantine": self._by_raw_record,
            "vocabularies": self._by_value,
            "audits": self._by_text,
        }[table]

    def change(self, table: str) -> Callable[[pa.Table, pa.Array], pa.Table] | None:
        """What is done to the rows found, where they are not dropped."""
        return {"vocabularies": self._without_value, "audits": self._without_text}.get(table)

    @property
    def pattern(self) -> str:
        """The id as a word of a text, for RE2 and Python; a short number only in quotes or between tags."""
        word = re.escape(self.user)
        if self.user.isdigit() and len(self.user) < SHORT_NUMBER:
            return rf"""(['">]){word}(['"<\\])"""
        return rf"(\b){word}(\b)" if re.fullmatch(r"\w(.*\w)?", self.user, re.ASCII) else f"(){word}()"

    def _by_id(self, file: TableFile) -> pa.Array:
        return _true(pc.equal(file.read(["user_id"])["user_id"], self.user))

    def _by_key(self, file: TableFile) -> pa.Array:
        return _true(pc.equal(file.read(["user_key"])["user_key"], self.key))

    def _by_instance(self, file: TableFile) -> pa.Array:
        ids = self.instance_ids.get(file.partition["ds"], [])
        return _true(pc.is_in(file.read(["instance_id"])["instance_id"], pa.array(ids, pa.int64())))

    def _by_raw_record(self, file: TableFile) -> pa.Array:
        """Records whose user column has the id, and unreadable ones that have it as a word."""
        rows = file.read(["reason", "raw_record", "detail"])
        quoted = re.escape(json.dumps(self.user, ensure_ascii=False)[1:-1])
        number = r"(\.0+)?" if self.user.isdigit() else ""
        column = re.escape(json.dumps(self.dataset.columns.user, ensure_ascii=False))
        in_column = rf'{column}\s*:\s*"?\s*{quoted}{number}\s*"?\s*[,}}]'
        text = pc.binary_join_element_wise(rows["raw_record"], rows["detail"], " ")
        is_torn = pc.equal(rows["reason"], "unreadable_record")
        as_word = pc.match_substring_regex(text, rf"(^|\W){re.escape(self.user)}($|\W)")
        return _true(pc.or_(pc.match_substring_regex(rows["raw_record"], in_column), pc.and_(is_torn, as_word)))

    def _by_value(self, file: TableFile) -> pa.Array:
        fields = [f.name for f in self.dataset.fields if f.source == self.dataset.columns.user]
        rows = file.read(["field", "value"])
        return _true(
            pc.and_(pc.is_in(rows["field"], pa.array(fields, pa.string())), pc.equal(rows["value"], self.user))
        )

    def _without_value(self, rows: pa.Table, found: pa.Array) -> pa.Table:
        """The id of the vocabulary stays used; its value is one that no log has twice."""
        name = pc.binary_join_element_wise(FORGOTTEN, pc.cast(rows["id"], pa.string()), " ")
        return _replaced(rows, "value", pc.if_else(found, name, rows["value"]))

    def _by_text(self, file: TableFile) -> pa.Array:
        rows = file.read(["warnings", "failures"])
        found = [pc.match_substring_regex(rows[name], self.pattern) for name in rows.column_names]
        return _true(pc.or_(*found))

    def _without_text(self, rows: pa.Table, found: pa.Array) -> pa.Table:
        for name in ("warnings", "failures"):
            text = pc.replace_substring_regex(rows[name], self.pattern, REPLACEMENT)
            rows = _replaced(rows, name, pc.if_else(found, text, rows[name]))
        return rows


# Tables that are found by the ids of impressions come first: a killed run finds them again from the others.
USER_TABLES = (
    "shared_instance_masks",
    "generated_truth",
    "quarantine",
    "vocabularies",
    "audits",
    "scenario_features",
    "behaviour_sequences",
    "impressions",
)


def find_user(dataset: DatasetSpec, user: str) -> UserRows:
    """The user with the instances of all days and versions."""
    unknown = UserRows(dataset=dataset, user=user)
    ids: dict[str, list[int]] = defaultdict(list)
    for table in ("impressions", "scenario_features"):
        for file in files_of(dataset, table):
            found = unknown.find(table)(file)
            if pc.any(found).as_py():
                ids[file.partition["ds"]] += file.read(["instance_id"])["instance_id"].filter(found).to_pylist()
    return UserRows(dataset=dataset, user=user, instance_ids=dict(ids))


def files_of(dataset: DatasetSpec, table: str) -> list[TableFile]:
    """Data files of all versions; none where the table does not exist."""
    return list(table_files(Path(table_uri(dataset, table)))) if table_exists(dataset, table) else []


def _true(found: pa.Array | pa.ChunkedArray) -> pa.Array:
    whole = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return pc.fill_null(whole, False)


def _replaced(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)
