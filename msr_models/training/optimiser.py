"""Adam and Adagrad that step what the batch has data for: embedding rows, scenarios' parameters, common ones.

What "row-sparse" means (lazy updates): a row that no look-up of the batch names keeps weight and moments as they are; a
row that is named gets one ordinary step, with its decay. Adam's bias correction counts the steps of the optimiser, not
of the row. Padding of a multi-valued field names the field's row 0 with a gradient of zero (on a GPU padding of
behaviours too). Parameters of scenarios are as lazy (slices.py). When every step names every row and has every scenario
this is AdamW (Loshchilov & Hutter 2019), or Adagrad (Duchi et al. 2011) with the same decoupled decay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from msr_models.modules.embedding import FieldEmbedding, narrow_rows
from msr_models.training.average import RowAverage, WeightAverage
from msr_models.training.row_gradients import RowGradient, RowMerger
from msr_models.training.slices import ADAGRAD_EPS, ADAM_EPS, BETA1, BETA2, SliceOptimiser, slices_of
from schemas.pipeline_spec import EmbeddingUpdate, OptimiserKind, TrainerConfig

GatherRows = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimiserConfig:
    """weight_decay: decoupled, per unit of learning rate. gradient_clip: upper bound of the norm of all gradients
    together (None: none). weight_average: decay of the average of the weights over steps (None: none is kept).
    """

    kind: OptimiserKind = "adam"
    embedding_update: EmbeddingUpdate = "row_sparse"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    gradient_clip: float | None = None
    weight_average: float | None = None

    @classmethod
    def of(cls, trainer: TrainerConfig, learning_rate_scale: float = 1.0) -> OptimiserConfig:
        """The optimiser's part of a trainer's settings; the scale is the model's."""
        return cls(
            kind=trainer.optimiser,
            embedding_update=trainer.embedding_update,
            learning_rate=trainer.learning_rate * learning_rate_scale,
            weight_decay=trainer.weight_decay,
            gradient_clip=trainer.gradient_clip,
            weight_average=trainer.weight_average,
        )


class RowOptimiser:
    """Steps one embedding table by row gradients. State per row: Adam's two moments side by side, or Adagrad's sum."""

    def __init__(self, table: FieldEmbedding, config: OptimiserConfig) -> None:
        self.weight, self.config = table.weight, config
        self.by_element = table.columns_are_scenarios
        weight = table.weight
        width = weight.shape[1] * (2 if config.kind == "adam" else 1)
        self.state_RS = torch.zeros(weight.shape[0], width, device=weight.device)
        self.merger = RowMerger(weight.shape[0], weight.device)
        self.average = None if config.weight_average is None else RowAverage(weight, config.weight_average)

    @torch.no_grad()
    def step(self, gradient: RowGradient, learning_rate: Tensor, steps: Tensor) -> None:
        """One step; learning_rate and steps (this one included) are scalars on the weight's device."""
        rows_U, grad_UD = gradient.rows_U, gradient.grad_UD
        weight_UD = narrow_rows(self.weight, rows_U)
        state_US = narrow_rows(self.state_RS, rows_U)
        before_UD, before_US = (weight_UD.clone(), state_US.clone()) if self._needs_before else (weight_UD, state_US)
        if self.config.weight_decay:
            weight_UD.mul_(1.0 - learning_rate * self.config.weight_decay)
        if self.config.kind == "adam":
            first_UD, second_UD = state_US.chunk(2, dim=1)
            first_UD.lerp_(grad_UD, 1.0 - BETA1)
            second_UD.mul_(BETA2).addcmul_(grad_UD, grad_UD, value=1.0 - BETA2)
            scale = learning_rate / (1.0 - BETA1**steps)
            root_UD = second_UD.sqrt().div_((1.0 - BETA2**steps).sqrt()).add_(ADAM_EPS)
            weight_UD.sub_(scale * first_UD / root_UD)
        else:
            state_US.addcmul_(grad_UD, grad_UD)
            weight_UD.sub_(learning_rate * grad_UD / state_US.sqrt().add_(ADAGRAD_EPS))
        if self.by_element:
            has_data_UD = grad_UD != 0
            weight_UD = torch.where(has_data_UD, weight_UD, before_UD)
            moments = state_US.shape[1] // weight_UD.shape[1]
            state_US = torch.where(has_data_UD.repeat(1, moments), state_US, before_US)
        self.state_RS.index_copy_(0, rows_U, state_US)
        self.weight.index_copy_(0, rows_U, weight_UD)
        if self.average is not None:
            self.average.move(rows_U, before_UD, weight_UD, steps)

    @property
    def _needs_before(self) -> bool:
        return self.by_element or self.average is not None


