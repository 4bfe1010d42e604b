"""Trials are cached once and atomically, and differ by their settings and their code."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msr_models.experiments.trials import TrialKey, TrialStore
from schemas.errors import TrainingError

ARRAYS = {"probs": np.arange(4.0)}


def _key(code: str = "c0ffee00", **settings: Any) -> TrialKey:
    return TrialKey(label="m-towers-s1", settings={"seed": 1, "lr": 0.1} | settings, code=code)


def _never() -> Any:
    raise AssertionError("a trial that exists was run again")


def test_a_cell_is_made_once_and_read_back(tmp_path: Path) -> None:
    made, was_there = TrialStore(tmp_path).get(_key(), lambda: ({"seconds": 1.5}, ARRAYS))
    assert not was_there
    kept, was_there = TrialStore(tmp_path).get(_key(), _never)
    assert was_there and kept.record == made.record
    assert kept.record["seconds"] == 1.5 and kept.record["settings"] == {"seed": 1, "lr": 0.1}
    assert kept.array("probs").tolist() == [0, 1, 2, 3] and list(kept.arrays()) == ["probs"]


@pytest.mark.parametrize("change", [{"seed": 2}, {"lr": 0.2}, {"new": None}])
def test_another_setting_is_another_cell(tmp_path: Path, change: dict[str, Any]) -> None:
    store = TrialStore(tmp_path)
    store.get(_key(), lambda: ({}, ARRAYS))
    assert store.find(_key(**change)) is None


def test_another_code_is_another_cell_unless_any_will_do(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    store.get(_key("aaaaaaaa"), lambda: ({"which": "old"}, ARRAYS))
    assert store.find(_key("bbbbbbbb")) is None
    found = TrialStore(tmp_path, any_code=True).find(_key("bbbbbbbb"))
    assert found is not None and found.record["which"] == "old"


def test_a_cell_without_its_record_or_with_other_arrays_is_none(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    trial, _ = store.get(_key(), lambda: ({}, ARRAYS))
    record = trial.arrays_path.with_suffix(".json")
    text = record.read_text(encoding="utf-8")
    record.unlink()  # as if killed between the two files
    assert store.find(_key()) is None
    record.write_text(text, encoding="utf-8")
    trial.arrays_path.write_bytes(b"other")
    with pytest.raises(TrainingError, match="remove both"):
        store.find(_key())
    record.write_text("{", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"cannot be read .* remove it"):
        store.find(_key())


def _make_slowly(folder: Path, started: Any, seconds: float) -> None:
    def make() -> Any:
        started.set()
        time.sleep(seconds)
        return {"by": os.getpid()}, ARRAYS

    TrialStore(folder).get(_key(), make)


def test_two_processes_wait_for_each_other_and_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    started = context.Event()
    first = context.Process(target=_make_slowly, args=(tmp_path, started, 60.0))
    first.start()
    assert started.wait(10)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert TrialStore(tmp_path).find(_key()) is None, "killed while making"

    started.clear()
    second = context.Process(target=_make_slowly, args=(tmp_path, started, 0.3))
    second.start()
    assert started.wait(10)
    trial, was_there = TrialStore(tmp_path).get(_key(), _never)
    second.join()
    assert was_there and trial.record["by"] == second.pid
