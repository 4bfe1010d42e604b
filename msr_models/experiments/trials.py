"""Trials: the trainings and searches of an experiment, cached under a digest of everything that defines them.

A folder holds records `trials/<label>-<settings digest>-<code digest>.json` and arrays `.npz` of the same name. The
record is written last and atomically, so that an interrupted trial does not exist. Processes that share a folder lock
trials, so that none is run twice.
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
    """label: for file names and the log; settings: JSON values of everything but the code that the result depends on;
    code: digest of the code (see code_digest.py).
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
        """Stem of the trial's files."""
        return f"{self.label}-{self.digest}-{self.code}"


@dataclass(frozen=True, slots=True)
class Trial:
    """A finished trial: its record and the path of its arrays."""

    record: Mapping[str, Any]
    arrays_path: Path

    def array(self, name: str) -> NDArray[Any]:
        """Read one of its arrays."""
        with np.load(self.arrays_path, allow_pickle=False) as arrays:
            found: NDArray[Any] = arrays[name]
            return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Read all of its arrays."""
        with np.load(self.arrays_path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


class TrialStore:
    """The trials of one folder. any_code: also accept trials of other versions of the code, preferably the newest."""

    def __init__(self, folder: Path, *, any_code: bool = False) -> None:
        self.folder, self.any_code = folder, any_code

    def find(self, key: TrialKey) -> Trial | None:
        """The finished trial, or None. Raises TrainingError for a damaged one."""
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
            raise TrainingError(f"{path} cannot be read ({error}); remove it to run the trial again") from error
        raise TrainingError(f"{arrays} does not belong to {path}; remove both to run the trial again")

    def get(self, key: TrialKey, make: Callable[[], tuple[dict[str, Any], Arrays]]) -> tuple[Trial, bool]:
        """(the trial, whether it was cached); runs `make` and stores its result if it was not."""
        with exclusive(self.folder / "locks" / key.name):
            found = self.find(key)
            if found is not None:
                return found, True
            record, arrays = make()
            sink = io.BytesIO()
            np.savez(sink, **dict(arrays))  # type: ignore[arg-type]  # its stub mistakes arrays for its own keywords
            digest = write_bytes(self._path(key, ".npz"), sink.getvalue())
            identity = {"label": key.label, "settings": dict(key.settings), "code": key.code}
            record = {**record, **identity, "arrays_sha256": digest}
            write_json(self._path(key, ".json"), record)
            return Trial(record, self._path(key, ".npz")), False

    def resume_path(self, key: TrialKey, stage: str) -> Path:
        """Path of the state from which an interrupted training of the trial resumes."""
        return self.folder / "resume" / f"{key.name}-{stage}.pt"

    def _path(self, key: TrialKey, suffix: str) -> Path:
        return self.folder / "trials" / f"{key.name}{suffix}"
