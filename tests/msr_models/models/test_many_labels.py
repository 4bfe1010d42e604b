"""A tower per scenario and label in every model that has them, ESMM's product, and refusals in one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.models.base import MultiScenarioModel
from msr_models.models.many_labels import Labels, ManyLabels, product_logit
from msr_models.models.registry import build_model, known_models, model_class
from msr_models.training.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.slices import slices_of
from msr_models.training.step import TrainStep, labels_loss
from msr_models.training.warm_start import build_from_checkpoint, carry_over
from schemas.errors import TrainingError
from tests.support.batches import LAYOUT, random_batch

LABELS = Labels(further=("purchase", "share"))
REFUSE = {"finetune", "single_task"}
MAIN_ONLY = {"logistic_regression"}
LEARN = sorted(set(known_models()) - REFUSE - MAIN_ONLY)


def build(name: str, labels: Labels = LABELS, num_scenarios: int = 3, **options: object) -> MultiScenarioModel:
    """With weights away from where they start."""
    model = build_model(name, options, LAYOUT, num_scenarios, 1, labels)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def batch_of(rows: int = 60, num_scenarios: int = 3, *, share: float = 0.0) -> Batch:
    batch = random_batch(rows, num_scenarios, share=share)
    further = torch.randint(0, 2, (rows, 2), generator=torch.Generator().manual_seed(4)).float()
    return dataclasses.replace(batch, further_BJ=further)


def test_the_network_is_told_the_plan() -> None:
    model = build("adasparse")
    model.plan_steps(8)
    assert int(model.state_dict()["network.planned_steps"]) == 8


@pytest.mark.parametrize("name", known_models())
def test_a_model_trains_all_labels_or_refuses_or_knows_the_main_one_alone(name: str) -> None:
    labels = dataclasses.replace(LABELS, esmm=True)
    if name in REFUSE:
        with pytest.raises(TrainingError, match=r"learn one label; take a model .* columns\.further_labels") as error:
            build_model(name, {}, LAYOUT, 3, 1, labels)
        assert "\n" not in str(error.value)
        return
    model, batch = build(name, labels), batch_of(share=0.2)
    optimiser = Optimiser(model, OptimiserConfig(learning_rate=0.01))
    step = TrainStep(model, optimiser, "fp32", Processes(), label_weights=(1.0, 1.0))
    losses = [float(step(batch, 60)) for _ in range(5)]
    assert min(losses[-2:]) < losses[0]
    logits_BT = model.eval().label_logits(batch)
    assert logits_BT.shape == (60, 1 if name in MAIN_ONLY else 3) and logits_BT.dtype == torch.float32
    assert model.further_labels == (() if name in MAIN_ONLY else LABELS.further)
    assert model_class(name).predicts_main_label_only == (name in MAIN_ONLY)


@pytest.mark.parametrize(("name", "num_scenarios"), [*((name, 3) for name in LEARN), ("hmoe", 1), ("m3oe", 1)])
def test_visits_rows_and_scenarios_have_the_same_logits(name: str, num_scenarios: int) -> None:
    model, batch = build(name, num_scenarios=num_scenarios).eval(), batch_of(40, num_scenarios, share=0.3)
    logits_BT, visits = model.label_logits(batch), model.visit(batch)
    torch.testing.assert_close(model(batch), logits_BT[:, 0], atol=1e-5, rtol=0)
    logits_BK = model.scenario_logits(model.embed(batch), batch)
    torch.testing.assert_close(visits.logits_V, logits_BK[visits.row_index_V, visits.scenario_V], atol=1e-5, rtol=0)
    assert visits.further_VJ is not None
    own_V = visits.scenario_V == batch.scenario_B[visits.row_index_V]
    torch.testing.assert_close(visits.further_VJ[own_V], logits_BT[visits.row_index_V[own_V], 1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", LEARN)
def test_the_loss_of_a_fixed_number_of_visits_is_that_of_the_exact_one(name: str) -> None:
    batch, results = batch_of(50, share=0.4), []
    visits = 50 + int(batch.shared_B.sum()) * 2
    for capacity in (None, visits + 60):
        model = build(name, dataclasses.replace(LABELS, esmm=True))
        torch.manual_seed(7)
        loss_B = labels_loss(model.visit(batch, capacity), batch, 3, (1.0, 0.5))
        results.append([loss_B, *torch.autograd.grad(loss_B.mean(), list(model.parameters()))])
    for other in results[1:]:
        for exact, fixed in zip(results[0], other, strict=True):
            torch.testing.assert_close(fixed, exact, atol=1e-5, rtol=1e-3)


def test_a_rows_loss_is_the_main_labels_plus_the_weighted_others() -> None:
    """Over the visits of a row, each with 1/K where it is shared, as the main label's."""
    model, batch = build("shared_bottom").eval(), batch_of(share=0.3)
    assert batch.further_BJ is not None
    loss_B = labels_loss(model.visit(batch), batch, 3, (2.0, 0.5))
    labels_BT = torch.cat([batch.label_B[:, None], batch.further_BJ], dim=1)
    for row in range(len(batch)):
        scenarios = range(3) if batch.shared_B[row] else [int(batch.scenario_B[row])]
        losses = []
        for k in scenarios:
            moved = dataclasses.replace(batch, scenario_B=torch.full_like(batch.scenario_B, k))
            losses.append(
                F.binary_cross_entropy_with_logits(model.label_logits(moved)[row], labels_BT[row], reduction="none")
            )
        expected = torch.stack(losses).mean(0) @ torch.tensor([1.0, 2.0, 0.5])
        torch.testing.assert_close(loss_B[row], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", LEARN)
def test_every_parameter_gets_a_gradient_from_all_labels_of_all_scenarios(name: str) -> None:
    model, batch = build(name), batch_of(200)
    F.softplus(model.label_logits(batch)).sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_label_has_a_tower_of_its_own_in_every_scenario_and_shares_the_embeddings() -> None:
    model, batch = build("shared_bottom").eval(), batch_of()
    before_BT = model.label_logits(batch)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "towers" in key:
                assert parameter.shape[0] == 9, key
                parameter[3 * 1 + 2] += 1.0  # scenario 1, the second further label
    after_BT = model.label_logits(batch)
    changed_BT = after_BT != before_BT
    expected_BT = torch.zeros_like(changed_BT)
    expected_BT[:, 2] = batch.scenario_B == 1
    assert torch.equal(changed_BT, expected_BT)
    assert len(slices_of(model, list(model.parameters()))) == len(list(model.parameters()))
    counts = {slices.count for slices in slices_of(model, [p for k, p in model.named_parameters() if "towers" in k])}
    assert counts == {9}, "a tower without data is left alone"


def test_one_label_is_the_model_as_it_was() -> None:
    plain, named = (build_model("mmoe", {}, LAYOUT, 3, 1, labels) for labels in (Labels(), Labels(esmm=False)))
    assert type(plain) is type(named) and not isinstance(plain, ManyLabels)
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), named.state_dict().values(), strict=True))


