"""Phase `joint` of a search: eq. 15, backbone, selector and threshold end to end."""

from __future__ import annotations

from torch import Tensor

from msr_models.ssim.divergence import divergence_from_all_shared
from msr_models.ssim.objective import gated_logits, shared_instance_loss, tower_losses
from msr_models.ssim.search_state import SearchState
from msr_models.ssim.selector import field_vectors


def learn_jointly(state: SearchState) -> None:
    """All epochs; the selector keeps the embeddings that it was trained with."""
    for epoch in range(1, state.spec.epochs + 1):
        state.epoch("joint", epoch, state.spec.epochs, state.rows, lambda rows: _joint_step(state, rows))
    state.selector.adopt_embeddings(state.embedding, standardise=False)


def _joint_step(state: SearchState, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 15: towers, embeddings, selector and threshold in one step."""
    batch = state.window.batch(rows)
    share_logits_B = state.selector(field_vectors(state.embedding, batch), batch.scenario_B)
    gate_B = state.gate(share_logits_B.sigmoid())
    with state.autocast():
        logits_BK = gated_logits(state.model, batch, gate_B)
    losses_BK = tower_losses(logits_BK, batch.label_B)
    loss = shared_instance_loss(gate_B, losses_BK, batch.scenario_B, state.spec.tower_reduction)
    loss = loss + state.kl_weight * divergence_from_all_shared(state.spec.kl_form, gate_B, share_logits_B)
    state.selector_step(loss, gate_B)
    state.optimiser.step()
    return loss, gate_B
