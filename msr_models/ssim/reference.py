"""Phase `reference` of a search: the towers, trained without sharing, are the yardstick that the gate learns from."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.ssim.divergence import divergence_from_all_shared
from msr_models.ssim.objective import expected_excess, pair_weights
from msr_models.ssim.search_state import SearchState

EVAL_ROWS = 8192


def learn_gate_from_reference(state: SearchState) -> None:
    """Keep the towers as they are; the gate learns from what they lose under each other's probabilities."""
    state.selector.adopt_embeddings(state.embedding, standardise=True)
    rows_K = torch.bincount(state.window.scenario_N[state.rows], minlength=state.window.num_scenarios)
    weights_KK = pair_weights(rows_K)
    excess_N = torch.cat([expected_excess(z_BK, weights_KK) for z_BK in _tower_logits(state)])
    # In units of its mean, so that lambda means the same on every log
    excess_N = (excess_N / excess_N.mean().clamp(min=1e-12)).float()
    state.say(f"reference: excess loss of {len(excess_N):,} rows under {state.window.num_scenarios} towers")
    target = state.spec.target_share_rate

    def step(rows: Tensor) -> tuple[Tensor, Tensor]:
        batch = state.window.batch(rows)
        share_logits_B = state.selector.score_batch(batch)
        gate_B = state.gate(share_logits_B.sigmoid(), learn_threshold=target is None)
        loss = (gate_B * excess_N[rows]).mean()
        loss = loss + state.kl_weight * divergence_from_all_shared(state.spec.kl_form, gate_B, share_logits_B)
        if target is not None:
            # The excess is never negative, so it could only push the threshold up and away. With a share rate to
            # meet, the threshold is that constraint's multiplier: down while too few rows are shared, else up.
            loss = loss + state.gate.threshold * (target - gate_B.detach().mean())
        state.selector_step(loss, gate_B)
        return loss, gate_B

    every_row = torch.arange(len(state.window), device=state.rows.device)
    for epoch in range(1, state.spec.epochs + 1):
        state.epoch("gate", epoch, state.spec.epochs, every_row, step)


@torch.no_grad()
def _tower_logits(state: SearchState) -> Iterator[Tensor]:
    """logits_BK of all window rows, part by part, in eval mode."""
    state.model.eval()
    for start in range(0, len(state.window), EVAL_ROWS):
        stop = min(start + EVAL_ROWS, len(state.window))
        batch: Batch = state.window.batch(torch.arange(start, stop, device=state.rows.device))
        yield state.model.scenario_logits(state.model.embed(batch), batch)
