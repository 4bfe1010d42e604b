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
    configure_logging(quiet=quiet)
    with epochs_logged(verbose):
        assert logging.getLogger(TRAINING).isEnabledFor(logging.INFO) is expected
    assert logging.getLogger(TRAINING).isEnabledFor(logging.INFO) is not quiet
