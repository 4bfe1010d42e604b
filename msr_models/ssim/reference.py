"""Phase `reference` of a search: the towers, trained without sharing, are the yardstick that the gate learns from.

What it minimises over the selector (trunk, heads and its embedding table), the towers kept as they are:

    mean_i g_i e_i / mean(e)  +  λ D(1 || g)

    g_i   = 1[p_i > ε], p_i = σ(selector(row i)); backward dg/dp = 1 (see `gate`)
    D     = mean_i -log p_i, or 1 - mean_i g_i (see `divergence`)
    e_i   = x_i / (s_i + mean(s)): the towers' disagreement over row i relative to their signal
    x_i   = Σ_jk w_jk (q_ij - q_ik)(z_ij - z_ik) / 2: mean KL of two towers, both ways (`objective.expected_excess`)
    s_i   = Σ_k W_k (q_ik - σ(b))(z_ik - b) / 2: the same of each tower from the base rate (`yardstick.signal`)
    z_ik  = t_ik - mean_i(t_ik) + b, q_ik = σ(z_ik): tower k on the common base rate, b = Σ_k W_k mean_i(t_ik)
    t_ik  = logit of tower k for row i in eval mode + what it has not learned of single ids (see `corrections`)
    w_jk  ∝ n_j n_k / (n_j + n_k) for j ≠ k, w_kk = 0, Σ w = 1, W_k = Σ_j w_jk; n_k: rows that trained tower k

No label enters but through towers and corrections, so i runs over all rows of the window, also those held out from the
towers. e is a constant for the gate and never negative: only λ pulls towards sharing. With a share rate ρ to meet
(target_share_rate) log λ moves by KL_WEIGHT_STEP (ρ - mean g) per step, and ε descends ε (ρ - mean g) alone: down while
too few rows are shared. Without one λ is fixed, and ε takes its gradient through g. With tower_sample, x and s are of
few towers drawn per row (`yardstick.relative_excess_of_drawn`), and what all rows have in common is from SCALE_ROWS.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.ssim.corrections import WideCorrections
from msr_models.ssim.divergence import divergence_from_all_shared
from msr_models.ssim.objective import pair_weights
from msr_models.ssim.sampled import draw_tower_sets, drawn_logits
from msr_models.ssim.search_state import SearchState
from msr_models.ssim.yardstick import CommonScale, relative_excess, relative_excess_of_drawn

log = logging.getLogger(__name__)

EVAL_ROWS = 8192
# With sampled towers: rows on which all towers are computed, to estimate what all rows have in common.
SCALE_ROWS = 4096


def learn_gate_from_reference(state: SearchState) -> None:
    """Keep the towers as they are; the gate learns which rows they disagree over (formula: see this module)."""
    state.selector.adopt_embeddings(*state.embeddings, standardise=True)
    state.selector.embedding.requires_grad_(True)
    state.make_selector_optimiser()
    excess_N = _excess(state)
    # In units of its mean, so that lambda means the same on every log
    excess_N = (excess_N / excess_N.mean().clamp(min=1e-12)).float()
    log.info(f"reference: excess of {len(excess_N):,} rows under {state.window.num_scenarios} towers")
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
    state.selector.embedding.requires_grad_(False)


@torch.no_grad()
def _excess(state: SearchState) -> Tensor:
    """Relative excess [N] of every window row under the corrected towers, in eval mode."""
    state.model.eval()
    window = state.window
    rows_K = torch.bincount(window.scenario_N[state.rows], minlength=window.num_scenarios)
    weights_KK = pair_weights(rows_K)
    every = torch.arange(len(window), device=state.rows.device)
    corrections = WideCorrections(window.layout, window.num_scenarios, every.device)
    if state.spec.tower_sample is None or len(every) <= SCALE_ROWS:
        logits_NK = torch.cat([_every_tower(state, batch) for batch in _parts(state, every)])
        own_N = logits_NK.gather(1, window.scenario_N[:, None]).squeeze(1)
        _fit(corrections, state, own_N)
        logits_NK += torch.cat([corrections.of_batch(batch) for batch in _parts(state, every)])
        scale = CommonScale.of(logits_NK, weights_KK)
        return torch.cat([relative_excess(z_BK, weights_KK, scale) for z_BK in torch.split(logits_NK, EVAL_ROWS)])
    own_N = torch.cat([state.model(batch).float() for batch in _parts(state, every)])
    _fit(corrections, state, own_N)
    sample = every[:: -(-len(every) // SCALE_ROWS)]
    sampled = [_every_tower(state, batch) + corrections.of_batch(batch) for batch in _parts(state, sample)]
    estimate = _estimate(state, corrections, CommonScale.of(torch.cat(sampled), weights_KK), weights_KK)
    return torch.cat([estimate(batch) for batch in _parts(state, every)])


def _fit(corrections: WideCorrections, state: SearchState, own_logits_N: Tensor) -> None:
    """From the rows that trained the towers: the held-out ones stay unseen."""
    window, rows = state.window, state.rows
    corrections.fit(own_logits_N[rows], window.label_N[rows], window.scenario_N[rows], window.slot_ids_NS[rows])


def _estimate(
    state: SearchState, corrections: WideCorrections, scale: CommonScale, weights_KK: Tensor
) -> Callable[[Batch], Tensor]:
    assert state.spec.tower_sample is not None
    num_drawn = state.spec.tower_sample + 1
    generator = torch.Generator(weights_KK.device).manual_seed(state.spec.seed + 2)

    def estimate(batch: Batch) -> Tensor:
        towers_BT = draw_tower_sets(weights_KK, len(batch), num_drawn, generator)
        logits_BT = drawn_logits(state.model, batch, towers_BT) + corrections.of_batch(batch).gather(1, towers_BT)
        return relative_excess_of_drawn(logits_BT, towers_BT, weights_KK, scale)

    return estimate


def _every_tower(state: SearchState, batch: Batch) -> Tensor:
    """logits_BK."""
    return state.model.scenario_logits(state.model.embed(batch), batch)


def _parts(state: SearchState, rows: Tensor) -> Iterator[Batch]:
    for part in torch.split(rows, EVAL_ROWS):
        yield state.window.batch(part)
