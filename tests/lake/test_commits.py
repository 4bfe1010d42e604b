"""Locks between processes of one machine, and retries of commits that lost a race."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lake.lock import exclusive, one_writer
from lake.retry import COMMIT_ATTEMPTS, commit_with_retries
from tests.support.source_tree import ROOT

# Adds 1 to the number in a file, in two steps that must not interleave
INCREMENT = """
import sys, time
from pathlib import Path
from lake.lock import exclusive
counter = Path(sys.argv[1])
with exclusive(counter.with_suffix(".lock")):
    value = int(counter.read_text())
    time.sleep(0.05)
    counter.write_text(str(value + 1))
"""


def test_processes_hold_a_lock_one_at_a_time(tmp_path: Path) -> None:
    counter = tmp_path / "counter.txt"
    counter.write_text("0")

    def run(_: int) -> int:
        return subprocess.run([sys.executable, "-c", INCREMENT, str(counter)], cwd=ROOT, check=False).returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == [0] * 4
    assert counter.read_text() == "4"


def test_a_lock_is_released_when_its_block_raises(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), exclusive(tmp_path / "new" / "lock"):
        raise RuntimeError
    with exclusive(tmp_path / "new" / "lock"):
        pass


def test_only_local_tables_are_locked(tmp_path: Path) -> None:
    with one_writer(str(tmp_path / "data" / "table")):
        assert (tmp_path / "data" / ".table.lock").exists()
    with one_writer((tmp_path / "other" / "table").as_uri()):
        assert not (tmp_path / "other").exists()


class Commit:
    """Loses a race a number of times before it succeeds."""

    def __init__(self, losses: int, error: type[Exception] = TimeoutError) -> None:
        self.losses, self.error, self.attempts = losses, error, 0

    def __call__(self) -> str:
        self.attempts += 1
        if self.attempts <= self.losses:
            raise self.error("lost")
        return "done"


def is_lost_race(error: BaseException) -> bool:
    return isinstance(error, TimeoutError)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)


def test_a_lost_race_is_committed_again() -> None:
    commit = Commit(losses=3)
    assert commit_with_retries(commit, is_lost_race) == "done" and commit.attempts == 4


def test_the_last_error_is_raised_after_all_attempts() -> None:
    commit = Commit(losses=100)
    with pytest.raises(TimeoutError, match="lost"):
        commit_with_retries(commit, is_lost_race)
    assert commit.attempts == COMMIT_ATTEMPTS


def test_other_errors_are_not_retried() -> None:
    commit = Commit(losses=1, error=ValueError)
    with pytest.raises(ValueError, match="lost"):
        commit_with_retries(commit, is_lost_race)
    assert commit.attempts == 1
