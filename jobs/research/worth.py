"""Is a model worth its cost? Its gains over several bases, with intervals, beside parameters, seconds and rows/s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jobs.research import tables
from msr_models.experiments.comparison import MEAN, Comparison, Line
from msr_models.experiments.trials import Trial
from schemas.text import markdown_table


def worth(
    comparison: Comparison, bases: Sequence[str], trials: Mapping[str, Sequence[Trial]]
) -> tuple[str, list[Line]]:
    """(Markdown, lines of mean AUC against each base).

    The table is sorted by mean AUC. A model beats a base where both paired intervals of the difference, over seeds and
    over users, lie above 0.
    """
    by_base = {base: comparison.against(base, MEAN) for base in bases}
    found = {(line.base, line.group): line for lines in by_base.values() for line in lines}
    means = {group: float(np.mean(_aucs(comparison, group))) for group in trials}
    rows = [
        [
            group,
            tables.number(means[group]),
            *(_gain(found.get((base, group))) for base in bases),
            *_costs(trials[group]),
        ]
        for group in sorted(trials, key=lambda group: -means[group])
    ]
    heads = [f"against {base}: 95 % over seeds; over users" for base in bases]
    table = markdown_table(["", "mean AUC", *heads, "parameters", "seconds", "samples/s"], rows)
    return table + "\n" + "".join(_beaten(base, by_base[base]) for base in bases), [*found.values()]


def beats(line: Line) -> bool:
    """Whether both intervals of the difference lie above 0."""
    ends = (line.seeds_low, line.users_low)
    return all(end is not None and end > 0 for end in ends)


def _beaten(base: str, lines: Sequence[Line]) -> str:
    better = sorted((line for line in lines if beats(line)), key=lambda line: -(line.difference or 0.0))
    names = ", ".join(line.group for line in better) or "none"
    return f"Better than {base} (both intervals above 0): {len(better)} of {len(lines)}: {names}.\n\n"


def _aucs(comparison: Comparison, group: str) -> list[float]:
    return [value for value in comparison.values(group, MEAN) if value is not None]


def _gain(line: Line | None) -> str:
    if line is None:
        return ""
    gain = tables.number(line.difference, signed=True)
    seeds = tables.span(line.seeds_low, line.seeds_high, signed=True)
    users = tables.span(line.users_low, line.users_high, signed=True)
    return f"{gain} ({seeds}; {users})"


def _costs(trials: Sequence[Trial]) -> list[str]:
    """Parameters, and medians over the seeds of the seconds of a training and its speed."""
    seconds, speed = (
        float(np.median([trial.record[name] for trial in trials])) for name in ("seconds", "samples_per_second")
    )
    return [f"{trials[0].record['parameters']:,}", f"{seconds:.1f}", f"{speed:,.0f}"]
