"""EPNet, PPNet and PEPNet against their formulas, row by row; what is detached and what is not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from msr_models.models.epnet import EPNet
from msr_models.models.pepnet import PEPNet
from msr_models.models.ppnet import PPNet
from msr_models.models.registry import build_model
from msr_models.modules.gate_nu import PersonalisedTowers
from msr_models.modules.routing import Routing
from schemas.errors import TrainingError
from tests.support.batches import LAYOUT, random_batch

D, G = 4, 3
NAMES = ("epnet", "ppnet", "pepnet")

Model = EPNet | PPNet | PEPNet


def build(name: str, **options: object) -> Model:
    small = {"embedding_dim": D, "hidden": [6, 5], "gate_hidden": G}
    model = build_model(name, small | options, LAYOUT, 3, 1)
    assert isinstance(model, Model)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def gate_nu(x: Tensor, weight: Tensor, bias: Tensor, second: Tensor, second_bias: Tensor) -> Tensor:
    return 2 * torch.sigmoid((x @ weight + bias).relu() @ second + second_bias)


def transcribed(model: Model, e: Tensor, k: int, prior: tuple[int, ...]) -> Tensor:
    """Logit of one row in scenario k; `prior`: places of the gate's fields."""
    o = e
    if not isinstance(model, PPNet):
        g = model.gate
        first = torch.cat([g.scenario_KD[k], e.detach()])
        weight = torch.cat([g.scenario_weight_DG, g.weight_EG])
        o = gate_nu(first, weight, g.bias_G, g.gate_weight_GE, g.gate_bias_E) * e
    t = model.towers
    *layers, last = (t.towers if isinstance(t, PersonalisedTowers) else t).layers
    h = o
    for n, layer in enumerate(layers):
        h = (h @ layer.weight[k] + layer.bias[k]).relu()
        if isinstance(t, PersonalisedTowers):
            x = torch.cat([*(e[f * D : (f + 1) * D] for f in prior), o.detach()])
            weight = torch.cat([t.prior_weight_PG, t.weight_EG])[:, n * G : (n + 1) * G]
            bias = t.bias_G[n * G : (n + 1) * G]
            h = gate_nu(x, weight, bias, t.gates[n].weight[k], t.gates[n].bias[k]) * h
    return h @ last.weight[k, :, 0] + last.bias[k, 0]


