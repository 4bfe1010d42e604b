"""The `fields` block of a data set's YAML: what the model sees of a log's columns."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from schemas.spec import Spec

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Role = Literal["user", "item", "statistic", "feature"]


class BinningSpec(Spec):
    """Bins of a numeric field: fixed edges, or quantiles fitted with the first vocabulary of a lineage."""

    edges: tuple[float, ...] | None = Field(default=None, min_length=1)
    quantiles: int | None = Field(default=None, ge=2, le=1000)

    @model_validator(mode="after")
    def _one_of(self) -> BinningSpec:
        if (self.edges is None) == (self.quantiles is None):
            raise ValueError("give either edges or quantiles")
        if self.edges is not None and list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges {list(self.edges)} must ascend")
        return self


class FieldSpec(Spec):
    """One field of the model's input."""

    name: Name
    source: str = Field(description="column of the log")
    kind: Literal["categorical", "numeric", "multi_valued"] = "categorical"
    min_count: int = Field(default=1, ge=1, description="rarer values are out of vocabulary")
    binning: BinningSpec | None = None
    separator: str = Field(default=" ", description="multi_valued: splits a text column")
    max_values: int = Field(default=1, ge=1, le=64, description="multi_valued: values kept per row")
    since: date | None = Field(default=None, description="first day with the field; unknown on the days before")
    max_ids: int | None = Field(
        default=None,
        ge=1,
        description="values that may have an id at a time; of new values the most frequent ones get the free places",
    )
    evict_after_days: int | None = Field(
        default=None,
        ge=1,
        description="a value without an impression on so many days before a version has no id from that version on",
    )
    hash_buckets: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 2,
        description="no vocabulary: a value's id is 1 + hash(value) mod so many",
    )

    @model_validator(mode="after")
    def _fits_kind(self) -> FieldSpec:
        if (self.kind == "numeric") != (self.binning is not None):
            raise ValueError("kind numeric needs binning (edges or quantiles), and only numeric may have it")
        if (self.kind == "multi_valued") != (self.max_values > 1):
            raise ValueError("kind multi_valued needs max_values above 1, and only multi_valued may have it")
        return self

    @model_validator(mode="after")
    def _bounds_go_together(self) -> FieldSpec:
        bounds = [name for name in ("max_ids", "evict_after_days", "hash_buckets") if getattr(self, name) is not None]
        if self.kind == "numeric" and bounds:
            raise ValueError(f"{bounds[0]} has no effect on kind numeric, whose ids are bins; leave it out")
        if self.hash_buckets is not None:
            others = [*(name for name in bounds if name != "hash_buckets"), *["min_count"] * (self.min_count > 1)]
            if others:
                raise ValueError(f"{others[0]} has no effect with hash_buckets, which keeps no values; drop either")
        return self

    @property
    def is_hashed(self) -> bool:
        """Whether ids are hashes, so that the vocabulary has no rows of the field."""
        return self.hash_buckets is not None

    @property
    def is_bounded(self) -> bool:
        """Whether the number of ids in use has a bound, or ids go out of use."""
        return any(bound is not None for bound in (self.max_ids, self.evict_after_days, self.hash_buckets))

    @property
    def raw_column(self) -> str:
        """Column of `impressions`."""
        return f"x_{self.name}"


class EncodedField(Spec):
    """A field as the model sees it: a column of `scenario_features`.

    role: `user` or `item` for a categorical field whose source is `columns.user` or `columns.item`, whatever its name;
    `statistic` for a statistic of a user or an item in a scenario.
    """

    name: str
    max_values: int = 1
    role: Role = "feature"
    since: date | None = None

    @property
    def is_statistic(self) -> bool:
        return self.role == "statistic"

    @property
    def column(self) -> str:
        return f"f_{self.name}"
