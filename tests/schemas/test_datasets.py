"""The shipped data sets: which models each of them can train, and its split."""

from __future__ import annotations

from datetime import date

import pytest

from msr_models.data.layout import FieldLayout, smallest_layout
from msr_models.models.ppnet import PPNet
from msr_models.models.registry import build_model, known_models
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.load_dataset import known_datasets, load_dataset

WITHOUT_BEHAVIOURS = ("ali_ccp", "ali_express")


@pytest.mark.parametrize("name", WITHOUT_BEHAVIOURS)
def test_a_log_without_behaviours_refuses_models_that_need_them_and_trains_the_rest(name: str) -> None:
    dataset = load_dataset(name)
    layout = smallest_layout(dataset)
    asked = [("shared_bottom", {"sequence_pooling": "din"}), *((model, {}) for model in known_models())]
    refused = []
    for model, options in asked:
        try:
            build_model(model, options, layout, dataset.num_scenarios, 1)
        except TrainingError as error:
            assert "needs behaviour sequences, and this data set keeps none" in str(error)
            refused.append(model)
    assert refused == ["shared_bottom", "dffm", "sar_net", "sfpnet"]
    for choice in dataset.training.models:
        build_model(choice.name, choice.options, layout, dataset.num_scenarios, 1)


@pytest.mark.parametrize("name", sorted(set(known_datasets()) - set(WITHOUT_BEHAVIOURS)))
def test_the_other_logs_train_every_model(name: str) -> None:
    dataset = load_dataset(name)
    for model in ("sfpnet", "dffm", "sar_net"):
        build_model(model, {}, smallest_layout(dataset), dataset.num_scenarios, 1)


@pytest.mark.parametrize(
    ("name", "users", "items"),
    [
        ("generated", ("user",), ("item",)),
        ("movielens_age", ("user",), ("item",)),
        ("alimama", ("user",), ("item",)),
        ("ali_express", (), ()),
    ],
)
def test_users_and_items_are_known_by_their_source(name: str, users: tuple[str, ...], items: tuple[str, ...]) -> None:
    layout = smallest_layout(load_dataset(name))
    assert (layout.names_with("user"), layout.names_with("item")) == (users, items)


def test_a_role_belongs_to_the_source_and_not_to_the_name() -> None:
    dataset = load_dataset("generated")
    raw = dataset.model_dump(mode="json", exclude_unset=True)
    for field in raw["fields"]:
        if field["name"] in ("user", "segment"):
            field["name"] = {"user": "member", "segment": "user"}[field["name"]]
    renamed = DatasetSpec.model_validate(raw)
    layout = smallest_layout(renamed)
    assert (layout.names_with("user"), layout.names_with("item")) == (("member",), ("item",))
    statistics = ("user_scenario_impressions", "user_scenario_ctr", "item_scenario_impressions", "item_scenario_ctr")
    assert layout.names_with("statistic") == statistics
    assert layout.of_fields(["item", "hour", "member"]).roles == ("item", "feature", "user")
    assert FieldLayout.from_dict(layout.to_dict()) == layout
    model = build_model("ppnet", {}, layout, renamed.num_scenarios, 1)
    assert isinstance(model, PPNet) and model.prior.names == ("member", "item")


@pytest.mark.parametrize(
    ("name", "ds", "trains", "validates"),
    [
        ("ali_ccp", "2001-01-11", ("2001-01-02", "2001-01-09"), "2001-01-10"),
        ("ali_express", "2001-01-11", ("2001-01-02", "2001-01-09"), "2001-01-10"),
        ("alimama", "2017-05-12", ("2017-05-07", "2017-05-10"), "2017-05-11"),
        ("alimama", "2017-05-13", ("2017-05-08", "2017-05-11"), "2017-05-12"),
    ],
)
def test_the_splits_are_those_of_the_page_on_public_data_sets(
    name: str, ds: str, trains: tuple[str, str], validates: str
) -> None:
    dataset = load_dataset(name)
    training = dataset.training
    window = dataset.window_before(date.fromisoformat(ds), training.window_days)
    assert window is not None and training.validation_days == 1
    assert [str(window[0]), str(window[-2]), str(window[-1])] == [*trains, validates]
