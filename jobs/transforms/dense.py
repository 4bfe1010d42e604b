"""Dense inputs: mean and deviation of numeric fields, fitted with the bins, and the normalised values of rows."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.field_spec import FieldSpec

MEAN, DEVIATION = 1, 2
NO_MOMENTS = (0.0, 1.0)
# Sums depend on the order of rows in their last digits; a rerun must store the same text
DIGITS = 6


def dense_moments(impressions: DataFrame, fields: Sequence[FieldSpec]) -> DataFrame | None:
    """(field, value = number as text, id) of each dense field with normalise `standard`; None where there is none.

    A field without a finite value has mean 0; one without spread has deviation 1.
    """
    fields = standardised(fields)
    if not fields:
        return None
    finite = {f.name: _finite(transformed(F.col(f.raw_column), f)) for f in fields}
    found = impressions.agg(
        *[F.avg(x).alias(f"{name}_mean") for name, x in finite.items()],
        *[F.stddev_pop(x).alias(f"{name}_deviation") for name, x in finite.items()],
    )
    pairs = []
    for f in fields:
        mean, deviation = _rounded(f"{f.name}_mean", 0.0), _rounded(f"{f.name}_deviation", 1.0)
        for number, i in ((mean, MEAN), (F.when(deviation == 0, F.lit(1.0)).otherwise(deviation), DEVIATION)):
            value = number.cast("string")
            pairs.append(F.struct(F.lit(f.moments_field).alias("field"), value.alias("value"), F.lit(i).alias("id")))
    rows = found.select(F.explode(F.array(*pairs)).alias("moment"))
    return rows.select("moment.field", "moment.value", "moment.id")


def standardised(fields: Sequence[FieldSpec]) -> list[FieldSpec]:
    """Those of the dense fields that have moments."""
    return [f for f in fields if f.dense is not None and f.dense.normalise == "standard"]


def dense_value(field: FieldSpec, moments: tuple[float, ...]) -> Column:
    """(t(x) - mean) / deviation within ±clip, float32; 0 for null and NaN. moments: (mean, deviation)."""
    assert field.dense is not None
    mean, deviation = moments
    raw, clip = F.col(field.raw_column), field.dense.clip
    scaled = (transformed(raw, field) - F.lit(mean)) / F.lit(deviation)
    within = F.greatest(F.lit(-clip), F.least(F.lit(clip), scaled))
    return F.when(raw.isNull() | F.isnan(raw), F.lit(0.0)).otherwise(within).cast("float")


def transformed(raw: Column, field: FieldSpec) -> Column:
    """t(x) of a dense field."""
    assert field.dense is not None
    return raw if field.dense.transform == "none" else F.signum(raw) * F.log1p(F.abs(raw))


def _finite(x: Column) -> Column:
    """x where it is a finite number (NaN is above every number), else null."""
    return F.when(F.abs(x) < F.lit(float("inf")), x)


def _rounded(column: str, default: float) -> Column:
    """The number with DIGITS significant digits; `default` where it is not finite."""
    number = _finite(F.col(column))  # sums of large values may overflow
    text = F.format_string(f"%.{DIGITS - 1}e", number)
    return F.coalesce(F.when(number.isNotNull(), text.cast("double")), F.lit(default))
