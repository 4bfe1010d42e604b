"""A small lake written straight into the tables, with what a report reads: seeded, no engine needed."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lake.arrow_writer import overwrite_partition
from lake.locations import artifact_uri, artifacts_dir
from lake.rows import write_rows
from msr_models.evaluation.metrics import Z_95
from schemas.dataset_spec import DatasetSpec
from schemas.tables import get_table
from schemas.tables.audits import Audit
from schemas.tables.evaluations import Evaluation
from schemas.tables.gains import Gain
from schemas.tables.shared_instance_sets import SharedSet
from schemas.tables.training_runs import TrainingRun
from tests.support.tiny_lake import with_fingerprint

SET_ID = "shared_bottom-20260107-1a2b3c4d"
ROWS = 2_000
CREATED = datetime(2026, 1, 11, tzinfo=UTC)


def training_run(ds: str, **columns: Any) -> TrainingRun:
    """A row of training_runs; (test_)table_versions go into its manifest, other keywords replace columns."""
    versions = columns.pop("table_versions", {"scenario_features": 3})
    tested = columns.pop("test_table_versions", {})
    manifest = {"table_versions": versions, "test_table_versions": tested, "code_version": "abc1234" * 5, "seed": 1}
    row: dict[str, Any] = {
        "model": "shared_bottom",
        "run_id": f"shared_bottom-{ds}-{columns.get('ratio', 0.0)}",
        "arm": "mt_backbone",
        "ratio": 0.0,
        "is_selected": False,
        "shared_set_id": SET_ID,
        "seed": 1,
        "validation_auc": 0.7,
        "validation_logloss": 0.5,
        "epochs": 2,
        "train_rows": 10_000,
        "manifest": json.dumps(manifest),
        "checkpoint_uri": f"artifacts/{ds}/weights.pt",
        "checkpoint_sha256": "0" * 64,
        "predictions_uri": "none.parquet",
        "train_seconds": 12.5,
        "created_at": CREATED,
    }
    return TrainingRun(ds=ds, **(row | columns))


def write_run(dataset: DatasetSpec, *runs: TrainingRun) -> None:
    """Overwrite the partition (ds, model) of the runs, which must all be of one."""
    write_rows(dataset, runs)


def write_audits(dataset: DatasetSpec, days: list[date], quarantined: int = 24) -> None:
    """Audits of `impressions`: ROWS come in per day; `quarantined` on the first, one more on each day after it."""
    for n, day in enumerate(days):
        bad = quarantined + n if quarantined else 0
        reasons = {"bad_label": bad // 2, "duplicate": bad - bad // 2} if bad else {}
        audit = Audit(
            table_name="impressions",
            ds=f"{day}",
            status="published",
            rows_in=ROWS,
            rows_published=ROWS - bad,
            rows_quarantined=bad,
            rows_per_scenario=json.dumps(_split_rows(dataset, ROWS - bad)),
            quarantine_reasons=json.dumps(reasons),
            warnings=json.dumps(["label mean 0.96 is above 0.95"] if n == 1 else []),
            failures="[]",
        )
        write_rows(dataset, [audit])


def write_features(dataset: DatasetSpec, days: list[date]) -> None:
    """ROWS encoded impressions per day; the label follows the first two fields and the scenario."""
    spec = get_table("scenario_features").for_dataset(dataset)
    for n, day in enumerate(days):
        rng = np.random.default_rng(n)
        scenario = rng.choice(dataset.num_scenarios, ROWS, p=_shares(dataset)).astype(np.int32)
        columns: dict[str, Any] = {
            "ds": [f"{day}"] * ROWS,
            "scenario_id": scenario,
            "instance_id": np.arange(ROWS) + n * ROWS,
            "event_ts": pa.array([datetime.combine(day, datetime.min.time(), UTC)] * ROWS, pa.timestamp("us", "UTC")),
            "user_key": rng.integers(0, 200, ROWS),
            "value": pa.nulls(ROWS, pa.float64()),
            "weight": pa.nulls(ROWS, pa.float64()),
            "hist_end": np.zeros(ROWS, np.int32),
            "vocabulary_version": [dataset.vocabulary_version(day)] * ROWS,
        }
        for field in dataset.encoded_fields:
            ids = rng.integers(0, 8, ROWS).astype(np.int32)
            columns[field.column] = ids if field.max_values == 1 else [[int(i)] * (int(i) % 3) for i in ids]
        first, second = (np.asarray(columns[f.column]) for f in dataset.encoded_fields[:2])
        logit = 0.5 * (first - 3.5) + 0.3 * np.where(scenario % 2 == 0, 1, -1) * (second - 3.5) - 0.5
        columns["label"] = (rng.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(np.int32)
        rows = with_fingerprint(pa.table(columns), dataset, spec.name, day).select(spec.column_names)
        overwrite_partition(rows, dataset, spec.name, {"ds": f"{day}"})


def write_set(dataset: DatasetSpec, days: list[date], status: str = "accepted") -> None:
    """One set searched on `days`, and the masks of those days' instances as write_features makes them."""
    row = SharedSet(
        shared_set_id=SET_ID,
        dataset=dataset.name,
        window_start=f"{days[0]}",
        window_end=f"{days[-1]}",
        source_backbone="shared_bottom",
        objective="reference",
        kl_weight=0.5,
        threshold=0.52,
        gate_estimator="straight_through",
        kl_form="bernoulli",
        seed=1,
        scenarios=json.dumps(dataset.scenario.names),
        config="{}",
        table_versions=json.dumps({"scenario_features": 2}),
        window_fingerprint="f" * 16,
        vocabulary_version=dataset.vocabulary_version(days[-1]) or "",
        selector_uri="none.pt",
        selector_sha256="0" * 64,
        share_rate=0.3,
        share_rates=json.dumps({}),
        validation_metrics=json.dumps({"auc": 0.71}),
        code_version="abc1234",
        created_at=CREATED,
        status=status,
        status_reason="" if status == "accepted" else "shares nothing",
    )
    write_rows(dataset, [row])
    for n, day in enumerate(days):
        rng = np.random.default_rng(n)
        scenario = rng.choice(dataset.num_scenarios, ROWS, p=_shares(dataset)).astype(np.int32)
        score = rng.beta(4 + scenario, 5, ROWS).astype(np.float32)
        rank = (np.argsort(np.argsort(score)) + 0.5) / (ROWS + 1)
        masks = pa.table(
            {
                "shared_set_id": [SET_ID] * ROWS,
                "ds": [f"{day}"] * ROWS,
                "instance_id": np.arange(ROWS) + n * ROWS,
                "scenario_id": scenario,
                "shared_score": score,
                "rank_pct": np.clip(rank, 1e-6, 1 - 1e-6),
                "rank_pct_scenario": np.clip(rank, 1e-6, 1 - 1e-6),
                "is_shared": score > 0.52,
                "features_files": ["files"] * ROWS,
            }
        )
        overwrite_partition(masks, dataset, "shared_instance_masks", {"shared_set_id": SET_ID, "ds": f"{day}"})


