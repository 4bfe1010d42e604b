"""Training step of every registered model against SharedBottom's: samples/s at 3 and 12 scenarios.

Default options, batches of 4096, 18 fields with embeddings of width 16, with no and with a tenth of the rows shared.
Models read no behaviours; those that require them get 20 per row and are compared with SharedBottom with `din` on the
same rows.

A model's steps alternate with SharedBottom's, and a ratio is the median over rounds, so that load on the machine
affects both alike. A model below half of SharedBottom's samples/s at 12 scenarios must explain it in a paragraph
`Cost:` of its docstring.

  python -m benchmarks.bench_models
  python -m benchmarks.bench_models --quick --models two_ways
"""

from __future__ import annotations

import argparse
import gc
import inspect
import itertools
import logging
import re
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks import harness
from benchmarks.synthetic import FIELDS, endless_batches, synthetic_window
from msr_models.data.window import Window
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model, known_models, model_class, parse_options
from msr_models.training.memory import keep_freed_memory
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.step import TrainStep
from schemas.errors import TrainingError

log = logging.getLogger(__name__)

BATCH, BATCHES, BEHAVIOURS = 4096, 4, 20
BASE = "shared_bottom"
SHARES = (0.0, 0.1)
# Required samples/s relative to SharedBottom's, at this many scenarios
LOWEST_RATIO, TARGET_SCENARIOS = 0.5, 12
COLUMNS = ["model", "K", "behaviours", "parameters", *(f"samples/s, share {s:g}" for s in SHARES)]
COLUMNS += [f"ratio, share {s:g}" for s in SHARES]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A model and the number of behaviours per row that it is timed with."""

    model: str
    options: Mapping[str, Any]
    behaviours: int = 0


def form_of(name: str) -> Form:
    """The model with default options, without behaviours unless it requires them."""
    layout = replace(synthetic_window(1, 100_000, 1, 0.0).layout, hist_length=0)
    try:
        build_model(name, {}, layout, 2, 1)
    except TrainingError:
        return Form(model=name, options={}, behaviours=BEHAVIOURS)
    pools = hasattr(parse_options(name, {}), "sequence_pooling")
    return Form(model=name, options={"sequence_pooling": "none"} if pools else {})


def base_of(form: Form) -> Form:
    """SharedBottom on the same rows, with `din` if they have behaviours."""
    pooling = "din" if form.behaviours else "none"
    return Form(model=BASE, options={"sequence_pooling": pooling}, behaviours=form.behaviours)


def window_of(form: Form, table_rows: int, num_scenarios: int) -> Window:
    """BATCHES batches; row n sees `form.behaviours` items from position n on of one long random list."""
    window = synthetic_window(BATCHES * BATCH, table_rows, num_scenarios, 0.0)
    if not form.behaviours:
        return window
    generator = torch.Generator().manual_seed(3)
    items = window.layout.num_rows[window.layout.item_field]
    num_items = 1 + len(window) + form.behaviours
    hist_ids_HA = 1 + (torch.rand((num_items, 1), generator=generator) ** 3 * (items - 1)).to(torch.int32)
    hist_ids_HA[0] = 0
    start_N = torch.arange(1, len(window) + 1, dtype=torch.int32)
    return replace(
        window,
        layout=replace(window.layout, hist_length=form.behaviours),
        hist_ids_HA=hist_ids_HA,
        hist_scenario_H=torch.arange(-1, num_items - 1).remainder(num_scenarios).to(torch.int16),
        hist_start_N=start_N,
        hist_end_N=start_N + form.behaviours,
    )


class TimedSteps:
    """A model in its last training phase, its optimiser, and batches for each share."""

    def __init__(self, form: Form, window: Window) -> None:
        self.model = build_model(form.model, form.options, window.layout, window.num_scenarios, 1)
        if self.model.pretraining_epochs:
            self.model.end_pretraining()
        self._step = TrainStep(self.model, Optimiser(self.model, OptimiserConfig()), "fp32", Processes())
        draw_N = torch.rand(len(window), generator=torch.Generator().manual_seed(7))
        self.batches = {share: endless_batches(replace(window, shared_N=draw_N < share), BATCH) for share in SHARES}

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.model.parameters())

    def seconds(self, share: float) -> float:
        """Duration of one step, without drawing its batch."""
        batch = next(self.batches[share])
        start = time.perf_counter()
        self._step(batch, len(batch))
        return time.perf_counter() - start


def measure(steps: TimedSteps, base: TimedSteps, rounds: int, seconds: float) -> dict[float, tuple[float, float]]:
    """Share -> (the model's median seconds, median over rounds of base seconds / model seconds).

    Runs at least `rounds` rounds and at least `seconds` in total, after one warm-up round.
    """
    taken: dict[float, list[tuple[float, float]]] = {}
    passed, number = 0.0, -1
    while number < rounds or passed < seconds:
        round_of = {share: (base.seconds(share), steps.seconds(share)) for share in SHARES}
        number += 1
        if number:
            passed += sum(map(sum, round_of.values()))
            for share, pair in round_of.items():
                taken.setdefault(share, []).append(pair)
    return {
        share: (statistics.median(own for _, own in pairs), statistics.median(its / own for its, own in pairs))
        for share, pairs in taken.items()
    }


def compare(options: argparse.Namespace) -> tuple[harness.Table, list[harness.Target]]:
    """Every model at every K, and the targets at TARGET_SCENARIOS."""
    table = harness.Table(
        title=f"Training step of every model (B {BATCH}, F {FIELDS}, default options, {options.threads} threads)",
        columns=COLUMNS,
        baseline="SharedBottom on the same rows, in turns",
    )
    targets = []
    forms = [form_of(name) for name in options.models]
    for k in options.scenarios:
        for behaviours in sorted({form.behaviours for form in forms}):
            here = [form for form in forms if form.behaviours == behaviours]
            window = window_of(here[0], options.table_rows, k)
            base = TimedSteps(base_of(here[0]), window)
            for form in here:
                steps = TimedSteps(form, window)
                found = measure(steps, base, options.rounds, options.seconds)
                speeds, ratios = ([BATCH / own for own, _ in found.values()], [ratio for _, ratio in found.values()])
                table.add(form.model, k, behaviours, steps.parameters, *speeds, *ratios)
                log.info(table.last_row())
                if k == TARGET_SCENARIOS:
                    targets.append(target_of(form.model, min(ratios)))
                del steps
                gc.collect()
    return table, targets


def target_of(name: str, ratio: float) -> harness.Target:
    """At least half of SharedBottom's samples/s, or a reason. ratio: the lower of both shares."""
    reason = gives_reason(model_class(name))
    measured = f"{ratio:.2f}x"
    if ratio < LOWEST_RATIO:
        measured += "; no: its docstring gives the reason" if reason else "; no, and its docstring gives no reason"
    required = f">= {LOWEST_RATIO}x, or a reason in its docstring"
    return harness.Target(
        what=f"{name}, K {TARGET_SCENARIOS}", required=required, measured=measured, met=ratio >= LOWEST_RATIO or reason
    )


def gives_reason(model: type[MultiScenarioModel]) -> bool:
    """Whether the docstring of the model or of a base class has a paragraph `Cost:`."""
    classes = itertools.takewhile(lambda part: part is not MultiScenarioModel, inspect.getmro(model))
    return any(re.search(r"\bCost:", part.__doc__ or "") for part in classes)


def main() -> None:
    """Run and report."""
    parser = harness.parser(__doc__ or "")
    parser.add_argument(
        "--models", help="names separated by commas (default: all); results of some are not kept in git"
    )
    parser.add_argument(
        "--rounds", type=int, help="fewest timed steps of each model, K and share (default: 7, quick 2)"
    )
    parser.add_argument("--seconds", type=float, help="of timed steps per model and K (default: 8, quick 0.7)")
    options = parser.parse_args()
    if options.models and not options.out:
        options.out = harness.RESULTS / "models.some.quick.json"
    try:
        options.models = named(options.models)
    except TrainingError as error:
        parser.error(str(error))
    options.rounds = options.rounds or (2 if options.quick else 7)
    options.seconds = (0.7 if options.quick else 8.0) if options.seconds is None else options.seconds
    options.table_rows = 100_000 if options.quick else 1_000_000
    options.scenarios = (TARGET_SCENARIOS,) if options.quick else (3, TARGET_SCENARIOS)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    table, targets = compare(options)
    notes = [
        "The row shared_bottom compares SharedBottom with itself: its distance from 1 is noise.",
        "Targets take the lower ratio of both shares. Default widths differ by model: see docs/models.md.",
        "finetune: its second phase.",
        "On rows with behaviours, SharedBottom pools them with `din`.",
    ]
    harness.report(
        "models",
        [table],
        command="python -m benchmarks.bench_models",
        libraries=["torch"],
        options=options,
        targets=targets,
        notes=notes,
    )


def named(models: str | None) -> list[str]:
    """All registered models, or those of the list. Raises TrainingError for an unknown name."""
    names = known_models() if models is None else list(dict.fromkeys(models.split(",")))
    for name in names:
        model_class(name)
    return names


if __name__ == "__main__":
    main()
