"""Command lines that error messages name: the only place that knows how a step is started."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from schemas.dataset_spec import DatasetSpec


def command(step: str, dataset: DatasetSpec | str, *options: str) -> str:
    """`python -m jobs.<step> --dataset <name> <options>`; `dataset` may be given by its name."""
    name = dataset if isinstance(dataset, str) else dataset.name
    return " ".join([f"python -m jobs.{step} --dataset {name}", *options])


def day_options(days: Sequence[date]) -> str:
    """`--ds DAY` for one day, else `--from FIRST --to LAST` over the range that `days` span."""
    first, last = min(days), max(days)
    return f"--ds {first}" if first == last else f"--from {first} --to {last}"