def test_hmoe_mixes_the_scores_of_one_label_alone() -> None:
    model, batch = build("hmoe", Labels(further=("purchase",))).eval(), batch_of()
    before_BT = model.label_logits(batch)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "towers" in key:
                parameter[1::2] += 1.0  # of purchases
    after_BT = model.label_logits(batch)
    assert torch.equal(before_BT[:, 0], after_BT[:, 0])
    assert (before_BT[:, 1] != after_BT[:, 1]).all()


def test_optmsm_reads_the_behaviours_of_the_scenario_whatever_the_label() -> None:
    model, batch = build("optmsm").eval(), batch_of()
    elsewhere = torch.where(batch.hist_scenario_BL >= 0, (batch.hist_scenario_BL + 1) % 3, -1)
    moved = dataclasses.replace(batch, hist_scenario_BL=elsewhere.to(torch.int16))
    changed_BT = (model.label_logits(batch) - model.label_logits(moved)).abs() > 1e-6
    assert changed_BT.float().mean(0).min() > 0.5, "each label's predictor reads them"


def test_base_dnn_without_the_scenario_as_input_refuses() -> None:
    with pytest.raises(TrainingError, match="'base_dnn' with scenario_input false has one output for all labels"):
        build_model("base_dnn", {"scenario_input": False}, LAYOUT, 3, 1, LABELS)


def _slow_loss(a: Tensor, b: Tensor, click: Tensor, purchase: Tensor) -> Tensor:
    """Ma et al. 2018, eq. 4, in float64 from probabilities: l(click, pCTR) + l(purchase, pCTR pCVR)."""
    ctr = a.double().sigmoid()
    ctcvr = ctr * b.double().sigmoid()
    return F.binary_cross_entropy(ctr, click.double()) + F.binary_cross_entropy(ctcvr, purchase.double())


