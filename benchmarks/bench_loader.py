"""The loader: batches of 4096 shuffled rows, from memory and through buckets on disk, next to common alternatives.

Two temporary lakes hold 18 int32 fields, without behaviours and with 50 per row (by pointer). Rows/s are the median of
several whole epochs after an untimed one. Time and peak memory of the load from Delta are measured in a separate
process. A GPU is used if there is one.

  python -m benchmarks.bench_loader
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.harness import Table, Target, median_seconds, parser, report
from benchmarks.loader_lake import FIELD_SIZES, loader_dataset, loader_days, write_lake
from benchmarks.mixing import mixing
from lake import reader as lake_reader
from msr_models.data.batch import Batch
from msr_models.data.prefetch import Prefetch
from msr_models.data.source import ResidentRows, TrainingData
from msr_models.data.streamed import open_streamed_rows
from msr_models.data.window import Window, load_window
from schemas.dataset_spec import DatasetSpec

BATCH = 4096
DAYS = loader_days(4)
BEHAVIOURS = 50
POSITION = list(FIELD_SIZES).index("position")
COLUMNS = [f"f_{name}" for name in FIELD_SIZES] + ["scenario_id", "label"]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Rows of the two lakes and of a bucket, and the number of batches timed of the slow baselines."""

    flat: int
    sequences: int
    bucket: int
    slow_batches: int
    repeat: int


FULL = Sizes(flat=4_000_000, sequences=1_000_000, bucket=1_000_000, slow_batches=5, repeat=5)
QUICK = Sizes(flat=200_000, sequences=200_000, bucket=50_000, slow_batches=1, repeat=3)


class PandasRows(Dataset[dict[str, Tensor]]):
    """Baseline: a dictionary of pandas look-ups per row."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: torch.tensor(self.frame[name].iloc[row]) for name in COLUMNS}


def main() -> None:
    """Write the lakes, measure, report."""
    made = parser(__doc__ or "")
    made.add_argument("--load-only", metavar="DATASET", help=argparse.SUPPRESS)
    made.add_argument("--max-length", type=int, default=1, help=argparse.SUPPRESS)
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    if options.load_only:
        print(json.dumps(measured_load(loader_dataset(options.load_only, options.max_length))))
        return
    with tempfile.TemporaryDirectory(prefix="bench-loader-") as folder:
        os.environ["MSR_LAKE_ROOT"] = folder
        measure(options, QUICK if options.quick else FULL)


def measure(options: argparse.Namespace, sizes: Sizes) -> None:
    """Measure everything and report."""
    flat, sequences = loader_dataset("flat", 1), loader_dataset("sequences", BEHAVIOURS)
    write_lake(flat, DAYS, sizes.flat // len(DAYS), 0)
    write_lake(sequences, DAYS, sizes.sequences // len(DAYS), 2 * BEHAVIOURS)
    loads = Table(title="Delta to tensors", columns=("lake", "rows", "rows/s", "tensors MB", "peak / tensors"))
    peaks = {}
    for spec in (flat, sequences):
        found = load_in_own_process(spec, options.threads)
        peaks[spec.name] = found["peak"] / found["tensors"]
        loads.add(
            spec.name, int(found["rows"]), found["rows"] / found["seconds"], found["tensors"] / 1e6, peaks[spec.name]
        )

    speed = Table(
        title=f"Batches of {BATCH} rows",
        columns=("source", "rows/s", "ratio", "mixing"),
        baseline="pandas look-ups per row",
    )
    rates: dict[str, float] = {}

    def add(name: str, rows: float, seconds: float, mixed: float | None = None) -> None:
        rates[name] = rows / seconds
        speed.add(name, rates[name], rates[name] / next(iter(rates.values())), mixed)

    window = load_window(flat, DAYS)
    for name, rows, seconds in baselines(flat, window, sizes):
        add(name, rows, seconds)
    add("parquet row groups, unshuffled", *timed(lambda: row_groups(flat), sizes), mixing(positions(row_groups(flat))))
    for spec in (flat, sequences):
        window = load_window(spec, DAYS)
        resident = ResidentRows(window, torch.arange(len(window)))
        add(f"memory, {spec.name}", *timed(partial(epoch, resident), sizes), mixed(resident))
        start = time.perf_counter()
        with open_streamed_rows(spec, DAYS, seed=1, bucket_rows=sizes.bucket) as streamed:
            loads.add(
                f"{spec.name}, into buckets", len(window), len(window) / (time.perf_counter() - start), None, None
            )
            add(f"buckets, {spec.name}", *timed(partial(epoch, streamed), sizes), mixed(streamed))
        if torch.cuda.is_available():
            on_gpu = ResidentRows(window.to("cuda"), torch.arange(len(window), device="cuda"))
            add(f"GPU memory, {spec.name}", *timed(partial(epoch, on_gpu), sizes))
            add(f"memory to GPU, {spec.name}", *timed(partial(_to_gpu, resident), sizes))
    gpu: dict[str, str | int | float | None] = {}
    if torch.cuda.is_available():
        gpu["gpu"] = torch.cuda.get_device_name()
    report(
        "loader",
        [speed, loads],
        command="python -m benchmarks.bench_loader" + (" --quick" if options.quick else ""),
        libraries=("torch", "pyarrow", "deltalake", "numpy", "pandas"),
        options=options,
        targets=[
            rate_target("rows/s from memory, no sequences", 5e6, rates["memory, flat"]),
            rate_target("rows/s from memory, 50 behaviours by pointer", 1e6, rates["memory, sequences"]),
            Target(
                what=f"peak memory of a load over its tensors ({sizes.flat:,} rows)",
                required="<= 1.3",
                measured=f"{peaks['flat']:.2f}",
                met=peaks["flat"] <= 1.3,
            ),
        ],
        notes=[
            "mixing: between-batch variance of the position in the files, relative to a uniform shuffle; 1 is perfect, "
            f"{BATCH} means batches of neighbouring rows",
            "about 100 MB of the peak do not grow with the window (libraries, decoding buffers)",
        ],
        extra_machine=gpu,
    )


def rate_target(what: str, required: float, measured: float) -> Target:
    """A lower limit of rows per second."""
    return Target(what=what, required=f">= {required:,.0f}", measured=f"{measured:,.0f}", met=measured >= required)


def epoch(data: TrainingData) -> Iterator[Batch]:
    """One shuffled epoch."""
    return data.batches(BATCH, seed=1, epoch=1)


def positions(batches: Iterable[Batch]) -> Iterator[Tensor]:
    """Position of each row in the files."""
    return (batch.slot_ids_BS[:, POSITION] for batch in batches)


def mixed(data: TrainingData) -> float:
    """Mixing of an epoch."""
    return mixing(positions(epoch(data)))


def timed(batches: Callable[[], Iterable[Batch]], sizes: Sizes) -> tuple[int, float]:
    """(rows, median seconds) of one pass over all batches."""
    rows = 0

    def run() -> None:
        nonlocal rows
        rows = sum(len(batch) for batch in batches())
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    seconds = median_seconds(run, repeat=sizes.repeat)
    return rows, seconds


def baselines(spec: DatasetSpec, window: Window, sizes: Sizes) -> Iterator[tuple[str, int, float]]:
    """(name, rows, seconds): pandas look-ups per row, and a TensorDataset, both through torch's DataLoader."""
    rows = sizes.slow_batches * BATCH
    table = lake_reader.read_table(spec, "scenario_features", columns=COLUMNS, days=DAYS[:1])
    frame = table.to_pandas()
    for name, data, batches in (
        ("pandas look-ups per row", PandasRows(frame), sizes.slow_batches),
        (
            "TensorDataset in a DataLoader",
            TensorDataset(window.slot_ids_NS, window.scenario_N, window.label_N),
            10 * sizes.slow_batches,
        ),
    ):
        loader = iter(DataLoader(data, BATCH, shuffle=True))
        next(loader)  # do not time the permutation
        start = time.perf_counter()
        for _ in range(batches):
            next(loader)
        rows = batches * BATCH
        yield name, rows, time.perf_counter() - start


