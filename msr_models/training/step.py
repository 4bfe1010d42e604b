"""One training step: forward with stored masks, loss, backward, update; on a GPU replayed as a CUDA graph.

A step never reads a value back from the device, so that the host runs ahead of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.models.base import MultiScenarioModel, VisitLogits
from msr_models.training.optimiser import Optimiser
from msr_models.training.processes import Processes
from schemas.pipeline_spec import LossBalance, Precision, TowerReduction

log = logging.getLogger(__name__)

# Steps that run eagerly first: libraries choose their kernels and the optimiser makes its state in them.
WARM_UP_STEPS = 3
# A graph has a fixed number of visits: the batch's, rounded up to a multiple of this.
VISIT_GRANULE = 1024


def autocast(precision: Precision, device_type: str) -> AbstractContextManager[object]:
    """bf16 for products, or nothing; logits, loss and weights stay fp32. `auto`: bf16 on a GPU."""
    lower = precision == "bf16" or (precision == "auto" and device_type == "cuda")
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=lower)


def reuse_loss(
    visits: VisitLogits, label_B: Tensor, shared_B: Tensor, num_scenarios: int, reduction: TowerReduction = "mean"
) -> Tensor:
    """SSIM eq. 6 with stored g (eq. 16): l_B = (1 - g) l_own + g (1/K) Σ_k l_k, per row, not reduced.

    The 1/K (reduction mean) keeps a shared row's weight that of any other; `sum` is eq. 5 to the letter, without it.
    With g = 0 each row's one term is multiplied by exactly 1, so the numbers are those of MT-Backbone bit for bit.
    """
    label_V, logits_V = label_B.index_select(0, visits.row_index_V), visits.logits_V.float()
    weight_B = torch.where(shared_B, 1.0 / num_scenarios if reduction == "mean" else 1.0, 1.0)
    weight_V = weight_B.index_select(0, visits.row_index_V)
    if visits.real_V is not None:
        weight_V = torch.where(visits.real_V, weight_V, 0.0)
    weighted_V = F.binary_cross_entropy_with_logits(logits_V, label_V, reduction="none") * weight_V
    return torch.zeros_like(label_B).index_add(0, visits.row_index_V, weighted_V)


def labels_loss(
    visits: VisitLogits,
    batch: Batch,
    num_scenarios: int,
    label_weights: Sequence[float],
    reduction: TowerReduction = "mean",
) -> Tensor:
    """`reuse_loss` of the main label plus, weighted, that of each further one, [B]: labels share the masks."""
    loss_B = reuse_loss(visits, batch.label_B, batch.shared_B, num_scenarios, reduction)
    if visits.further_VJ is None:
        return loss_B
    assert batch.further_BJ is not None
    for j, weight in enumerate(label_weights):
        label_B = batch.further_BJ[:, j]
        loss_B = loss_B + weight * reuse_loss(visits.of_further(j), label_B, batch.shared_B, num_scenarios, reduction)
    return loss_B


def balance_of_scenarios(scenario_B: Tensor, num_scenarios: int, processes: Processes) -> Tensor:
    """Factors [B] of the rows' losses, mean 1, with which each scenario that has rows weighs the same in a mean.

    The mean over scenarios of each one's mean loss, as the authors of SSIM train STAR and HMoE. A shared row counts by
    its own scenario. Counts are those of the global batch.
    """
    known_K1 = torch.arange(num_scenarios, device=scenario_B.device)[:, None]
    count_K = processes.sum_value((known_K1 == scenario_B).sum(1))
    factor_K = count_K.sum() / ((count_K > 0).sum() * count_K.clamp(min=1))
    return factor_K.index_select(0, scenario_B)


class TrainStep:
    """Eager step. Called with this process's batch and the rows of the global one; returns the global mean loss."""

    def __init__(
        self,
        model: MultiScenarioModel,
        optimiser: Optimiser,
        precision: Precision,
        processes: Processes,
        loss_balance: LossBalance = "rows",
        label_weights: Sequence[float] = (),
        tower_reduction: TowerReduction = "mean",
    ) -> None:
        """label_weights: of the further labels' losses, in the order of the model's."""
        self.model, self.optimiser, self.precision, self.processes = model, optimiser, precision, processes
        self.loss_balance, self.label_weights, self.tower_reduction = loss_balance, label_weights, tower_reduction

    def __call__(self, batch: Batch, global_rows: int) -> Tensor:
        """Mean loss, scalar on the device."""
        return self._run(batch, global_rows, None)

    def _run(self, batch: Batch, global_rows: int, capacity: int | None) -> Tensor:
        with autocast(self.precision, batch.label_B.device.type):
            visits = self.model.visit(batch, capacity)
        num_scenarios = self.model.num_scenarios
        loss_B = labels_loss(visits, batch, num_scenarios, self.label_weights, self.tower_reduction)
        if self.loss_balance == "scenarios":
            loss_B = loss_B * balance_of_scenarios(batch.scenario_B, num_scenarios, self.processes)
        alone = self.processes.world == 1
        loss = loss_B.mean() if alone else loss_B.sum() / global_rows
        if visits.penalty is not None:
            # A mean over this process's rows: it counts with their part of the global batch.
            loss = loss + visits.penalty * (1.0 if alone else len(batch) / global_rows)
        torch.autograd.backward(loss)
        self.processes.sum_gradients(self.optimiser.others)
        self.optimiser.step(None if alone else self.processes.gather_rows)
        return self.processes.sum_value(loss.detach().clone())


