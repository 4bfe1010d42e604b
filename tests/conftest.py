"""Fixtures that tests of several rooms share: one Spark session for all, and a lake of their own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.cli.logs import LOGGERS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One Spark session for all tests: a JVM start is dear. SPARK_REMOTE makes it a Connect client."""
    from lake.spark_session import get_session

    session = get_session("tests")
    yield session
    session.stop()


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Steps report through logging: `caplog.text` has their lines. A command's own handlers end with the test."""
    caplog.set_level(logging.INFO)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers = handlers


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty lake of the test's own: MSR_LAKE_ROOT for this test."""
    return _use_lake(tmp_path / "lake", monkeypatch)


@pytest.fixture(scope="module")
def module_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A lake that the tests of one module share."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield _use_lake(tmp_path_factory.mktemp("lake"), monkeypatch)


def _use_lake(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(root))
    monkeypatch.setenv("MSR_REPORT_DIR", str(root / "report"))
    monkeypatch.delenv("MSR_ARTIFACTS_DIR", raising=False)
    return root
