"""Cost of a search: one epoch and the scores of all its rows, relative to one epoch of MT-Backbone.

Shapes: 18 fields, embeddings of width 16, batches of 4096; towers of 1024-512-256 (`paper`, which has targets) or
128-64 (`default`: as small as the selector, whose products then cost as much as all of MT-Backbone's). The gate shares
30 % of the rows throughout. Reuse epochs train with given masks; their cost should grow only with the tower visits they
make.

  python -m benchmarks.bench_search
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from benchmarks import harness
from benchmarks.arithmetic import BATCH, HIDDEN, WIDTH
from benchmarks.synthetic import synthetic_window
from msr_models.data.source import ResidentRows
from msr_models.data.window import Window
from msr_models.models.registry import build_model
from msr_models.ssim.joint import _Joint
from msr_models.ssim.reference import learn_gate_from_reference
from msr_models.ssim.scoring import score_rows
from msr_models.ssim.search_state import SearchState
from msr_models.ssim.selector import field_vectors
from msr_models.training.memory import keep_freed_memory
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.step import make_step
from schemas.pipeline_spec import SearchSpec

log = logging.getLogger(__name__)

SHARE = 0.3
# So small that the share keeps its initial value
LEARNING_RATE = 1e-9
SHAPES = {"paper": tuple(HIDDEN), "default": SearchSpec().hidden}
OPTIONS = {"sequence_pooling": "none"}
HIGHEST_SEARCH_COST, HIGHEST_REUSE_COST = 2.5, 1.1
# Short turns: over epochs of many seconds the CPU clock differed by a fifth between light and heavy epochs
REUSE_BATCHES, REUSE_TURNS = 2, 15

Epoch = Callable[[], None]


def baseline_epoch(window: Window, hidden: Sequence[int]) -> Epoch:
    """One training epoch of MT-Backbone, or of a target model that reuses shared rows if the window has any."""
    options = {"embedding_dim": WIDTH, "hidden": list(hidden), **OPTIONS}
    model = build_model("shared_bottom", options, window.layout, window.num_scenarios, 1)
    optimiser = Optimiser(model, OptimiserConfig(learning_rate=LEARNING_RATE, weight_decay=1e-6))
    step = make_step(model, optimiser, "fp32", BATCH, Processes())
    # The rows that a search trains on
    rows = _state(window, hidden, {}).rows

    def epoch() -> None:
        model.train()
        for batch in ResidentRows(window, rows).batches(BATCH, 1, 1):
            step(batch, len(batch))

    return epoch


def joint_epoch(window: Window, hidden: Sequence[int], sample: int | None) -> tuple[SearchState, Epoch]:
    """One epoch of the joint phase and the scores of all rows."""
    state = _state(window, hidden, {"objective": "joint", "tower_sample": sample})
    _hold_share(state)
    joint = _Joint(state)

    def epoch() -> None:
        state.epoch("joint", 1, 1, state.rows, joint.step)
        score_rows(state.selector, window)

    return state, epoch


def reference_epoch(window: Window, hidden: Sequence[int], sample: int | None) -> Epoch:
    """The reference gains, one epoch of the gate, and the scores; warm-up epochs cost what MT-Backbone's cost."""
    state = _state(window, hidden, {"objective": "reference", "tower_sample": sample})

    def epoch() -> None:
        learn_gate_from_reference(state)
        score_rows(state.selector, window)

    return epoch


def _state(window: Window, hidden: Sequence[int], changes: dict[str, object]) -> SearchState:
    settings: dict[str, object] = {
        "epochs": 1,
        "batch_size": BATCH,
        "embedding_dim": WIDTH,
        "hidden": tuple(hidden),
        "learning_rate": LEARNING_RATE,
        "selector_learning_rate": LEARNING_RATE,
        "threshold_bounds": (0.0, 1.0),
        "backbone_options": OPTIONS,
    }
    return SearchState(window, SearchSpec.model_validate(settings | changes))


@torch.no_grad()
def _hold_share(state: SearchState) -> None:
    """Set the threshold so that SHARE of the rows lie above it."""
    batch = state.window.batch(state.rows[: 4 * BATCH])
    probs_B = state.selector(field_vectors(state.model.embedding, batch), batch.scenario_B).sigmoid()
    state.gate.threshold.fill_(float(probs_B.quantile(1.0 - SHARE)))