class GraphedStep(TrainStep):
    """The same step captured once per shape as a CUDA graph and replayed: one launch instead of hundreds.

    The first steps and batches of an odd size (the last of an epoch) run eagerly. Where a model cannot be captured,
    all do, and the log says why.
    """

    def __init__(
        self,
        model: MultiScenarioModel,
        optimiser: Optimiser,
        precision: Precision,
        batch_size: int,
        loss_balance: LossBalance = "rows",
        label_weights: Sequence[float] = (),
        tower_reduction: TowerReduction = "mean",
    ) -> None:
        super().__init__(model, optimiser, precision, Processes(), loss_balance, label_weights, tower_reduction)
        self.batch_size = batch_size
        self._eager_steps = 0
        self._captures = True
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Batch, Tensor]] = {}

    def __call__(self, batch: Batch, global_rows: int) -> Tensor:
        """Mean loss, scalar on the device."""
        if not self._captures or len(batch) != self.batch_size:
            return self._run(batch, global_rows, None)
        visits = len(batch) + self._num_shared(batch) * (self.model.num_scenarios - 1)
        capacity = -(-visits // VISIT_GRANULE) * VISIT_GRANULE
        if self._eager_steps < WARM_UP_STEPS:
            self._eager_steps += 1
            return self._run(batch, global_rows, capacity)
        if capacity not in self._graphs and not self._capture(batch, capacity):
            return self._run(batch, global_rows, None)
        graph, static, loss = self._graphs[capacity]
        for f in fields(Batch):
            value = getattr(batch, f.name)
            if isinstance(value, Tensor):
                getattr(static, f.name).copy_(value, non_blocking=True)
        graph.replay()
        return loss.clone()

    def _num_shared(self, batch: Batch) -> int:
        if batch.num_shared is not None:
            return batch.num_shared
        return int(batch.shared_B.sum())  # waits for the device: TrainingData should know it

    def _capture(self, batch: Batch, capacity: int) -> bool:
        values = {f.name: getattr(batch, f.name) for f in fields(Batch)}
        tensors: dict[str, Any] = {name: value.clone() for name, value in values.items() if isinstance(value, Tensor)}
        static = replace(batch, **tensors)
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: the thread that copies batches may go on with its own work
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                loss = self._run(static, self.batch_size, capacity)
        except RuntimeError as error:
            self._captures = False
            _renew_generator(batch.label_B.device)
            for parameter in self.model.parameters():
                parameter.grad = None
            log.warning(f"no CUDA graph of this model ({str(error).splitlines()[0]}): every step runs eagerly")
            return False
        self._graphs[capacity] = graph, static, loss
        return True


def _renew_generator(device: torch.device) -> None:
    """A capture that broke off leaves the device's generator waiting for its end: give it a state of its own again."""
    fresh = torch.Generator(device)
    # Seeded from the host's generator, so that a run stays a function of its seed.
    fresh.manual_seed(int(torch.randint(2**62, ())))
    index = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.default_generators[index].graphsafe_set_state(fresh.graphsafe_get_state())


def make_step(
    model: MultiScenarioModel,
    optimiser: Optimiser,
    precision: Precision,
    batch_size: int,
    processes: Processes,
    loss_balance: LossBalance = "rows",
    label_weights: Sequence[float] = (),
    tower_reduction: TowerReduction = "mean",
) -> TrainStep:
    """The quickest step that the device, the precision and the number of processes allow."""
    # In fp32 the grouped product waits for the device; Adagrad's step count lives on the host.
    if (
        next(model.parameters()).device.type == "cuda"
        and precision != "fp32"
        and processes.world == 1
        and optimiser.config.kind == "adam"
    ):
        return GraphedStep(model, optimiser, precision, batch_size, loss_balance, label_weights, tower_reduction)
    return TrainStep(model, optimiser, precision, processes, loss_balance, label_weights, tower_reduction)
