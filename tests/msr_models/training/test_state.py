"""A run that dies at any step and is started again ends with the same bits as one that was left alone."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import torch

from msr_models.data.batch import Batch
from msr_models.data.source import ResidentRows
from msr_models.data.window import Window, load_window
from msr_models.models.registry import build_model
from msr_models.training.state import Resume, TrainingState
from msr_models.training.trainer import TrainResult, train
from schemas.pipeline_spec import TrainerConfig
from tests.support.log_lines import log_lines
from tests.support.tiny_lake import tiny_dataset, write_masks, write_tiny_lake

DAYS = [date(2026, 1, 2), date(2026, 1, 3)]
# Everything that has a state: dropout, moments, a schedule, and batches that do not divide the rows.
CONFIG = TrainerConfig(
    batch_size=64,
    max_epochs=3,
    patience=9,
    learning_rate=0.01,
    weight_decay=1e-5,
    seed=3,
    gradient_clip=0.05,
    schedule="cosine",
    warmup_steps=3,
)
OPTIONS = {"embedding_dim": 4, "hidden": [16, 8], "dropout": 0.3}
STEPS = 3 * 4  # 200 rows in batches of 64


class Dying(ResidentRows):
    """Rows whose reader dies before the batch that would be step number `at` of this process."""

    def __init__(self, window: Window, rows: torch.Tensor, at: int, *, kill: bool) -> None:
        super().__init__(window, rows)
        self.left, self.kill = at, kill

    def batches(self, *args: int, **keywords: int) -> Iterator[Batch]:
        for batch in super().batches(*args, **keywords):
            if self.left == 0:
                if self.kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise KeyboardInterrupt
            self.left -= 1
            yield batch


def load() -> Window:
    torch.set_num_threads(1)
    return load_window(tiny_dataset(), DAYS, shared_set_id="set").with_ratio(0.5)


def fit(
    window: Window, resume: Resume | None, at: int = -1, *, kill: bool = False, config: TrainerConfig = CONFIG
) -> tuple[dict[str, torch.Tensor], TrainResult, list[str]]:
    model = build_model("shared_bottom", OPTIONS, window.layout, window.num_scenarios, CONFIG.seed)
    training = Dying(window, window.rows_of(DAYS[:1]), at, kill=kill)
    with log_lines("msr_models.training.trainer") as lines:
        result = train(model, training, ResidentRows(window, window.rows_of(DAYS[1:])), config, resume=resume)
    return model.state_dict(), result, lines


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def window(lake: Path) -> Window:
    write_tiny_lake(tiny_dataset(), DAYS, rows_per_day=200)
    write_masks(tiny_dataset(), "set", DAYS, rows_per_day=200)
    return load()


@pytest.mark.parametrize("every", [0, 1, 3])
def test_an_interruption_at_any_step_changes_nothing(window: Window, tmp_path: Path, every: int) -> None:
    whole, result, _ = fit(window, None)
    for at in range(STEPS):
        resume = Resume(tmp_path / f"{every}-{at}.pt", "run", every)
        with pytest.raises(KeyboardInterrupt):
            fit(window, resume, at)
        torch.manual_seed(at)  # the random state of the new process must not matter
        again, resumed, said = fit(window, resume)
        assert same(whole, again), at
        assert (resumed.epochs, resumed.validation_auc) == (result.epochs, result.validation_auc)
        done = (at // every) * every if every else (at // 4) * 4
        assert ("resuming" in said[0]) == (done > 0), (at, said[0])


@pytest.mark.slow
@pytest.mark.parametrize("at", [2, 7])
def test_a_killed_process_goes_on_in_another(window: Window, tmp_path: Path, at: int) -> None:
    whole, _, _ = fit(window, None)
    path = tmp_path / "state.pt"
    root = str(Path(__file__).parents[3])
    code = (
        f"import sys; sys.path.insert(0, {root!r}); from pathlib import Path;"
        "from tests.msr_models.training.test_state import Resume, fit, load;"
        f"fit(load(), Resume(Path({str(path)!r}), 'run', 2), {at}, kill=True)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode == -9
    again, _, said = fit(window, Resume(path, "run", 2))
    assert f"epoch {1 + at // 4}" in said[0] and same(whole, again)
    assert [p.name for p in tmp_path.iterdir() if "state" in p.name] == ["state.pt"], "nothing half written is left"


def test_a_finished_run_is_not_trained_again(window: Window, tmp_path: Path) -> None:
    resume = Resume(tmp_path / "state.pt", "run")
    whole, first, _ = fit(window, resume)
    again, second, said = fit(window, resume, 0)  # would die at its first batch
    assert same(whole, again) and len(said) == 1
    assert (first.epochs, first.validation_logloss) == (second.epochs, second.validation_logloss)
    resume.remove()
    assert not resume.path.exists()


def _save_often(path: Path, rank: int) -> None:
    resume = Resume(path, "run")
    for steps in range(100):
        resume.save(TrainingState(identity="run", steps=steps, model={"w": torch.full((5000,), float(rank))}))


@pytest.mark.slow
def test_processes_that_keep_the_same_state_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=_save_often, args=(path, rank)) for rank in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    state = Resume(path, "run").load()
    assert state is not None and state.steps == 99 and len(state.model["w"].unique()) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_half_written_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    dead, living = (tmp_path / f".state.pt.{name}" for name in ("dead", "living"))
    for partial in (dead, living):
        partial.write_bytes(b"half")
    os.utime(dead, (0, 0))
    Resume(tmp_path / "state.pt", "run").save(TrainingState(identity="run"))
    assert not dead.exists() and living.exists()


@pytest.mark.parametrize("damage", ["other run", "truncated", "no state"])
def test_a_state_that_cannot_be_used_starts_the_run_from_its_beginning(
    window: Window, tmp_path: Path, damage: str
) -> None:
    resume = Resume(tmp_path / "state.pt", "run")
    with pytest.raises(KeyboardInterrupt):
        fit(window, resume, 6)
    if damage == "other run":
        resume = dataclasses.replace(resume, identity="another")
    else:
        resume.path.write_bytes(resume.path.read_bytes()[:1000] if damage == "truncated" else b"text")
    again, _, said = fit(window, resume)
    assert same(again, fit(window, None)[0]) and "resuming" not in said[0]


def test_every_option_of_the_trainer_changes_the_result(window: Window) -> None:
    base = fit(window, None)[0]
    for change in (
        {"optimiser": "adagrad"},
        {"embedding_update": "dense"},
        {"precision": "bf16"},
        {"gradient_clip": None},
        {"schedule": "linear"},
        {"warmup_steps": 0},
        {"loss_balance": "scenarios"},
        {"tower_reduction": "sum"},
    ):
        assert not same(base, fit(window, None, config=CONFIG.model_copy(update=change))[0]), change
