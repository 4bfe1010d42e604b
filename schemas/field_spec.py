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


class DenseSpec(Spec):
    """A numeric field's value beside its bin: (t(x) - mean) / standard deviation, within ±clip; 0 without a value.

    Mean and deviation of t(x) are those of the days that the bins are fitted on, in one vocabulary version for good.
    """

    transform: Literal["none", "log1p"] = Field(default="none", description="t(x): x, or sign(x) log(1 + |x|)")
    normalise: Literal["standard", "none"] = Field(
        default="standard", description="none: t(x) as it is, for numbers that are scaled already"
    )
    clip: float = Field(default=5.0, gt=0, description="bound of the normalised value")


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
    embedding_dim: int | None = Field(
        default=None,
        ge=1,
        description="width of the field's own embedding rows, projected to the model's embedding_dim where that is "
        "larger; null: the model's",
    )

    dense: DenseSpec | None = Field(
        default=None, description="numeric: the normalised value is an input too, beside the bin"
    )

    @model_validator(mode="after")
    def _fits_kind(self) -> FieldSpec:
        if (self.kind == "numeric") != (self.binning is not None):
            raise ValueError("kind numeric needs binning (edges or quantiles), and only numeric may have it")
        if (self.kind == "multi_valued") != (self.max_values > 1):
            raise ValueError("kind multi_valued needs max_values above 1, and only multi_valued may have it")
        if self.dense is not None and self.kind != "numeric":
            raise ValueError(f"dense has no effect on kind {self.kind}, which has no number; leave it out")
        if self.dense is not None and self.since is not None:
            raise ValueError(f"dense needs a field of all days, and this one begins on {self.since}; drop either")
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

    @property
    def dense_column(self) -> str:
        """Column of `scenario_features` with the normalised value, where the field is dense."""
        return f"d_{self.name}"

    @property
    def moments_field(self) -> str:
        """Name under which `vocabularies` keeps mean (id 1) and deviation (id 2) of a dense field."""
        return f"{self.name}:moments"


class EncodedField(Spec):
    """A field as the model sees it: a column of `scenario_features`.

    role: `user` or `item` for a categorical field whose source is `columns.user` or `columns.item`, whatever its name;
    `statistic` for a statistic of a user or an item in a scenario.
    """

    name: str
    max_values: int = 1
    role: Role = "feature"
    since: date | None = None
    embedding_dim: int | None = None

    @property
    def is_statistic(self) -> bool:
        return self.role == "statistic"

    @property
    def column(self) -> str:
        return f"f_{self.name}"
