"""The runner: arms as their definitions say, and nothing done twice."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from msr_models.experiments import runner as runner_module
from msr_models.experiments.arms import require_towers
from msr_models.experiments.fitting import Mode
from msr_models.experiments.planted_log import planted_split
from msr_models.experiments.runner import ExperimentRunner
from msr_models.experiments.split import Split, all_rows, one_scenario, select_rows
from msr_models.experiments.trials import TrialStore
from msr_models.models.registry import build_model
from msr_models.training.prediction import predict
from msr_models.training.trainer import train
from schemas.errors import TrainingError
from schemas.pipeline_spec import SearchSpec, TrainerConfig

OPTIONS = {"hidden": [8], "embedding_dim": 4}
TRAINER = TrainerConfig(batch_size=256, max_epochs=2, patience=0, learning_rate=1e-2, weight_decay=0.0, seed=0)
SEARCH = SearchSpec(
    warmup_epochs=1, epochs=1, batch_size=256, embedding_dim=4, hidden=(8,), selector_hidden=(8,), learning_rate=1e-2
)


@pytest.fixture(scope="module")
def split() -> Split:
    return planted_split(rows=2_000, users=60, items=20, seed=0, name="planted")


def make_runner(split: Split, folder: Path, **changes: Any) -> ExperimentRunner:
    """A runner of small models."""
    settings: dict[str, Any] = {
        "split": split,
        "store": TrialStore(folder),
        "trainer": TRAINER,
        "search": SEARCH,
        "options": {"shared_bottom": OPTIONS, "star": OPTIONS},
    }
    return ExperimentRunner(**settings | changes)


def _seeded(seed: int) -> TrainerConfig:
    return TRAINER.model_copy(update={"seed": seed})


def test_towers_without_and_with_all_rows_shared_are_the_trainers_own_runs(split: Split, tmp_path: Path) -> None:
    runner = make_runner(split, tmp_path)
    for mask, ratio in ((None, 0.0), (np.ones(len(split.train), bool), 1.0)):
        trial = runner.train("shared_bottom", 2, shared_N=mask)
        model = build_model("shared_bottom", OPTIONS, split.train.layout, 3, 2)
        window = replace(split.train, shared_N=torch.full((len(split.train),), ratio == 1.0))
        result = train(model, all_rows(window), all_rows(split.validation), _seeded(2))
        assert np.array_equal(trial.array("test_probs"), predict(model, split.test, torch.arange(len(split.test))))
        assert trial.record["validation_auc"] == result.validation_auc
        assert trial.record["share_rate"] == ratio
        assert trial.record["parameters"] == sum(p.numel() for p in model.parameters())


def test_a_model_per_scenario_sees_its_own_rows_alone(split: Split, tmp_path: Path) -> None:
    trial = make_runner(split, tmp_path).train("shared_bottom", 1, "per_scenario")
    probs = trial.array("test_probs")
    for k in range(3):
        own = [
            one_scenario(select_rows(w, (w.scenario_N == k).nonzero().squeeze(1)), k)
            for w in (split.train, split.validation, split.test)
        ]
        model = build_model("shared_bottom", OPTIONS, split.train.layout, 1, 1)
        result = train(model, all_rows(own[0]), all_rows(own[1]), _seeded(1))
        want = predict(model, own[2], torch.arange(len(own[2])))
        assert np.array_equal(probs[(split.test.scenario_N == k).numpy()], want)
        assert trial.record["epochs"][k] == result.epochs


def test_fine_tuning_starts_from_the_pooled_network_and_never_ends_below_it(split: Split, tmp_path: Path) -> None:
    runner = make_runner(split, tmp_path)
    tuned, pooled = runner.train("shared_bottom", 1, "finetune"), runner.train("shared_bottom", 1, "pooled")
    assert runner.made == 2 and runner.done == 3, "the pooled network is trained once"
    assert tuned.record["validation_auc"] >= pooled.record["validation_auc"]
    assert tuned.record["seconds"] > pooled.record["seconds"], "what it starts from is part of its cost"
    still = make_runner(split, tmp_path, trainer=_rate(1e-12)).train("shared_bottom", 1, "pooled")
    kept = make_runner(split, tmp_path, trainer=_rate(1e-12)).train("shared_bottom", 1, "finetune")
    np.testing.assert_allclose(kept.array("test_probs"), still.array("test_probs"), atol=1e-6)
    assert kept.record["epochs"] == [0, 0, 0], "fine-tuning did not improve it, so it keeps the weights"
    worse = make_runner(split, tmp_path, trainer=_rate(3.0)).train("shared_bottom", 1, "finetune")
    before = make_runner(split, tmp_path, trainer=_rate(3.0)).train("shared_bottom", 1, "pooled")
    assert 0 in worse.record["epochs"], "a rate that spoils it"
    k = worse.record["epochs"].index(0)
    here = (split.test.scenario_N == k).numpy()
    np.testing.assert_allclose(worse.array("test_probs")[here], before.array("test_probs")[here], atol=1e-6)


def _rate(learning_rate: float) -> TrainerConfig:
    return TRAINER.model_copy(update={"learning_rate": learning_rate})


def test_the_record_holds_the_test_metrics(split: Split, tmp_path: Path) -> None:
    trial = make_runner(split, tmp_path).train("star", 1)
    probs, test = trial.array("test_probs"), split.test
    label, scenario = test.label_N.numpy(), test.scenario_N.numpy()
    metrics = trial.record["test"]
    each = []
    for k, name in enumerate(split.scenario_names):
        each.append(roc_auc_score(label[scenario == k], probs[scenario == k]))
        assert metrics[name]["auc"] == pytest.approx(each[-1], abs=1e-12)
        assert metrics[name]["rows"] == (scenario == k).sum()
    assert metrics["all"]["mean_scenario_auc"] == pytest.approx(np.mean(each), abs=1e-12)
    assert metrics["all"]["auc"] == pytest.approx(roc_auc_score(label, probs), abs=1e-12)
    user = test.user_key_N.numpy()
    weighted = rows = 0.0
    for u in np.unique(user):
        mine = user == u
        if 0 < label[mine].sum() < mine.sum():
            weighted += mine.sum() * roc_auc_score(label[mine], probs[mine])
            rows += mine.sum()
    assert metrics["all"]["s_gauc"] == pytest.approx(weighted / rows, abs=1e-12)


def test_nothing_is_done_twice(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(split, tmp_path)
    runner.expect(2)
    runner.train("shared_bottom", 1)
    runner.find_shared("shared_bottom", 1)
    lines = [line for line in caplog.messages if line.startswith("trial ")]
    assert lines[0].startswith("trial 1/2 shared_bottom-towers-s1-") and "done in" in lines[0]
    monkeypatch.setattr(runner_module, "fit", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(runner_module, "run_search", lambda *_, **__: pytest.fail("searched again"))
    again = make_runner(split, tmp_path)
    again.train("shared_bottom", 1)
    again.find_shared("shared_bottom", 1)
    assert (again.done, again.made) == (2, 0) and "cached" in caplog.messages[-1]


@pytest.mark.parametrize(
    "change",
    ["seed", "mode", "mask", "trainer", "options", "data"],
)
def test_every_part_of_a_request_makes_another_trial(split: Split, tmp_path: Path, change: str) -> None:
    halves = np.arange(len(split.train)) % 2 == 0
    make_runner(split, tmp_path).train("shared_bottom", 1, shared_N=halves)
    changed: dict[str, Any] = {}
    if change == "trainer":
        changed["trainer"] = _rate(5e-3)
    elif change == "options":
        changed["options"] = {"shared_bottom": OPTIONS | {"hidden": [4]}}
    elif change == "data":
        changed["split"] = planted_split(rows=2_000, users=60, items=20, seed=1, name="planted")
    runner = make_runner(changed.pop("split", split), tmp_path, **changed)
    mask = ~halves if change == "mask" else halves
    mode: Mode = "pooled" if change == "mode" else "towers"
    runner.train("shared_bottom", 2 if change == "seed" else 1, mode, mask)
    assert runner.made == 1


def test_a_search_gives_scores_and_ratios_cut_them(split: Split, tmp_path: Path) -> None:
    runner = make_runner(split, tmp_path)
    found = runner.find_shared("shared_bottom", 1)
    probs = found.array("probs")
    assert probs.shape == (len(split.train),) and found.record["status"] in ("accepted", "rejected")
    for ratio in (0.1, 0.5):
        mask = runner.share(found, ratio)
        assert mask.mean() == pytest.approx(ratio, abs=0.01)
        assert probs[mask].min() >= probs[~mask].max()
    assert not runner.share(found, 0.0).any() and runner.share(found, 1.0).all()
    other = runner.find_shared("shared_bottom", 1, kl_weight=0.0, target_share_rate=None)
    assert not np.array_equal(other.array("probs"), probs)


def test_a_scenario_without_rows_has_no_model_of_its_own(split: Split, tmp_path: Path) -> None:
    windows = {
        name: replace(getattr(split, name), scenario_names=("s0", "s1", "s2", "s3"))
        for name in ("train", "validation", "test")
    }
    runner = make_runner(Split(name="four", **windows), tmp_path)
    with pytest.raises(TrainingError, match="scenario 's3' of four has no training or no validation rows"):
        runner.train("shared_bottom", 1, "per_scenario")
    assert runner.train("shared_bottom", 1).record["test"]["s3"]["auc"] is None


def test_a_killed_training_goes_on_where_it_was(split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    want = make_runner(split, tmp_path / "whole").train("shared_bottom", 1).array("test_probs")

    def stop_in_the_second(record: logging.LogRecord) -> bool:
        if record.getMessage().startswith("epoch 2/2:"):
            raise KeyboardInterrupt
        return True

    trainer_log = logging.getLogger("msr_models.training.trainer")
    trainer_log.addFilter(stop_in_the_second)
    try:
        with pytest.raises(KeyboardInterrupt):
            make_runner(split, tmp_path / "cut").train("shared_bottom", 1)
    finally:
        trainer_log.removeFilter(stop_in_the_second)
    caplog.clear()
    trial = make_runner(split, tmp_path / "cut").train("shared_bottom", 1)
    assert caplog.messages[0].startswith("resuming the interrupted run at epoch 2")
    assert np.array_equal(trial.array("test_probs"), want)
    assert not list((tmp_path / "cut" / "resume").iterdir()), "what it resumed from is removed"


def test_variants_of_one_model_are_cells_of_their_own(split: Split, tmp_path: Path) -> None:
    options = {"star": OPTIONS, "star/wide": {**OPTIONS, "hidden": [16]}, "star/same": OPTIONS}
    runner = make_runner(split, tmp_path, options=options)
    plain, wide, same = (runner.train(name, 1) for name in options)
    assert runner.made == 3 and len({trial.arrays_path for trial in (plain, wide, same)}) == 3
    assert wide.record["parameters"] > plain.record["parameters"] == same.record["parameters"]
    assert np.array_equal(plain.array("test_probs"), same.array("test_probs"))
    assert not np.array_equal(plain.array("test_probs"), wide.array("test_probs"))
    assert [trial.record["model"] for trial in (plain, wide)] == ["star", "star/wide"]
    assert wide.arrays_path.parent == plain.arrays_path.parent and wide.arrays_path.name.startswith("star+wide-towers-")
    again = make_runner(split, tmp_path, options={"star/wide": options["star/wide"]})
    assert again.train("star/wide", 1).arrays_path == wide.arrays_path and again.made == 0
    runner.check("star/wide")
    for ask in (runner.train, lambda name, seed: runner.check(name), runner.find_shared):
        with pytest.raises(TrainingError, match=r"variant 'star/tall' has no options"):
            ask("star/tall", 1)


def test_a_variant_can_be_the_source_of_a_search(split: Split, tmp_path: Path) -> None:
    mmoe = {"expert_hidden": [8]}
    runner = make_runner(split, tmp_path, options={"mmoe": mmoe, "mmoe/many": {**mmoe, "num_experts": 6}})
    plain, many = runner.find_shared("mmoe", 1), runner.find_shared("mmoe/many", 1)
    assert many.record["backbone"] == "mmoe/many" and many.record["settings"]["spec"]["backbone"] == "mmoe"
    assert many.record["settings"]["spec"]["backbone_options"] == {"expert_hidden": [8], "num_experts": 6}
    assert not np.array_equal(plain.array("probs"), many.array("probs"))
    require_towers(["mmoe/many"])
    with pytest.raises(TrainingError, match="'logistic_regression/x' has no towers"):
        require_towers(["logistic_regression/x"])
