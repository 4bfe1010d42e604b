"""The `audit` block of a data set's YAML: what stops a day before it is published, and what is worth a warning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from schemas.spec import Spec

Share = Annotated[float, Field(ge=0, le=1)]
_PIPELINES_OWN = ("meta", "severity", "result_format", "catch_exceptions")


class ExpectationSpec(Spec):
    """A Great Expectations expectation on a day's accepted impressions: its class and arguments.

    `fail` stops the day before it is published; `warn` is recorded in `audits`.
    """

    type: str = Field(pattern=r"^Expect[A-Za-z]+$", description="class in great_expectations.expectations")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="its arguments; columns are those of impressions")
    severity: Literal["fail", "warn"] = "fail"

    @field_validator("kwargs")
    @classmethod
    def _leaves_the_rest_to_us(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(set(kwargs) & set(_PIPELINES_OWN)):
            raise ValueError(f"{', '.join(taken)} cannot be set here; give severity beside kwargs and leave out others")
        return kwargs


class AuditSpec(Spec):
    """Guards of a day. Nothing here changes the rows of a published day."""

    max_refused_share: Share = Field(
        default=0.05, description="a day with a larger share of refused rows (duplicates included) is not published"
    )
    expectations: tuple[ExpectationSpec, ...] = ()
    compare_days: int = Field(
        default=7, ge=0, le=365, description="days before D whose published figures D is compared with; 0: none"
    )
    min_rows_ratio: float = Field(
        default=0.5, ge=0, le=1, description="warn where rows are fewer than this times the median of those days"
    )
    max_rows_ratio: float = Field(default=2.0, ge=1, description="warn where rows are more than this times the median")
    max_null_share_change: Share = Field(default=0.1, description="of a field, against the median: warn above")
    max_distinct_ratio: float = Field(
        default=2.0, gt=1, description="warn where a field's distinct values grow or shrink by more than this factor"
    )
    max_label_mean_change: float = Field(
        default=0.3, gt=0, description="relative change of the label's mean against the median: warn above"
    )
