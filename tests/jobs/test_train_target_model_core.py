"""The training step on the fast core: interrupted runs go on, windows that do not fit are streamed, and both repeat."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from jobs import train_target_model
from lake import reader as lake_reader
from lake.locations import artifact_path, artifacts_dir
from msr_models.sets.catalogue import Catalogue
from msr_models.sets.pins import retire
from msr_models.training import target
from msr_models.training.state import Resume, TrainingState
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError, TrainingError
from tests.support.steps import train
from tests.support.tiny_lake import tiny_dataset, write_masks, write_shared_set, write_tiny_lake

DAYS = [date(2026, 1, d) for d in (2, 3, 4, 5)]
DS = DAYS[-1]
ROWS = 200


def dataset(**training: Any) -> DatasetSpec:
    base = tiny_dataset().training.model_dump(mode="json")
    return tiny_dataset(training=base | training)


@pytest.fixture
def spec(lake: Path) -> DatasetSpec:
    write_tiny_lake(tiny_dataset(), DAYS, rows_per_day=ROWS)
    write_masks(tiny_dataset(), "set", DAYS[:2], rows_per_day=ROWS)
    write_shared_set(tiny_dataset(), "set", (DAYS[0], DAYS[1]))
    return tiny_dataset()


def run(spec: DatasetSpec, **options: Any) -> None:
    train(spec, DS, **options)


def results(spec: DatasetSpec) -> list[tuple[Any, ...]]:
    rows = lake_reader.read_table(spec, "training_runs").to_pylist()
    names = ("run_id", "ratio", "is_selected", "validation_auc", "epochs", "checkpoint_sha256")
    return sorted(tuple(r[n] for n in names) for r in rows)


def test_a_set_that_is_retired_while_its_runs_are_trained_publishes_nothing(
    spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = target.train_arm

    def retired_meanwhile(data: Any, planned: Any, *rest: Any, **named: Any) -> Any:
        if planned.ratio == 1:
            retire(spec, "set", "labels were late")
        return real(data, planned, *rest, **named)

    with monkeypatch.context() as patched:
        patched.setattr(train_target_model, "train_arm", retired_meanwhile)
        with pytest.raises(
            SharedSetError, match=r"nothing was published.*retired \(labels were late\).*--ds 2026-01-05"
        ):
            run(spec)
    assert not lake_reader.table_exists(spec, "training_runs")
    assert not list(artifacts_dir(spec).rglob("manifest.json"))
    run(spec)
    assert [(ratio, chosen) for _, ratio, chosen, *_ in results(spec)] == [(0.0, True)], "the command that it names"


def test_a_step_interrupted_in_its_last_arm_goes_on_there(
    spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run(spec)
    whole = results(spec)
    saved = Resume.save
    seen: list[TrainingState] = []

    def interrupted(self: Resume, state: TrainingState) -> None:
        saved(self, state)
        seen.append(state)
        if len(seen) == 5:  # two epochs of two arms, one of the last
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Resume, "save", interrupted)
        run(spec, retrain=True)
    left = artifacts_dir(spec) / "resume"
    assert len(list(left.iterdir())) == 3
    for uri in lake_reader.read_table(spec, "training_runs")["checkpoint_uri"].to_pylist():
        artifact_path(spec, uri).unlink()  # so that the step has to be done again
    caplog.clear()
    run(spec)
    assert trained_epochs(caplog) == [2] and "resuming the interrupted run at epoch 2, batch 1" in caplog.text
    assert results(spec) == whole and not list(left.iterdir())


def trained_epochs(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Of all arms, in the order in which they were trained."""
    return [int(epoch) for epoch in re.findall(r" epoch (\d+)/", caplog.text)]


def test_other_code_does_not_go_on_from_a_state(
    spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(train_target_model, "publish_runs", _interrupt)
        run(spec)
    monkeypatch.setattr(target, "code_version", lambda: "other")
    caplog.clear()
    run(spec)
    assert trained_epochs(caplog) == [1, 2] * 3


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_streamed_window_trains_repeats_and_is_another_run(
    spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = set(tmp_path.iterdir())
    run(spec)
    resident = results(spec)
    streamed = dataset(loading="streamed")
    run(streamed)
    assert "400 rows train (through buckets on disk)" in caplog.text
    found = results(spec)
    assert [r[1] for r in sorted(found, key=lambda r: r[1])] == [0.0, 0.5, 1.0]
    assert not {r[0] for r in found} & {r[0] for r in resident}
    assert all(abs(a[3] - b[3]) < 0.2 for a, b in zip(found, resident, strict=True))
    manifest = next(artifacts_dir(spec).rglob(f"{found[1][0]}/manifest.json"))
    # A manifest repeats however the data set says windows are loaded now
    run(spec, manifest=manifest)
    assert "the same metrics" in caplog.text
    assert {p for p in set(tmp_path.iterdir()) - before if p.name.startswith("msr-rows")} == set()


def test_r_0_is_the_same_run_with_and_without_a_set_also_when_streamed(spec: DatasetSpec) -> None:
    streamed = dataset(loading="streamed")
    run(streamed)
    with_set = next(r for r in results(spec) if r[1] == 0.0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Catalogue, "find", lambda *_: None)
        run(streamed, retrain=True)
    (without,) = results(spec)
    assert (without[0], without[3], without[5]) == (with_set[0], with_set[3], with_set[5])


def test_a_window_that_may_not_take_the_memory_it_needs_is_refused_or_streamed(spec: DatasetSpec) -> None:
    with pytest.raises(TrainingError, match=r"needs 0\.\d+ GB in memory and 0\.10 GB are available; set training.load"):
        run(dataset(loading="resident", memory_gb=0.1))
    with pytest.raises(TrainingError, match=r"needs .* GB in memory and 0\.10 GB"):
        run(dataset(memory_gb=0.1))  # not even validation and test fit
    assert not lake_reader.table_exists(spec, "training_runs")


@pytest.mark.gpu
def test_a_gpu_trains_the_same_arms(spec: DatasetSpec) -> None:
    run(spec)
    on_cpu = results(spec)
    run(spec, device="cuda")
    for a, b in zip(on_cpu, results(spec), strict=True):
        assert a[:2] == b[:2] and abs(a[3] - b[3]) < 0.1


def test_settings_reach_the_trainer() -> None:
    changed = {
        "batch_size": 7,
        "max_epochs": 3,
        "patience": 5,
        "learning_rate": 0.5,
        "weight_decay": 0.25,
        "seed": 9,
        "optimiser": "adagrad",
        "embedding_update": "dense",
        "precision": "bf16",
        "gradient_clip": 2.0,
        "schedule": "cosine",
        "warmup_steps": 4,
        "loss_balance": "scenarios",
        "tower_reduction": "sum",
        "select_on": "auc",
        "calibration": "isotonic",
        "weight_average": 0.9,
    }
    assert dataset(**changed).training.trainer.model_dump() == changed
    labels = {"weights": {"purchase": 0.5}, "esmm": True}
    columns = tiny_dataset().columns.model_dump() | {"further_labels": {"purchase": {"column": "b"}}}
    both = tiny_dataset(columns=columns, training=dataset(**changed).training.model_dump() | {"labels": labels})
    assert both.training.trainer.model_dump() == changed | {"labels": labels}
