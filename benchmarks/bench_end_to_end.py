"""A whole training run, from Delta tables to the validated model: rows/s and the share of time spent waiting for data.

A temporary lake holds 18 int32 fields, 50 behaviours per row (by pointer) and 3 scenarios; a tenth of the rows are
shared. Measured: load the window, train one epoch (MLP 1024-512-256, embeddings of width 16, batches of 4096), validate
on the last day. Baseline: the naive step on a few batches of torch's DataLoader, which looks every row up in pandas.

  python -m benchmarks.bench_end_to_end              on the CPU
  python -m benchmarks.bench_end_to_end --device cuda
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import harness
from benchmarks.bench_loader import COLUMNS, PandasRows
from benchmarks.loader_lake import FIELD_SIZES, loader_dataset, loader_days, write_lake
from benchmarks.naive import NaiveModel, NaiveStep
from lake import reader as lake_reader
from msr_models.data.batch import Batch
from msr_models.data.source import ResidentRows
from msr_models.data.window import Window, load_window
from msr_models.models.registry import build_model
from msr_models.training.memory import keep_freed_memory
from msr_models.training.trainer import TrainResult, train
from schemas.dataset_spec import DatasetSpec
from schemas.pipeline_spec import TrainerConfig

BATCH, BEHAVIOURS, SHARE = 4096, 50, 0.1
DAYS = loader_days(4)
HIDDEN = [1024, 512, 256]


def ours(spec: DatasetSpec, device: str) -> tuple[Window, float, TrainResult]:
    """(window, seconds that loading it took, result of the training)."""
    start = time.perf_counter()
    window = load_window(spec, DAYS)
    generator = torch.Generator().manual_seed(1)
    shared_N = torch.rand(len(window), generator=generator) < SHARE
    window = replace(window, shared_N=shared_N).to(device)
    loaded = time.perf_counter() - start
    model = build_model("shared_bottom", {"hidden": HIDDEN}, window.layout, window.num_scenarios, 1).to(device)
    config = TrainerConfig(batch_size=BATCH, max_epochs=1, patience=0, learning_rate=1e-3, weight_decay=1e-6, seed=1)
    rows, validation = (ResidentRows(window, window.rows_of(days)) for days in (DAYS[:-1], DAYS[-1:]))
    return window, loaded, train(model, rows, validation, config)


def naive_rows_per_second(spec: DatasetSpec, window: Window, batches: int, device: str) -> tuple[float, float]:
    """(rows/s, share of the time spent waiting for data)."""
    frame = lake_reader.read_table(spec, "scenario_features", columns=COLUMNS, days=DAYS[:1]).to_pandas()
    torch.manual_seed(1)
    model = NaiveModel(window.layout, 16, HIDDEN, window.num_scenarios).to(device)
    step = NaiveStep(model, "reuse")
    source = iter(DataLoader(PandasRows(frame), BATCH, shuffle=True))
    waited = 0.0
    start = time.perf_counter()
    for _ in range(batches):
        requested = time.perf_counter()
        columns = next(source)
        waited += time.perf_counter() - requested
        step(_batch(columns).to(device))
    seconds = time.perf_counter() - start
    return batches * BATCH / seconds, waited / seconds


def _batch(columns: dict[str, Tensor]) -> Batch:
    ids_BS = torch.stack([columns[f"f_{name}"] for name in FIELD_SIZES], dim=1).int()
    return Batch(
        slot_ids_BS=ids_BS,
        hist_ids_BLA=torch.zeros((len(ids_BS), 1, 1), dtype=torch.int32),
        hist_scenario_BL=torch.full((len(ids_BS), 1), -1, dtype=torch.int16),
        scenario_B=columns["scenario_id"].long(),
        label_B=columns["label"].float(),
        shared_B=torch.rand(len(ids_BS)) < SHARE,
    )


def measure(options: argparse.Namespace) -> None:
    """Measure both and report."""
    rows_per_day = (20_000 if options.quick else 100_000) * (10 if options.device == "cuda" else 1)
    spec = loader_dataset("endtoend", BEHAVIOURS)
    write_lake(spec, DAYS, rows_per_day, 2 * BEHAVIOURS)
    window, loaded, result = ours(spec, options.device)
    base, base_waited = naive_rows_per_second(spec, window, 2 if options.quick else 5, options.device)
    trained = result.train_rows / result.train_seconds
    whole = result.train_rows / (result.train_seconds + loaded)
    waited = result.waiting_seconds / result.train_seconds
    table = harness.Table(
        title=f"Training {result.train_rows:,} rows, one epoch ({options.device})",
        columns=["run", "rows/s", "ratio", "waiting for data", "seconds"],
        baseline="naive step, DataLoader of pandas look-ups, no sequences",
    )
    table.add("naive", base, 1.0, f"{base_waited:.1%}", None)
    table.add("ours: training with validation", trained, trained / base, f"{waited:.1%}", result.train_seconds)
    table.add("ours: load, training, validation", whole, whole / base, None, result.train_seconds + loaded)
    harness.report(
        "end_to_end" if options.device == "cpu" else "end_to_end_gpu",
        [table],
        command="python -m benchmarks.bench_end_to_end" + (" --device cuda" if options.device == "cuda" else ""),
        libraries=["torch", "pandas"],
        options=options,
        targets=[
            harness.Target(
                what="time waiting for data", required="<= 5 %", measured=f"{waited:.1%}", met=waited <= 0.05
            ),
        ],
        notes=[f"the naive run is {2 if options.quick else 5} batches, without behaviours; ours pools 50 per row"],
    )


def main() -> None:
    """Run and report."""
    parser = harness.parser(__doc__ or "")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="bench-end-to-end-") as folder:
        os.environ["MSR_LAKE_ROOT"] = folder
        measure(options)


if __name__ == "__main__":
    main()
