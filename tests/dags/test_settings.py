"""A deployment is what its environment and its data set's YAML say."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from msr_dags.settings import load_deployment
from schemas.errors import DatasetSpecError
from schemas.load_dataset import dataset_file, known_datasets, load_dataset


@pytest.mark.parametrize("name", known_datasets())
def test_a_deployment_agrees_with_the_data_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_DATASET", name)
    monkeypatch.delenv("MSR_MODELS", raising=False)
    deployment, spec = load_deployment(), load_dataset(name)
    assert deployment.spec == spec
    assert deployment.models == tuple(choice.name for choice in spec.training.trained_models)
    assert deployment.models[-1] == "logistic_regression", "the floor"
    assert deployment.first_tick.date() == spec.days.start
    if spec.days.end is None:
        assert deployment.last_tick is None
    else:
        assert deployment.last_tick is not None
        assert deployment.last_tick.date() == spec.days.end + timedelta(days=1)


def test_models_can_be_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_MODELS", "logistic_regression, shared_bottom")
    deployment = load_deployment()
    assert deployment.models == ("logistic_regression", "shared_bottom") and not deployment.skip_unfit_models


def test_the_floor_is_trained_beside_named_models_unless_it_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_MODELS", "star")
    assert load_deployment().models == ("star", "logistic_regression")
    text = dataset_file("generated").read_text(encoding="utf-8").replace("training:\n", "training:\n  floor: false\n")
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("MSR_DATASET", str(tmp_path / "own.yaml"))
    assert load_deployment().models == ("star",)


def test_an_unknown_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_MODELS", "mmoe,stra")
    with pytest.raises(DatasetSpecError, match=r"MSR_MODELS: model 'stra' is unknown; did you mean 'star'\? known: "):
        load_deployment()


@pytest.mark.parametrize("named", ["all", "star, all"])
def test_all_is_every_registered_model_and_skips_those_that_do_not_fit(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msr_models.models.registry import known_models

    monkeypatch.setenv("MSR_MODELS", named)
    deployment = load_deployment()
    assert deployment.models == tuple(known_models()) and deployment.skip_unfit_models


def test_an_unknown_data_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_DATASET", "generatd")
    with pytest.raises(DatasetSpecError, match="'generatd' is unknown; did you mean 'generated'"):
        load_deployment()


@pytest.mark.parametrize(("start", "expected"), [("previous_day", True), ("scratch", False)])
def test_days_that_build_on_each_other_are_known(
    start: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        dataset_file("generated").read_text(encoding="utf-8").replace("training:\n", f"training:\n  start: {start}\n")
    )
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("MSR_DATASET", str(tmp_path / "own.yaml"))
    assert load_dataset(str(tmp_path / "own.yaml")).training.start == start
    assert load_deployment().days_build_on_each_other is expected


def test_a_relative_path_of_a_yaml_holds_in_the_folder_that_steps_run_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.yaml").write_text(dataset_file("generated").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MSR_DATASET", "own.yaml")
    assert load_deployment().dataset == str(tmp_path / "own.yaml")
