"""What a search works on: networks, optimisers, lambda and curves, and the epoch that its phases share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from msr_models.data.order import epoch_batches
from msr_models.data.window import Window
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model
from msr_models.modules.embedding import FieldEmbedding
from msr_models.ssim.gate import Gate
from msr_models.ssim.selector import Selector
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.step import autocast
from schemas.errors import TrainingError
from schemas.pipeline_spec import SearchSpec

Progress = Callable[[str], None]

# One row in this many is kept from the backbone, so that what is reported of it was not learned by heart.
HOLD_OUT_EVERY = 20
# Step of log lambda per batch and unit of missing share rate.
KL_WEIGHT_STEP = 0.05
KL_WEIGHT_RANGE = (1e-4, 1e4)


class SearchState:
    """State of one search; its phases (`search`, `joint`, `reference`) advance it.

    rows: window rows that train the backbone; held_out: the others.
    """

    def __init__(self, window: Window, spec: SearchSpec, say: Progress) -> None:
        self.window, self.spec, self.say = window, spec, say
        options = {"embedding_dim": spec.embedding_dim, "hidden": list(spec.hidden)}
        device = window.label_N.device
        self.model = build_model(spec.backbone, options, window.layout, window.num_scenarios, spec.seed).to(device)
        self.embedding = _embedding_of(self.model, spec.backbone)
        self.selector = Selector(
            window.layout,
            spec.embedding_dim,
            window.num_scenarios,
            spec.selector_hidden,
            "field_wise" if spec.objective == "reference" else "dense",
            torch.Generator().manual_seed(spec.seed + 1),
        ).to(device)
        self.gate = Gate(spec.gate_estimator, spec.threshold_init, spec.threshold_bounds).to(device)
        self.optimiser = Optimiser(
            self.model, OptimiserConfig(learning_rate=spec.learning_rate, weight_decay=spec.weight_decay)
        )
        self.selector_optimiser = torch.optim.Adam(
            [
                {"params": self.selector.trainable(), "weight_decay": spec.weight_decay},
                {"params": [self.gate.threshold], "weight_decay": 0.0},
            ],
            lr=spec.selector_learning_rate,
        )
        self.kl_weight = spec.kl_weight
        self.curves: list[dict[str, float | int | str]] = []
        held_out_N = window.instance_id_N % HOLD_OUT_EVERY == 0
        self.held_out = held_out_N.nonzero().squeeze(1)
        self.rows = (~held_out_N).nonzero().squeeze(1)

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
            }
        )
        shown = f", share rate {rate:.1%}, threshold {threshold:.3f}, lambda {self.kl_weight:.3g}"
        shown = "" if phase == "warm-up" else shown
        self.say(f"{phase} epoch {epoch}/{of}: loss {total:.4f}{shown}")

    def autocast(self) -> AbstractContextManager[object]:
        """Precision of the backbone's products."""
        return autocast("auto", self.window.label_N.device.type)

    def selector_step(self, loss: Tensor, gate_B: Tensor) -> None:
        """Backward, one step of selector and threshold, and lambda a step towards the target share rate."""
        self.selector_optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.selector_optimiser.step()
        self.gate.project()
        if self.spec.target_share_rate is not None:
            missing = self.spec.target_share_rate - float(gate_B.detach().mean())
            low, high = KL_WEIGHT_RANGE
            self.kl_weight = float(np.clip(self.kl_weight * np.exp(KL_WEIGHT_STEP * missing), low, high))


def _embedding_of(model: MultiScenarioModel, name: str) -> FieldEmbedding:
    embedding = getattr(model, "embedding", None)
    if not isinstance(embedding, FieldEmbedding):
        raise TrainingError(
            f"search.backbone {name!r} has no field embedding that a selector could keep; use shared_bottom"
        )
    return embedding
