"""Seconds from log to features for one day in Spark, as rows and history grow, next to hand-written DuckDB queries.

Each case is a lake of the generated log: 1, 2 and 4 times its rows after 7 days, and its rows after 7, 14 and 28 days.
Every run starts from a fresh copy of that lake and builds the next day (ingest, vocabulary version, sequences,
features) with the steps' own functions in one warm session. Cases take turns; the first round of the smallest is a
warm-up. DuckDB builds the same day's sequences and features from the same files, and its rows must equal those of the
tables. `--quick` runs one small day in a cold session: it only shows that the benchmark works.

  python -m benchmarks.bench_features
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from benchmarks import duckdb_features, harness
from jobs.building import features
from jobs.building.impressions import ingest_day
from jobs.building.sequences import build_sequences
from jobs.building.vocabularies import ensure_vocabulary
from lake.reader import read_table
from lake.spark_session import get_session
from schemas.dataset_spec import DatasetSpec
from schemas.load_dataset import load_dataset

STEPS = ("ingest", "vocabulary", "sequences", "features")
FULL, QUICK = "full", "quick"
# Most time for a day after 28 days of history, relative to 7: the Delta logs grow, the data read does not
HIGHEST_GROWTH = 1.25

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure; `lookback_days` and `fit_days` replace the data set's values."""

    rows_per_day: int
    scales: tuple[int, ...]
    histories: tuple[int, ...]
    rounds: int
    warm_up: int
    lookback_days: int
    fit_days: int


