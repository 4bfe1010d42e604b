"""What a partition was made of: exactly those keys of a data set's YAML, and those inputs, that decide its content.

Each table adds its own keys to those of the tables that it is made from, so that a changed label definition also shows
in features. A field with `since` counts from that day on. Keys at their default are left out: a key that a later
version adds does not change what older days were made of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from schemas.blocks import DatasetBlocks
from schemas.field_spec import FieldSpec
from schemas.spec import Spec
from schemas.text import short_digest

Settings = dict[str, Any]

# Raise a table's number where the code would make other rows of the same log and YAML.
FORMATS = {"impressions": 1, "vocabularies": 1, "behaviour_sequences": 1, "scenario_features": 1}
SCENARIOS = "scenario.values"

# Keys of a field by the table they first matter for; the others decide its vocabulary
_IDENTITY = {"name", "since"}
_RAW = {"source", "kind", "separator"}
_ENCODING = {"max_values"}
# What models make of a field's ids, which no table holds
_OF_MODELS = {"embedding_dim"}
# Where files lie and which days exist does not change a day's rows
_NOT_CONTENT_OF_SOURCE = {"path"}
_NOT_CONTENT_OF_DAYS = {"start", "end", "allow_empty"}


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeOf:
    """settings: dotted key of the YAML -> JSON value. inputs: `<table> <day>` -> digest of the rows read from it."""

    table: str
    settings: Settings
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """16 hex digits over all of it."""
        return short_digest(json.dumps([self.table, self.settings, dict(self.inputs)], sort_keys=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One setting that is not what it was; None: not set. table: the first of the chain whose rows it decides."""

    key: str
    old: Any
    new: Any
    table: str

    def __str__(self) -> str:
        return f"{self.key} was {_shown(self.old)}, the YAML says {_shown(self.new)}"


def settings_of(dataset: DatasetBlocks, table: str, ds: date) -> Settings:
    """The keys that decide the rows of `table` on day `ds`, for one of the tables in FORMATS.

    For `vocabularies`, `ds` is a day that the version was fitted on.
    """
    settings: Settings = {}
    for name, own in _OWN.items():
        settings[f"format.{name}"] = FORMATS[name]
        settings |= own(dataset, ds)
        if name == table:
            return settings
    raise KeyError(table)


def changes(dataset: DatasetBlocks, recorded: MadeOf, ds: date) -> list[Change]:
    """The settings in which `recorded` differs from the YAML of today; none where scenarios were only appended."""
    now = settings_of(dataset, recorded.table, ds)
    keys = sorted(key for key in recorded.settings | now if recorded.settings.get(key) != now.get(key))
    found = [
        Change(key=key, old=recorded.settings.get(key), new=now.get(key), table=_first_table(dataset, key, ds))
        for key in keys
    ]
    return [change for change in found if not _only_appends(change)]


def appends(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    """Whether scenario names `new` keep the ids of `old`: they begin with them."""
    return new[: len(old)] == old


def lineage_of(dataset: DatasetBlocks) -> str:
    """Eight hex digits over everything that decides ids, fields with `since` and appended scenarios aside."""
    settings = settings_of(dataset, "vocabularies", date.min)
    settings.pop(SCENARIOS, None)
    return short_digest(json.dumps([dataset.name, settings], sort_keys=True), 8)


def _impressions(dataset: DatasetBlocks, ds: date) -> Settings:
    settings = _flat("source", _dump(dataset.source, _NOT_CONTENT_OF_SOURCE))
    settings |= _flat("columns", _dump(dataset.columns))
    settings |= _flat("scenario", _dump(dataset.scenario))
    settings |= _flat("days", _dump(dataset.days, _NOT_CONTENT_OF_DAYS))
    if not dataset.source.is_daily:  # rows with an unreadable time belong to the first day
        settings["days.start"] = str(dataset.days.start)
    return settings | _of_fields(dataset, ds, lambda key: key in _RAW)


def _vocabularies(dataset: DatasetBlocks, ds: date) -> Settings:
    own = _of_fields(dataset, ds, lambda key: key not in _RAW | _ENCODING)
    schedule = _flat("vocabulary", _dump(dataset.vocabulary))
    return own | schedule | {"days.start": str(dataset.days.start)}


def _sequences(dataset: DatasetBlocks, ds: date) -> Settings:
    return _flat("sequence", _dump(dataset.sequence))


def _features(dataset: DatasetBlocks, ds: date) -> Settings:
    own = _of_fields(dataset, ds, lambda key: key in _ENCODING)
    if dataset.statistics is None:
        return own | {"statistics": "none"}
    return own | _flat("statistics", _dump(dataset.statistics))


# In the order in which one table is made from those before it
_OWN: dict[str, Callable[[DatasetBlocks, date], Settings]] = {
    "impressions": _impressions,
    "vocabularies": _vocabularies,
    "behaviour_sequences": _sequences,
    "scenario_features": _features,
}


def _of_fields(dataset: DatasetBlocks, ds: date, is_wanted: Callable[[str], bool]) -> Settings:
    settings: Settings = {}
    for one in dataset.fields:
        if _counts_on(one, ds):
            keys = {key: value for key, value in _dump(one, _IDENTITY | _OF_MODELS).items() if is_wanted(key)}
            # A block that is there with all its defaults is not a block that is not there
            settings |= _flat(f"fields.{one.name}", {k: "defaults" if v == {} else v for k, v in keys.items()})
    return settings


def _counts_on(one: FieldSpec, ds: date) -> bool:
    return one.since is None or one.since <= ds


def _dump(block: Spec, without: Collection[str] = ()) -> dict[str, Any]:
    """The keys of a block that are not at their default."""
    return block.model_dump(mode="json", exclude=set(without), exclude_defaults=True)


def _flat(prefix: str, settings: Mapping[str, Any]) -> Settings:
    """Nested mappings as dotted keys."""
    flat: Settings = {}
    for key, value in settings.items():
        name = f"{prefix}.{key}"
        flat |= _flat(name, value) if isinstance(value, Mapping) else {name: value}
    return flat


def _first_table(dataset: DatasetBlocks, key: str, ds: date) -> str:
    if key.startswith("format."):
        return key.removeprefix("format.")
    if key.startswith("fields."):
        last = key.rpartition(".")[2] if key.count(".") == 2 else key.split(".")[2]
        return "impressions" if last in _RAW else "scenario_features" if last in _ENCODING else "vocabularies"
    for prefix, table in (("vocabulary.", "vocabularies"), ("sequence.", "behaviour_sequences")):
        if key.startswith(prefix):
            return table
    if key.startswith("statistics"):
        return "scenario_features"
    return "vocabularies" if key == "days.start" and dataset.source.is_daily else "impressions"


def _only_appends(change: Change) -> bool:
    return (
        change.key == SCENARIOS
        and bool(change.old)
        and bool(change.new)
        and appends(tuple(change.old), tuple(change.new))
    )


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
