"""What every command shares: typed options, exit codes and logging."""

import logging

from jobs.cli.logs import configure_logging
from jobs.cli.options import POSITIONAL, DatasetOptions, Day, Options, OptionsError, StepOptions
from jobs.cli.parser import parse
from jobs.cli.run import EXIT_AUDIT_FAILED, EXIT_DONE, EXIT_USER_ERROR, StepArgs, run_command, run_step


def progress(message: str) -> None:  # until the last caller is gone
    logging.getLogger("jobs").info(message)


__all__ = [
    "EXIT_AUDIT_FAILED",
    "EXIT_DONE",
    "EXIT_USER_ERROR",
    "POSITIONAL",
    "DatasetOptions",
    "Day",
    "Options",
    "OptionsError",
    "StepArgs",
    "StepOptions",
    "configure_logging",
    "parse",
    "run_command",
    "run_step",
]
