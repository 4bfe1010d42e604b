"""Names and options of models."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from msr_models.models.logistic_regression import LogisticRegression
from msr_models.models.registry import build_model, known_models, parse_options
from msr_models.models.shared_bottom import SharedBottomConfig
from schemas.errors import TrainingError
from schemas.models import MODELS
from tests.support.batches import LAYOUT, random_batch


def test_the_names_that_are_read_without_torch_are_those_of_the_registry() -> None:
    assert list(MODELS) == known_models()


def test_an_unknown_model_names_the_nearest_and_all_known() -> None:
    with pytest.raises(TrainingError, match=r"'shared_botom'.*'shared_bottom'.*logistic_regression"):
        build_model("shared_botom", {}, LAYOUT, 3, 1)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"hiden": [8]}, r"no option 'hiden'.*'hidden'"),
        ({"colour": 1}, r"no option 'colour'.*embedding_dim, hidden, dropout, sequence_pooling"),
        ({"hidden": "8"}, r"option hidden: '8'.*tuple"),
        ({"hidden": [8, 0]}, r"option hidden: \[8, 0\].*greater than or equal to 1"),
        ({"hidden": []}, r"option hidden: \[\].*at least 1"),
        ({"embedding_dim": True}, r"option embedding_dim: True.*integer"),
        ({"embedding_dim": 2.5}, r"option embedding_dim: 2.5.*integer"),
        ({"auxiliary": 1}, r"option auxiliary: 1.*boolean"),
        ({"dropout": float("nan")}, r"option dropout: nan.*finite"),
        ({"dropout": 1.0}, r"option dropout: 1.0.*less than 1"),
        ({"sequence_pooling": "max"}, r"option sequence_pooling: 'max'.*'mean', 'din', 'din_mean' or 'none'"),
    ],
)
def test_a_bad_option_names_model_option_value_and_what_is_allowed(options: dict[str, object], pattern: str) -> None:
    with pytest.raises(TrainingError, match=f"model 'shared_bottom'.*{pattern}"):
        build_model("shared_bottom", options, LAYOUT, 3, 1)


def test_options_reach_the_config() -> None:
    want = SharedBottomConfig(embedding_dim=8, hidden=(4,), dropout=0.5, sequence_pooling="none")
    options = {"embedding_dim": 8, "hidden": [4], "dropout": 0.5, "sequence_pooling": "none"}
    assert parse_options("shared_bottom", options) == want


def test_without_pooling_the_history_does_not_count() -> None:
    batch = random_batch(10, 3)
    other = dataclasses.replace(batch, hist_ids_BLA=torch.zeros_like(batch.hist_ids_BLA))
    for pooling, same in (("none", True), ("mean", False)):
        model = build_model("shared_bottom", {"sequence_pooling": pooling}, LAYOUT, 3, 1)
        assert torch.equal(model(batch), model(other)) is same


def test_logistic_regression_is_a_sum_of_weights() -> None:
    model = build_model("logistic_regression", {"sequence_pooling": "none"}, LAYOUT, 3, 1)
    batch = random_batch(10, 3)
    assert isinstance(model, LogisticRegression)
    assert model(batch).abs().max() == 0 and not model.has_towers
    with torch.no_grad():
        model.embedding.get_parameter("weight").copy_(torch.arange(LAYOUT.total_rows)[:, None].float())
        model.bias_K.copy_(torch.tensor([100.0, 200.0, 300.0]))
    ids, starts = batch.slot_ids_BS.float(), LAYOUT.row_starts
    tags = ids[:, 2:5]
    count = (tags > 0).sum(1)
    mean = torch.where(count > 0, tags.sum(1) / count.clamp(min=1) + starts[2], 0.0)
    bias = 100.0 * (batch.scenario_B + 1)
    want = ids[:, 0] + starts[0] + ids[:, 1] + starts[1] + mean + ids[:, 5] + starts[3] + bias
    torch.testing.assert_close(model(batch), want)
