"""Warm starts: ids keep their vectors by (field, id), new ids get a fresh model's, nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.optmsm import OptMSM
from msr_models.models.registry import build_model, known_models
from msr_models.modules.embedding import FieldEmbedding
from msr_models.training.checkpoint import ModelCard, save_checkpoint
from msr_models.training.warm_start import build_from_checkpoint, carry_over
from schemas.errors import TrainingError
from schemas.field_spec import Role
from tests.support.batches import LAYOUT, WITH_ATTRIBUTE, random_batch

# Three fields grow, one of them in the middle, so that all later fields' rows move
GROWN = replace(LAYOUT, num_rows=(13, 9, 8, 5))
SEED = 5
SCENARIOS = ("home", "feed", "ads")


def card(layout: FieldLayout = LAYOUT, **changes: Any) -> ModelCard:
    first = ModelCard(
        model="shared_bottom",
        options={"embedding_dim": 4, "hidden": [8]},
        layout=layout,
        scenarios=SCENARIOS,
        seed=SEED,
        dataset="d",
        vocabulary_version="20260102-abcd1234",
    )
    return replace(first, **changes)


def fresh(of: ModelCard) -> MultiScenarioModel:
    return build_model(of.model, of.options, of.layout, of.num_scenarios, of.seed)


def trained(of: ModelCard) -> MultiScenarioModel:
    """Weights that no fresh model has: each another number."""
    model, count = fresh(of), 1000.0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.arange(count, count + parameter.numel()).view_as(parameter))
            count += parameter.numel()
    return model


@pytest.mark.parametrize("name", known_models())
def test_every_model_keeps_what_it_knew_by_field_and_id(name: str, tmp_path: Path) -> None:
    before, after = (card(layout, model=name, options={}) for layout in (LAYOUT, GROWN))
    old, new = trained(before), fresh(after)
    path = tmp_path / "weights.pt"
    model = build_from_checkpoint(after, path, save_checkpoint(path, old, before))
    checked = 0
    tables = {f"{module}.weight" for module, part in model.named_modules() if isinstance(part, FieldEmbedding)}
    assert tables
    for key, weight in model.state_dict().items():
        if key not in tables:
            assert torch.equal(weight, old.state_dict()[key]), key
            continue
        for f, (rows, grown) in enumerate(zip(LAYOUT.num_rows, GROWN.num_rows, strict=True)):
            for i in range(grown):
                known = old.state_dict()[key][LAYOUT.row_starts[f] + i] if i < rows else None
                wanted = new.state_dict()[key][GROWN.row_starts[f] + i] if known is None else known
                assert torch.equal(weight[GROWN.row_starts[f] + i], wanted), (f, i)
                checked += 1
    assert checked == GROWN.total_rows * len(tables)


def test_the_same_vocabulary_carries_everything() -> None:
    old, model = trained(card()), fresh(card(vocabulary_version="20260103-abcd1234"))
    carry_over(model, card(vocabulary_version="20260103-abcd1234"), old, card())
    assert all(torch.equal(v, old.state_dict()[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": "logistic_regression", "options": {}},
            "has model 'logistic_regression', this run has 'shared_bottom'",
        ),
        ({"options": {"embedding_dim": 4, "hidden": [4]}}, r"options .*\[4\].*, this run has .*\[8\]"),
        ({"scenarios": (*SCENARIOS, "cart")}, "has scenarios .*'cart'.*, this run has"),
        ({"vocabulary_version": "20260101-00000000"}, "lineage '00000000', this run has 'abcd1234'"),
        ({"layout": replace(LAYOUT, item_field=0)}, r"fields .*\['behaviours', 'user'\].*\['behaviours', 'item'\]"),
        (
            {"layout": WITH_ATTRIBUTE},
            r"fields .*\['behaviours', 'item', 'price'\].*, this run has .*\['behaviours', 'item'\]",
        ),
        ({"layout": replace(LAYOUT, names=("user", "item", "tags", "cost"))}, "fields .*'cost'.*'price'"),
        ({"layout": replace(LAYOUT, num_rows=(11, 12, 5, 4))}, "knows 11 ids of field 'item' .*, this run 8"),
    ],
)
def test_what_does_not_fit_names_both_sides_and_the_remedy(change: dict[str, Any], message: str) -> None:
    before, model = card(**change), fresh(card())
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(TrainingError, match=message) as caught:
        carry_over(model, card(), trained(before), before)
    assert "training.start: scratch" in str(caught.value)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_a_checkpoint_that_is_gone_changed_or_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    with pytest.raises(TrainingError, match=r"weights.pt cannot be read .*train the model again"):
        build_from_checkpoint(card(), path, "0" * 64)
    sha256 = save_checkpoint(path, trained(card()), card())
    with pytest.raises(TrainingError, match=f"sha256 {sha256}, expected {'0' * 64}"):
        build_from_checkpoint(card(), path, "0" * 64)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=f"expected {sha256}"):
        build_from_checkpoint(card(), path, sha256)


# A new field in the middle, as one with `since` comes in, and the same fields around it
WIDER = FieldLayout(
    names=("user", "item", "device", "tags", "price"),
    num_slots=(1, 1, 1, LAYOUT.num_slots[2], 1),
    num_rows=(*LAYOUT.num_rows[:2], 4, *LAYOUT.num_rows[2:]),
    item_field=1,
    hist_length=LAYOUT.hist_length,
    roles=("user", "item", "feature", "feature", "feature"),
)
# Their gates or fixed shares mix over scenarios: one more changes the others' shares
MIXES_SCENARIOS = {"aesm2", "hinet", "hmoe", "m3oe", "optmsm_moe", "ple"}


@pytest.mark.parametrize("name", known_models())
def test_appended_scenarios_leave_the_others_as_they_were(name: str) -> None:
    before = card(model=name, options={})
    after = card(model=name, options={}, scenarios=(*SCENARIOS, "cart", "mail"))
    old, model = fresh(before), fresh(after)
    _disturb(old)
    carry_over(model, after, old, before)
    batch = random_batch(64, 3)
    logits = old.eval()(batch)
    if name not in MIXES_SCENARIOS:
        torch.testing.assert_close(model.eval()(batch), logits)
    weights, known = model.state_dict(), old.state_dict()
    for key, weight in known.items():
        kept = weights[key][tuple(slice(0, n) for n in weight.shape)]
        if key not in REGROUPED.get(name, ()):
            assert torch.equal(kept, weight), key


# Axes with the shared experts behind those of the scenarios, so that the former move
REGROUPED = {"ple": {"experts.levels.0.shared_gate_CX"}}


def test_a_new_scenario_starts_from_the_mean_of_the_others() -> None:
    before, after = card(), card(scenarios=(*SCENARIOS, "cart"))
    old, model = trained(before), fresh(after)
    carry_over(model, after, old, before)
    for key, weight in old.state_dict().items():
        if "towers" in key:
            torch.testing.assert_close(model.state_dict()[key][3], weight.mean(0))


@pytest.mark.parametrize("name", known_models())
def test_a_new_field_leaves_the_weights_of_the_others(name: str) -> None:
    before, after = card(model=name, options={}), card(WIDER, model=name, options={})
    old, model = fresh(before), fresh(after)
    _disturb(old)
    if name in CANNOT_GROW:
        with pytest.raises(TrainingError, match=r"cannot grow by scenarios or fields; set training.start: scratch"):
            carry_over(model, after, old, before)
        return
    carry_over(model, after, old, before)
    if name in LINEAR_IN_FIELDS:
        with torch.no_grad():
            for part in model.modules():
                if isinstance(part, FieldEmbedding):
                    start = part.layout.row_starts[2]
                    part.weight[start : start + 4] = 0
        batch = random_batch(64, 3)
        wide = replace(batch, slot_ids_BS=_with_device(batch.slot_ids_BS))
        torch.testing.assert_close(model.eval()(wide), old.eval()(batch))


def test_a_new_field_is_common_where_statistics_are_priors() -> None:
    """Known by their role: the transfer's axis runs over the fields that are none."""
    roles: tuple[Role, ...] = ("statistic", "statistic", "feature", "feature")
    old_layout, new_layout = replace(LAYOUT, roles=roles), replace(WIDER, roles=(*roles, "feature"))
    before, after = (card(layout, model="optmsm", options={}) for layout in (old_layout, new_layout))
    old, model = fresh(before), fresh(after)
    _disturb(old)
    carry_over(model, after, old, before)
    assert isinstance(model, OptMSM) and isinstance(old, OptMSM)
    assert (old.partition.num_common, model.partition.num_common) == (3, 4)
    pairs = zip(model.transfer.parameters(), old.transfer.parameters(), strict=True)
    mine, theirs = next((now, then) for now, then in pairs if now.shape != then.shape)
    axis = next(n for n in range(mine.dim()) if mine.shape[n] != theirs.shape[n])
    assert torch.equal(mine.narrow(axis, old.config.embedding_dim, theirs.shape[axis]), theirs), "device comes first"


