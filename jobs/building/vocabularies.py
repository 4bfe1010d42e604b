"""Vocabulary versions: build the one that a day uses, with the missing part of its chain."""

from __future__ import annotations

import logging
import time
from datetime import date, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.building.impressions import ensure_ingested
from jobs.transforms.encoding import VocabularyIndex, index_vocabulary
from jobs.transforms.vocabulary import (
    as_version,
    evicting_fields,
    first_changes,
    live_values,
    next_changes,
    stored_fields,
)
from lake.provenance import IMPRESSIONS, record
from lake.rows import read_rows
from lake.spark_writer import open_frame, publish, read_days
from lake.vocabularies import VOCABULARIES, fingerprints, lineage_of
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.provenance import SCENARIOS, MadeOf, Settings, appends, settings_of
from schemas.tables.provenance import Provenance

log = logging.getLogger(__name__)


def ensure_vocabulary(spark: SparkSession, dataset: DatasetSpec, ds: date) -> str:
    """The version that day `ds` uses, built (with the missing part of its chain) where it is not published.

    Only the fit days of missing versions are read, and ingested first where they are missing. Raises TableError where
    `ds` lies before the first version, its version was removed by maintenance, or the first one would be empty.
    """
    version = dataset.vocabulary_version(ds)
    if version is None:
        raise TableError(
            f"{dataset.name} {ds} has no vocabulary; the first day with one is {dataset.first_feature_day}"
        )
    published = usable_versions(dataset)
    if published and version < min(published) != dataset.vocabulary_version(dataset.first_feature_day):
        raise TableError(
            f"the vocabulary of {ds} was removed by maintenance (retain.features_days of {dataset.name}), the oldest "
            f"one is {min(published)}; build later days, or remove the table vocabularies to build all versions again"
        )
    for day in missing_versions(dataset, ds, published):
        _build_version(spark, dataset, day)
    _require_same_late_fields(dataset, ds, version)
    return version


def load_vocabulary(spark: SparkSession, dataset: DatasetSpec, version: str) -> VocabularyIndex:
    """One published version, ready to encode with."""
    return index_vocabulary(live_values(read_changes(spark, dataset, version), dataset), dataset)


def read_changes(spark: SparkSession, dataset: DatasetSpec, version: str) -> DataFrame:
    """Rows of `vocabularies` that made a published version: those of its lineage up to it."""
    came_with = F.col("first_version")
    rows = open_frame(spark, dataset, VOCABULARIES)
    return rows.where((came_with <= version) & came_with.endswith(f"-{lineage_of(version)}"))


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
    so_far = dataset.on(fit_days[-1])
    previous = dataset.vocabulary_version(day - timedelta(days=1))
    if previous is None:
        rows = first_changes(impressions, so_far).localCheckpoint()  # counted before it is written
        if stored_fields(so_far) and rows.isEmpty():
            raise TableError(
                f"vocabulary {version} of {dataset.name} is empty: no values on {fit_days[0]} .. {fit_days[-1]}; "
                "move days.start in the data set's YAML to a day with rows"
            )
    else:
        before = read_changes(spark, dataset, previous).localCheckpoint()  # read once, joined several times
        rows = next_changes(before, impressions, _recent(spark, dataset, day), so_far, day)
    fingerprint = record(dataset, _beside_lineage(dataset, fit_days[-1]))
    num_rows = publish(as_version(rows, version, fingerprint), dataset, VOCABULARIES, {"first_version": version}) - 1
    seconds = time.monotonic() - started
    log.info(f"vocabulary {version}: {num_rows} changes, fitted on {fit_days[0]} .. {fit_days[-1]}, {seconds:.1f} s")


def _beside_lineage(dataset: DatasetSpec, fit_day: date) -> MadeOf:
    """What decides a version with this last fit day and is not in its lineage: scenarios and fields with `since`."""
    settings = settings_of(dataset, VOCABULARIES, fit_day)
    names = tuple(f"fields.{f.name}." for f in dataset.fields if f.since is not None)
    return MadeOf(
        table=VOCABULARIES, settings={k: v for k, v in settings.items() if k == SCENARIOS or k.startswith(names)}
    )


def usable_versions(dataset: DatasetSpec) -> set[str]:
    """Published versions that were fitted on impressions of today's scenarios, or of the first ones of them.

    After scenarios were inserted, renamed or removed, impressions are ingested again, and versions are built anew.
    """
    found = fingerprints(dataset)
    names = dataset.scenario.names
    scenarios = {one: tuple(_recorded(dataset, one).get(SCENARIOS, ())) for one in set(found.values())}
    return {version for version, one in found.items() if appends(scenarios[one], names)}


def _recorded(dataset: DatasetSpec, fingerprint: str) -> Settings:
    rows = read_rows(dataset, Provenance, filters={"fingerprint": fingerprint}) if fingerprint else []
    return rows[0].made_of.settings if rows else {}


def _require_same_late_fields(dataset: DatasetSpec, ds: date, version: str) -> None:
    """Raises TableError where a field with `since` has ids already that were given by another definition of it."""
    day = dataset.vocabulary_day(ds)
    assert day is not None
    planned = _beside_lineage(dataset, day - timedelta(days=1))
    recorded = fingerprints(dataset)[version]
    if recorded in ("", planned.fingerprint):
        return
    before, now = _recorded(dataset, recorded), planned.settings
    differ = [k for k in sorted(before | now) if k != SCENARIOS and before.get(k) != now.get(k)]
    if differ:
        shown = ", ".join(f"{k} was {before.get(k, 'not set')!r}, the YAML says {now.get(k)!r}" for k in differ)
        raise TableError(
            f"vocabulary {version} of {dataset.name} was made with other fields: {shown}; ids that a field has given "
            "out stay, so undo the change, or give the changed field a new name with a later `since`"
        )


def _recent(spark: SparkSession, dataset: DatasetSpec, day: date) -> DataFrame | None:
    """Impressions that keep values from being evicted by the version of `day`; None where no field evicts."""
    fields = evicting_fields(dataset)
    if not fields:
        return None
    days = dataset.days_before(day, max(f.evict_after_days or 0 for f in fields))
    ensure_ingested(spark, dataset, days)
    return read_days(spark, dataset, IMPRESSIONS, days, ["ds", *(f.raw_column for f in fields)])
