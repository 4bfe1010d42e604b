"""The selection network of SSIM eq. 7-9: field vectors -> trunk -> one linear head per scenario -> share logit."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.modules.field_vectors import FieldVectors
from msr_models.modules.mixed_embedding import make_vectors
from msr_models.modules.stacked import StackedLinear
from schemas.pipeline_spec import TrunkKind


def field_vectors(embedding: FieldVectors, batch: Batch) -> Tensor:
    """e of eq. 7 before concatenation: vectors of all fields and the mean of the behaviours, [B, F + Z + 1, D]."""
    return torch.cat([embedding.fields(batch), embedding.pooled_history(batch)[:, None]], dim=1)


def vectors_of_tables(embeddings: Sequence[FieldVectors], batch: Batch) -> Tensor:
    """`field_vectors` of several tables side by side, [B, F + Z + 1, sum of the widths]."""
    return torch.cat([field_vectors(embedding, batch) for embedding in embeddings], dim=2)


class Selector(nn.Module):
    """p = sigmoid(head of the row's own scenario), eq. 8 and 9, with an embedding table of its own.

    The table is made without gradient and filled by `adopt_embeddings`. In phase `joint` it is used only afterwards, as
    a frozen copy of the backbone's; phase `reference` lets it train with trunk and heads while the gate learns. A
    finished selector is frozen as a whole.

    trunk `dense`: eq. 8, an MLP over the concatenation. `field_wise`: the same with block-diagonal weights, an MLP per
    field; the heads then add up the fields, so that a row's score pools over all rows that share a field's value with
    it instead of following one row's noise.
    scenario_heads False: one head for the rows of all scenarios (the paper's ablation SSIM-ND).
    Ids beyond the table (a newer vocabulary) count as out of vocabulary. No dropout: a score depends on the row alone.
    """

    input_scale_F: Tensor

    def __init__(
        self,
        layout: FieldLayout,
        width: int,
        num_scenarios: int,
        hidden: Sequence[int],
        trunk: TrunkKind,
        generator: torch.Generator,
        *,
        scenario_heads: bool = True,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.scenario_heads = scenario_heads
        self.embedding = make_vectors(layout, width, generator)
        self.embedding.requires_grad_(False)
        num_inputs = layout.num_vectors + 1
        blocks, in_width = (num_inputs, width) if trunk == "field_wise" else (1, num_inputs * width)
        sizes = [in_width, *hidden]
        self.layers = nn.ModuleList(StackedLinear(blocks, i, o, generator) for i, o in pairwise(sizes))
        num_heads = num_scenarios if scenario_heads else 1
        self.head_weight = nn.Parameter(torch.empty(num_heads, blocks * sizes[-1]))
        self.head_bias = nn.Parameter(torch.zeros(num_heads))
        bound = math.sqrt(6.0 / (blocks * sizes[-1] + 1))
        with torch.no_grad():
            self.head_weight.uniform_(-bound, bound, generator=generator)
        self.register_buffer("input_scale_F", torch.ones(num_inputs))

    @torch.no_grad()
    def adopt_embeddings(self, *trained: FieldVectors, standardise: bool) -> None:
        """Take a copy of trained embeddings, side by side; `standardise`: scale each field's vectors to unit spread.

        Tables of many rows start and stay small, and would reach the trunk as almost nothing.
        """
        if len(trained) == 1:
            self.embedding.load_state_dict(trained[0].state_dict())
        else:
            for name, own in self.embedding.named_parameters():
                own.copy_(torch.cat([part.get_parameter(name) for part in trained], dim=1))
        if not standardise:
            return
        vectors, layout = self.embedding, self.embedding.layout
        spread = [float(vectors.vectors_of(f).std(correction=0)) for f in range(layout.num_fields)]
        # A dense value is of unit spread
        of_dense = [] if vectors.dense_ZD is None else vectors.dense_ZD.square().mean(1).sqrt().tolist()
        # The last input is made of behaviours, each the sum of a vector per part
        of_behaviours = math.hypot(*(spread[f] for f in layout.behaviour_fields))
        self.input_scale_F.copy_(1.0 / torch.tensor([*spread, *of_dense, of_behaviours]).clamp(min=1e-6))

    def forward(self, vectors_BFD: Tensor, scenario_B: Tensor) -> Tensor:
        """Share logits [B] of each row's own head, from `field_vectors`."""
        h_BFD = vectors_BFD * self.input_scale_F[:, None]
        h = h_BFD.transpose(0, 1) if self.trunk == "field_wise" else h_BFD.flatten(1)[None]
        for layer in self.layers:
            assert isinstance(layer, StackedLinear)
            h = F.relu(layer.every(h))
        h_BH = h.transpose(0, 1).flatten(1)
        logits_BK = torch.addmm(self.head_bias, h_BH, self.head_weight.t())
        return logits_BK.gather(1, scenario_B[:, None]).squeeze(1) if self.scenario_heads else logits_BK.squeeze(1)

    @torch.no_grad()
    def with_more_heads(self, added: int) -> Selector:
        """A copy with a head, the mean of the others, for each of `added` further scenarios."""
        grown = copy.deepcopy(self)
        if self.scenario_heads:
            for name in ("head_weight", "head_bias"):
                heads = getattr(self, name)
                mean = heads.double().mean(0, keepdim=True).to(heads.dtype)
                setattr(grown, name, nn.Parameter(torch.cat([heads, *[mean] * added]), requires_grad=False))
        return grown

    def score_batch(self, batch: Batch) -> Tensor:
        """Share logits [B] from the selector's own embeddings."""
        logits_B: Tensor = self(field_vectors(self.embedding, batch), batch.scenario_B)
        return logits_B
