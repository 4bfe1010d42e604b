"""Impressions and CTR of a user or item within a scenario, from the days before D, as ids that need no fitting.

    impressions   0 where there were none, else min(17, 1 + floor(log2(n)))
    ctr           0 where there were none, else 1 + clip(round(2 logit(p)) + 8, 0, 16)
                  with p = (clicks + 10 c) / (n + 10), c = the scenario's CTR over the same days in [1e-4, 1 - 1e-4]

A user with ten impressions thus gets the mean of the scenario's CTR and its own; a step of the CTR id is half a logit.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.dataset_spec import STATISTIC_IDS, DatasetSpec

PRIOR_IMPRESSIONS = 10
LOWEST_CTR = 1e-4
HIGHEST_ID = STATISTIC_IDS - 1
CTR_CENTRE = 8  # the CTR id of p = 1/2, less one


def entity_column(entity: str) -> str:
    """Column of `impressions` that names a user or an item."""
    return f"{entity}_id"


def statistic_columns(entity: str) -> tuple[str, str]:
    """Columns of `scenario_features`: impressions and ctr of an entity, as DatasetSpec.encoded_fields names them."""
    return f"f_{entity}_scenario_impressions", f"f_{entity}_scenario_ctr"


def scenario_statistics(past: DataFrame, dataset: DatasetSpec) -> dict[str, DataFrame]:
    """Entity -> one row per (scenario_id, user_id or item_id) of the impressions `past`, with the two ids (int32).

    `past` holds scenario_id, user_id, item_id and label of the lookback's days, all before D. Empty where the data set
    has no statistics.
    """
    if dataset.statistics is None:
        return {}
    priors = past.groupBy("scenario_id").agg(F.avg("label").alias("ctr"))
    prior = F.greatest(F.least(F.col("ctr"), F.lit(1 - LOWEST_CTR)), F.lit(LOWEST_CTR))
    priors = priors.select("scenario_id", prior.alias("prior"))
    return {entity: _statistics_of(past, priors, entity) for entity in dataset.statistics.of}


def _statistics_of(past: DataFrame, priors: DataFrame, entity: str) -> DataFrame:
    key = entity_column(entity)
    counts = past.groupBy("scenario_id", key).agg(F.count(F.lit(1)).alias("n"), F.sum("label").alias("clicks"))
    counts = counts.join(F.broadcast(priors), "scenario_id", "inner")  # one row per scenario, and each has one
    impressions, ctr = statistic_columns(entity)
    return counts.select(
        "scenario_id",
        key,
        _impressions_id(F.col("n")).alias(impressions),
        _ctr_id(F.col("n"), F.col("clicks"), F.col("prior")).alias(ctr),
    )


def _impressions_id(n: Column) -> Column:
    """1 + floor(log2(n)) is the number of binary digits of n: exact, unlike a quotient of logarithms."""
    return F.least(F.length(F.bin(n)), F.lit(HIGHEST_ID)).cast("int")


def _ctr_id(n: Column, clicks: Column, prior: Column) -> Column:
    p = (clicks + F.lit(PRIOR_IMPRESSIONS) * prior) / (n + F.lit(PRIOR_IMPRESSIONS))
    half_logits = F.floor(F.lit(2.0) * F.log(p / (F.lit(1.0) - p)) + F.lit(0.5))
    step = F.greatest(F.least(half_logits + F.lit(CTR_CENTRE), F.lit(HIGHEST_ID - 1)), F.lit(0))
    return (F.lit(1) + step).cast("int")
