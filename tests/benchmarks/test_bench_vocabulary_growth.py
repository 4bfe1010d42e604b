"""The churning log moves on, is the same for every arm, and growth or a lost AUC miss their targets."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from benchmarks.bench_vocabulary_growth import Measured, Plan, targets_of
from benchmarks.churning_log import START, churning_dataset, publish_day
from lake.reader import read_table
from schemas.dataset_spec import DatasetSpec

PLAN = Plan(days=9, rows=400, users=40, items=20, churn=0.1, measured=(9,))
FLAT = Measured(day=20, vocabulary_bytes=100, copies_bytes=1000, embedding_rows=50, checkpoint_bytes=400, auc=0.7)


def users_of(dataset: DatasetSpec, ds: date) -> set[str]:
    return set(read_table(dataset, "impressions", days=[ds])["user_id"].to_pylist())


def test_days_bring_new_users_and_lose_old_ones_alike_in_all_arms(lake: Path) -> None:
    seen = []
    for name, bounds in PLAN.arms.items():
        dataset = churning_dataset(f"growth_{name}", bounds)
        days = [START, START + timedelta(days=5), START + timedelta(days=10)]
        for ds in days:
            publish_day(dataset, ds, PLAN.rows, PLAN.users, PLAN.items, PLAN.churn)
        seen.append([users_of(dataset, ds) for ds in days])
        labels = read_table(dataset, "impressions", columns=["label"])["label"].to_pylist()
        assert 0.2 < sum(labels) / len(labels) < 0.8
    assert seen[0] == seen[1] == seen[2]
    first, middle, last = seen[0]
    assert first & middle and first - middle and middle - first and not first & last


def test_growth_and_a_lower_auc_miss_their_targets() -> None:
    later = replace(FLAT, day=60)
    found = {name: [FLAT, later] for name in PLAN.arms}
    assert all(target.met for target in targets_of(found))
    found["evicted"] = [FLAT, replace(later, embedding_rows=60)]
    found["hashed"] = [FLAT, replace(later, auc=0.69)]
    missed = [target.what for target in targets_of(found) if not target.met]
    assert missed == ["evicted: embedding, last / first", "hashed: AUC - unbounded"]
