"""Run a command as a child process that never outlives the task that started it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its exit code and the last line that it printed (an error is one line, or ends in one)."""

    exit_code: int
    last_line: str


class Child:
    """A command in its own process group whose output is passed on line by line.

    Example: `Child(["python", "-m", "jobs.report"], cwd=root, env=env).run(log.info)`.
    """

    def __init__(self, command: Sequence[str], *, cwd: Path, env: dict[str, str]) -> None:
        self._command = list(command)
        self._cwd = cwd
        self._env = env
        self._process: subprocess.Popen[str] | None = None

    def run(self, on_line: Callable[[str], None]) -> Ended:
        """Start, pass on every line of stdout and stderr, and wait for the end."""
        libc = ctypes.CDLL(None, use_errno=True)

        def end_with_parent() -> None:
            # A task killed with -9 takes its step down with it, so that the retry runs alone.
            if hasattr(libc, "prctl"):
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        self._process = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        assert self._process.stdout is not None
        last_line = ""
        for raw_line in self._process.stdout:
            line = raw_line.rstrip()
            if line:
                last_line = line
                on_line(line)
        return Ended(self._process.wait(), last_line)

    def stop(self, patience_s: float = 10.0) -> None:
        """Stop the child and everything it started: SIGTERM, then SIGKILL after `patience_s` seconds."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            # The child began a session: its pid is the group's id, also after the child itself is gone.
            os.killpg(self._process.pid, number)
