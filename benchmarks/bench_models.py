"""Training step of every registered model against SharedBottom's: samples/s at 3 and 12 scenarios.

Every model has its default options, batches of 4096 and 18 fields with embeddings of 16. Models read the fields alone;
those that cannot be without behaviours get 20 per row and are held against SharedBottom with `din` on the same rows.
A tenth of the rows shared stands beside none shared.

A model's steps take turns with SharedBottom's, and a ratio is the median over rounds of one turn's, so that a slow
minute of the machine is both's. Below half of SharedBottom's samples/s at 12 scenarios a model has to say why in a
paragraph `Cost:` of its docstring.

  python -m benchmarks.bench_models
  python -m benchmarks.bench_models --quick --models two_ways
"""

from __future__ import annotations

import argparse
import gc
import inspect
import itertools
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks import harness
from benchmarks.synthetic import FIELDS, synthetic_window
from msr_models.data.batch import Batch
from msr_models.data.source import ResidentRows
from msr_models.data.window import Window
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model, known_models, model_class, parse_options
from msr_models.training.memory import keep_freed_memory
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.step import TrainStep
from schemas.errors import TrainingError

BATCH, BATCHES, BEHAVIOURS = 4096, 4, 20
BASE = "shared_bottom"
SHARES = (0.0, 0.1)
# The bar of the model zoo: samples/s over SharedBottom's, at this many scenarios.
BAR, BAR_SCENARIOS = 0.5, 12
COLUMNS = ["model", "K", "behaviours", "parameters", *(f"samples/s, share {s:g}" for s in SHARES)]
COLUMNS += [f"ratio, share {s:g}" for s in SHARES]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A model to be timed on rows with this many behaviours."""

    model: str
    options: Mapping[str, Any]
    behaviours: int = 0


def form_of(name: str) -> Form:
    """The model's default options on the fields alone, or with behaviours where it cannot be without."""
    layout = replace(synthetic_window(1, 100_000, 1, 0.0).layout, hist_length=0)
    try:
        build_model(name, {}, layout, 2, 1)
    except TrainingError:
        return Form(model=name, options={}, behaviours=BEHAVIOURS)
    pools = hasattr(parse_options(name, {}), "sequence_pooling")
    return Form(model=name, options={"sequence_pooling": "none"} if pools else {})


def base_of(form: Form) -> Form:
    """SharedBottom on the same rows: with behaviours, it attends to them too."""
    pooling = "din" if form.behaviours else "none"
    return Form(model=BASE, options={"sequence_pooling": pooling}, behaviours=form.behaviours)


def window_of(form: Form, table_rows: int, num_scenarios: int) -> Window:
    """BATCHES batches; behaviours: each row sees the next `form.behaviours` of one long list of random items."""
    window = synthetic_window(BATCHES * BATCH, table_rows, num_scenarios, 0.0)
    if not form.behaviours:
        return window
    generator = torch.Generator().manual_seed(3)
    items = window.layout.num_rows[window.layout.item_field]
    num_items = 1 + len(window) + form.behaviours
    hist_items = 1 + (torch.rand(num_items, generator=generator) ** 3 * (items - 1)).to(torch.int32)
    hist_items[0] = 0
    start_N = torch.arange(1, len(window) + 1, dtype=torch.int32)
    return replace(
        window,
        layout=replace(window.layout, hist_length=form.behaviours),
        hist_items=hist_items,
        hist_start_N=start_N,
        hist_end_N=start_N + form.behaviours,
    )


class TimedSteps:
    """A form's own model and optimiser, in the phase in which the model ends, and batches of each share."""

    def __init__(self, form: Form, window: Window) -> None:
        self.model = build_model(form.model, form.options, window.layout, window.num_scenarios, 1)
        if self.model.pretraining_epochs:
            self.model.end_pretraining()
        self._step = TrainStep(self.model, Optimiser(self.model, OptimiserConfig()), "fp32", Processes())
        draw_N = torch.rand(len(window), generator=torch.Generator().manual_seed(7))
        self.batches = {share: _endless(replace(window, shared_N=draw_N < share)) for share in SHARES}

    @property
    def parameters(self) -> int:
        """All numbers that are learned."""
        return sum(p.numel() for p in self.model.parameters())

    def seconds(self, share: float) -> float:
        """Of one step, its batch drawn before."""
        batch = next(self.batches[share])
        start = time.perf_counter()
        self._step(batch, len(batch))
        return time.perf_counter() - start


def _endless(window: Window) -> Iterator[Batch]:
    return itertools.cycle(ResidentRows(window, torch.arange(len(window))).batches(BATCH, 1, 1))


def measure(steps: TimedSteps, base: TimedSteps, rounds: int, seconds: float) -> dict[float, tuple[float, float]]:
    """Share -> (the model's median seconds, median over rounds of the base's seconds over the model's).

    At least `rounds` rounds, more until `seconds` have passed in them; one before them warms up.
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


def compare(options: argparse.Namespace) -> tuple[harness.Table, list[harness.Bar]]:
    """Every model at every K, the bars at the last."""
    table = harness.Table(
        title=f"Training step of every model (B {BATCH}, F {FIELDS}, default options, {options.threads} threads)",
        columns=COLUMNS,
        baseline="SharedBottom on the same rows, in turns",
    )
    bars = []
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
                print(" ".join(harness.shown(c) for c in table.rows[-1]), file=sys.stderr, flush=True)
                if k == BAR_SCENARIOS:
                    bars.append(bar_of(form.model, min(ratios)))
                del steps
                gc.collect()
    return table, bars


def bar_of(name: str, ratio: float) -> harness.Bar:
    """At least half of SharedBottom's samples/s, or a reason; ratio: the lower one of the shares."""
    reason = gives_reason(model_class(name))
    said = f"{ratio:.2f}x"
    if ratio < BAR:
        said += "; no: its docstring gives the reason" if reason else "; no, and its docstring gives no reason"
    asked = f">= {BAR}x, or a reason in its docstring"
    return harness.Bar(what=f"{name}, K {BAR_SCENARIOS}", asked=asked, measured=said, met=ratio >= BAR or reason)


def gives_reason(model: type[MultiScenarioModel]) -> bool:
    """Whether the docstring of the model, or of what it builds on, has a paragraph `Cost:`."""
    classes = itertools.takewhile(lambda part: part is not MultiScenarioModel, inspect.getmro(model))
    return any(re.search(r"\bCost:", part.__doc__ or "") for part in classes)


def main() -> None:
    """Run and report."""
    parser = harness.parser(__doc__ or "")
    parser.add_argument("--models", help="names separated by commas (default: all); a run of some is not kept in git")
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
    options.scenarios = (BAR_SCENARIOS,) if options.quick else (3, BAR_SCENARIOS)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    table, bars = compare(options)
    notes = [
        "shared_bottom's own row is SharedBottom against itself: what it is away from 1 is noise.",
        "A bar takes the lower ratio of the shares. Default widths differ by model: see docs/models.md and parameters.",
        "finetune: its second phase.",
        "With behaviours SharedBottom attends to them (`din`), too.",
    ]
    harness.report(
        "models",
        [table],
        command="python -m benchmarks.bench_models",
        libraries=["torch"],
        options=options,
        bars=bars,
        notes=notes,
    )


def named(models: str | None) -> list[str]:
    """All registered models, or those of the list. Raises TrainingError for one that is not known."""
    names = known_models() if models is None else list(dict.fromkeys(models.split(",")))
    for name in names:
        model_class(name)
    return names


if __name__ == "__main__":
    main()
