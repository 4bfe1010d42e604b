"""Run a function for each day that can have features, in one Spark session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import date

from pyspark.sql import SparkSession

from lake.provenance import stale_days
from lake.spark_session import get_session
from schemas.dataset_spec import DatasetSpec

log = logging.getLogger(__name__)

DayWork = Callable[[SparkSession, DatasetSpec, date], None]


def for_each_feature_day(
    app_name: str, dataset: DatasetSpec, days: Sequence[date], work: DayWork, table: str | None = None
) -> None:
    """Call `work` for one day after another; days before the first vocabulary have no features and are skipped.

    With days.late_days and a `table`, also for the published days before them whose impressions have changed since.
    """
    spark = get_session(f"{app_name} {dataset.name}")
    for ds in days:
        if ds < dataset.first_feature_day:
            log.info(f"{dataset.name} {ds}: no features before {dataset.first_feature_day}, nothing to do")
        else:
            work(spark, dataset, ds)
    earlier = {day for ds in days for day in dataset.days_before(ds, dataset.days.late_days)} - set(days)
    for stale in stale_days(dataset, table, sorted(earlier)) if table and earlier else []:
        log.info(f"{dataset.name} {stale.ds}: its impressions have changed since, building it again (days.late_days)")
        work(spark, dataset, stale.ds)