@pytest.mark.parametrize(
    ("name", "fields"),
    [*((name, None) for name in NAMES), *((name, ("price", "item", "tags")) for name in ("ppnet", "pepnet"))],
)
def test_logits_and_gradients_are_those_of_the_formula(name: str, fields: tuple[str, ...] | None) -> None:
    """The gradient at e too: through the product and the tower, and through a gate for the prior fields alone."""
    options = {} if fields is None else {"gate_fields": list(fields)}
    model, batch = build(name, **options), random_batch(20, 3, share=0.3)
    prior = (0, 1) if fields is None else tuple(LAYOUT.names.index(f) for f in fields)
    e_BE = model.embed(batch).detach().requires_grad_()
    routing = Routing.own_and_shared(batch.scenario_B, batch.shared_B, 3)
    logits_V = model.routed_logits(e_BE, batch, routing)
    pairs = zip(routing.row_index_V.tolist(), routing.scenario_V.tolist(), strict=True)
    want = torch.stack([transcribed(model, e_BE[row], k, prior) for row, k in pairs])
    assert len(want) > len(batch)
    torch.testing.assert_close(logits_V, want, atol=1e-4, rtol=1e-4)
    parameters = [e_BE, *(p for key, p in model.named_parameters() if not key.startswith("inputs."))]
    upstream = torch.randn(len(want), generator=torch.Generator().manual_seed(3))
    for mine, theirs in zip(
        torch.autograd.grad(logits_V, parameters, upstream),
        torch.autograd.grad(want, parameters, upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["ppnet", "pepnet"])
def test_only_the_gates_input_is_detached(name: str) -> None:
    """With gates that are 1 whatever they read, a field outside the prior is trained by the tower as ever."""
    model, batch = build(name), random_batch(30, 3)
    assert isinstance(model, PPNet | PEPNet)
    with torch.no_grad():
        for own_gate in model.towers.gates:
            own_gate.weight.zero_()
            own_gate.bias.zero_()
    e_BE = model.embed(batch).detach().requires_grad_()
    logits_V = model.routed_logits(e_BE, batch, Routing.own(batch.scenario_B, 3))
    (grad_BE,) = torch.autograd.grad(logits_V.sum(), e_BE)
    assert grad_BE.view(30, -1, D).abs().amax((0, 2)).min() > 0


@pytest.mark.parametrize("name", ["ppnet", "pepnet"])
def test_a_gate_trains_the_prior_fields_alone(name: str) -> None:
    """With a tower that sees nothing of its input, what is left is the way through the gates."""
    model, batch = build(name), random_batch(30, 3)
    assert isinstance(model, PPNet | PEPNet)
    with torch.no_grad():
        model.towers.towers.layers[0].weight.zero_()
    e_BE = model.embed(batch).detach().requires_grad_()
    logits_V = model.routed_logits(e_BE, batch, Routing.own(batch.scenario_B, 3))
    (grad_BE,) = torch.autograd.grad(logits_V.sum(), e_BE)
    reached = grad_BE.view(30, -1, D).abs().amax((0, 2)) > 0
    assert reached.tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("name", ["epnet", "pepnet"])
def test_the_embedding_gate_lies_between_0_and_2_and_depends_on_the_scenario(name: str) -> None:
    model, batch = build(name), random_batch(30, 3, share=2.0)
    assert isinstance(model, EPNet | PEPNet)
    e_BE = model.embed(batch)
    seen: list[Tensor] = []
    model.gate.register_forward_hook(lambda _, __, out: seen.append(out))
    visits = model.visit(batch)
    ratio_VE = (seen[0] / e_BE[visits.row_index_V]).nan_to_num(1.0)
    assert 0 <= ratio_VE.min() < 0.5 and 1.5 < ratio_VE.max() <= 2
    by_scenario = ratio_VE.view(3, 30, -1)
    assert (by_scenario[0] - by_scenario[1]).abs().max() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_a_visit_reads_the_rows_statistics_whatever_scenario_it_is_in(name: str) -> None:
    """What the visited scenario brings is its part of the network; the row's features are those of its own scenario."""
    model, batch = build(name).eval(), random_batch(30, 3)
    before_BK = model.scenario_logits(model.embed(batch), batch)
    elsewhere = dataclasses.replace(batch, scenario_B=(batch.scenario_B + 1) % 3)
    assert torch.equal(model.scenario_logits(model.embed(elsewhere), elsewhere), before_BK)
    other = dataclasses.replace(batch, slot_ids_BS=batch.slot_ids_BS.clone())
    other.slot_ids_BS[:, -1] = (batch.slot_ids_BS[:, -1] + 1) % LAYOUT.num_rows[-1]
    changed_BK = (model.scenario_logits(model.embed(other), other) - before_BK).abs() > 1e-6
    assert changed_BK.float().mean(0).min() > 0.5, "all but rows without an active unit, in every scenario"


def test_zero_gates_are_neutral() -> None:
    """W' = b' = 0 makes every gate 1: what is left is SharedBottom."""
    batch = random_batch(30, 3)
    plain = build("epnet")
    assert isinstance(plain, EPNet)
    with torch.no_grad():
        plain.gate.gate_weight_GE.zero_()
        plain.gate.gate_bias_E.zero_()
    e_BE = plain.embed(batch)
    torch.testing.assert_close(plain.scenario_logits(e_BE, batch), plain.towers.every(e_BE), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["ppnet", "pepnet"])
def test_an_unknown_gate_field_names_the_known_ones(name: str) -> None:
    with pytest.raises(
        TrainingError, match=r"gate_fields: 'author' is no field; known fields: user, item, tags, price"
    ):
        build(name, gate_fields=["user", "author"])
    model = build(name)
    assert isinstance(model, PPNet | PEPNet) and model.prior.names == ("user", "item")


@pytest.mark.parametrize("name", ["ppnet", "pepnet"])
def test_the_prior_is_found_by_role_whatever_the_fields_are_called(name: str) -> None:
    def prior(**changes: Any) -> tuple[str, ...]:
        model = build_model(name, {}, dataclasses.replace(LAYOUT, **changes), 3, 1)
        assert isinstance(model, PPNet | PEPNet)
        return model.prior.names

    renamed = ("user", "brand", "tags", "member")
    assert prior(names=renamed, roles=("feature", "feature", "feature", "user")) == ("member", "brand")
    assert prior(names=renamed, roles=("item", "feature", "feature", "user")) == ("member", "user")
    assert prior(roles=("feature",) * 4) == ("item",), "behaviours have it, and no field is the item itself"


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_for_training_alone(name: str) -> None:
    model, batch = build(name, dropout=0.5), random_batch(25, 3)
    assert not torch.equal(model(batch), model(batch))
    assert torch.equal(model.eval()(batch), model(batch))