def median_seconds(epochs: dict[str, Epoch], repeat: int) -> dict[str, float]:
    """Median seconds of each; epochs take turns, so that load on the machine affects all alike."""
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for turn in range(repeat + 1):
        for name, epoch in epochs.items():
            start = time.perf_counter()
            epoch()
            if turn:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def search_cost(options: argparse.Namespace) -> tuple[harness.Table, list[harness.Target]]:
    """Search and scores of one epoch, relative to MT-Backbone's."""
    table = harness.Table(
        title=f"One epoch of {options.batches * BATCH:,} rows, seconds (share {SHARE}, {options.threads} threads)",
        columns=["MLP", "K", "form", "share rate", "seconds", "ratio"],
        baseline="one epoch of MT-Backbone",
    )
    targets = []
    for shape in options.shapes:
        for k in options.scenarios:
            window = synthetic_window(options.batches * BATCH, options.table_rows, k, 0.0)
            states, epochs = {}, {"MT-Backbone": baseline_epoch(window, SHAPES[shape])}
            for sample in (None, *options.samples):
                name = "joint, exact" if sample is None else f"joint, {sample} drawn"
                states[name], epochs[name] = joint_epoch(window, SHAPES[shape], sample)
            for sample in (None, 2):
                name = "reference, exact" if sample is None else "reference, 2 + 1 drawn"
                epochs[name] = reference_epoch(window, SHAPES[shape], sample)
            seconds = median_seconds(epochs, options.repeat)
            for name, value in seconds.items():
                rate = float(states[name].curves[-1]["share_rate"]) if name in states else None
                ratio = value / seconds["MT-Backbone"]
                table.add(shape, k, name, rate, value, ratio)
                log.info(table.last_row())
                drawn = name in ("joint, 1 drawn", "reference, 2 + 1 drawn")
                if shape == "paper" and (drawn or (name.endswith("exact") and k == 3)):
                    targets.append(_target(f"search and score, {name}, K {k}", HIGHEST_SEARCH_COST, ratio))
            del states, epochs
            gc.collect()
    return table, targets


def reuse_cost(options: argparse.Namespace) -> tuple[harness.Table, list[harness.Target]]:
    """Epochs of a target that trains with masks, relative to their tower visits."""
    table = harness.Table(
        title=f"{REUSE_BATCHES * BATCH:,} rows of a target model's epoch, seconds",
        columns=["MLP", "K", "share", "visits", "seconds", "ratio", "ratio / visits"],
        baseline="share 0: MT-Backbone",
    )
    targets = []
    shares = (0.0, 0.1, SHARE, 1.0)
    for k in options.scenarios:
        window = synthetic_window(REUSE_BATCHES * BATCH, options.table_rows, k, 0.0)
        draw_N = torch.rand(len(window), generator=torch.Generator().manual_seed(7))
        epochs = {
            str(share): baseline_epoch(replace(window, shared_N=draw_N < share), SHAPES["paper"]) for share in shares
        }
        seconds = median_seconds(epochs, REUSE_TURNS)
        for share in shares:
            ratio, visits = seconds[str(share)] / seconds["0.0"], 1 + share * (k - 1)
            table.add("paper", k, share, visits, seconds[str(share)], ratio, ratio / visits)
            if share:
                targets.append(
                    _target(
                        f"reuse over the visits it makes, K {k}, share {share:g}", HIGHEST_REUSE_COST, ratio / visits
                    )
                )
        del epochs
        gc.collect()
    return table, targets


def _target(what: str, required: float, measured: float) -> harness.Target:
    return harness.Target(what=what, required=f"<= {required}x", measured=f"{measured:.2f}x", met=measured <= required)


def main() -> None:
    """Run and report."""
    options = harness.parser(__doc__ or "").parse_args()
    quick = options.quick
    options.scenarios = (3, 12) if quick else (3, 8, 12)
    options.shapes = ("paper",) if quick else tuple(SHAPES)
    options.samples = (1,) if quick else (1, 2)
    options.batches, options.repeat = (6, 1) if quick else (16, 3)
    options.table_rows = 100_000 if quick else 1_000_000
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    tables, targets = [], []
    for measure in (search_cost,) if quick else (search_cost, reuse_cost):
        table, found = measure(options)
        tables.append(table)
        targets += found
    notes = [
        "reference: excess of all rows, one gate epoch and scores; each warm-up epoch costs one MT-Backbone epoch more."
    ]
    harness.report(
        "search",
        tables,
        command="python -m benchmarks.bench_search",
        libraries=["torch"],
        options=options,
        targets=targets,
        notes=notes,
    )


if __name__ == "__main__":
    main()
