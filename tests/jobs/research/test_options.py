"""What research commands log."""

from __future__ import annotations

import logging

import pytest

from jobs.cli import configure_logging
from jobs.research.options import epochs_logged

TRAINING = "msr_models.training.trainer"


@pytest.mark.parametrize(
    ("quiet", "verbose", "expected"), [(False, True, True), (False, False, False), (True, True, False)]
)
def test_epochs_are_logged_on_request_unless_quiet(quiet: bool, verbose: bool, expected: bool) -> None:
    loggers = [logging.getLogger(name) for name in ("jobs", "lake", "msr_models", "__main__")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    try:
        configure_logging(quiet=quiet)
        with epochs_logged(verbose):
            assert logging.getLogger(TRAINING).isEnabledFor(logging.INFO) is expected
        assert logging.getLogger(TRAINING).isEnabledFor(logging.INFO) is not quiet
    finally:
        for logger, (level, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.handlers = handlers
