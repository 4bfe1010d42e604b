"""MLoRA against its formula; what trains in its phases."""

from __future__ import annotations

import pytest
import torch

from msr_models.models.mlora import MLoRA
from msr_models.models.registry import build_model
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.step import TrainStep
from tests.support.batches import LAYOUT, random_batch

OWN = ("down_KIR", "up_KRO", "own_bias_KO")


def build(**options: object) -> MLoRA:
    small = {"embedding_dim": 4, "hidden": [8, 6], "rank_divisor": 4}
    model = build_model("mlora", small | options, LAYOUT, 3, 1)
    assert isinstance(model, MLoRA)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def transcribed(model: MLoRA, h: torch.Tensor, k: int, own: bool) -> torch.Tensor:
    """With whole matrices A_k B_k."""
    for layer in model.layers:
        z = h @ layer.common.weight_IO + layer.common.bias_O
        if own:
            z = z + h @ (layer.down_KIR[k] @ layer.up_KRO[k]) + layer.own_bias_KO[k]
        h = z.relu()
    return h @ model.head.weight_IO[:, 0] + model.head.bias_O[0]


@pytest.mark.parametrize("phase", ["together", "pretraining", "frozen"])
def test_logit_is_that_of_an_mlp_with_changed_weights_except_in_pretraining(phase: str) -> None:
    model, batch = build(pretraining_epochs=int(phase != "together")), random_batch(25, 3, share=0.3)
    if phase == "frozen":
        model.end_pretraining()
    e_BE, visits = model.embed(batch), model.visit(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = torch.stack([transcribed(model, e_BE[row], k, phase != "pretraining") for row, k in pairs])
    torch.testing.assert_close(visits.logits_V, want, atol=1e-4, rtol=1e-4)


def test_all_scenarios_start_as_the_common_network() -> None:
    model, batch = build_model("mlora", {}, LAYOUT, 3, 1), random_batch(25, 3)
    logits_BK = model.scenario_logits(model.embed(batch), batch)
    torch.testing.assert_close(logits_BK, logits_BK[:, :1].expand(-1, 3))
    assert len(logits_BK[:, 0].unique()) > 20


def test_the_rank_is_the_layers_width_over_the_divisor_and_at_least_one() -> None:
    model = build(hidden=[64, 30, 8], rank_divisor=10)
    assert [tuple(layer.down_KIR.shape) for layer in model.layers] == [(3, 20, 6), (3, 64, 3), (3, 30, 1)]
    assert [tuple(layer.up_KRO.shape) for layer in model.layers] == [(3, 6, 64), (3, 3, 30), (3, 1, 8)]


@pytest.mark.parametrize(
    ("epochs", "ended", "moving"),
    [(0, False, {"own", "common"}), (2, False, {"common"}), (2, True, {"own"})],
)
def test_a_phase_moves_its_part_alone(epochs: int, ended: bool, moving: set[str]) -> None:
    """With L2 too, and embeddings belong to the common part."""
    model = build(pretraining_epochs=epochs)
    if ended:
        model.end_pretraining()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    config = OptimiserConfig(learning_rate=0.01, weight_decay=0.1, gradient_clip=1.0)
    step = TrainStep(model, Optimiser(model, config), "fp32", Processes())
    step(random_batch(60, 3, share=0.2), 60)
    for name, parameter in model.named_parameters():
        part = "own" if name.endswith(OWN) else "common"
        assert (not torch.equal(parameter, before[name])) == (part in moving), name
    assert "inputs.embedding.weight" in before


def test_the_phase_is_part_of_the_weights() -> None:
    model, other = build(pretraining_epochs=2), build(pretraining_epochs=2)
    assert model.pretraining_epochs == 2
    model.end_pretraining()
    assert model.pretraining_epochs == 0
    other.load_state_dict(model.state_dict())
    assert other.pretraining_epochs == 0
    assert build().pretraining_epochs == 0
