"""Adapters read one day of a raw log. A new raw format = one module here and its line in `ADAPTERS`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters import ali_ccp, ali_express, alimama, files, generated, kuairand, movielens
from jobs.adapters.alignment import union
from jobs.adapters.raw_log import MissingLogError, check_columns, source_error, source_path
from jobs.transforms.event_time import event_time, local_day
from lake.spark_session import SPARK_ERRORS
from schemas.dataset_spec import DatasetSpec

log = logging.getLogger(__name__)

_DAY = "_day"

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

    Each row of the log belongs to one day: see `_owners`. Of a source without a file per day: the rows whose event time
    lies in `ds`. Raises SourceError where the log is missing, unreadable or lacks a column.
    """
    return next(rows for _, rows in read_days(spark, dataset, [ds]))


def read_days(spark: SparkSession, dataset: DatasetSpec, days: Sequence[date]) -> Iterator[tuple[date, DataFrame]]:
    """`read_raw` for each of several days; a source without a file per day is read once for all of them.

    Its rows outside `days` are counted and logged.
    """
    if dataset.source.is_daily:
        for ds in days:
            with _named_errors(dataset, ds):
                rows = _read_daily(spark, dataset, ds)
            yield ds, rows
        return
    if not days:
        return
    with _named_errors(dataset, days[0]):
        whole = _read_whole(spark, dataset, days)
    for ds in days:
        yield ds, whole.where(F.col(_DAY) == F.lit(ds)).drop(_DAY)


def _read_daily(spark: SparkSession, dataset: DatasetSpec, ds: date) -> DataFrame:
    """The rows of day `ds` in its own file and, where there are any, in those of the late_days after it."""
    frames = {ds: _read_file(spark, dataset, ds)}
    for late in (ds + timedelta(days=n) for n in range(1, dataset.days.late_days + 1)):
        try:
            frames[late] = _read_file(spark, dataset, late)
        except MissingLogError:
            continue
    if dataset.days.late_days:
        frames = {
            day: frame.where(_owners(event_time(frame, dataset.columns.event_time), dataset, day) == F.lit(ds))
            for day, frame in frames.items()
        }
    raw = union(list(frames.values()), [f"the files of {day}" for day in frames], dataset)
    return _kept(raw, event_time(raw, dataset.columns.event_time))


def _read_file(spark: SparkSession, dataset: DatasetSpec, ds: date) -> DataFrame:
    raw = ADAPTERS[dataset.source.adapter](spark, dataset, ds)
    check_columns(raw, dataset, ds)
    return raw


def _owners(time: Column, dataset: DatasetSpec, file_day: date) -> Column:
    """The day that each row of the file of `file_day` belongs to: its own, where that is the file's or one of the
    late_days before; else, as for rows without a readable time, the file's day, which refuses it.
    """
    first = max(file_day - timedelta(days=dataset.days.late_days), dataset.days.start)
    day = local_day(time, dataset.days.time_zone)
    return F.when(day.between(F.lit(first), F.lit(file_day)), day).otherwise(F.lit(file_day))


def _read_whole(spark: SparkSession, dataset: DatasetSpec, days: Sequence[date]) -> DataFrame:
    """The rows of `days` with their day; those without a readable time belong to the data set's first day."""
    raw = _read_file(spark, dataset, days[0])
    time = event_time(raw, dataset.columns.event_time)
    day = F.coalesce(local_day(time, dataset.days.time_zone), F.lit(dataset.days.start))
    first, last = dataset.days.start, dataset.days.end or date.max
    is_asked = F.col(_DAY).isin(list(days))
    with_day = raw.withColumn(_DAY, day)
    kept = _kept(with_day.where(is_asked), time)
    # A pass of its own over the times: a Connect server does not return what a checkpoint observes (Spark 4.2)
    outside = with_day.agg(
        F.count_if(~is_asked).alias("unasked"),
        F.count_if(~F.col(_DAY).between(F.lit(first), F.lit(last))).alias("foreign"),
    ).head()
    assert outside is not None, "an aggregate has one row"
    unasked, foreign = outside["unasked"], outside["foreign"]
    if unasked:
        log.info(
            f"{dataset.name}: {unasked} rows of {source_path(dataset, days[0])} lie outside the days asked for "
            f"({days[0]} .. {days[-1]}) and are left for their days"
        )
    if foreign:
        log.warning(
            f"{dataset.name}: {foreign} rows of {source_path(dataset, days[0])} lie outside the data set's days "
            f"({first} .. {dataset.days.end or 'today'}) and are in no day; see days.start and days.end in the YAML"
        )
    return kept


def _kept(raw: DataFrame, time: Column) -> DataFrame:
    # Not persist: an engine finds persisted frames by their plan, for all its clients, and a plan has the names of
    # files, not their content. A killed client's rows would be served to the client that repeats the day.
    kept = raw.localCheckpoint()
    kept.agg(F.count(time)).collect()  # a wrong time format fails here, not in the middle of the step
    return kept


@contextmanager
def _named_errors(dataset: DatasetSpec, ds: date) -> Iterator[None]:
    """Spark's errors as the data set's."""
    try:
        yield
    except SPARK_ERRORS as error:
        raise source_error(error, dataset, ds) from error
