"""Adapters read one day of a raw log. A new raw format = one module here and its line in `ADAPTERS`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters import ali_ccp, ali_express, alimama, files, generated, kuairand, movielens
from jobs.adapters.raw_log import check_columns, source_error
from jobs.transforms.event_time import event_time
from lake.spark_session import SPARK_ERRORS
from schemas.dataset_spec import DatasetSpec

# Each returns the log's columns and the adapter's (jobs/transforms/canonical.py): the day's rows of a daily source, all
# rows of others.
ADAPTERS: dict[str, Callable[[SparkSession, DatasetSpec, date], DataFrame]] = {
    "files": files.read,
    "movielens": movielens.read,
    "generated": generated.read,
    "ali_ccp": ali_ccp.read,
    "alimama": alimama.read,
    "ali_express": ali_express.read,
    "kuairand": kuairand.read,
}


def read_raw(spark: SparkSession, dataset: DatasetSpec, ds: date) -> DataFrame:
    """One day's rows of the raw log, kept by the engine, with at least the columns that the YAML names.

    Of a source without a file per day: the rows whose event time lies in `ds`; rows with an unreadable time belong to
    the data set's first day. Raises SourceError where the log is missing, unreadable or lacks a column.
    """
    try:
        raw = ADAPTERS[dataset.source.adapter](spark, dataset, ds)
        check_columns(raw, dataset)
        time = event_time(raw, dataset.columns.event_time)
        if not dataset.source.is_daily:
            raw = raw.where(F.coalesce(F.to_date(time), F.lit(dataset.days.start)) == F.lit(ds))
        # Not persist: an engine finds persisted frames by their plan, for all its clients, and a plan has the names of
        # files, not their content. A killed client's rows would be served to the client that repeats the day.
        kept = raw.localCheckpoint()
        kept.agg(F.count(time)).collect()  # a wrong time format fails here, not in the middle of the step
        return kept
    except SPARK_ERRORS as error:
        raise source_error(error, dataset, ds) from error
