"""Training steps per second: a naive implementation against this project's, on synthetic rows.

Shapes: 18 fields, embeddings of width 16, MLP 1024-512-256, batches of 4096. `reuse` trains a target model with given
masks; `search` is the joint step of SSIM (eq. 15), which also trains the gate. Both share a given part of the rows.

  python -m benchmarks.bench_step              on the CPU
  python -m benchmarks.bench_step --device cuda
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks import harness
from benchmarks.arithmetic import BATCH, HIDDEN, WIDTH, peak_gflops, products_gflop
from benchmarks.naive import NaiveModel, NaiveStep
from benchmarks.synthetic import endless_batches, synthetic_window
from msr_models.data.batch import Batch
from msr_models.data.window import Window
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model
from msr_models.ssim.divergence import divergence_from_all_shared
from msr_models.ssim.objective import gated_logits, shared_instance_loss, tower_losses
from msr_models.ssim.selector import Selector, field_vectors
from msr_models.training.memory import keep_freed_memory
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.step import TrainStep, autocast, make_step
from schemas.pipeline_spec import Precision

log = logging.getLogger(__name__)

SHARES = (0.0, 0.1, 0.3, 0.95)
MODEL = {"embedding_dim": WIDTH, "hidden": HIDDEN, "sequence_pooling": "none"}
Step = Callable[[Batch], Tensor]


def _whole_batch(step: TrainStep, batch: Batch) -> Tensor:
    return step(batch, BATCH)


def reuse_step(window: Window, precision: Precision) -> tuple[MultiScenarioModel, Step]:
    """The trainer's own step."""
    model = _model(window)
    step = make_step(model, Optimiser(model, OptimiserConfig()), precision, BATCH, Processes())
    return model, lambda batch: step(batch, len(batch))


def search_step(window: Window) -> Step:
    """The search's joint step; the gate takes the window's shared rows."""
    model = _model(window)
    generator = torch.Generator().manual_seed(2)
    selector = Selector(window.layout, WIDTH, window.num_scenarios, (128, 64), "dense", generator)
    selector.to(window.label_N.device)
    optimiser = Optimiser(model, OptimiserConfig())
    selector_optimiser = torch.optim.Adam([p for p in selector.parameters() if p.requires_grad], lr=1e-3, fused=True)

    def step(batch: Batch) -> Tensor:
        share_logits_B = selector(field_vectors(model.embedding, batch), batch.scenario_B)
        probs_B = share_logits_B.sigmoid()
        gate_B = batch.shared_B.float() + (probs_B - probs_B.detach())
        with autocast("auto", batch.label_B.device.type):
            logits_BK, _ = gated_logits(model, batch, gate_B)
        losses_BK = tower_losses(logits_BK, batch.label_B)
        loss = shared_instance_loss(gate_B, losses_BK, batch.scenario_B)
        loss = loss + 0.5 * divergence_from_all_shared("bernoulli", gate_B, share_logits_B)
        selector_optimiser.zero_grad()
        loss.backward()
        selector_optimiser.step()
        optimiser.step()
        return loss.detach()

    return step


def _model(window: Window) -> MultiScenarioModel:
    return build_model("shared_bottom", MODEL, window.layout, window.num_scenarios, 1).to(window.label_N.device)


def rows_per_second(step: Step, window: Window, steps: int, warm_up: int) -> float:
    """Rows/s of whole steps, drawing their shuffled batches included.

    On a CPU by the median step, since other processes may take a core for a while; on a GPU, where the host runs ahead,
    by all steps together.
    """
    batches = endless_batches(window, BATCH)
    for batch in itertools.islice(batches, warm_up):
        step(batch)
    _wait(window)
    ends = [time.perf_counter()]
    for batch in itertools.islice(batches, steps):
        step(batch)
        ends.append(time.perf_counter())
    _wait(window)
    if window.label_N.device.type == "cuda":
        return steps * BATCH / (time.perf_counter() - ends[0])
    return BATCH / statistics.median(b - a for a, b in itertools.pairwise(ends))


def _wait(window: Window) -> None:
    if window.label_N.device.type == "cuda":
        torch.cuda.synchronize()


