"""STAR: partitioned normalisation, towers with shared and own weights, and an auxiliary network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Positive, Size, TowerConfig
from msr_models.models.registry import register
from msr_models.modules.common_network import CommonNetwork
from msr_models.modules.partitioned_norm import PartitionedNorm
from msr_models.modules.routing import Routing
from msr_models.modules.star_towers import StarTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class StarConfig(TowerConfig):
    """norm_momentum: of the running moments, see PartitionedNorm (the paper gives none). SSIM uses hidden
    (1024, 512, 256).
    """

    auxiliary_hidden: Size = 64
    norm_momentum: Annotated[Positive, Field(le=1)] = 0.1


@register("star", StarConfig)
class Star(EmbeddingModel[StarConfig]):
    """logit_k = main_k(PN_k(e)) + aux([e ; embedding of scenario k]) (Sheng et al. 2021).

    PN: partitioned normalisation; main: towers with weights W ⊙ W_k and biases b + b_k; aux: one network for all.
    In training the moments of a scenario are those of the visits that train its tower, its own rows and the shared
    ones: a mask of shared instances changes them, and `scenario_logits` in training mode uses the moments of all rows.
    In eval mode and without gradients running moments are used (see PartitionedNorm).

    >>> model = build_model("star", {"hidden": [128, 64, 32]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    visits_are_independent: ClassVar[bool] = False

    def __init__(self, config: StarConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.norm = PartitionedNorm(num_scenarios, self.embedded_width, config.norm_momentum)
        self.towers = StarTowers(num_scenarios, self.embedded_width, config.hidden, config.dropout, generator)
        self.auxiliary = CommonNetwork(
            num_scenarios, self.embedded_width, config.embedding_dim, (config.auxiliary_hidden,), 0.0, generator
        )

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        z_VE: Tensor = self.norm(e_BE.index_select(0, routing.row_index_V), routing)
        if z_VE.shape[0] == 0:
            # Another process may have visits: the gradient of its moments waits for ours
            return z_VE.sum(1)
        main_V: Tensor = self.towers(z_VE, routing)
        auxiliary_V: Tensor = self.auxiliary(e_BE, routing)
        return main_V + auxiliary_V
