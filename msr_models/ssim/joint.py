"""Phase `joint` of a search: eq. 15, backbone, selector and threshold end to end."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.order import num_batches
from msr_models.ssim.divergence import divergence_from_all_shared
from msr_models.ssim.objective import gated_logits, shared_instance_loss, tower_losses
from msr_models.ssim.sampled import draw_towers, sampled_loss
from msr_models.ssim.search_state import SearchState
from msr_models.ssim.selector import vectors_of_tables


def learn_jointly(state: SearchState) -> None:
    """All epochs; the selector keeps the embeddings that it was trained with."""
    joint = _Joint(state)
    for epoch in range(1, state.spec.epochs + 1):
        state.epoch("joint", epoch, state.spec.epochs, state.rows, joint.step)
    state.selector.adopt_embeddings(*state.embeddings, standardise=False)


def temperature_at(step: int, num_steps: int, first: float, last: float) -> float:
    """Geometric schedule: `first` at step 0, `last` at the last of `num_steps`."""
    part = step / max(num_steps - 1, 1)
    return first * math.exp(part * math.log(last / first))


class _Joint:
    """The steps of the phase; keeps their number and the generator that draws towers."""

    def __init__(self, state: SearchState) -> None:
        self.state = state
        self.num_steps = state.spec.epochs * num_batches(len(state.rows), state.spec.batch_size)
        self.steps_done = 0
        # Orders and first weights come from seed and seed + 1
        self.generator = torch.Generator(state.rows.device).manual_seed(state.spec.seed + 2)

    def step(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 15: towers, embeddings, selector and threshold in one step."""
        state, spec = self.state, self.state.spec
        state.temperature = temperature_at(self.steps_done, self.num_steps, *spec.temperature)
        self.steps_done += 1
        batch = state.window.batch(rows)
        vectors_BFD = vectors_of_tables(state.embeddings, batch)
        share_logits_B = state.selector(vectors_BFD, batch.scenario_B) * state.temperature
        gate_B = state.gate(share_logits_B.sigmoid())
        loss, penalty = self._data_term(batch, gate_B)
        loss = loss + state.kl_weight * divergence_from_all_shared(spec.kl_form, gate_B, share_logits_B)
        if penalty is not None:
            loss = loss + penalty
        state.selector_step(loss, gate_B)
        state.optimiser.step()
        return loss, gate_B

    def _data_term(self, batch: Batch, gate_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """Eq. 13, exact or from sampled towers, and the backbone's penalty."""
        model, spec = self.state.model, self.state.spec
        if spec.tower_sample is not None:
            towers_BM = draw_towers(batch.scenario_B, model.num_scenarios, spec.tower_sample, self.generator)
            with self.state.autocast():
                return sampled_loss(model, batch, gate_B, towers_BM, spec.tower_reduction)
        with self.state.autocast():
            logits_BK, penalty = gated_logits(model, batch, gate_B)
        losses_BK = tower_losses(logits_BK, batch.label_B)
        return shared_instance_loss(gate_B, losses_BK, batch.scenario_B, spec.tower_reduction), penalty