def product_seconds(step: Step, window: Window, steps: int) -> tuple[float, list[tuple[str, float]]]:
    """Seconds per step in matrix products, and ms per step of the ten most expensive operators (from the profiler)."""
    batches = endless_batches(window, BATCH)
    for batch in itertools.islice(batches, 2):
        step(batch)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for batch in itertools.islice(batches, steps):
            step(batch)
    cost = {e.key: e.self_cpu_time_total / steps for e in profile.key_averages()}
    products = sum(
        us for key, us in cost.items() if key in ("aten::_grouped_mm", "aten::mm", "aten::bmm", "aten::addmm")
    )
    costliest = sorted(cost.items(), key=lambda item: -item[1])[:10]
    return products / 1e6, [(key, us / 1e3) for key, us in costliest]


def compare(options: argparse.Namespace) -> tuple[harness.Table, dict[tuple[str, int, int, float], float]]:
    """Rows/s of every combination, and the ratios by (step, K, table rows, share)."""
    table = harness.Table(
        title=f"Step, rows/s ({options.device}, B {BATCH}, F 18, D {WIDTH}, MLP {'-'.join(map(str, HIDDEN))})",
        columns=["step", "K", "table rows", "share", "naive", "ours fp32", "ratio", "ours bf16", "ratio bf16"],
        baseline="all towers on all rows, dense Adam, second look-up",
    )
    ratios = {}
    cuda = options.device == "cuda"
    for kind, k, size in itertools.product(("reuse", "search"), options.scenarios, options.table_rows):
        if cuda and kind == "search" and size != options.table_rows[0]:
            continue
        window = synthetic_window(64 * BATCH if cuda else 8 * BATCH, size, k, 0.0).to(options.device)
        steps = 10 * options.steps if cuda else options.steps
        torch.manual_seed(1)
        naive = NaiveStep(NaiveModel(window.layout, WIDTH, HIDDEN, k).to(options.device), kind)
        base = rows_per_second(naive, _shared(window, 0.1), steps, 1)
        del naive
        _free()
        for share in options.shares:
            shared = _shared(window, share)
            speed: dict[str, float | None] = {"fp32": None, "bf16": None}
            for precision in ("fp32", "bf16") if kind == "reuse" else ("fp32",):
                step = reuse_step(shared, precision)[1] if kind == "reuse" else search_step(shared)
                count = 10 * steps if cuda else steps
                speed[precision] = rows_per_second(step, shared, count, 10 if cuda else 2)
                del step
                _free()
            ratio = [None if s is None else s / base for s in speed.values()]
            table.add(kind, k, size, share, base, speed["fp32"], ratio[0], speed["bf16"], ratio[1])
            ratios[kind, k, size, share] = ratio[0] or 0.0
            log.info(table.last_row())
    return table, ratios


def _shared(window: Window, share: float) -> Window:
    generator = torch.Generator().manual_seed(7)
    shared_N = torch.rand(len(window), generator=generator) < share
    return replace(window, shared_N=shared_N.to(window.label_N.device))


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


TARGETS = {
    ("reuse", 3, 0.1): 2.5,
    ("reuse", 12, 0.1): 4.5,
    ("reuse", 12, 0.0): 8.0,
    ("search", 3, 0.1): 1.5,
    ("search", 12, 0.1): 2.0,
}


def targets_of(ratios: dict[tuple[str, int, int, float], float]) -> list[harness.Target]:
    """The lowest ratio over table sizes for each target; no ratio at all may be below 1."""
    targets = []
    for (kind, k, share), required in TARGETS.items():
        found = [r for (kind_, k_, _, share_), r in ratios.items() if (kind_, k_, share_) == (kind, k, share)]
        if found:
            what = f"{kind} step, K {k}, share {share:g}"
            targets.append(
                harness.Target(
                    what=what, required=f">= {required}x", measured=f"{min(found):.2f}x", met=min(found) >= required
                )
            )
    worst = min(ratios.values())
    targets.append(
        harness.Target(what="slowest ratio at any share", required=">= 1x", measured=f"{worst:.2f}x", met=worst >= 1)
    )
    return targets


