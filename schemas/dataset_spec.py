"""DatasetSpec: where a log comes from and how its columns become impressions, fields and scenarios. One YAML each.

`load_dataset` reads one; every mistake in it is one DatasetSpecError that names file, key, value and remedy.
"""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, model_validator

from schemas.field_spec import EncodedField, FieldSpec, Name
from schemas.pipeline_spec import SearchSpec, TrainingSpec
from schemas.source_spec import SourceSpec
from schemas.spec import LogText, Spec
from schemas.text import short_digest

# Ids of statistic fields are bins of fixed edges, so that they need no fitting: see jobs/transforms/statistics.py.
STATISTIC_IDS = 18
STATISTICS = ("impressions", "ctr")


class EventTimeSpec(Spec):
    """The event time's column, its format, and its time zone where the text has none."""

    column: str
    format: str = Field(default="iso", description="iso, epoch_s, epoch_ms, epoch_us, epoch_ns, or a Spark pattern")
    time_zone: str = "UTC"


class LabelSpec(Spec):
    """The label: 0/1 in a column, or `column >= threshold`."""

    column: str
    threshold: float | None = None


class ColumnsSpec(Spec):
    """The log's columns that make up the canonical impression."""

    event_time: EventTimeSpec
    user: str
    item: str
    label: LabelSpec
    value: str | None = None
    natural_key: tuple[str, ...] = Field(
        default=(), description="columns that identify a row; default: user, item, time"
    )


class BucketsSpec(Spec):
    """Scenarios as ranges of a numeric column: names[i] holds edges[i-1] <= x < edges[i]."""

    edges: tuple[float, ...] = Field(min_length=1)
    names: tuple[LogText, ...]

    @model_validator(mode="after")
    def _fits(self) -> BucketsSpec:
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges {list(self.edges)} must ascend")
        if len(self.names) != len(self.edges) + 1:
            buckets = len(self.edges) + 1
            raise ValueError(f"{len(self.edges)} edges make {buckets} buckets, but {len(self.names)} names are given")
        return self


class ScenarioSpec(Spec):
    """Scenarios: the values of a column, or buckets of one. Ids follow the order given."""

    column: str
    values: tuple[LogText, ...] | None = Field(default=None, min_length=1)
    buckets: BucketsSpec | None = None

    @model_validator(mode="after")
    def _one_of(self) -> ScenarioSpec:
        if (self.values is None) == (self.buckets is None):
            raise ValueError("give either values (a list of names) or buckets (edges and names)")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"scenario names repeat: {list(self.names)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return self.buckets.names if self.buckets else (self.values or ())


class SequenceSpec(Spec):
    """Which events are behaviours, and how many and how old ones an impression sees."""

    behaviour: Literal["positive", "all"] = Field(default="positive", description="events with label 1, or every event")
    item_field: Name = Field(default="item", description="field whose vocabulary encodes the behaviour's item")
    attributes: tuple[Name, ...] = Field(default=(), description="further categorical fields kept of each behaviour")
    max_length: int = Field(default=20, ge=0, le=1000, description="newest ones seen; 0: no behaviours are kept")
    lookback_days: int = Field(default=7, ge=1, description="behaviours on days >= D - lookback_days")


class StatisticsSpec(Spec):
    """Impressions and CTR per scenario of user and item, over the lookback, from days before D only."""

    of: tuple[Literal["user", "item"], ...] = ("user", "item")
    lookback_days: int = Field(default=7, ge=1)


class VocabularySpec(Spec):
    """When vocabularies are fitted: version j on the `fit_days` before it, a new one every `refresh_days`."""

    fit_days: int = Field(default=3, ge=1)
    refresh_days: int = Field(default=1, ge=1)


class DaysSpec(Spec):
    """The days of the data set. `start` anchors the vocabularies' schedule; `end` is for logs that end."""

    start: date
    end: date | None = None
    time_zone: str = Field(default="UTC", description="zone whose calendar days the files and partitions are")
    late_days: int = Field(default=0, ge=0, le=60, description="rows of a day may come in files of so many days after")
    allow_empty: bool = Field(default=False, description="a day without rows is published empty instead of refused")

    @model_validator(mode="after")
    def _ordered(self) -> DaysSpec:
        if self.end is not None and self.end < self.start:
            raise ValueError(f"end {self.end} lies before start {self.start}")
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"time_zone {self.time_zone!r} is not a time zone; write UTC or a name such as Europe/Berlin"
            ) from error
        return self

    def midnight(self, ds: date) -> datetime:
        """When day `ds` begins, in `time_zone`; it ends when the next one begins, 23 to 25 hours later."""
        return datetime(ds.year, ds.month, ds.day, tzinfo=ZoneInfo(self.time_zone))


