"""Run a function for each day that can have features, in one Spark session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import date

from pyspark.sql import SparkSession

from lake.spark_session import get_session
from schemas.dataset_spec import DatasetSpec

log = logging.getLogger(__name__)

DayWork = Callable[[SparkSession, DatasetSpec, date], None]


def for_each_feature_day(app_name: str, dataset: DatasetSpec, days: Sequence[date], work: DayWork) -> None:
    """Call `work` for one day after another; days before the first vocabulary have no features and are skipped."""
    spark = get_session(f"{app_name} {dataset.name}")
    for ds in days:
        if ds < dataset.first_feature_day:
            log.info(f"{dataset.name} {ds}: no features before {dataset.first_feature_day}, nothing to do")
        else:
            work(spark, dataset, ds)
