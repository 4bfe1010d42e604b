"""What the files of a day of the raw log were when they were read, so that a file that changed later is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from glob import glob
from pathlib import Path

import pyarrow.fs as pafs

from schemas.dataset_spec import DatasetSpec

_PIECE = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class FileState:
    """Size in bytes, time of the last change in nanoseconds since 1970 (0: unknown), SHA-256 of the content."""

    size: int
    changed_ns: int
    sha256: str


States = dict[str, FileState]


def source_states(dataset: DatasetSpec, ds: date, known: Mapping[str, FileState] | None = None) -> States:
    """File -> its state, of all files that the day is read from; none for a generated log or a missing file.

    A file whose size and time are those of `known` is not read again.
    """
    days = [ds + timedelta(days=n) for n in range(dataset.days.late_days + 1)]
    paths = dict.fromkeys((dataset.source.path or "").replace("{ds}", str(day)) for day in days)
    found: States = {}
    for path in paths:
        system, files = _files(path) if path else (pafs.LocalFileSystem(), [])
        for file in files:
            found[file.path] = _state(system, file, (known or {}).get(file.path))
    return found


def changed_files(before: Mapping[str, FileState], now: Mapping[str, FileState]) -> list[str]:
    """Files that came, went or have another content, with what happened to each."""
    lines = [f"{name} is new" for name in sorted(now.keys() - before.keys())]
    lines += [f"{name} is gone" for name in sorted(before.keys() - now.keys())]
    both = sorted(name for name in before.keys() & now.keys() if before[name].sha256 != now[name].sha256)
    return lines + [f"{name} changed ({before[name].size:,} -> {now[name].size:,} bytes)" for name in both]


def to_json(states: Mapping[str, FileState]) -> str:
    """For the audit of the day; `from_json` reads it back."""
    return json.dumps({name: asdict(state) for name, state in states.items()}, sort_keys=True)


def from_json(text: str) -> States:
    """Inverse of `to_json`."""
    return {name: FileState(**state) for name, state in json.loads(text).items()}


def _files(path: str) -> tuple[pafs.FileSystem, list[pafs.FileInfo]]:
    """Files of a path: itself, those below it, or those that match it where nothing has that very name."""
    if "://" in path:
        system, plain = pafs.FileSystem.from_uri(path)
        return system, _listed(system, plain)
    system = pafs.LocalFileSystem()
    plain_paths = [path] if Path(path).exists() else sorted(glob(path))
    return system, [file for one in plain_paths for file in _listed(system, one)]


def _listed(system: pafs.FileSystem, path: str) -> list[pafs.FileInfo]:
    info = system.get_file_info(path)
    if info.type == pafs.FileType.File:
        return [info]
    if info.type != pafs.FileType.Directory:
        return []
    below = system.get_file_info(pafs.FileSelector(path, recursive=True))
    visible = [file for file in below if file.type == pafs.FileType.File and not file.base_name.startswith(("_", "."))]
    return sorted(visible, key=lambda file: str(file.path))


def _state(system: pafs.FileSystem, file: pafs.FileInfo, known: FileState | None) -> FileState:
    changed = file.mtime_ns or 0
    if known is not None and changed and (known.size, known.changed_ns) == (file.size, changed):
        return known
    digest = hashlib.sha256()
    with system.open_input_stream(file.path, compression=None) as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return FileState(size=int(file.size), changed_ns=int(changed), sha256=digest.hexdigest())