def write_runs(dataset: DatasetSpec, days: list[date], ratios: tuple[float, ...] = (0, 0.1, 0.3, 0.5, 1)) -> None:
    """A grid of runs per test day with evaluations and predictions; r = 0.3 is chosen; the last scenario has no AUC
    on the first day."""
    for n, day in enumerate(days):
        rng = np.random.default_rng(100 + n)
        runs, evaluated = [], []
        for ratio in ratios:
            arm = {0.0: "mt_backbone", 1.0: "mt_backbone_s"}.get(ratio, "ssim")
            gain = 0.02 - abs(ratio - 0.3) * 0.06
            run_id = f"shared_bottom-{day}-{float(ratio)}"
            run = training_run(
                f"{day}",
                run_id=run_id,
                ratio=float(ratio),
                arm=arm,
                is_selected=ratio == 0.3,
                validation_auc=0.71 + gain + rng.normal(0, 0.002),
                predictions_uri=_write_predictions(dataset, run_id, n, 1 + ratio / 5),
            )
            runs.append(run)
            evaluated += [_evaluation(dataset, run, k, gain, n) for k in (*range(dataset.num_scenarios), -1)]
        write_run(dataset, *runs)
        write_rows(dataset, evaluated)


def write_gains(dataset: DatasetSpec, days: list[date], baseline: str = "floor", gain: float = 0.05) -> None:
    """Gains of the chosen run of each day that write_runs wrote, .01 to both sides: the same everywhere."""
    for day in days:
        rows = [
            Gain(
                ds=f"{day}",
                model="shared_bottom",
                run_id=f"shared_bottom-{day}-0.3",
                ratio=0.3,
                baseline=baseline,
                baseline_run_id=f"{baseline}-{day}",
                metric=metric,
                scenario_id=k,
                scenario={-1: "all", -2: "mean"}.get(k) or dataset.scenario.names[k],
                value=0.7,
                baseline_value=0.7 - gain,
                gain=gain,
                standard_error=0.01 / Z_95,
                low=gain - 0.01,
                high=gain + 0.01,
                p_value=0.01,
            )
            for metric in ("auc", "logloss")
            for k in (*range(dataset.num_scenarios), -1, -2)
        ]
        write_rows(dataset, rows)


