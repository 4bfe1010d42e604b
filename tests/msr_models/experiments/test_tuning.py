"""A study: reproducible, resumable, chosen on validation rows alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState

from lake.lock import exclusive_if_free
from msr_models.experiments import tuning as tuning_module
from msr_models.experiments.draws import suggest
from msr_models.experiments.planted_log import planted_split
from msr_models.experiments.runner import ExperimentRunner
from msr_models.experiments.search_space import Space, SpaceSpec, space_of
from msr_models.experiments.split import Split
from msr_models.experiments.trials import TrialStore
from msr_models.experiments.tuning import Tuning, TuningConfig, best_of, importances, shown_value
from schemas.errors import TrainingError
from schemas.pipeline_spec import SearchSpec, TrainerConfig

OPTIONS = {"hidden": [4], "embedding_dim": 2}
TRAINER = TrainerConfig(
    batch_size=256, max_epochs=3, patience=3, learning_rate=1e-2, weight_decay=1e-6, select_on="auc", calibration="none"
)
SEARCH = SearchSpec(
    warmup_epochs=1, epochs=1, batch_size=256, embedding_dim=2, hidden=(4,), selector_hidden=(4,), learning_rate=1e-2
)
SPACE: dict[str, Any] = {
    "trainer": {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "max_epochs": {"low": 2, "high": 3}},
    "options": {"hidden": {"choices": [[4], [8]]}},
}


class Killed(BaseException):
    """Ends a process in the middle of a trial."""


@pytest.fixture(scope="module")
def split() -> Split:
    return planted_split(rows=1_200, users=30, items=10, seed=0, name="planted")


def make_tuning(split: Split, folder: Path, space: dict[str, Any] = SPACE, **config: Any) -> Tuning:
    """A study of a small model."""
    runner = ExperimentRunner(split=split, store=TrialStore(folder), trainer=TRAINER, search=SEARCH)
    settings = TuningConfig(**config)
    spec = SpaceSpec.model_validate(space)
    return Tuning(
        runner=runner,
        space=space_of(spec, "shared_bottom", TRAINER, OPTIONS, shared=settings.shared),
        config=settings,
    )


def made(tuning: Tuning) -> list[tuple[Any, ...]]:
    """What each trial drew and scored."""
    return [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in tuning.trials()]


def test_one_process_makes_the_same_trials_each_time_beginning_with_what_is_set(split: Split, tmp_path: Path) -> None:
    first, second = make_tuning(split, tmp_path / "a"), make_tuning(split, tmp_path / "b")
    first.work(8)
    second.work(8)
    assert made(first) == made(second) and len(made(first)) == 8
    assert first.trials()[0].params == {
        "trainer.learning_rate": 1e-2,
        "trainer.max_epochs": 3,
        "options.hidden": "[4]",
    }
    assert len({t.params["trainer.learning_rate"] for t in first.trials()}) == 8, "each draws anew"
    other = make_tuning(split, tmp_path / "c", seed=2)
    other.work(2)
    assert made(other)[0] == made(first)[0] and made(other)[1] != made(first)[1]
    again = make_tuning(split, tmp_path / "a")
    again.work(8)
    assert again.made == 0 and made(again) == made(first), "a finished trial is not run again"
    again.work(9)
    assert again.made == 1


@pytest.mark.parametrize("epochs_before", [0, 1])
def test_a_killed_trial_is_run_again_and_the_study_is_the_same(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs_before: int
) -> None:
    whole, killed = make_tuning(split, tmp_path / "whole"), make_tuning(split, tmp_path / "killed")
    whole.work(7)
    _kill_in(monkeypatch, trial=3, epochs_before=epochs_before)
    with pytest.raises(Killed):
        killed.work(7)
    assert [t.state for t in killed.trials()][-1] == TrialState.RUNNING and len(killed.trials()) == 4
    monkeypatch.undo()
    resumed = make_tuning(split, tmp_path / "killed")
    resumed.work(7)
    assert made(resumed) == made(whole) and resumed.made == 4
    assert not list((tmp_path / "killed" / "resume").glob("*.pt"))


@pytest.mark.parametrize("method", ["tpe", "grid"])
@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_a_trial_that_was_killed_between_its_draws_draws_the_same_rest(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, drawn: int
) -> None:
    points = {"trainer": {"learning_rate": {"choices": [1e-3, 1e-2]}, "max_epochs": {"choices": [2, 3]}}}
    space = SPACE if method == "tpe" else SPACE | points
    whole, killed = (make_tuning(split, tmp_path / name, space, method=method) for name in ("whole", "killed"))
    whole.work(4)
    calls: list[int] = []

    def deadly(trial: Any, *rest: Any) -> None:
        calls.append(trial.number)
        if calls.count(2) > drawn:
            raise Killed
        suggest(trial, *rest)

    monkeypatch.setattr(tuning_module, "suggest", deadly)
    with pytest.raises(Killed):
        killed.work(4)
    assert len(killed.trials()[2].params) == drawn
    monkeypatch.undo()
    resumed = make_tuning(split, tmp_path / "killed", space, method=method)
    resumed.work(4)
    assert [t.params for t in resumed.trials()] == [t.params for t in whole.trials()]
    assert made(resumed) == made(whole)


def _kill_in(monkeypatch: pytest.MonkeyPatch, trial: int, epochs_before: int) -> None:
    reporter = tuning_module._reporter

    def deadly(running: Any) -> Callable[[int, float], None]:
        report = reporter(running)

        def end(epoch: int, score: float) -> None:
            if running.number == trial and epoch > epochs_before:
                raise Killed
            report(epoch, score)

        return end

    monkeypatch.setattr(tuning_module, "_reporter", deadly)


def test_a_trial_that_another_process_runs_is_left_to_it(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = make_tuning(split, tmp_path)
    _kill_in(monkeypatch, trial=0, epochs_before=0)
    with pytest.raises(Killed):
        killed.work(2)
    monkeypatch.undo()
    tuning = make_tuning(split, tmp_path)
    with exclusive_if_free(tuning._lock("trial-0")) as held:
        assert held
        tuning.work(2)
        assert [t.state for t in tuning.trials()] == [TrialState.RUNNING, TrialState.COMPLETE]
    tuning.work(2)
    assert [t.state for t in tuning.trials()] == [TrialState.COMPLETE] * 2


def test_test_rows_decide_nothing(split: Split, tmp_path: Path) -> None:
    """Without labels that mean anything and with other ids there, every trial is the same."""
    test = replace(split.test, label_N=1 - split.test.label_N, slot_ids_NS=torch.ones_like(split.test.slot_ids_NS))
    first, second = make_tuning(split, tmp_path / "a"), make_tuning(replace(split, test=test), tmp_path / "b")
    first.work(4)
    second.work(4)
    assert made(first) == made(second) and first.key.digest != second.key.digest


def test_the_winner_trained_by_the_runner_has_the_trials_score(split: Split, tmp_path: Path) -> None:
    tuning = make_tuning(split, tmp_path)
    tuning.work(4)
    best = best_of(tuning.trials())
    assert best.value == max(t.value or 0 for t in tuning.trials())
    trained = tuning.tuned_runner(tuning.space.drawn(best.params)).train("shared_bottom", 1)
    assert trained.record["validation_auc"] == best.value == best.user_attrs["validation_auc"]
    assert trained.record["epochs"] == [best.user_attrs["epochs"]]
    assert set(best.user_attrs["scenario_auc"]) == {"s0", "s1", "s2"}
    aucs = [auc for auc in best.user_attrs["scenario_auc"].values() if auc is not None]
    assert aucs and sum(aucs) / len(aucs) == pytest.approx(best.value)


def test_bad_trials_are_pruned_at_once_and_counted(split: Split, tmp_path: Path) -> None:
    space = {"trainer": {"learning_rate": {"choices": [1e-2, 1e-6]}}}
    for kind in ("median", "none"):
        tuning = make_tuning(split, tmp_path / kind, space, pruner=kind)
        tuning.work(14)
        trials = tuning.trials()
        pruned = [t for t in trials if t.state == TrialState.PRUNED]
        assert len(trials) == 14 and bool(pruned) == (kind == "median")
        assert all(t.params["trainer.learning_rate"] == 1e-6 and t.last_step == 2 for t in pruned)
        assert not list((tmp_path / kind / "resume").glob("*.pt"))


def test_a_trial_that_fails_is_counted_and_its_reason_kept(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(*_: Any, **__: Any) -> None:
        raise TrainingError("the loss is not finite in epoch 1")

    tuning = make_tuning(split, tmp_path)
    monkeypatch.setattr(tuning_module, "train", diverges)
    tuning.work(2)
    assert [t.state for t in tuning.trials()] == [TrialState.FAIL] * 2
    with pytest.raises(TrainingError, match="none of 2 trials came to an end: the loss is not finite"):
        best_of(tuning.trials())
    monkeypatch.undo()
    tuning.work(3)
    assert best_of(tuning.trials()).number == 2


def test_a_grid_tries_every_point_once(split: Split, tmp_path: Path) -> None:
    space = {
        "trainer": {"learning_rate": {"choices": [1e-3, 1e-2]}},
        "options": {"hidden": {"choices": [[4], [8], [4, 2]]}},
    }
    tuning = make_tuning(split, tmp_path, space, method="grid", pruner="none")
    tuning.work(4)
    make_tuning(split, tmp_path, space, method="grid", pruner="none").work(100)
    points = [(t.params["trainer.learning_rate"], t.params["options.hidden"]) for t in tuning.trials()]
    assert sorted(points) == [(rate, widths) for rate in (1e-3, 1e-2) for widths in ("[4, 2]", "[4]", "[8]")]
    assert {t.state for t in tuning.trials()} == {TrialState.COMPLETE}
    found = importances(tuning.study)
    assert set(found) == {"trainer.learning_rate", "options.hidden"} and sum(found.values()) == pytest.approx(1)


def test_hyperband_prunes_too(split: Split, tmp_path: Path) -> None:
    tuning = make_tuning(split, tmp_path, pruner="hyperband")
    tuning.work(6)
    assert {t.state for t in tuning.trials()} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert best_of(tuning.trials()).value


def test_shared_rows_follow_lambda_and_the_ratio(split: Split, tmp_path: Path) -> None:
    space = {"search": {"kl_weight": {"choices": [0.1, 1.0]}}, "ratio": {"choices": [0.0, 0.5]}}
    tuning = make_tuning(split, tmp_path, space, method="grid", shared=True)
    tuning.work(4)
    assert len({tuple(t.params.values()) for t in tuning.trials()}) == 4
    assert [t.user_attrs.get("share_rate") for t in tuning.trials() if t.params["ratio"] == 0] == [None, None]
    accepted = [t for t in tuning.trials() if t.user_attrs.get("search") == "accepted"]
    assert accepted and all(t.user_attrs["share_rate"] == pytest.approx(0.5, abs=0.01) for t in accepted)
    searched = sorted(path.name for path in (tmp_path / "trials").glob("search-*.json"))
    assert len(searched) == 2, "one per lambda"
    spec = tuning.runner.search_spec("shared_bottom", 1, tuning.space.drawn(accepted[0].params).search)
    assert spec.target_share_rate is None and spec.kl_weight in (0.1, 1.0)


def test_another_space_is_another_study_in_the_same_folder(split: Split, tmp_path: Path) -> None:
    first = make_tuning(split, tmp_path)
    first.work(2)
    second = make_tuning(split, tmp_path, {"trainer": {"max_epochs": {"low": 1, "high": 2}}})
    second.work(2)
    assert len(first.trials()) == len(second.trials()) == 2
    assert first.study.study_name != second.study.study_name


def test_other_code_is_another_study_unless_asked(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tuning(split, tmp_path).work(2)
    monkeypatch.setattr(tuning_module, "code_digest", lambda _: "newer")
    assert make_tuning(split, tmp_path).trials() == []
    old = make_tuning(split, tmp_path / "old")
    monkeypatch.undo()
    make_tuning(split, tmp_path / "old").work(1)
    monkeypatch.setattr(tuning_module, "code_digest", lambda _: "newer")
    old.any_code = True
    assert len(old.trials()) == 1


def test_values_are_shown_as_readers_write_them() -> None:
    values = ["[128, 64]", 1024.0, 0.00123456, 3, "mean", True, None]
    assert [shown_value(v) for v in values] == ["128-64", "1024", "0.00123", "3", "mean", "True", "None"]


def test_a_space_of_fixed_values_runs(split: Split, tmp_path: Path) -> None:
    tuning = make_tuning(split, tmp_path, {"trainer": {"learning_rate": {"choices": [1e-2]}}})
    tuning.work(2)
    assert isinstance(tuning.space, Space) and importances(tuning.study) == {}
