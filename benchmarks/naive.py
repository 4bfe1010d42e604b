"""Baseline: a straightforward training step, correct and slow.

Every row passes through every tower, one tower after the other; the selector looks the embeddings up again; PyTorch's
default Adam updates every row of the embedding table.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout


def _mlp(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inner, outer in pairwise(widths):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers)


class NaiveModel(nn.Module):
    """K towers over one embedding table, and a selector with a head per scenario."""

    def __init__(self, layout: FieldLayout, width: int, hidden: list[int], num_scenarios: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(layout.total_rows, width)
        self.starts: Tensor
        self.register_buffer("starts", torch.tensor(layout.row_starts))
        inputs = layout.num_fields * width
        self.towers = nn.ModuleList(
            nn.Sequential(_mlp([inputs, *hidden]), nn.Linear(hidden[-1], 1)) for _ in range(num_scenarios)
        )
        self.selector = _mlp([inputs, 128, 64])
        self.heads = nn.ModuleList(nn.Linear(64, 1) for _ in range(num_scenarios))

    def look_up(self, batch: Batch) -> Tensor:
        """Embeddings e_BE of the batch."""
        return self.embedding(batch.slot_ids_BS.long() + self.starts).flatten(1)

    def tower_losses(self, batch: Batch) -> Tensor:
        """Losses of every tower on every row, [B, K]."""
        e_BE = self.look_up(batch)
        logits = [tower(e_BE).squeeze(1) for tower in self.towers]
        return torch.stack(
            [F.binary_cross_entropy_with_logits(z, batch.label_B, reduction="none") for z in logits], dim=1
        )

    def share_probs(self, batch: Batch) -> Tensor:
        """Share probability of each row from its scenario's head, [B]."""
        h_BH = self.selector(self.look_up(batch))
        probs_BK = torch.cat([head(h_BH) for head in self.heads], dim=1).sigmoid()
        return probs_BK.gather(1, batch.scenario_B[:, None]).squeeze(1)


class NaiveStep:
    """`reuse`: masks are given, but the frozen selector still looks embeddings up. `search`: trains the gate too."""

    def __init__(self, model: NaiveModel, kind: str) -> None:
        self.model, self.kind = model, kind
        self.optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        self.threshold = 0.5

    def __call__(self, batch: Batch) -> Tensor:
        """Train on the batch; returns its loss."""
        if self.kind == "reuse":
            with torch.no_grad():
                self.model.look_up(batch)
            gate_B, pull = batch.shared_B.float(), torch.zeros(())
        else:
            probs_B = self.model.share_probs(batch)
            hard_B = batch.shared_B.float()  # the given share, whatever the untrained selector says
            gate_B, pull = hard_B + probs_B - probs_B.detach(), -probs_B.clamp(min=1e-6).log().mean()
        losses_BK = self.model.tower_losses(batch)
        own_B = losses_BK.gather(1, batch.scenario_B[:, None]).squeeze(1)
        loss = ((1 - gate_B) * own_B + gate_B * losses_BK.mean(1)).mean() + 0.5 * pull
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()
