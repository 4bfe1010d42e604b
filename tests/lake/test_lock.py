"""A lock that is tried without waiting."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from lake.lock import exclusive, exclusive_if_free
from tests.support.source_tree import ROOT


def test_a_lock_that_another_holds_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    with exclusive_if_free(path) as held:
        assert held
        with exclusive_if_free(path) as second:
            assert not second
    with exclusive(path), exclusive_if_free(path) as third:
        assert not third
    with exclusive_if_free(path) as again:
        assert again, "released"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from lake.lock import exclusive\n"
        "with exclusive(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with exclusive_if_free(path) as held:
        assert not held
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with exclusive_if_free(path) as held:
        assert held