class Optimiser:
    """All parameters of a model. Use: backward, then `step`, which clips, steps and clears the gradients.

    On a GPU nothing in `step` waits for the device.
    """

    def __init__(self, model: nn.Module, config: OptimiserConfig) -> None:
        tables = [m for m in model.modules() if isinstance(m, FieldEmbedding) and m.weight.requires_grad]
        row_sparse = config.embedding_update == "row_sparse"
        for table in tables:
            table.row_gradient = row_sparse
        self.config = config
        self.tables = [RowOptimiser(table, config) for table in tables] if row_sparse else []
        by_row = {id(table.weight) for table in self.tables}
        self.others = [p for p in model.parameters() if p.requires_grad and id(p) not in by_row]
        device = next(model.parameters()).device
        self.steps = torch.zeros((), dtype=torch.float64, device=device)
        self.learning_rate = torch.tensor(config.learning_rate, device=device)
        self._dense = SliceOptimiser(slices_of(model, self.others), config.kind, config.weight_decay)
        self._rate = config.learning_rate
        self._average = None
        if config.weight_average is not None:
            rows = [(table.weight, table.average) for table in self.tables if table.average is not None]
            self._average = WeightAverage(self.others, rows, config.weight_average)

    def set_learning_rate_factor(self, factor: float) -> None:
        """The next steps use factor * config.learning_rate."""
        self._rate = factor * self.config.learning_rate
        self.learning_rate.fill_(self._rate)

    @torch.no_grad()
    def step(self, gather_rows: GatherRows | None = None) -> None:
        """One step from the parameters' gradients, which are cleared. `gather_rows`: (rows, gradients) of this process
        to those of all processes; the other gradients must be summed already.
        """
        gradients = [self._row_gradient(table, gather_rows) for table in self.tables]
        if self.config.gradient_clip is not None:
            gradients = self._clip(gradients, self.config.gradient_clip)
        self.steps += 1
        for table, gradient in zip(self.tables, gradients, strict=True):
            table.step(gradient, self.learning_rate, self.steps)
            table.weight.grad = None
        # A rate on the device can change between replays of a CUDA graph
        self._dense.step(self.learning_rate if self.learning_rate.device.type == "cuda" else self._rate)
        for parameter in self.others:
            parameter.grad = None
        if self._average is not None:
            self._average.move(self.steps)

    @contextmanager
    @torch.no_grad()
    def averaged(self) -> Iterator[None]:
        """Within it the parameters are their averages over the steps so far, where an average is kept."""
        if self._average is None or self.steps == 0:
            yield
            return
        before = self._average.swap(self.steps)
        try:
            yield
        finally:
            self._average.restore(before)

    def _row_gradient(self, table: RowOptimiser, gather_rows: GatherRows | None) -> RowGradient:
        grad = table.weight.grad
        width = table.weight.shape[1]
        if grad is None:  # an empty shard of a batch
            device = table.weight.device
            rows_N, grad_ND = torch.zeros(0, dtype=torch.int64, device=device), torch.zeros((0, width), device=device)
        else:
            # _indices and _values: the public accessors insist on a coalesced tensor, which is what `merge` is for
            rows_N, grad_ND = grad._indices()[0], grad._values()
        if gather_rows is not None:
            rows_N, grad_ND = gather_rows(rows_N, grad_ND)
        return table.merger.merge(rows_N, grad_ND)

    def _clip(self, gradients: list[RowGradient], limit: float) -> list[RowGradient]:
        """Scale all gradients so that their common norm is at most `limit`."""
        dense = [p.grad for p in self.others if p.grad is not None]
        squares = [g.squared_norm() for g in gradients] + [n.square() for n in torch._foreach_norm(dense)]
        factor = (limit / (torch.stack(squares).sum().sqrt() + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(dense, factor)
        return [RowGradient(g.rows_U, g.grad_UD * factor, g.is_first_U) for g in gradients]

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, on the CPU."""
        return {
            "steps": self.steps.cpu(),
            "tables": [table.state_RS.cpu() for table in self.tables],
            "dense": self._dense.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict` for the same model and config."""
        self.steps.copy_(state["steps"])
        for table, saved in zip(self.tables, state["tables"], strict=True):
            table.state_RS.copy_(saved)
        self._dense.load_state_dict(state["dense"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
