"""Train a model on rows of a window: Adam, early stopping on the mean AUC over scenarios, best epoch's weights kept."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from msr_models.data.window import Window
from msr_models.evaluation.metrics import Floats, logloss, mean_scenario_auc
from msr_models.models.base import MultiScenarioModel, VisitLogits
from msr_models.training.processes import Processes
from schemas.errors import TrainingError
from schemas.pipeline_spec import TrainingSpec

# Steps between two looks at the loss: each look waits for the device.
CHECK_EVERY = 50
PREDICT_ROWS = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerConfig:
    """patience: epochs in a row that may fail to improve validation; one more ends training."""

    batch_size: int
    max_epochs: int
    patience: int
    learning_rate: float
    weight_decay: float
    seed: int

    @classmethod
    def from_spec(cls, spec: TrainingSpec) -> TrainerConfig:
        """The trainer's part of a data set's `training` block."""
        return cls(
            batch_size=spec.batch_size,
            max_epochs=spec.max_epochs,
            patience=spec.patience,
            learning_rate=spec.learning_rate,
            weight_decay=spec.weight_decay,
            seed=spec.seed,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """The kept epoch (1-based) and its validation metrics; the model holds its weights."""

    epochs: int
    validation_auc: float | None
    validation_logloss: float
    train_rows: int
    train_seconds: float


def reuse_loss(visits: VisitLogits, label_B: Tensor, shared_B: Tensor, num_scenarios: int) -> Tensor:
    """SSIM eq. 6 with stored g (eq. 16): l_B = (1 - g) l_own + g (1/K) Σ_k l_k, per row, not reduced.

    The 1/K (tower_reduction mean) keeps a shared row's weight that of any other. With g = 0 each row's one term is
    multiplied by exactly 1, so the numbers are those of MT-Backbone bit for bit.
    """
    label_V = label_B.index_select(0, visits.row_index_V)
    loss_V = F.binary_cross_entropy_with_logits(visits.logits_V.float(), label_V, reduction="none")
    weight_B = torch.where(shared_B, 1.0 / num_scenarios, 1.0)
    weighted_V = loss_V * weight_B.index_select(0, visits.row_index_V)
    return torch.zeros_like(label_B).index_add(0, visits.row_index_V, weighted_V)


def train(
    model: MultiScenarioModel,
    window: Window,
    train_rows: Tensor,
    validation_rows: Tensor,
    config: TrainerConfig,
    *,
    processes: Processes | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> TrainResult:
    """Train `model` in place; rows with window.shared_N visit all towers.

    Deterministic on a CPU given the arguments and the number of threads. Raises TrainingError for labels of one class
    and for a loss that is not finite (naming epoch and batch).
    """
    processes = processes or Processes()
    window.require_both_labels(train_rows)
    # fused: one kernel for all parameters. Its arithmetic does not depend on the loss, so arms stay comparable.
    optimiser = torch.optim.Adam(
        model.parameters(),
        lr=config.learning_rate * model.learning_rate_scale,
        weight_decay=config.weight_decay,
        fused=True,
    )
    start = time.perf_counter()
    best: tuple[float, int, float | None, float] | None = None
    best_weights: dict[str, Tensor] = {}
    with torch.random.fork_rng():
        torch.manual_seed(config.seed + processes.rank)
        for epoch in range(1, config.max_epochs + 1):
            loss = _run_epoch(model, optimiser, window, train_rows, config, epoch, processes)
            auc, cross_entropy = validate(model, window, validation_rows)
            # Without a scenario that has both classes there is no AUC: logloss decides then.
            score = -cross_entropy if auc is None else auc
            shown = "none" if auc is None else f"{auc:.4f}"
            on_progress(
                f"epoch {epoch}/{config.max_epochs}: train loss {loss:.4f}, validation mean AUC {shown}, "
                f"logloss {cross_entropy:.4f}, {epoch * len(train_rows) / (time.perf_counter() - start):,.0f} rows/s"
            )
            if best is None or score > best[0]:
                best = (score, epoch, auc, cross_entropy)
                best_weights = copy.deepcopy(model.state_dict())
            elif epoch - best[1] > config.patience:
                break
    assert best is not None
    model.load_state_dict(best_weights)
    return TrainResult(
        epochs=best[1],
        validation_auc=best[2],
        validation_logloss=best[3],
        train_rows=len(train_rows),
        train_seconds=time.perf_counter() - start,
    )


def epoch_batches(rows: Tensor, batch_size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """The rows in an order that depends on (seed, epoch) alone, cut into batches; the last may be shorter."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(rows), generator=generator)
    yield from _parts(rows[order.to(rows.device)], batch_size)


def _parts(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Consecutive parts; the last may be shorter."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _run_epoch(
    model: MultiScenarioModel,
    optimiser: torch.optim.Optimizer,
    window: Window,
    train_rows: Tensor,
    config: TrainerConfig,
    epoch: int,
    processes: Processes,
) -> float:
    """One pass; returns the mean loss over rows."""
    model.train()
    losses: list[Tensor] = []
    total, checked = 0.0, 0
    for rows in epoch_batches(train_rows, config.batch_size, config.seed, epoch):
        batch = window.batch(processes.shard(rows))
        loss_B = reuse_loss(model.visit(batch), batch.label_B, batch.shared_B, model.num_scenarios)
        loss = loss_B.mean() if processes.world == 1 else loss_B.sum() / len(rows)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        processes.sum_gradients(model)
        optimiser.step()
        losses.append(processes.sum_value(loss.detach().clone()) * len(rows))
        if len(losses) == CHECK_EVERY:
            total += _checked_sum(losses, epoch, checked)
            checked, losses = checked + CHECK_EVERY, []
    total += _checked_sum(losses, epoch, checked)
    return total / len(train_rows)


def _checked_sum(losses: list[Tensor], epoch: int, batches_before: int) -> float:
    values = torch.stack(losses) if losses else torch.zeros(0)
    broken = (~torch.isfinite(values)).nonzero()
    if len(broken):
        batch = batches_before + int(broken[0]) + 1
        raise TrainingError(
            f"the loss is not finite in epoch {epoch}, batch {batch}; lower training.learning_rate of the data set"
        )
    return float(values.double().sum())


@torch.no_grad()
def predict(model: MultiScenarioModel, window: Window, rows: Tensor) -> Floats:
    """Probability of label 1 from each row's own scenario, float64, in the order of `rows`."""
    model.eval()
    probs = [model(window.batch(part)).double().sigmoid().cpu() for part in _parts(rows, PREDICT_ROWS)]
    return np.asarray(torch.cat(probs).numpy()) if probs else np.zeros(0)


def validate(model: MultiScenarioModel, window: Window, rows: Tensor) -> tuple[float | None, float]:
    """(mean AUC over scenarios or None, logloss) on rows of a window."""
    probs = predict(model, window, rows)
    labels, scenarios = window.label_N[rows].cpu().numpy(), window.scenario_N[rows].cpu().numpy()
    cross_entropy = logloss(probs, labels)
    assert cross_entropy is not None
    return mean_scenario_auc(probs, labels, scenarios, window.num_scenarios), cross_entropy
