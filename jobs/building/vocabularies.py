"""Vocabulary versions: build the one that a day uses, with the missing part of its chain."""

from __future__ import annotations

import logging
import time
from datetime import date, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.building.impressions import IMPRESSIONS, ensure_ingested
from jobs.transforms.encoding import VocabularyIndex, index_vocabulary
from jobs.transforms.vocabulary import first_vocabulary, next_vocabulary
from lake.reader import open_table, table_exists
from lake.spark_writer import open_frame, publish, read_days
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError

log = logging.getLogger(__name__)

VOCABULARIES = "vocabularies"


def ensure_vocabulary(spark: SparkSession, dataset: DatasetSpec, ds: date) -> str:
    """The version that day `ds` uses, built (with the missing part of its chain) where it is not published.

    Only the fit days of missing versions are read, and ingested first where they are missing. Raises TableError where
    `ds` lies before the first version or the first version would be empty.
    """
    version = dataset.vocabulary_version(ds)
    if version is None:
        raise TableError(
            f"{dataset.name} {ds} has no vocabulary; the first day with one is {dataset.first_feature_day}"
        )
    for day in missing_versions(dataset, ds, published_versions(dataset)):
        _build_version(spark, dataset, day)
    return version


def load_vocabulary(spark: SparkSession, dataset: DatasetSpec, version: str) -> VocabularyIndex:
    """One published version, ready to encode with."""
    return index_vocabulary(_read_version(spark, dataset, version), dataset)


def published_versions(dataset: DatasetSpec) -> set[str]:
    """Versions that are in the table, from the Delta log alone."""
    if not table_exists(dataset, VOCABULARIES):
        return set()
    return {p["vocabulary_version"] for p in open_table(dataset, VOCABULARIES).partitions()}


def missing_versions(dataset: DatasetSpec, ds: date, published: set[str]) -> list[date]:
    """First days of the versions to build for `ds`, ascending: back to the newest one that is published."""
    missing: list[date] = []
    day = dataset.vocabulary_day(ds)
    while day is not None and dataset.vocabulary_version(day) not in published:
        missing.insert(0, day)
        day = dataset.vocabulary_day(day - timedelta(days=1))
    return missing


def _build_version(spark: SparkSession, dataset: DatasetSpec, day: date) -> None:
    started = time.monotonic()
    version = dataset.vocabulary_version(day)
    assert version is not None
    fit_days = dataset.days_before(day, dataset.vocabulary.fit_days)
    ensure_ingested(spark, dataset, fit_days)
    raw = [f.raw_column for f in dataset.fields]
    impressions = read_days(spark, dataset, IMPRESSIONS, fit_days, raw)
    previous = dataset.vocabulary_version(day - timedelta(days=1))
    if previous is None:
        rows = first_vocabulary(impressions, dataset, version)
    else:
        rows = next_vocabulary(_read_version(spark, dataset, previous), impressions, dataset, version)
    num_rows = publish(rows, dataset, VOCABULARIES, {"vocabulary_version": version})
    if num_rows == 0:
        raise TableError(
            f"vocabulary {version} of {dataset.name} is empty: no values on {fit_days[0]} .. {fit_days[-1]}; "
            "move days.start in the data set's YAML to a day with rows"
        )
    seconds = time.monotonic() - started
    log.info(f"vocabulary {version}: {num_rows} values, fitted on {fit_days[0]} .. {fit_days[-1]}, {seconds:.1f} s")


def _read_version(spark: SparkSession, dataset: DatasetSpec, version: str) -> DataFrame:
    return open_frame(spark, dataset, VOCABULARIES).where(F.col("vocabulary_version") == version)
