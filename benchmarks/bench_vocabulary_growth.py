"""How vocabularies, checkpoints and embeddings grow on a log whose values come and go, with and without bounds.

Each arm runs the pipeline's own steps over the same impressions: a vocabulary version per three days, and on a few days
features, a training without sharing, its evaluation and maintenance with `retain`. Arms: no bounds; `evict_after_days`
with `max_ids`; `hash_buckets`. A full copy per version, as earlier releases stored it, is counted from the versions.

  python -m benchmarks.bench_vocabulary_growth --rows 8000
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.churning_log import START, churning_dataset, publish_day
from benchmarks.harness import Table, Target, parser, report
from jobs import evaluate, maintain_tables, train_target_model
from jobs.cli import StepArgs
from lake.locations import artifact_path
from lake.reader import open_table
from lake.rows import read_rows
from lake.vocabularies import VOCABULARIES, published_versions, read_vocabulary
from msr_models.data.layout import layout_for
from schemas.dataset_spec import DatasetSpec
from schemas.tables.evaluations import Evaluation
from schemas.tables.training_runs import TrainingRun

COLUMNS = ("arm", "day", "vocabulary KB", "full copies KB", "rows of the embedding", "checkpoint KB", "test AUC")
WINDOW_DAYS = 3
MODEL = {"name": "shared_bottom", "options": {"embedding_dim": 8, "hidden": [32, 16]}}
TRAINING = {
    "window_days": WINDOW_DAYS,
    "models": [MODEL],
    "ratios": [0.0],
    "max_epochs": 4,
    "batch_size": 128,
    "learning_rate": 0.003,
}
SEARCH = {"window_days": 2, "every_days": 2}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Size of the log, and the days on which arms are measured."""

    days: int
    rows: int
    users: int
    items: int
    churn: float
    measured: Sequence[int]

    @property
    def arms(self) -> dict[str, dict[str, dict[str, int]]]:
        """Name -> bounds per field. Values live 1 / churn days; the bounds hold what two windows of days have."""
        live = {"user": int(self.users * (1 + 14 * self.churn)), "item": int(self.items * (1 + 14 * self.churn))}
        return {
            "unbounded": {},
            "evicted": {name: {"evict_after_days": 7, "max_ids": size} for name, size in live.items()},
            "hashed": {name: {"hash_buckets": 16 * size} for name, size in live.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One arm on one day."""

    day: int
    vocabulary_bytes: int
    copies_bytes: int
    embedding_rows: int
    checkpoint_bytes: int
    auc: float


def measure_arm(plan: Plan, name: str, bounds: dict[str, dict[str, int]]) -> list[Measured]:
    """Run one arm through the days, with maintenance after each measured one."""
    dataset = churning_dataset(f"growth_{name}", bounds, training=TRAINING, search=SEARCH, retain={"features_days": 8})
    copies, done, before = 0, [], 0
    for n in plan.measured:
        for age in range(before, n):  # no later: retention counts from the newest published day
            publish_day(dataset, START + timedelta(days=age), plan.rows, plan.users, plan.items, plan.churn)
        ds, before = START + timedelta(days=n - 1), n
        published = published_versions(dataset)
        run("build_vocabularies", dataset, ds)
        copies += _copies_bytes(dataset, published_versions(dataset) - published)
        run("build_scenario_features", dataset, *(ds - timedelta(days=d) for d in range(WINDOW_DAYS, -1, -1)))
        options = train_target_model.TrainOptions(device="cpu")
        train_target_model.step(StepArgs(dataset=dataset, days=[ds], options=options))
        evaluate.step(StepArgs(dataset=dataset, days=[ds], options=evaluate.EvaluateOptions()))
        maintain_tables.step(
            StepArgs(dataset=dataset, days=[], options=maintain_tables.MaintainOptions(retention_hours=0))
        )
        done.append(_measure(dataset, ds, n, copies))
    return done


def run(step: str, dataset: DatasetSpec, *days: date) -> None:
    """One step in this process, with its default options."""
    module = importlib.import_module(f"jobs.{step}")
    module.step(StepArgs(dataset=dataset, days=list(days), options=module.StepOptions()))


def _copies_bytes(dataset: DatasetSpec, versions: set[str]) -> int:
    """Bytes of the versions as a full copy each: rows times the bytes of a row in the table's files."""
    rows = sum(read_vocabulary(dataset, version).num_rows for version in versions)
    files = pa.table(open_table(dataset, VOCABULARIES).get_add_actions(flatten=True))
    stored = pc.sum(files["num_records"]).as_py() or 1
    return int(rows * pc.sum(files["size_bytes"]).as_py() / stored)


def _measure(dataset: DatasetSpec, ds: date, n: int, copies: int) -> Measured:
    files = pa.table(open_table(dataset, VOCABULARIES).get_add_actions(flatten=True))
    training = read_rows(dataset, TrainingRun, days=[ds])[0]
    tested = [e for e in read_rows(dataset, Evaluation, days=[ds]) if e.split == "test" and e.scenario_id == -1]
    before = str(dataset.vocabulary_version(ds - timedelta(days=1)))
    return Measured(
        day=n,
        vocabulary_bytes=pc.sum(files["size_bytes"]).as_py(),
        copies_bytes=copies,
        embedding_rows=layout_for(dataset, before).total_rows,
        checkpoint_bytes=artifact_path(dataset, training.checkpoint_uri).stat().st_size,
        auc=tested[0].auc or 0.0,
    )


def targets_of(found: dict[str, list[Measured]]) -> list[Target]:
    """Flat from the second measured day on, and as good as without bounds on the mean over the days."""
    targets = []
    mean = {name: sum(m.auc for m in days) / len(days) for name, days in found.items()}
    for name in ("evicted", "hashed"):
        first, last = found[name][0], found[name][-1]
        for what, early, late in (
            ("vocabulary table", first.vocabulary_bytes, last.vocabulary_bytes),
            ("checkpoint", first.checkpoint_bytes, last.checkpoint_bytes),
            ("embedding", first.embedding_rows, last.embedding_rows),
        ):
            ratio = late / max(early, 1)
            targets.append(
                Target(
                    what=f"{name}: {what}, last / first", required="<= 1.1", measured=f"{ratio:.2f}", met=ratio <= 1.1
                )
            )
        gap = mean[name] - mean["unbounded"]
        targets.append(
            Target(what=f"{name}: AUC - unbounded", required=">= -0.002", measured=f"{gap:+.4f}", met=gap >= -0.002)
        )
    return targets


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--days", type=int, default=60, help="days of the log (default 60)")
    made.add_argument("--rows", type=int, default=6000, help="impressions per day (default 6000)")
    options = made.parse_args()
    plan = plan_of(options)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MSR_LAKE_ROOT"] = str(Path(folder) / "lake")
        for name, bounds in plan.arms.items():
            found[name] = measure_arm(plan, name, bounds)
    table = Table(title=f"{plan.rows:,} impressions a day, {plan.churn:.0%} new users and items", columns=COLUMNS)
    for name, days in found.items():
        for m in days:
            sizes = [m.vocabulary_bytes / 1e3, m.copies_bytes / 1e3]
            table.add(name, m.day, *sizes, m.embedding_rows, m.checkpoint_bytes / 1e3, f"{m.auc:.4f}")
    report(
        "vocabulary_growth",
        [table],
        command="python -m benchmarks.bench_vocabulary_growth --rows 8000",
        libraries=["pyspark", "delta-spark", "deltalake", "torch"],
        options=options,
        targets=[] if options.quick else targets_of(found),
    )


def plan_of(options: argparse.Namespace) -> Plan:
    """Measured are a third, two thirds and all of the days; the first must have a full window before it."""
    if options.quick:
        return Plan(days=7, rows=300, users=60, items=30, churn=0.1, measured=(7,))
    days = options.days
    return Plan(
        days=days,
        rows=options.rows,
        users=options.rows // 20,
        items=options.rows // 40,
        churn=0.05,
        measured=tuple(round(days * part) for part in (1 / 3, 2 / 3, 1)),
    )


if __name__ == "__main__":
    main()
