"""The search phase of SSIM: backbone, selector and gate trained on a window, then every row of it scored once.

`joint` is the paper's objective (eq. 15), backbone and gate end to end (warmup_epochs: 0 is the literal form).
`reference` trains the backbone's towers without sharing, keeps them, and trains the gate on their label-free excess
loss: joint towers that share everything become equal, and then nothing tells a shareable row from a harmful one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.order import epoch_batches
from msr_models.data.window import Window
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model
from msr_models.modules.embedding import FieldEmbedding
from msr_models.ssim.divergence import divergence_from_all_shared
from msr_models.ssim.gate import Gate
from msr_models.ssim.objective import expected_excess, gated_logits, pair_weights, shared_instance_loss, tower_losses
from msr_models.ssim.scoring import score_rows
from msr_models.ssim.selector import Selector, field_vectors
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.step import autocast
from msr_models.training.trainer import validate
from schemas.errors import TrainingError
from schemas.pipeline_spec import SearchSpec

Progress = Callable[[str], None]

# One row in this many is kept from the backbone, so that what is reported of it was not learned by heart.
HOLD_OUT_EVERY = 20
# Step of log lambda per batch and unit of missing share rate.
KL_WEIGHT_STEP = 0.05
KL_WEIGHT_RANGE = (1e-4, 1e4)
EVAL_ROWS = 8192


@dataclass(kw_only=True, slots=True)
class SearchResult:
    """What a search found. probs_N: share probability of every window row (eval mode, see `scoring`); curves: one
    record per epoch; metrics: of the backbone on held-out rows; status accepted, or rejected with the reason.
    """

    selector: Selector
    threshold: float
    kl_weight: float
    probs_N: NDArray[np.float32]
    metrics: dict[str, float | int | None]
    status: str
    reason: str
    curves: list[dict[str, float | int | str]] = field(default_factory=list)

    @property
    def shared_N(self) -> NDArray[np.bool_]:
        """g of eq. 10 in eval mode. A score is stored as float32, so it is compared with the threshold as such."""
        return self.probs_N > np.float32(self.threshold)


def run_search(
    window: Window, spec: SearchSpec, on_progress: Progress | None = None, *, device: str = "cpu"
) -> SearchResult:
    """Search `window` for shared instances on `device`; on a CPU a function of window, spec and thread count.

    Raises TrainingError for labels of one class, an unknown backbone or a loss that is not finite.
    """
    say = on_progress or (lambda message: None)
    window.require_both_labels()
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        return _Search(window.to(device), spec, say).run()


class _Search:
    """State of one search: networks, optimisers, lambda and the curves."""

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

    def run(self) -> SearchResult:
        """Warm-up, gate, scoring."""
        for epoch in range(1, self.spec.warmup_epochs + 1):
            self._epoch("warm-up", epoch, self.spec.warmup_epochs, self.rows, self._warm_up_step)
        if self.spec.objective == "reference":
            self._learn_gate_from_reference()
        else:
            for epoch in range(1, self.spec.epochs + 1):
                self._epoch("joint", epoch, self.spec.epochs, self.rows, self._joint_step)
            self.selector.adopt_embeddings(self.embedding, standardise=False)
        metrics: dict[str, float | int | None] = {"rows": len(self.held_out)}
        if len(self.held_out):
            metrics["mean_scenario_auc"], metrics["logloss"] = validate(self.model, self.window, self.held_out)
        self.selector.eval()
        probs_N = score_rows(self.selector, self.window)
        result = SearchResult(
            selector=self.selector,
            threshold=float(np.float32(self.gate.threshold.item())),
            kl_weight=self.kl_weight,
            probs_N=probs_N,
            metrics=metrics,
            status="accepted",
            reason="",
            curves=self.curves,
        )
        result.reason = self._fault(result)
        result.status = "rejected" if result.reason else "accepted"
        return result

    def _fault(self, result: SearchResult) -> str:
        """Why the result is of no use; empty when it is."""
        rate = float(result.shared_N.mean())
        if self.window.num_scenarios == 1:
            return "one scenario only: there is none to share with"
        if rate in (0.0, 1.0):
            return f"shares {rate:.0%} of the rows: the gate collapsed"
        if float(np.ptp(result.probs_N)) < 1e-6:
            return "all rows have the same score: the selector learned nothing"
        if self.gate.at_bound():
            return f"threshold {result.threshold:.4f} ran to its bound {self.spec.threshold_bounds}"
        return ""

    def _epoch(
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

    def _warm_up_step(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 6 with g = 0: every row trains its own tower."""
        batch = self.window.batch(rows)
        with self._autocast():
            logits_B = self.model(batch)
        loss = F.binary_cross_entropy_with_logits(logits_B, batch.label_B)
        torch.autograd.backward(loss)
        self.optimiser.step()
        return loss, torch.zeros_like(batch.label_B)

    def _joint_step(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 15: towers, embeddings, selector and threshold in one step."""
        batch = self.window.batch(rows)
        share_logits_B = self.selector(field_vectors(self.embedding, batch), batch.scenario_B)
        gate_B = self.gate(share_logits_B.sigmoid())
        with self._autocast():
            logits_BK = gated_logits(self.model, batch, gate_B)
        losses_BK = tower_losses(logits_BK, batch.label_B)
        loss = shared_instance_loss(gate_B, losses_BK, batch.scenario_B, self.spec.tower_reduction)
        loss = loss + self.kl_weight * divergence_from_all_shared(self.spec.kl_form, gate_B, share_logits_B)
        self._selector_step(loss, gate_B)
        self.optimiser.step()
        return loss, gate_B

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast("auto", self.window.label_N.device.type)

    def _learn_gate_from_reference(self) -> None:
        """Keep the towers as they are; the gate learns from what they lose under each other's probabilities."""
        self.selector.adopt_embeddings(self.embedding, standardise=True)
        rows_K = torch.bincount(self.window.scenario_N[self.rows], minlength=self.window.num_scenarios)
        weights_KK = pair_weights(rows_K)
        excess_N = torch.cat([expected_excess(z_BK, weights_KK) for z_BK in self._tower_logits()])
        # In units of its mean, so that lambda means the same on every log
        excess_N = (excess_N / excess_N.mean().clamp(min=1e-12)).float()
        self.say(f"reference: excess loss of {len(excess_N):,} rows under {self.window.num_scenarios} towers")
        target = self.spec.target_share_rate

        def step(rows: Tensor) -> tuple[Tensor, Tensor]:
            batch = self.window.batch(rows)
            share_logits_B = self.selector.score_batch(batch)
            gate_B = self.gate(share_logits_B.sigmoid(), learn_threshold=target is None)
            loss = (gate_B * excess_N[rows]).mean()
            loss = loss + self.kl_weight * divergence_from_all_shared(self.spec.kl_form, gate_B, share_logits_B)
            if target is not None:
                # The excess is never negative, so it could only push the threshold up and away. With a share rate to
                # meet, the threshold is that constraint's multiplier: down while too few rows are shared, else up.
                loss = loss + self.gate.threshold * (target - gate_B.detach().mean())
            self._selector_step(loss, gate_B)
            return loss, gate_B

        every_row = torch.arange(len(self.window), device=self.rows.device)
        for epoch in range(1, self.spec.epochs + 1):
            self._epoch("gate", epoch, self.spec.epochs, every_row, step)

    def _selector_step(self, loss: Tensor, gate_B: Tensor) -> None:
        """Backward, one step of selector and threshold, and lambda a step towards the target share rate."""
        self.selector_optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.selector_optimiser.step()
        self.gate.project()
        if self.spec.target_share_rate is not None:
            missing = self.spec.target_share_rate - float(gate_B.detach().mean())
            low, high = KL_WEIGHT_RANGE
            self.kl_weight = float(np.clip(self.kl_weight * np.exp(KL_WEIGHT_STEP * missing), low, high))

    @torch.no_grad()
    def _tower_logits(self) -> Iterator[Tensor]:
        """logits_BK of all window rows, part by part, in eval mode."""
        self.model.eval()
        for start in range(0, len(self.window), EVAL_ROWS):
            stop = min(start + EVAL_ROWS, len(self.window))
            batch: Batch = self.window.batch(torch.arange(start, stop, device=self.rows.device))
            yield self.model.scenario_logits(self.model.embed(batch), batch)


def _embedding_of(model: MultiScenarioModel, name: str) -> FieldEmbedding:
    embedding = getattr(model, "embedding", None)
    if not isinstance(embedding, FieldEmbedding):
        raise TrainingError(
            f"search.backbone {name!r} has no field embedding that a selector could keep; use shared_bottom"
        )
    return embedding
