"""The `fields` block of a data set's YAML: what the model sees of a log's columns."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from schemas.spec import Spec

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


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

    @model_validator(mode="after")
    def _fits_kind(self) -> FieldSpec:
        if (self.kind == "numeric") != (self.binning is not None):
            raise ValueError("kind numeric needs binning (edges or quantiles), and only numeric may have it")
        if (self.kind == "multi_valued") != (self.max_values > 1):
            raise ValueError("kind multi_valued needs max_values above 1, and only multi_valued may have it")
        return self

    @property
    def raw_column(self) -> str:
        """Column of `impressions`."""
        return f"x_{self.name}"


class EncodedField(Spec):
    """A field as the model sees it: a column of `scenario_features`."""

    name: str
    max_values: int = 1
    is_statistic: bool = False
    since: date | None = None

    @property
    def column(self) -> str:
        return f"f_{self.name}"
