"""What every command shares: typed options, exit codes and logging."""

from jobs.cli.logs import configure_logging
from jobs.cli.options import POSITIONAL, DatasetOptions, Day, Options, OptionsError, StepOptions, Threads
from jobs.cli.parser import parse
from jobs.cli.run import EXIT_AUDIT_FAILED, EXIT_DONE, EXIT_USER_ERROR, StepArgs, run_command, run_step

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
    "Threads",
    "configure_logging",
    "parse",
    "run_command",
    "run_step",
]
