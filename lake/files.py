"""Write beside the target, then rename: a killed process leaves the old file or the new one, never half of one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a fresh path beside `path` for a file or a folder, which takes the place of `path` when the block ends.

    A folder at `path` must be empty or absent. Where the block raises, what was written is removed and `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Distinct per process and call, so that two writers of one path never share a half-written file
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> str:
    """Write `data` to `path` in one step; returns its SHA-256 in hex."""
    with replacing(path) as aside, aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def write_text(path: Path, text: str) -> str:
    """Write UTF-8 text to `path` in one step; returns its SHA-256 in hex."""
    return write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> str:
    """Write JSON with sorted keys to `path` in one step; returns its SHA-256 in hex."""
    return write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")
