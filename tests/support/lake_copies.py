"""Lakes that are built once per test process and copied to each test that starts from them."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

_BUILT: dict[str, Path] = {}


def copy_lake(lake: Path, name: str, build: Callable[[], None]) -> None:
    """Fill the folder `lake` with what `build` writes to an empty lake; `name` identifies that content."""
    if name not in _BUILT:
        root = tempfile.TemporaryDirectory(prefix="lake-")
        atexit.register(root.cleanup)
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setenv("MSR_LAKE_ROOT", root.name)
            monkeypatch.setenv("MSR_REPORT_DIR", str(Path(root.name) / "report"))
            monkeypatch.delenv("MSR_ARTIFACTS_DIR", raising=False)
            build()
        _BUILT[name] = Path(root.name)
    shutil.copytree(_BUILT[name], lake, dirs_exist_ok=True)
