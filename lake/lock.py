"""One process of this machine at a time: a lock file that is released when its holder ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` (made where missing, with its folder) inside the block; waits for other holders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


@contextmanager
def one_writer(uri: str) -> Iterator[None]:
    """Let one process at a time commit to a Delta table on a local disk.

    There Delta commits by looking for the file and then renaming, so two engines could both win one version. Remote
    stores have an atomic commit (or Delta's own lock) and are left to it.
    """
    if "://" in uri:
        yield
        return
    table = Path(uri)
    with exclusive(table.parent / f".{table.name}.lock"):
        yield
