"""STAR: partitioned normalisation, a star of towers around a shared one, and an auxiliary network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import register
from msr_models.modules.common_network import CommonNetwork
from msr_models.modules.inputs import InputLayer, SequencePooling
from msr_models.modules.partitioned_norm import PartitionedNorm
from msr_models.modules.routing import Routing
from msr_models.modules.star_towers import StarTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class StarConfig:
    """norm_momentum: of the running moments, see PartitionedNorm (the paper names none). SSIM uses hidden
    (1024, 512, 256); the default suits a day of a small log on a CPU.
    """

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128, 64)
    auxiliary_hidden: Annotated[int, Field(ge=1)] = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    sequence_pooling: SequencePooling = "mean"


@register("star", StarConfig)
class Star(MultiScenarioModel):
    """logit_p = main_p(PN_p(e)) + aux([e ; scenario embedding p]) (Sheng et al. 2021), e the fields' vectors [B, E].

    PN: partitioned normalisation; main: towers with weights W ⊙ W_p and biases b + b_p; aux: one network for all.
    In training a scenario's moments are those of the visits that train its tower: its own rows and the shared ones. So
    an SSIM mask moves them, and `scenario_logits` in training mode normalises with the moments of all rows. In eval
    mode, and for visits without gradients, running moments serve (see PartitionedNorm).

    >>> model = build_model("star", {"hidden": [128, 64, 32]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    visits_are_independent: ClassVar[bool] = False

    def __init__(self, config: StarConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        self.embedded_width = self.inputs.total_width
        self.norm = PartitionedNorm(num_scenarios, self.embedded_width, config.norm_momentum)
        self.towers = StarTowers(num_scenarios, self.embedded_width, config.hidden, config.dropout, generator)
        self.auxiliary = CommonNetwork(
            num_scenarios, self.embedded_width, config.embedding_dim, (config.auxiliary_hidden,), 0.0, generator
        )

    def embed(self, batch: Batch) -> Tensor:
        """e_BE."""
        return self.inputs.concatenated(batch)

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        z_VE: Tensor = self.norm(e_BE.index_select(0, routing.row_index_V), routing)
        if z_VE.shape[0] == 0:
            # Another process may have visits: its gradient of the common moments waits for ours.
            return z_VE.sum(1)
        main_V: Tensor = self.towers(z_VE, routing)
        auxiliary_V: Tensor = self.auxiliary(e_BE, routing)
        return main_V + auxiliary_V