class DatasetSpec(Spec):
    """One data set; `load_dataset` reads it from YAML."""

    name: Name
    description: str = ""
    source: SourceSpec
    columns: ColumnsSpec
    scenario: ScenarioSpec
    fields: tuple[FieldSpec, ...] = Field(min_length=1)
    sequence: SequenceSpec = SequenceSpec()
    statistics: StatisticsSpec | None = StatisticsSpec()
    vocabulary: VocabularySpec = VocabularySpec()
    days: DaysSpec
    search: SearchSpec = SearchSpec()
    training: TrainingSpec = TrainingSpec()

    @model_validator(mode="after")
    def _consistent(self) -> DatasetSpec:
        names = [f.name for f in self.fields]
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"field names repeat: {repeated}")
        if self.days.late_days and not (self.source.adapter == "files" and self.source.is_daily):
            raise ValueError("days.late_days needs a file per day: adapter 'files' with {ds} in source.path")
        kinds = {f.name: f.kind for f in self.fields}
        for name in (self.sequence.item_field, *self.sequence.attributes):
            if kinds.get(name) != "categorical":
                known = sorted(n for n, k in kinds.items() if k == "categorical")
                raise ValueError(f"sequence names field {name!r}, which is not a categorical field; use one of {known}")
        return self

    @property
    def num_scenarios(self) -> int:
        return len(self.scenario.names)

    @cached_property
    def encoded_fields(self) -> tuple[EncodedField, ...]:
        """The model's fields in order: the data set's, then the statistics'."""
        own = tuple(EncodedField(name=f.name, max_values=f.max_values) for f in self.fields)
        if self.statistics is None:
            return own
        return own + tuple(
            EncodedField(name=f"{entity}_scenario_{stat}", is_statistic=True)
            for entity in self.statistics.of
            for stat in STATISTICS
        )

    @cached_property
    def lineage(self) -> str:
        """Eight hex digits over everything that determines ids: only vocabularies of one lineage can be mixed."""
        fields = [f.model_dump(mode="json") for f in self.fields]
        scenario = self.scenario.model_dump(mode="json")
        parts = [self.name, fields, scenario, self.vocabulary.model_dump(), str(self.days.start)]
        return short_digest(json.dumps(parts, sort_keys=True), 8)

    @property
    def first_feature_day(self) -> date:
        """The first day that has a vocabulary, and so features."""
        return self.days.start + timedelta(days=self.vocabulary.fit_days)

    def vocabulary_day(self, ds: date) -> date | None:
        """First day of validity of the version that day `ds` uses; None before the first version."""
        if ds < self.first_feature_day:
            return None
        age = (ds - self.first_feature_day).days % self.vocabulary.refresh_days
        return ds - timedelta(days=age)

    def vocabulary_version(self, ds: date) -> str | None:
        """Name of the version that day `ds` uses, a function of the day alone; None before the first version."""
        day = self.vocabulary_day(ds)
        return None if day is None else f"{day:%Y%m%d}-{self.lineage}"

    def days_before(self, ds: date, days: int) -> list[date]:
        """The up to `days` days before `ds`, not before `days.start`, ascending."""
        return [d for n in range(days, 0, -1) if (d := ds - timedelta(days=n)) >= self.days.start]

    def window_before(self, ds: date, days: int) -> list[date] | None:
        """The `days` days before `ds`, ascending; None where not all of them can have features.

        A function of the day alone, so that a backfill in any order trains and searches on the same days.
        """
        window = [ds - timedelta(days=n) for n in range(days, 0, -1)]
        return window if window[0] >= self.first_feature_day else None

    def search_day(self, ds: date) -> date | None:
        """The scheduled search that training of `ds` relies on: it covers the days before the one returned.

        Every `search.every_days` from the first day with full windows on; None before it. A function of the day alone:
        whatever order days are trained in, they find the same sets.
        """
        first = self.first_feature_day + timedelta(days=max(self.search.window_days, self.training.window_days))
        return ds - timedelta(days=(ds - first).days % self.search.every_days) if ds >= first else None