def row_groups(spec: DatasetSpec) -> Iterator[Batch]:
    """Row groups in file order, cut into batches: no shuffle, no join."""
    table = lake_reader.open_table(spec, "scenario_features")
    names = [c for c in COLUMNS if c != "scenario_id"]
    for path in table.file_uris():
        file = pq.ParquetFile(path.removeprefix("file://"))
        for group in range(file.num_row_groups):
            read = file.read_row_group(group, columns=names)
            slots_NS = torch.stack([torch.from_numpy(read[c].to_numpy().copy()) for c in names[:-1]], dim=1)
            label_N = torch.from_numpy(read["label"].to_numpy().copy()).float()
            for at in range(0, len(label_N), BATCH):
                rows = slice(at, at + BATCH)
                nothing = torch.zeros(len(label_N[rows]), dtype=torch.int64)
                yield Batch(
                    slot_ids_BS=slots_NS[rows],
                    hist_ids_BLA=nothing[:, None, None].int(),
                    hist_scenario_BL=nothing[:, None].short() - 1,
                    scenario_B=nothing,
                    label_B=label_N[rows],
                    shared_B=nothing.bool(),
                )


def load_in_own_process(spec: DatasetSpec, threads: int) -> dict[str, float]:
    """`measured_load` in a new process, whose memory nothing else has used."""
    command = [sys.executable, "-m", "benchmarks.bench_loader", "--load-only", spec.name, "--threads", str(threads)]
    command += ["--max-length", str(spec.sequence.max_length)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {name: float(value) for name, value in json.loads(done.stdout.splitlines()[-1]).items()}


def measured_load(spec: DatasetSpec) -> dict[str, float]:
    """Rows, seconds, bytes of the tensors, and bytes by which the process's peak memory exceeds its memory before."""
    before = _status("VmRSS")
    start = time.perf_counter()
    window = load_window(spec, DAYS)
    seconds = time.perf_counter() - start
    tensors = (getattr(window, f.name) for f in fields(window))
    held = sum(t.untyped_storage().nbytes() for t in tensors if isinstance(t, Tensor))
    return {"rows": len(window), "seconds": seconds, "tensors": held, "peak": _status("VmHWM") - before}


def _status(name: str) -> int:
    """A memory figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _to_gpu(data: ResidentRows) -> Iterator[Batch]:
    return Prefetch(epoch(data), "cuda")


if __name__ == "__main__":
    main()
