"""Whether a window fits into memory, known before it is read: it decides how the window is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Literal

from lake import reader as lake_reader
from msr_models.data import histories, reader
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.pipeline_spec import Loading

LoadingMode = Literal["resident", "streamed"]
GB = 2**30
# Peak of loading over the tensors (benchmarks/bench_loader.py), and what is needed however small the window is.
LOADING_PEAK = 1.3
FIXED_BYTES = 256 * 2**20
# Of a row beside its slots: instance_id, user_key, rank; scenario, day, label, two pointers; shared, twice.
ROW_BYTES = 3 * 8 + 5 * 4 + 2


def window_bytes(dataset: DatasetSpec, days: Sequence[date], *, versions: Mapping[str, int] | None = None) -> int:
    """Peak memory of `load_window` for these days, from the Delta log and the files' footers."""
    pinned = reader.pin_versions(dataset, None, versions)
    rows = sum(lake_reader.count_rows(dataset, reader.FEATURES, days, version=pinned[reader.FEATURES]).values())
    source = lake_reader.open_dataset(dataset, histories.SEQUENCES, [histories.ITEMS], pinned[histories.SEQUENCES])
    slots = sum(f.max_values for f in dataset.encoded_fields) + len(dataset.dense_fields)
    behaviours = histories.count_items(source, days) * histories.bytes_per_behaviour(dataset)
    tensors = rows * (ROW_BYTES + 4 * slots + 4 * len(dataset.columns.further_labels)) + behaviours
    return int(tensors * LOADING_PEAK) + FIXED_BYTES


def available_memory(memory_gb: float | None = None, *, root: Path = Path("/")) -> int:
    """Bytes that this process may still take: the least of the machine's free memory, what the control group leaves
    and memory_gb. `root` is where /proc and /sys lie.
    """
    left = [*_machine(root / "proc/meminfo"), *_control_group(root)]
    if memory_gb is not None:
        left.append(int(memory_gb * GB))
    if not left:
        raise TrainingError("this machine's free memory cannot be determined; set training.memory_gb of the data set")
    return max(0, min(left))


def choose_mode(mode: Loading, needed: int, available: int) -> LoadingMode:
    """`auto` takes resident where it fits.

    Raises TrainingError where resident was asked for and does not fit.
    """
    if mode == "auto":
        return "resident" if needed <= available else "streamed"
    if mode == "resident" and needed > available:
        raise TrainingError(
            f"the window needs {needed / GB:.2f} GB in memory and {available / GB:.2f} GB are available; set "
            "training.loading: streamed, a higher training.memory_gb or fewer training.window_days in the data set"
        )
    return mode


def require_streamable(folder: Path, *, disk_bytes: int, bucket_bytes: int, memory_gb: float | None) -> None:
    """Raises TrainingError where two buckets (one trains, one is read) exceed memory, or all buckets the disk."""
    available = available_memory(memory_gb)
    needed = 2 * bucket_bytes + FIXED_BYTES
    if needed > available:
        raise TrainingError(
            f"streaming needs {needed / GB:.2f} GB for two buckets and {available / GB:.2f} GB are available; "
            "free memory or set a higher training.memory_gb in the data set"
        )
    free = shutil.disk_usage(folder).free
    if disk_bytes > free:
        raise TrainingError(
            f"streaming needs {disk_bytes / GB:.2f} GB of disk in {folder.parent} and {free / GB:.2f} GB are free; "
            "point TMPDIR at a larger disk or take fewer training.window_days"
        )


def _machine(meminfo: Path) -> list[int]:
    lines = meminfo.read_text().splitlines() if meminfo.is_file() else []
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]


def _control_group(root: Path) -> list[int]:
    """What each control group that this process is in leaves; version 2 and version 1."""
    listed = root / "proc/self/cgroup"
    left: list[int] = []
    for line in listed.read_text().splitlines() if listed.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base = root / "sys/fs/cgroup" / controllers
        names = (
            ("memory.max", "memory.current") if not controllers else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        inside = base / path.strip("/")
        # A container may see its own group as the root: what is listed then does not exist.
        for group in (inside, *inside.parents):
            if group.is_relative_to(base):
                left += _left(group, *names)
    return left


def _left(group: Path, limit: str, usage: str) -> list[int]:
    try:
        most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return []
    # Cached file pages count as used, but are given up on demand.
    return [] if most == "max" else [int(most) - used + int(stat.get("inactive_file", 0))]
