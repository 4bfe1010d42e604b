"""Which way of loading a window takes, and what the machine has left."""

from __future__ import annotations

from dataclasses import fields
from datetime import date
from pathlib import Path

import pytest
import torch

from msr_models.data import memory
from msr_models.data.memory import FIXED_BYTES, GB, available_memory, choose_mode, require_streamable, window_bytes
from msr_models.data.window import load_window
from schemas.errors import TrainingError
from tests.support.tiny_lake import WITH_ATTRIBUTE, tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, 2), date(2026, 1, 3)]


def test_the_estimate_covers_the_tensors_closely(lake: Path) -> None:
    spec = tiny_dataset(sequence=WITH_ATTRIBUTE)
    write_tiny_lake(spec, DAYS, rows_per_day=300)
    window = load_window(spec, DAYS)
    tensors = sum(v.nbytes for f in fields(window) if isinstance(v := getattr(window, f.name), torch.Tensor))
    estimated = (window_bytes(spec, DAYS) - FIXED_BYTES) / memory.LOADING_PEAK
    assert tensors <= estimated <= 1.15 * tensors
    one_day = (window_bytes(spec, DAYS[:1], versions=window.table_versions) - FIXED_BYTES) / memory.LOADING_PEAK
    assert 0.4 < one_day / estimated < 0.6


def test_the_mode_follows_what_fits() -> None:
    assert choose_mode("auto", 5, 5) == "resident" and choose_mode("auto", 6, 5) == "streamed"
    assert choose_mode("resident", 5, 5) == "resident" and choose_mode("streamed", 1, 5) == "streamed"
    with pytest.raises(
        TrainingError, match=r"needs 3\.00 GB .* 1\.50 GB are available.*training\.loading: streamed.*memory_gb"
    ):
        choose_mode("resident", 3 * GB, 3 * GB // 2)


def machine(root: Path, free_gb: int, groups: dict[str, str], cgroup: str) -> Path:
    """A root with /proc and /sys as Linux shows them."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {free_gb * 2**20} kB\n")
    (root / "proc/self/cgroup").write_text(cgroup)
    for path, text in groups.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_the_least_of_machine_group_and_setting_counts(tmp_path: Path) -> None:
    two = machine(
        tmp_path / "two",
        8,
        {
            "a/memory.max": f"{4 * GB}\n",
            "a/memory.current": f"{3 * GB}\n",
            "a/memory.stat": f"anon 5\ninactive_file {2 * GB}\n",
            "a/b/memory.max": "max\n",
            "a/b/memory.current": "0\n",
            "a/b/memory.stat": "inactive_file 0\n",
        },
        "0::/a/b\n",
    )
    assert available_memory(root=two) == 3 * GB  # the parent's limit; cached files are given up on demand
    assert available_memory(2, root=two) == 2 * GB and available_memory(99, root=two) == 3 * GB
    one = machine(
        tmp_path / "one",
        8,
        {
            "memory/memory.limit_in_bytes": f"{5 * GB}\n",
            "memory/memory.usage_in_bytes": f"{GB}\n",
            "memory/memory.stat": "inactive_file 0\n",
        },
        "9:cpu:/x\n4:memory:/not/visible/here\n0::/\n",
    )
    assert available_memory(root=one) == 4 * GB
    assert available_memory(root=machine(tmp_path / "none", 8, {}, "0::/\n")) == 8 * GB


def test_an_unknown_machine_needs_the_setting(tmp_path: Path) -> None:
    assert available_memory(1.5, root=tmp_path) == 3 * GB // 2
    with pytest.raises(TrainingError, match=r"training\.memory_gb"):
        available_memory(root=tmp_path)


def test_streaming_needs_two_buckets_and_the_disk(tmp_path: Path) -> None:
    require_streamable(tmp_path, disk_bytes=1, bucket_bytes=1, memory_gb=None)
    with pytest.raises(TrainingError, match=r"needs 4\.25 GB for two buckets and 1\.00 GB"):
        require_streamable(tmp_path, disk_bytes=1, bucket_bytes=2 * GB, memory_gb=1)
    with pytest.raises(TrainingError, match=r"needs 1073741824\.00 GB of disk .* are free; point TMPDIR"):
        require_streamable(tmp_path, disk_bytes=GB * 2**30, bucket_bytes=1, memory_gb=None)
