"""What a search works on: networks, optimisers, lambda and curves, and the epoch that its phases share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msr_models.data.order import epoch_batches, num_batches
from msr_models.data.window import Window
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model, known_models, model_class, parse_options
from msr_models.modules.mixed_embedding import MixedEmbedding
from msr_models.ssim.gate import Gate
from msr_models.ssim.selector import Selector
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.step import autocast
from schemas.errors import TrainingError
from schemas.pipeline_spec import SearchSpec

log = logging.getLogger(__name__)

# One row in this many does not train the backbone: its reported metrics are of these.
HOLD_OUT_EVERY = 20
# Step of log lambda per batch and unit of missing share rate.
KL_WEIGHT_STEP = 0.05
KL_WEIGHT_RANGE = (1e-4, 1e4)


class SearchState:
    """State of one search; its phases (`search`, `joint`, `reference`) advance it.

    rows: window rows that train the backbone; held_out: the others. temperature: current factor on the share logits.
    """

    def __init__(self, window: Window, spec: SearchSpec) -> None:
        self.window, self.spec = window, spec
        device = window.label_N.device
        self.model = _backbone(window, spec).to(device)
        self.embeddings = self.model.embeddings
        if len(self.embeddings) > 1 and any(isinstance(part, MixedEmbedding) for part in self.embeddings):
            raise TrainingError(
                f"search.backbone {spec.backbone!r} keeps embeddings per scenario, whose rows must be of one width: "
                "leave embedding_dim out of the data set's fields, or take another backbone"
            )
        self.selector = Selector(
            window.layout,
            sum(table.width for table in self.embeddings),
            window.num_scenarios,
            spec.selector_hidden,
            spec.selector_trunk,
            torch.Generator().manual_seed(spec.seed + 1),
            scenario_heads=spec.scenario_heads,
        ).to(device)
        self.gate = Gate(spec.gate_estimator, spec.threshold_init, spec.threshold_bounds).to(device)
        self.make_optimiser()
        self.make_selector_optimiser()
        self.kl_weight = spec.kl_weight
        self.temperature = 1.0
        self.curves: list[dict[str, float | int | str]] = []
        held_out_N = window.instance_id_N % HOLD_OUT_EVERY == 0
        self.held_out = held_out_N.nonzero().squeeze(1)
        self.rows = (~held_out_N).nonzero().squeeze(1)
        epochs = spec.warmup_epochs + (spec.epochs if spec.objective == "joint" else 0)
        self.model.plan_steps(epochs * num_batches(len(self.rows), spec.batch_size))
        self.model.start_from_base_rates(*window.label_counts(self.rows))

    def make_optimiser(self) -> None:
        """A fresh optimiser of the backbone."""
        rate = self.spec.learning_rate * self.model.learning_rate_scale
        self.optimiser = Optimiser(self.model, OptimiserConfig(learning_rate=rate, weight_decay=self.spec.weight_decay))

    def make_selector_optimiser(self) -> None:
        """Fresh optimisers of the selector's trainable parameters and of the threshold."""
        spec = self.spec
        self.selector_optimiser = Optimiser(
            self.selector,
            OptimiserConfig(learning_rate=spec.selector_learning_rate, weight_decay=spec.weight_decay),
        )
        self.threshold_optimiser = torch.optim.Adam([self.gate.threshold], lr=spec.selector_learning_rate)

    def epoch(
        self, phase: str, epoch: int, of: int, rows: Tensor, step: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> None:
        """One pass of `step` (rows -> loss, gate), recorded in the curves. Raises TrainingError on a broken loss."""
        self.model.train()
        self.selector.train()
        # Every phase has an order of its own
        seed = self.spec.seed if phase == "warm-up" else self.spec.seed + 1
        losses, rates = [], []
        for part in epoch_batches(rows, self.spec.batch_size, seed, epoch):
            loss, gate_B = step(part)
            losses.append(loss.detach() * len(part))
            rates.append(gate_B.detach().sum())
        total = float(torch.stack(losses).sum()) / len(rows)
        if not np.isfinite(total):
            raise TrainingError(
                f"the loss of the search is not finite ({phase}, epoch {epoch}); lower search.learning_rate or "
                "search.selector_learning_rate of the data set"
            )
        rate, threshold = float(torch.stack(rates).sum()) / len(rows), float(self.gate.threshold.detach())
        self.curves.append(
            {
                "phase": phase,
                "epoch": epoch,
                "loss": total,
                "share_rate": rate,
                "threshold": threshold,
                "kl_weight": self.kl_weight,
                "temperature": self.temperature,
            }
        )
        shown = f", share rate {rate:.1%}, threshold {threshold:.3f}, lambda {self.kl_weight:.3g}"
        shown = "" if phase == "warm-up" else shown
        log.info(f"{phase} epoch {epoch}/{of}: loss {total:.4f}{shown}")

    def autocast(self) -> AbstractContextManager[object]:
        """Precision of the backbone's products."""
        return autocast("auto", self.window.label_N.device.type)

    def selector_step(self, loss: Tensor, gate_B: Tensor) -> None:
        """Backward, one step of selector and threshold, and lambda a step towards the target share rate."""
        self.threshold_optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.selector_optimiser.step()
        self.threshold_optimiser.step()
        self.gate.project()
        if self.spec.target_share_rate is not None:
            missing = self.spec.target_share_rate - float(gate_B.detach().mean())
            low, high = KL_WEIGHT_RANGE
            self.kl_weight = float(np.clip(self.kl_weight * np.exp(KL_WEIGHT_STEP * missing), low, high))


def _backbone(window: Window, spec: SearchSpec) -> MultiScenarioModel:
    """The source model. Raises TrainingError for one that is unknown, has no towers, or does not know an option."""
    if not model_class(spec.backbone).has_towers:
        usable = ", ".join(name for name in known_models() if model_class(name).has_towers)
        raise TrainingError(
            f"search.backbone {spec.backbone!r} has one output for all scenarios, so no towers to share rows among; "
            f"set search.backbone to one of: {usable}"
        )
    options: dict[str, Any] = {"embedding_dim": spec.embedding_dim, **spec.backbone_options}
    if hasattr(parse_options(spec.backbone, {}), "hidden"):
        options["hidden"] = list(spec.hidden)
    return build_model(spec.backbone, options, window.layout, window.num_scenarios, spec.seed)
