"""Trials: the trainings and searches of an experiment, each kept under the digest of everything that defines it.

A folder holds `trials/<label>-<what was asked for>-<code>.json` with the record and `.npz` beside it with the arrays.
The record is written last and in one step, so a trial is there as a whole or not at all, whenever a process was killed.
Two processes that share a folder wait for each other's trials instead of making them twice.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lake.files import write_bytes, write_json
from lake.lock import exclusive
from schemas.errors import TrainingError
from schemas.text import short_digest

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialKey:
    """label: for people and file names; settings: JSON values, everything that the outcome depends on beside the code;
    code: digest of that (see code_digest.py).
    """

    label: str
    settings: Mapping[str, Any]
    code: str

    @property
    def digest(self) -> str:
        """16 hex digits of the settings."""
        return short_digest(json.dumps(self.settings, sort_keys=True))

    @property
    def name(self) -> str:
        """Of the trial's files."""
        return f"{self.label}-{self.digest}-{self.code}"


@dataclass(frozen=True, slots=True)
class Trial:
    """A finished trial: its record, and where its arrays lie."""

    record: Mapping[str, Any]
    arrays_path: Path

    def array(self, name: str) -> NDArray[Any]:
        """One of its arrays, read now."""
        with np.load(self.arrays_path, allow_pickle=False) as arrays:
            found: NDArray[Any] = arrays[name]
            return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of its arrays."""
        with np.load(self.arrays_path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


class TrialStore:
    """The trials of one folder. `any_code`: trials that other code made are taken too, the newest first."""

    def __init__(self, folder: Path, *, any_code: bool = False) -> None:
        self.folder, self.any_code = folder, any_code

    def find(self, key: TrialKey) -> Trial | None:
        """The finished trial, or None. Raises TrainingError for a record that is not one."""
        path = self._path(key, ".json")
        if not path.is_file() and self.any_code:
            made = sorted(path.parent.glob(f"{key.label}-{key.digest}-*.json"), key=lambda p: p.stat().st_mtime)
            path = made[-1] if made else path
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            arrays = path.with_suffix(".npz")
            if record["arrays_sha256"] == hashlib.sha256(arrays.read_bytes()).hexdigest():
                return Trial(record, arrays)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path} cannot be read ({error}); remove it, and its trial is made again") from error
        raise TrainingError(f"{arrays} is not what {path} was written with; remove both, and the trial is made again")

    def get(self, key: TrialKey, make: Callable[[], tuple[dict[str, Any], Arrays]]) -> tuple[Trial, bool]:
        """(the trial, whether it was there before): found, or made and kept."""
        with exclusive(self.folder / "locks" / key.name):
            found = self.find(key)
            if found is not None:
                return found, True
            record, arrays = make()
            sink = io.BytesIO()
            np.savez(sink, **dict(arrays))  # type: ignore[arg-type]  # its stub takes a keyword of its own for an array
            digest = write_bytes(self._path(key, ".npz"), sink.getvalue())
            asked = {"label": key.label, "settings": dict(key.settings), "code": key.code}
            record = {**record, **asked, "arrays_sha256": digest}
            write_json(self._path(key, ".json"), record)
            return Trial(record, self._path(key, ".npz")), False

    def resume_path(self, key: TrialKey, stage: str) -> Path:
        """Where a training of the trial keeps its state while it runs."""
        return self.folder / "resume" / f"{key.name}-{stage}.pt"

    def _path(self, key: TrialKey, suffix: str) -> Path:
        return self.folder / "trials" / f"{key.name}{suffix}"
