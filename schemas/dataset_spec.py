"""DatasetSpec: where a log comes from and how its columns become impressions, fields and scenarios. One YAML each.

`load_dataset` reads one; every mistake in it is one DatasetSpecError that names file, key, value and remedy. The blocks
of the YAML are in schemas/blocks.py.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cached_property

from schemas.blocks import DatasetBlocks
from schemas.field_spec import EncodedField, FieldSpec, Role
from schemas.provenance import lineage_of

# Ids of statistic fields are bins of fixed edges, so that they need no fitting: see jobs/transforms/statistics.py.
STATISTIC_IDS = 18
STATISTICS = ("impressions", "ctr")


class DatasetSpec(DatasetBlocks):
    """One data set; `load_dataset` reads it from YAML."""

    @property
    def num_scenarios(self) -> int:
        return len(self.scenario.names)

    @cached_property
    def encoded_fields(self) -> tuple[EncodedField, ...]:
        """The model's fields in order: the data set's, then the statistics'."""
        own = tuple(
            EncodedField(
                name=f.name,
                max_values=f.max_values,
                role=self._role(f),
                since=f.since,
                embedding_dim=f.embedding_dim,
            )
            for f in self.fields
        )
        if self.statistics is None:
            return own
        return own + tuple(
            EncodedField(name=f"{entity}_scenario_{stat}", role="statistic")
            for entity in self.statistics.of
            for stat in STATISTICS
        )

    def _role(self, field: FieldSpec) -> Role:
        if field.kind == "categorical":
            if field.source == self.columns.user:
                return "user"
            if field.source == self.columns.item:
                return "item"
        return "feature"

    @property
    def dense_fields(self) -> tuple[FieldSpec, ...]:
        """The fields whose normalised value is an input beside their bin."""
        return tuple(f for f in self.fields if f.dense is not None)

    def encoded_fields_on(self, ds: date) -> tuple[EncodedField, ...]:
        """The encoded fields that rows of day `ds` have a value of; the others came later and are unknown there."""
        return tuple(f for f in self.encoded_fields if f.since is None or f.since <= ds)

    def on(self, ds: date) -> DatasetSpec:
        """The data set as the log of day `ds` has it: without the fields that came later."""
        fields = [f for f in self.fields if f.since is None or f.since <= ds]
        if len(fields) == len(self.fields):
            return self
        given = {name: getattr(self, name) for name in DatasetSpec.model_fields}
        return DatasetSpec.model_validate(given | {"fields": fields})

    @cached_property
    def lineage(self) -> str:
        """Eight hex digits over everything that decides ids: only vocabularies of one lineage can be mixed.

        Fields with `since` and appended scenarios add ids and change none, so that the lineage stays.
        """
        return lineage_of(self)

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