def profile_cpu(options: argparse.Namespace) -> tuple[list[harness.Table], harness.Target]:
    """The most expensive operators of both forms; the matrix products' share of the machine's peak."""
    window = _shared(synthetic_window(8 * BATCH, options.table_rows[0], options.scenarios[-1], 0.0), 0.1)
    k = window.num_scenarios
    naive = NaiveStep(NaiveModel(window.layout, WIDTH, HIDDEN, k), "reuse")
    tables = []
    for name, step in (("naive", naive), ("ours", reuse_step(window, "fp32")[1])):
        seconds, costliest = product_seconds(step, window, options.steps)
        title = f"Profile of the reuse step, {name}: K {k}, share 0.1, {options.table_rows[0]:,} table rows"
        table = harness.Table(title=title, columns=["operator", "ms per step"])
        for key, ms in costliest:
            table.add(key, ms)
        tables.append(table)
    peak = peak_gflops("cpu", torch.float32)
    reached = products_gflop(window, 0.1) / seconds
    what = f"products of the reuse step against the matrix-product peak ({peak:,.0f} GFLOP/s)"
    return tables, harness.Target(
        what=what, required=">= 70 %", measured=f"{reached / peak:.0%}", met=reached >= 0.7 * peak
    )


def on_gpu(options: argparse.Namespace) -> tuple[harness.Table, list[harness.Target]]:
    """Kernel launches of the reuse step, and its time relative to its arithmetic at peak speed."""
    peak = peak_gflops("cuda", torch.bfloat16)
    table = harness.Table(
        title=f"Reuse step, share 0.1, {options.table_rows[0]:,} table rows; bf16 peak {peak / 1e3:,.0f} TFLOP/s",
        columns=["K", "rows/s", "ms per step", "kernels", "launches", "GFLOP", "floor ms", "of the floor"],
    )
    targets = []
    for k, required in ((3, 5e6), (12, 2e6)):
        window = _shared(synthetic_window(64 * BATCH, options.table_rows[0], k, 0.0).to("cuda"), 0.1)
        model = _model(window)
        step = make_step(model, Optimiser(model, OptimiserConfig()), "bf16", BATCH, Processes())
        # The best of three: other processes may use the host
        rate = max(rows_per_second(partial(_whole_batch, step), window, 1000, 20) for _ in range(3))
        plain = TrainStep(model, step.optimiser, "bf16", Processes())
        batch = next(endless_batches(window, BATCH))
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            plain(batch, BATCH)
            torch.cuda.synchronize()
        kernels = sum(e.count for e in profile.key_averages() if e.device_type.name == "CUDA")
        gflop = products_gflop(window, 0.1)
        milliseconds, floor = 1e3 * BATCH / rate, gflop / peak * 1e3
        table.add(k, rate, milliseconds, kernels, 1, gflop, floor, f"{floor / milliseconds:.0%}")
        targets.append(
            harness.Target(
                what=f"GPU, K {k}, share 0.1",
                required=f">= {required:,.0f}",
                measured=f"{rate:,.0f}",
                met=rate >= required,
            )
        )
        _free()
    return table, targets


def main() -> None:
    """Run and report."""
    parser = harness.parser(__doc__ or "")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--steps", type=int, help="timed steps of each case (default: 6, quick 2)")
    options = parser.parse_args()
    options.steps = options.steps or (2 if options.quick else 6)
    options.scenarios = (3,) if options.quick else (3, 12)
    options.table_rows = (1_000_000,) if options.quick else (1_000_000, 10_000_000)
    options.shares = (0.0, 0.1) if options.quick else SHARES
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    gpu: dict[str, harness.Cell] = {}
    if options.device == "cpu":
        table, ratios = compare(options)
        profiles, target = profile_cpu(options)
        tables, targets = [table, *profiles], [*targets_of(ratios), target]
    else:
        gpu["gpu"] = torch.cuda.get_device_name()
        on_device, targets = on_gpu(options)
        tables = [on_device, compare(options)[0]]
    command = "python -m benchmarks.bench_step" + (f" --device {options.device}" if options.device != "cpu" else "")
    notes = ["The naive step costs the same at every share; it was measured once per K and table size."]
    name = "step" if options.device == "cpu" else "step_gpu"
    harness.report(
        name,
        tables,
        command=command,
        libraries=["torch"],
        options=options,
        targets=targets,
        notes=notes,
        extra_machine=gpu,
    )


if __name__ == "__main__":
    main()