PLANS = {
    FULL: Plan(
        rows_per_day=24_000, scales=(1, 2, 4), histories=(7, 14, 28), rounds=3, warm_up=1, lookback_days=7, fit_days=2
    ),
    QUICK: Plan(rows_per_day=2_000, scales=(1,), histories=(1,), rounds=1, warm_up=0, lookback_days=1, fit_days=1),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """A lake with `history` days before the measured one."""

    dataset: DatasetSpec
    scale: int
    history: int
    lake: Path

    @property
    def ds(self) -> date:
        return self.dataset.days.start + timedelta(days=self.history)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured day: impressions, Spark's seconds per step, DuckDB's for sequences and features together."""

    rows: int
    seconds: dict[str, float]
    duckdb_seconds: float


def main(options: argparse.Namespace) -> None:
    os.environ["MSR_SPARK_MASTER"] = f"local[{options.threads}]"
    plan = PLANS[QUICK if options.quick else FULL]
    with tempfile.TemporaryDirectory() as name:
        spark = get_session("bench_features")
        try:
            cases = prepare(spark, plan, Path(name))
            runs = measure(spark, cases, plan, Path(name), options.threads)
        finally:
            spark.stop()
    report(cases, runs, plan, options)


def prepare(spark: SparkSession, plan: Plan, folder: Path) -> list[Case]:
    """The lake of each case: lakes of one scale are copies of one lake, taken as it grows."""
    cases = []
    for scale in plan.scales:
        histories = plan.histories if scale == 1 else plan.histories[:1]
        dataset = sized(plan, scale)
        growing = folder / f"growing-{scale}"
        with lake_at(growing):
            for day in range(max(histories)):
                ds = dataset.days.start + timedelta(days=day)
                ingest_day(spark, dataset, ds)
                if dataset.vocabulary_version(ds):
                    ensure_vocabulary(spark, dataset, ds)
                if day + 1 in histories:
                    lake = shutil.copytree(growing, folder / f"lake-{scale}-{day + 1}")
                    cases.append(Case(dataset=dataset, scale=scale, history=day + 1, lake=lake))
    return cases


def sized(plan: Plan, scale: int) -> DatasetSpec:
    """The generated data set with the plan's rows and days and without an end date."""
    dataset = load_dataset("generated")
    assert dataset.source.generator is not None and dataset.statistics is not None
    generator = dataset.source.generator.model_copy(update={"rows_per_day": plan.rows_per_day * scale})
    lookback = {"lookback_days": plan.lookback_days}
    return dataset.model_copy(
        update={
            "name": f"bench_{scale}x",
            "source": dataset.source.model_copy(update={"generator": generator}),
            "sequence": dataset.sequence.model_copy(update=lookback),
            "statistics": dataset.statistics.model_copy(update=lookback),
            "vocabulary": dataset.vocabulary.model_copy(update={"fit_days": plan.fit_days}),
            "days": dataset.days.model_copy(update={"end": None}),
        }
    )


def measure(spark: SparkSession, cases: Sequence[Case], plan: Plan, folder: Path, threads: int) -> list[list[Run]]:
    """The counted runs of each case. Cases take turns, so that none gains from the session's long warm-up."""
    runs: list[list[Run]] = [[] for _ in cases]
    for round_ in range(plan.warm_up + plan.rounds):
        for case, done in zip(cases, runs, strict=True):
            if round_ < plan.warm_up and case.scale > 1:
                continue
            lake = shutil.copytree(case.lake, folder / f"run-{round_}-{case.scale}-{case.history}")
            with lake_at(lake):
                run = run_day(spark, case, lake, threads)
            shutil.rmtree(lake)
            log.info(f"round {round_}, {case.scale}x, {case.history} days: {run}")
            if round_ >= plan.warm_up:
                done.append(run)
    return runs


def run_day(spark: SparkSession, case: Case, lake: Path, threads: int) -> Run:
    """Build one day with Spark, then its sequences and features with DuckDB. Raises RuntimeError where rows differ."""
    dataset, ds = case.dataset, case.ds
    version = dataset.vocabulary_version(ds)
    assert version is not None
    work: dict[str, Callable[[], object]] = {
        "ingest": lambda: ingest_day(spark, dataset, ds),
        "vocabulary": lambda: ensure_vocabulary(spark, dataset, ds),
        "sequences": lambda: build_sequences(spark, dataset, ds),
        "features": lambda: features.build_day(spark, dataset, ds),
    }
    seconds = {step: timed(work[step]) for step in STEPS}
    duckdb_seconds = timed(lambda: duckdb_features.build_day(dataset, ds, version, lake, threads))
    check_equal("behaviour_sequences", dataset, ds, pq.read_table(lake / "sequences.parquet"), "user_id")
    rows = check_equal("scenario_features", dataset, ds, pq.read_table(lake / "features.parquet"), "instance_id")
    return Run(rows=rows, seconds=seconds, duckdb_seconds=duckdb_seconds)


def check_equal(table: str, dataset: DatasetSpec, ds: date, by_duckdb: pa.Table, key: str) -> int:
    """Number of rows. Raises RuntimeError that names the common columns in which any row differs."""
    columns = [name for name in by_duckdb.column_names if name not in ("ds", "user_key")]
    by_spark = read_table(dataset, table, columns=columns, days=[ds]).sort_by(key)
    other = by_duckdb.select(columns).cast(by_spark.schema).sort_by(key)
    if wrong := [name for name in columns if not by_spark[name].equals(other[name])]:
        raise RuntimeError(f"{table} of {ds}: Spark and DuckDB differ in {wrong} ({len(by_spark)}, {len(other)} rows)")
    return int(by_spark.num_rows)


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def lake_at(root: Path) -> Iterator[None]:
    """Set MSR_LAKE_ROOT within the block."""
    before = os.environ.get("MSR_LAKE_ROOT")
    os.environ["MSR_LAKE_ROOT"] = str(root)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MSR_LAKE_ROOT"]
        else:
            os.environ["MSR_LAKE_ROOT"] = before


def report(cases: Sequence[Case], runs: Sequence[Sequence[Run]], plan: Plan, options: argparse.Namespace) -> None:
    """Print and write both tables."""
    rows = {(c.scale, c.history): median_run(done) for c, done in zip(cases, runs, strict=True)}
    least = plan.histories[0]
    by_rows = harness.Table(
        title=f"One day by rows, {least} days of history (seconds)",
        columns=["rows", *STEPS, "day", "rows/s", "DuckDB", "sequences + features / DuckDB"],
        baseline="DuckDB by hand, sequences + features",
    )
    for scale in plan.scales:
        run = rows[scale, least]
        ratio = (run.seconds["sequences"] + run.seconds["features"]) / run.duckdb_seconds
        day = sum(run.seconds.values())
        by_rows.add(run.rows, *run.seconds.values(), day, run.rows / day, run.duckdb_seconds, ratio)
    by_history = harness.Table(
        title="One day by history in the lake (seconds)",
        columns=["days", *STEPS, "day", "ratio"],
        baseline=f"{least} days",
    )
    for history in plan.histories:
        seconds = rows[1, history].seconds
        ratio = sum(seconds.values()) / sum(rows[1, least].seconds.values())
        by_history.add(history, *seconds.values(), sum(seconds.values()), ratio)
    growth = max(float(row[-1] or 0) for row in by_history.rows)
    target = harness.Target(
        what=f"a day after up to {plan.histories[-1]} days of history, relative to one after {least}",
        required=f"<= {HIGHEST_GROWTH}x (noise of a run)",
        measured=f"{growth:.2f}x",
        met=growth <= HIGHEST_GROWTH,
    )
    harness.report(
        "features", [by_rows, by_history], command="python -m benchmarks.bench_features",
        libraries=["pyspark", "delta-spark", "duckdb", "deltalake"], options=options,
        targets=[] if options.quick else [target], notes=notes(plan),
    )  # fmt: skip


def median_run(runs: Sequence[Run]) -> Run:
    """The median of each time."""
    seconds = {step: statistics.median(run.seconds[step] for run in runs) for step in STEPS}
    return Run(rows=runs[0].rows, seconds=seconds, duckdb_seconds=statistics.median(run.duckdb_seconds for run in runs))


def notes(plan: Plan) -> list[str]:
    """What the numbers include and what they do not."""
    return [
        f"medians of {plan.rounds} days, each on a fresh copy of the lake, cases in turns; not counted: the days that "
        f"fill the lakes and {plan.warm_up} warm-up round of the smallest",
        f"lookback {plan.lookback_days} days, vocabularies fitted on {plan.fit_days} days and renewed every day",
        "Spark's steps also check keys, nulls, constraints and row counts and commit transactions; DuckDB only "
        "transforms and writes Parquet; all rows and columns but user_key (hashed differently) were compared",
    ]


if __name__ == "__main__":
    main(harness.parser(__doc__ or "").parse_args(sys.argv[1:]))
