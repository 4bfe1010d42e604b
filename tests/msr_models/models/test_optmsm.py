"""OptMSM against its equations, row by row and scenario by scenario, with each transfer and without each part."""

from __future__ import annotations

import copy
import dataclasses
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.optmsm import OptMSM
from msr_models.models.registry import build_model
from msr_models.modules.routing import Routing
from msr_models.modules.transfer import CustomisedTransfer, MixtureTransfer, StarTransfer
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.step import TrainStep, reuse_loss
from schemas.errors import TrainingError
from tests.support.batches import LAYOUT, WITH_ATTRIBUTE, random_batch, take
from tests.support.behaviours import batch_with_gaps, behaviours_in_scenario

TRANSFERS = ("optmsm", "optmsm_moe", "optmsm_cgc")
SMALL = {"embedding_dim": 4, "transfer_hidden": [7, 6], "hidden": [5, 3], "hyper_hidden": 4}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"specific_fields": ["price", "user"]},
    {"priors": False},
    {"specific_behaviours": False},
    {"sequence_pooling": "none"},
    {"hypernetwork": False},
    {"constraint": False},
    {"hidden": [], "contrasts_per_row": 0.5},
    {"specific_fields": ["item"], "contrasts_per_row": 0.5},
]


def build(name: str = "optmsm", num_scenarios: int = 3, layout: FieldLayout = LAYOUT, **options: Any) -> OptMSM[Any]:
    model = build_model(name, SMALL | options, layout, num_scenarios, 1)
    assert isinstance(model, OptMSM)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def representation(model: OptMSM[Any], e_c: list[Tensor], m: int) -> Tensor:
    """r^m of one row's common vectors, eq. 5-8."""
    excite = model.gate.excite
    z = torch.sigmoid(torch.stack([e.mean() for e in e_c]) @ excite.weight[m] + excite.bias[m])
    x = torch.cat([z_i * e for z_i, e in zip(z, e_c, strict=True)])
    transfer = model.transfer
    if isinstance(transfer, StarTransfer):
        for layer in transfer.layers:
            x = ((layer.weight_IO * layer.own_weight_KIO[m]).T @ x + layer.bias_O + layer.own_bias_KO[m]).relu()
        return x
    experts = []
    assert isinstance(transfer, MixtureTransfer | CustomisedTransfer)
    if isinstance(transfer, CustomisedTransfer):
        for number in range(transfer.own.weights[0].shape[2]):
            h = x
            for weight, bias in zip(transfer.own.weights, transfer.own.biases, strict=True):
                h = (weight[m, :, number].T @ h + bias[m, number]).relu()
            experts.append(h)
    for number in range(len(transfer.shared[0].weight)):
        h = x
        for shared in transfer.shared:
            h = (shared.weight[number].T @ h + shared.bias[number]).relu()
        experts.append(h)
    scores = torch.exp(transfer.gate_KEX[m].T @ x)
    assert len(scores) == len(experts)
    return torch.stack([s / scores.sum() * expert for s, expert in zip(scores, experts, strict=True)]).sum(0)


def predicted(model: OptMSM[Any], r: Tensor, priors: list[Tensor], m: int) -> Tensor:
    """The logit of eq. 10-13."""
    start = state = torch.cat([r, *priors])
    network = model.predictor.hypernetwork
    for number, layer in enumerate(model.predictor.layers):
        if number:
            state = state.relu()
        if network is not None:
            width = model.config.hyper_hidden
            own = slice(number * width, (number + 1) * width)
            first = (network.first.weight_IO[:, own].T @ start + network.first.bias_O[own]).relu()
            second = network.second[number]
            state = state * 2 * torch.sigmoid(second.weight_IO.T @ first + second.bias_O)
        state = layer.weight[m].T @ state + layer.bias[m]
    return state[0]


def behaviour_prior(model: OptMSM[Any], batch: Batch, row: int, m: int) -> list[Tensor]:
    """The mean of the user's behaviours in scenario m, where the options have it."""
    config = model.config
    if not (config.priors and config.specific_behaviours and config.sequence_pooling != "none"):
        return []
    found = behaviours_in_scenario(model.embedding, batch, row, m)
    return [torch.stack(found).mean(0) if found else torch.zeros(model.embedding.width)]


