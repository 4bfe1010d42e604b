"""Locks between the processes of one machine, released when their holder ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` (made where missing, with its folder) inside the block; waits for other holders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


@contextmanager
def exclusive_if_free(path: Path) -> Iterator[bool]:
    """As `exclusive`, but without waiting: whether the block holds the lock file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def one_writer(uri: str) -> Iterator[None]:
    """Let one process at a time commit to a Delta table on a local disk.

    A Delta commit on a local disk is a check for the version's file and then a rename, so two engines could both commit
    one version. Remote stores commit atomically (or through Delta's own lock) and need no lock here.
    """
    if "://" in uri:
        yield
        return
    table = Path(uri)
    with exclusive(table.parent / f".{table.name}.lock"):
        yield
