"""The blocks of a data set's YAML, one Spec each, and the whole of them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from schemas.audit_spec import AuditSpec
from schemas.field_spec import FieldSpec, Name
from schemas.pipeline_spec import SearchSpec, TrainingSpec
from schemas.retain_spec import RetainSpec
from schemas.source_spec import SourceSpec
from schemas.spec import LogText, Spec


class EventTimeSpec(Spec):
    """The event time's column, its format, and its time zone where the text has none."""

    column: str
    format: str = Field(default="iso", description="iso, epoch_s, epoch_ms, epoch_us, epoch_ns, or a Spark pattern")
    time_zone: str = "UTC"


class LabelSpec(Spec):
    """The label: 0/1 in a column, or `column >= threshold`."""

    column: str
    threshold: float | None = None


def label_column(name: str) -> str:
    """Column of a further label in `impressions`, `scenario_features` and predictions."""
    return f"label_{name}"


class ColumnsSpec(Spec):
    """The log's columns that make up the canonical impression."""

    event_time: EventTimeSpec
    user: str
    item: str
    label: LabelSpec
    further_labels: dict[Name, LabelSpec] = Field(
        default={},
        description="labels beside the main one, by name, such as purchase: a model predicts each of them too",
    )
    value: str | None = None
    session: str | None = Field(default=None, description="request or session id; default: a user's day is a session")
    natural_key: tuple[str, ...] = Field(
        default=(), description="columns that identify a row; default: user, item, time"
    )

    @field_validator("further_labels")
    @classmethod
    def _can_name_columns(cls, labels: dict[str, LabelSpec]) -> dict[str, LabelSpec]:
        # Columns of predictions: prob_raw_<name> is the probability of <name> before calibration
        if taken := [name for name in labels if f"{name}_".startswith("raw_")]:
            raise ValueError(f"{taken[0]!r} would name a column of predictions that exists; take another name")
        return labels

    @property
    def label_columns(self) -> dict[str, str]:
        """Further label -> its column in the tables, in the YAML's order."""
        return {name: label_column(name) for name in self.further_labels}


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
    attributes: tuple[Name, ...] = Field(
        default=(), description="categorical fields that a behaviour has beside its item"
    )
    max_length: int = Field(default=20, ge=0, le=1000, description="newest ones seen; 0: no behaviours are kept")
    lookback_days: int = Field(default=7, ge=1, description="behaviours on days >= D - lookback_days")

    @property
    def stored_fields(self) -> tuple[str, ...]:
        """The item field, then the attributes, each once."""
        return tuple(dict.fromkeys((self.item_field, *self.attributes)))


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


class DatasetBlocks(Spec):
    """All blocks of one data set, checked against each other."""

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
    audit: AuditSpec = AuditSpec()
    search: SearchSpec = SearchSpec()
    training: TrainingSpec = TrainingSpec()
    retain: RetainSpec = RetainSpec()

    @model_validator(mode="after")
    def _features_stay_while_needed(self) -> DatasetBlocks:
        needed = max(self.training.window_days, self.search.window_days + self.search.every_days) + 1
        if self.retain.features_days is not None and self.retain.features_days < needed:
            raise ValueError(
                f"retain.features_days {self.retain.features_days} is below {needed}, the days that the next training "
                "and search read; raise it, or shorten their window_days"
            )
        return self

    @model_validator(mode="after")
    def _labels_are_known(self) -> DatasetBlocks:
        known, labels = list(self.columns.further_labels), self.training.labels
        if unknown := [name for name in labels.weights if name not in known]:
            raise ValueError(
                f"training.labels.weights names {unknown[0]!r}; columns.further_labels has {known}: name one of them"
            )
        if labels.esmm and not known:
            raise ValueError("training.labels.esmm needs a label beside the main one: add columns.further_labels")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> DatasetBlocks:
        names = [f.name for f in self.fields]
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"field names repeat: {repeated}")
        if self.days.late_days and not (self.source.adapter == "files" and self.source.is_daily):
            raise ValueError("days.late_days needs a file per day: adapter 'files' with {ds} in source.path")
        for f in self.fields:
            if f.evict_after_days is not None and f.evict_after_days < self.vocabulary.fit_days:
                raise ValueError(
                    f"evict_after_days {f.evict_after_days} of field {f.name!r} is below vocabulary.fit_days "
                    f"{self.vocabulary.fit_days}: a value would be evicted and added at once; raise it"
                )
        kinds = {f.name: f.kind for f in self.fields}
        for name in (self.sequence.item_field, *self.sequence.attributes):
            if kinds.get(name) != "categorical":
                known = sorted(n for n, k in kinds.items() if k == "categorical")
                raise ValueError(f"sequence names field {name!r}, which is not a categorical field; use one of {known}")
        start = self.training.new_scenario_start
        if start is not None and start not in self.scenario.names:
            raise ValueError(
                f"training.new_scenario_start {start!r} is no scenario; use one of {list(self.scenario.names)}"
            )
        late = {f.name: f.since for f in self.fields if f.since is not None}
        for name in (self.sequence.item_field, *self.sequence.attributes):
            if name in late:
                raise ValueError(
                    f"sequence names field {name!r}, which begins on {late[name]} (since): behaviours need a field of "
                    "all days; take another one or remove since"
                )
        return self