def build_report_lake(dataset: DatasetSpec, days: int = 10) -> list[date]:
    """Everything of `days` days: a set on days 3-7, runs tested on days 8 and after. Returns the test days."""
    every = [dataset.days.start + timedelta(days=n) for n in range(days)]
    window, test = every[2:7], every[7:]
    write_audits(dataset, every)
    write_features(dataset, window + test)
    write_set(dataset, window)
    write_runs(dataset, test)
    return test


def _evaluation(dataset: DatasetSpec, run: TrainingRun, scenario_id: int, gain: float, n: int) -> Evaluation:
    single = n == 0 and scenario_id == dataset.num_scenarios - 1
    auc = None if single else 0.76 - 0.02 * scenario_id + gain * (scenario_id + 1) / 2 + 0.004 * n
    half = 0.008 * (scenario_id + 2)
    return Evaluation(
        ds=run.ds,
        model=run.model,
        run_id=run.run_id,
        arm=run.arm,
        ratio=run.ratio,
        is_selected=run.is_selected,
        split="test",
        scenario_id=scenario_id,
        scenario="all" if scenario_id < 0 else dataset.scenario.names[scenario_id],
        rows=ROWS if scenario_id < 0 else list(_split_rows(dataset, ROWS).values())[scenario_id],
        positives=0 if single else ROWS // 5,
        auc=auc,
        auc_low=None if auc is None else auc - half,
        auc_high=None if auc is None else auc + half,
        mean_scenario_auc=0.73 + gain if scenario_id < 0 else None,
        single_class_scenarios=int(n == 0 and scenario_id < 0) or int(single),
        logloss=0.48 - gain,
        calibration=None if single else 1.0 + 0.03 * (scenario_id - 1),
        s_gauc=0.66,
        s_gauc_sessions=40,
    )


def _write_predictions(dataset: DatasetSpec, run_id: str, n: int, bias: float) -> str:
    rng = np.random.default_rng(n)
    prob = rng.beta(2, 6, ROWS).astype(np.float32)
    path = artifacts_dir(dataset) / f"{run_id}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "split": ["test"] * ROWS,
        "scenario_id": rng.choice(dataset.num_scenarios, ROWS, p=_shares(dataset)).astype(np.int32),
        "label": (rng.random(ROWS) < prob).astype(np.int32),
        "prob": np.clip(prob * bias, 0, 1).astype(np.float64),
        "prob_raw": np.clip(prob * bias * 1.5, 0, 1).astype(np.float64),
    }
    pq.write_table(pa.table(columns), path)
    return artifact_uri(dataset, path)


def _shares(dataset: DatasetSpec) -> np.ndarray:
    shares = 1.0 / np.arange(1, dataset.num_scenarios + 1)
    return shares / shares.sum()


def _split_rows(dataset: DatasetSpec, rows: int) -> dict[str, int]:
    counts = np.floor(_shares(dataset) * rows).astype(int)
    counts[0] += rows - counts.sum()
    return dict(zip(dataset.scenario.names, counts.tolist(), strict=True))