def _disturb(model: MultiScenarioModel) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def _with_device(slots_BS: torch.Tensor) -> torch.Tensor:
    return torch.cat([slots_BS[:, :2], torch.zeros_like(slots_BS[:, :1]), slots_BS[:, 2:]], dim=1)


# What a model does with a vector of zeros: nothing
LINEAR_IN_FIELDS = {"shared_bottom", "mmoe", "base_dnn", "ple", "single_task", "finetune", "logistic_regression"}
LINEAR_IN_FIELDS |= {"hamur", "m3oe", "mlora"}
CANNOT_GROW = {"dffm", "maria"}


def test_evicted_ids_are_left_behind_and_the_rest_is_kept() -> None:
    """Items 2 and 3 lost their ids, 9 and 10 are new: every row goes by its id, wherever it lies now."""
    layout = replace(LAYOUT, live=((), ((1, 9),), (), ()))
    later = replace(LAYOUT, live=((), ((1, 2), (4, 11)), (), ()))
    before, after = card(layout), card(later, vocabulary_version="20260103-abcd1234")
    old, model = trained(before), fresh(after)
    start = LAYOUT.row_starts[1]
    tables = [part for part in model.modules() if isinstance(part, FieldEmbedding)]
    new_rows = [table.weight[start + 7 : start + 9].clone() for table in tables]
    carry_over(model, after, old, before)
    for table, new in zip(tables, new_rows, strict=True):
        was = next(part for part in old.modules() if isinstance(part, FieldEmbedding)).weight
        kept = torch.tensor([0, 1, 4, 5, 6, 7, 8])
        assert torch.equal(table.weight[start : start + 7], was[start + kept])
        assert torch.equal(table.weight[start + 7 : start + 9], new)