def parted(model: OptMSM[Any], x_FD: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """(common, specific) vectors of one row, in the order of its fields; behaviours are common."""
    names = (*LAYOUT.names, "behaviours")[: len(x_FD)]
    chosen = (model.config.specific_fields or ()) if model.config.priors else ()
    common = [x for name, x in zip(names, x_FD, strict=True) if name not in chosen]
    return common, [x for name, x in zip(names, x_FD, strict=True) if name in chosen]


@pytest.mark.parametrize("name", TRANSFERS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_logits_and_penalty_are_those_of_the_equations(name: str, options: dict[str, Any]) -> None:
    batch = random_batch(8, 3, share=0.3)
    assert_transcribed(build(name, **({"constraint_weight": 0.3, "contrasts_per_row": 3.0} | options)), batch)


def test_behaviours_with_attributes_are_priors_of_their_scenario() -> None:
    model = build(layout=WITH_ATTRIBUTE, constraint_weight=0.3, contrasts_per_row=3.0)
    assert_transcribed(model, batch_with_gaps(8, share=0.3))


def assert_transcribed(model: OptMSM[Any], batch: Batch) -> None:
    visits = model.visit(batch)
    for parameter in model.parameters():
        parameter.requires_grad_(False)  # the transcription is slow enough
    x_BFD = model.inputs(batch)
    want = []
    for row, m in zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True):
        common, specific = parted(model, x_BFD[row])
        priors = [] if model.scenario_KD is None else [model.scenario_KD[m], *specific]
        priors += behaviour_prior(model, batch, row, m)
        want.append(predicted(model, representation(model, common, m), priors, m))
    torch.testing.assert_close(visits.logits_V, torch.stack(want), atol=1e-4, rtol=1e-4)
    if not model.config.constraint:
        assert visits.penalty is None
        return
    rows = range(8) if model.config.contrasts_per_row == 3.0 else range(0, 8, 6)
    total = torch.zeros(())
    for row in rows:
        r = [representation(model, parted(model, x_BFD[row])[0], m) for m in range(3)]
        for i, j in combinations(range(3), 2):
            if min(r[i].norm(), r[j].norm()) > 0:
                total = total + (r[i] @ r[j]) / (r[i].norm() * r[j].norm())
    assert (model.scenario_KD is not None) == model.config.priors
    assert (model.predictor.hypernetwork is not None) == model.config.hypernetwork
    assert visits.penalty is not None and total > 0
    torch.testing.assert_close(visits.penalty, 0.3 * total / len(rows), atol=1e-5, rtol=1e-4)


def penalty_gradients(model: OptMSM[Any], batch: Batch) -> tuple[Tensor, ...]:
    penalty = model.visit(batch).penalty
    assert penalty is not None
    return torch.autograd.grad(penalty, list(model.gate.parameters()))


def test_the_constraint_on_some_rows_is_that_on_all_in_the_mean() -> None:
    """Over all rotations of a batch, loss and gradients."""
    all_rows, batch = build(contrasts_per_row=3.0), random_batch(40, 3)
    some_rows = build(contrasts_per_row=0.3)  # each 10th
    exact = penalty_gradients(all_rows, batch)
    sampled = []
    for start in range(10):
        rotated = take(batch, torch.arange(40).roll(-start))
        sampled.append(penalty_gradients(some_rows, rotated))
    for want, *found in zip(exact, *sampled, strict=True):
        torch.testing.assert_close(torch.stack(found).mean(0), want, atol=1e-6, rtol=1e-4)
        assert (found[0] - want).norm() > 0.05 * want.norm()


def test_the_constraint_counts_rows_not_visits() -> None:
    model, batch = build(contrasts_per_row=3.0), random_batch(20, 3, share=0.4)
    alone = dataclasses.replace(batch, shared_B=torch.zeros(20, dtype=torch.bool))
    want = model.visit(alone).penalty
    for other in (model.visit(batch), model.visit(batch, capacity=100)):
        torch.testing.assert_close(other.penalty, want)


def test_there_is_no_constraint_where_nothing_is_trained_or_compared() -> None:
    model, batch = build(), random_batch(20, 3)
    assert model.visit(batch).penalty is not None
    with torch.no_grad():
        assert model.visit(batch).penalty is None
    assert model.eval().visit(batch).penalty is None
    assert build(num_scenarios=1).visit(random_batch(20, 1)).penalty is None
    nothing = build().visit(take(batch, torch.zeros(0, dtype=torch.int64)))
    assert nothing.penalty is not None and float(nothing.penalty.detach()) == 0


def test_the_step_adds_the_constraint_to_the_loss() -> None:
    model, batch = build(constraint_weight=3.0), random_batch(30, 3)
    visits = model.visit(batch)
    assert visits.penalty is not None
    want = reuse_loss(visits, batch.label_B, batch.shared_B, 3).mean() + visits.penalty
    step = TrainStep(copy.deepcopy(model), Optimiser(model, OptimiserConfig()), "fp32", Processes())
    torch.testing.assert_close(step(batch, 30), want.detach())


@pytest.mark.parametrize("name", TRANSFERS)
def test_training_with_the_constraint_turns_representations_perpendicular(name: str) -> None:
    """And no further: none is negative, so that no cosine is."""
    batch = random_batch(64, 3)
    ends = {}
    for weight in (1.0, 1e-9):
        options = SMALL | {"constraint_weight": weight, "contrasts_per_row": 3.0}
        model = build_model(name, options, LAYOUT, 3, 1)
        step = TrainStep(model, Optimiser(model, OptimiserConfig(learning_rate=0.01)), "fp32", Processes())
        for _ in range(80):
            step(batch, 64)
        assert isinstance(model, OptMSM)
        everywhere = Routing.everywhere(64, 3, torch.device("cpu"))
        r_KBH = model.representations(model.embed(batch), everywhere).detach().view(3, 64, -1)
        assert float(r_KBH.min()) >= 0
        u_KBH = torch.nn.functional.normalize(r_KBH, dim=2)
        ends[weight] = float((u_KBH[0] * u_KBH[1]).sum(1).mean())
    assert ends[1.0] < 0.3 * ends[1e-9]


def test_priors_reach_the_predictor_and_never_a_representation() -> None:
    batch = random_batch(20, 3)
    other = dataclasses.replace(batch, slot_ids_BS=batch.slot_ids_BS.clone())
    other.slot_ids_BS[:, -1] = (batch.slot_ids_BS[:, -1] + 1) % 4  # price
    own = Routing.own(batch.scenario_B, 3)
    for priors in (True, False):
        model = build(specific_fields=["price"], priors=priors)
        one, two = (model.representations(model.embed(b), own) for b in (batch, other))
        assert torch.equal(one, two) is priors
        assert not torch.equal(model(batch), model(other))


def test_a_visit_to_another_scenario_brings_the_rows_own_statistics() -> None:
    """Its prior: the vector of the visited scenario, the row's statistic as it is, behaviours in the visited one."""
    layout = dataclasses.replace(LAYOUT, roles=("user", "item", "feature", "statistic"))
    model, batch = build(layout=layout), random_batch(12, 3, share=2.0)
    seen: list[torch.Tensor] = []
    model.predictor.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    visits = model.visit(batch)
    row_V, scenario_V = visits.row_index_V, visits.scenario_V
    assert model.scenario_KD is not None and len(row_V) == 36
    width = model.config.embedding_dim
    _, scenario_VD, statistic_VD, behaviours_VD = seen[0].split([model.transfer.out_width, *[width] * 3], dim=1)
    assert torch.equal(scenario_VD, model.scenario_KD[scenario_V])
    assert torch.equal(statistic_VD, model.embedding.fields(batch)[row_V, LAYOUT.names.index("price")])
    happened_VD = model.embedding.history_in_scenario(batch, row_V, scenario_V, 3)
    assert torch.equal(behaviours_VD, happened_VD) and behaviours_VD.abs().max() > 0


def test_by_default_the_statistics_in_a_scenario_are_priors() -> None:
    names = ("user", "item_scenario_ctr", "tags", "user_scenario_impressions")
    layout = dataclasses.replace(LAYOUT, names=names, roles=("user", "statistic", "feature", "statistic"))
    model = build_model("optmsm", SMALL, layout, 3, 1)
    assert isinstance(model, OptMSM)
    batch = random_batch(6, 3)
    x_BFD = model.inputs(batch)
    assert torch.equal(model.embed(batch).view(6, 5, 4), x_BFD[:, [0, 2, 4, 1, 3]])
    assert (model.partition.num_common, model.partition.num_specific) == (3, 2)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"specific_fields": ["prize"]}, r"'prize'.*known fields: user, item, tags, price"),
        ({"specific_fields": ["user", "item", "tags", "price"], "sequence_pooling": "none"}, "leaves none"),
        ({"contrasts_per_row": 0.0}, "greater than 0"),
        ({"transfer": "star"}, "no option 'transfer'"),
    ],
)
def test_bad_options_say_what_is_allowed(options: dict[str, object], pattern: str) -> None:
    with pytest.raises(TrainingError, match=pattern):
        build_model("optmsm", options, LAYOUT, 3, 1)


def test_experts_are_as_many_as_in_the_paper() -> None:
    for num_scenarios in (2, 4):
        mixture = build("optmsm_moe", num_scenarios).transfer
        assert isinstance(mixture, MixtureTransfer)
        assert len(mixture.shared[0].weight) == 2 * num_scenarios
        customised = build("optmsm_cgc", num_scenarios).transfer
        assert isinstance(customised, CustomisedTransfer)
        assert len(customised.shared[0].weight) == 2
        assert customised.own.weights[0].shape[::2] == (num_scenarios, 2)
    bounded = build("optmsm_moe", num_experts=5).transfer
    assert isinstance(bounded, MixtureTransfer) and len(bounded.shared[0].weight) == 5
