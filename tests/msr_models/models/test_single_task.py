"""A model per scenario: nothing in common, and every backbone as it is alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from msr_models.models.base_dnn import BaseDNN
from msr_models.models.mmoe import MMoE
from msr_models.models.registry import build_model
from msr_models.models.single_task import SingleTask
from msr_models.training.step import reuse_loss
from schemas.errors import TrainingError
from tests.support.batches import LAYOUT, random_batch, take


def build(backbone: str = "base_dnn", **options: Any) -> SingleTask:
    small = {"embedding_dim": 4, "hidden": [6, 5]}
    model = build_model("single_task", {"backbone": backbone} | small | options, LAYOUT, 3, 1)
    assert isinstance(model, SingleTask)
    return model


def alone(rows: torch.Tensor, model: SingleTask, k: int) -> torch.Tensor:
    """Logits of rows by a deep copy of scenario k's model, as a data set of one scenario would ask for them."""
    batch = take(random_batch(40, 3, share=0.3), rows)
    batch.scenario_B.zero_()
    batch.hist_scenario_BL.copy_(torch.where(batch.hist_scenario_BL == k, 0, -1))
    logits: torch.Tensor = copy.deepcopy(model.copies[k])(batch)
    return logits


@pytest.mark.parametrize(
    "backbone", ["base_dnn", "shared_bottom", "deepfm", "dcn", "hmoe", "mmoe", "star", "sfpnet", "optmsm"]
)
def test_a_visit_is_scored_by_its_scenarios_model_alone(backbone: str) -> None:
    model, batch = build(backbone), random_batch(40, 3, share=0.3)
    visits = model.visit(batch)
    for k in range(3):
        here = visits.scenario_V == k
        rows = visits.row_index_V[here]
        assert len(rows) > 5
        torch.testing.assert_close(visits.logits_V[here], alone(rows, model, k), atol=1e-6, rtol=1e-5)


def test_a_copy_learns_from_its_own_rows_what_it_would_learn_alone() -> None:
    model, batch = build(), random_batch(40, 3)
    reuse_loss(model.visit(batch), batch.label_B, batch.shared_B, 3).sum().backward()
    for k in range(3):
        mine = take(batch, (batch.scenario_B == k).nonzero().squeeze(1))
        mine.scenario_B.zero_()
        lonely = copy.deepcopy(model.copies[k])
        lonely.zero_grad()
        F.binary_cross_entropy_with_logits(lonely(mine), mine.label_B, reduction="sum").backward()
        for (key, one), other in zip(model.copies[k].named_parameters(), lonely.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4, msg=key)


def test_the_copies_share_no_weight_and_start_apart() -> None:
    model = build()
    places = {parameter.data_ptr() for parameter in model.parameters()}
    assert len(places) == len(list(model.parameters())) == 3 * len(list(model.copies[0].parameters()))
    assert not torch.equal(
        model.copies[0].embedding.get_parameter("weight"), model.copies[1].embedding.get_parameter("weight")
    )


def test_a_copys_penalty_counts_with_the_share_of_its_visits(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = build(), random_batch(40, 3, scenarios=[0, 0, 0, 1])
    numbers = {copy: k for k, copy in enumerate(model.copies)}

    def penalised(self: BaseDNN, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network_logits(*args), torch.tensor(10.0 ** (numbers[self] + 1))

    monkeypatch.setattr(BaseDNN, "penalised_network_logits", penalised)
    penalty = model.visit(batch).penalty
    assert penalty is not None
    assert float(penalty) == pytest.approx(0.75 * 10 + 0.25 * 100)
    monkeypatch.undo()
    assert model.visit(batch).penalty is None


def test_options_reach_the_backbone() -> None:
    model = build("mmoe", dropout=0.5, sequence_pooling="none", backbone_options='{"num_experts": 7}')
    last = model.copies[2]
    assert isinstance(last, MMoE)
    config = last.config
    assert (config.embedding_dim, config.hidden, config.num_experts) == (4, (6, 5), 7)
    assert (config.dropout, config.sequence_pooling) == (0.5, "none")
    default = build(embedding_dim=None, hidden=None).copies[0]
    assert isinstance(default, BaseDNN) and default.config.hidden == (128, 64)
    assert build("logistic_regression", embedding_dim=None, hidden=None).learning_rate_scale == 10


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"backbone": "shared_botom"}, "'shared_botom' is not known; did you mean 'shared_bottom'"),
        ({"backbone": "finetune"}, "backbone: 'finetune' is itself one model per scenario"),
        ({"backbone": "logistic_regression"}, "'logistic_regression': no option 'embedding_dim'"),
        ({"backbone_options": "num_experts=8"}, "backbone_options: 'num_experts=8' is not JSON"),
        ({"backbone_options": "[8]"}, r"backbone_options: '\[8\]' is no JSON object"),
        ({"backbone_options": '{"colour": 8}'}, "'base_dnn': no option 'colour'"),
    ],
)
def test_a_bad_option_names_itself_and_the_remedy(options: dict[str, Any], pattern: str) -> None:
    with pytest.raises(TrainingError, match=pattern):
        build(**options)