def test_the_loss_of_a_product_is_esmms_with_its_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = ((4 * torch.randn(200, generator=generator)).requires_grad_() for _ in range(2))
    click = torch.randint(0, 2, (200,), generator=generator).float()
    purchase = click * torch.randint(0, 2, (200,), generator=generator).float()
    loss = F.binary_cross_entropy_with_logits
    mine = loss(a, click) + loss(product_logit(a, b), purchase)
    slow = _slow_loss(a, b, click, purchase)
    torch.testing.assert_close(mine.double(), slow, atol=1e-6, rtol=1e-6)
    for one, other in zip(torch.autograd.grad(mine, [a, b]), torch.autograd.grad(slow, [a, b]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("size", [0.0, 20.0, 80.0, 1e4])
def test_a_product_is_finite_with_its_gradients_at_any_size(size: float) -> None:
    a = torch.tensor([size, size, -size, -size], requires_grad=True)
    b = torch.tensor([size, -size, size, -size], requires_grad=True)
    logit = product_logit(a, b)
    assert logit.isfinite().all()
    for label in (0.0, 1.0):
        loss = F.binary_cross_entropy_with_logits(logit, torch.full((4,), label), reduction="sum")
        gradients = torch.autograd.grad(loss, [a, b], retain_graph=True)
        assert all(g.isfinite().all() for g in (loss, *gradients))
    if size == 20.0:  # p of the first is 1 - 4e-9, which float32 cannot say, but its logit can
        exact = torch.tensor([20.0] * 4, dtype=torch.float64).sigmoid()
        torch.testing.assert_close(logit[0].double(), (exact[0] ** 2).logit(), atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(logit[3].double(), torch.tensor(-40.0, dtype=torch.float64), atol=1e-4, rtol=0)


def test_esmm_gives_the_product_of_the_towers_probabilities() -> None:
    apart, product = (build("shared_bottom", dataclasses.replace(LABELS, esmm=e)).eval() for e in (False, True))
    batch = batch_of()
    towers_BT, whole_BT = apart.label_logits(batch).double().sigmoid(), product.label_logits(batch).double().sigmoid()
    torch.testing.assert_close(whole_BT[:, 0], towers_BT[:, 0], atol=1e-7, rtol=0)
    torch.testing.assert_close(whole_BT[:, 1:], towers_BT[:, :1] * towers_BT[:, 1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("esmm", [False, True])
def test_labels_start_at_their_base_rates(esmm: bool) -> None:
    model = build_model("shared_bottom", {}, LAYOUT, 3, 1, Labels(further=("purchase",), esmm=esmm)).eval()
    assert isinstance(model, ManyLabels)
    rows, clicks = torch.tensor([100_000, 50_000, 0]), torch.tensor([20_000, 5_000, 0])
    counts_J2K = torch.tensor([[[2_100, 500, 0], [100, 0, 0]]])  # 100 purchases without a click
    model.start_from_base_rates(rows, clicks)
    model.start_further_from_base_rates(rows, clicks, counts_J2K)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
    batch = batch_of()
    probs_BT = model.label_logits(batch).sigmoid()
    expected = torch.tensor([[0.2, 0.02 if esmm else 0.021], [0.1, 0.01]])
    for k in (0, 1):
        mine = probs_BT[batch.scenario_B == k]
        torch.testing.assert_close(mine, expected[k].expand(len(mine), 2), atol=1e-4, rtol=0.01)


def test_the_wide_part_is_the_main_labels() -> None:
    model, batch = build("shared_bottom", wide=True).eval(), batch_of()
    assert isinstance(model, ManyLabels) and model.network.wide is None and model.wide is not None
    before_BT = model.label_logits(batch)
    with torch.no_grad():
        for parameter in model.wide.parameters():
            parameter.add_(1.0)
    changed_BT = model.label_logits(batch) != before_BT
    assert changed_BT[:, 0].any() and not changed_BT[:, 1:].any()


def card_of(name: str, labels: Labels, scenarios: tuple[str, ...] = ("home", "feed", "ads")) -> ModelCard:
    return ModelCard(
        model=name,
        options={},
        layout=LAYOUT,
        scenarios=scenarios,
        seed=5,
        dataset="d",
        vocabulary_version="20260101-a",
        labels=labels,
    )


@pytest.mark.parametrize("labels", [Labels(), LABELS, dataclasses.replace(LABELS, esmm=True)])
def test_a_checkpoint_knows_its_labels(labels: Labels, tmp_path: Path) -> None:
    model = build("mmoe", labels)
    sha256 = save_checkpoint(tmp_path / "model.pt", model, card_of("mmoe", labels))
    loaded, card = load_checkpoint(tmp_path / "model.pt", sha256)
    assert card.labels == labels and ('"labels"' in (tmp_path / "model.json").read_text()) == bool(labels.further)
    assert torch.equal(loaded.label_logits(batch_of()), model.eval().label_logits(batch_of()))
    other = card_of("mmoe", Labels(further=("purchase",)))
    with pytest.raises(TrainingError, match=r"has labels .*; train the days before again"):
        build_from_checkpoint(other, tmp_path / "model.pt", sha256)


@pytest.mark.parametrize("name", ["shared_bottom", "mmoe", "star"])
def test_scenarios_may_be_appended_and_bring_their_labels(name: str) -> None:
    before, grown = build(name), card_of(name, LABELS, ("home", "feed", "ads", "cart"))
    model = grown.build()
    carry_over(model, grown, before, card_of(name, LABELS), "feed")
    batch = batch_of()
    torch.testing.assert_close(model.eval().label_logits(batch), before.eval().label_logits(batch), atol=1e-5, rtol=0)
    in_feed, in_cart = (dataclasses.replace(batch, scenario_B=torch.full_like(batch.scenario_B, k)) for k in (1, 3))
    torch.testing.assert_close(model.label_logits(in_cart), model.label_logits(in_feed), atol=1e-5, rtol=0)
