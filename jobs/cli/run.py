"""Run a command: parse, log, work, exit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

from jobs.cli.logs import configure_logging
from jobs.cli.options import DatasetOptions, Options, OptionsError
from jobs.cli.parser import parse
from schemas.dataset_spec import DatasetSpec
from schemas.errors import AuditFailedError, MsrError
from schemas.load_dataset import dataset_file, load_dataset

EXIT_DONE, EXIT_USER_ERROR, EXIT_AUDIT_FAILED = 0, 2, 3

OptionsT = TypeVar("OptionsT", bound=Options)
DatasetOptionsT = TypeVar("DatasetOptionsT", bound=DatasetOptions)


@dataclass(frozen=True, kw_only=True)
class StepArgs(Generic[DatasetOptionsT]):
    """What a step is to do: its data set, days (ascending) and options; dataset_file is the data set's YAML."""

    dataset: DatasetSpec
    days: list[date]
    options: DatasetOptionsT
    dataset_file: Path | None = None

    @property
    def ds(self) -> date:
        """The one day, or the last of a range."""
        return self.days[-1]


def run_step(
    doc: str | None,
    step: Callable[[StepArgs[DatasetOptionsT]], None],
    options: type[DatasetOptionsT] | Mapping[str, type[DatasetOptionsT]],
    *,
    needs_days: bool = True,
) -> NoReturn:
    """Run a command that works on a data set, with exit codes as `run_command`. `doc` is the description in --help."""

    def work(given: DatasetOptionsT) -> None:
        if given.dataset is None:
            raise OptionsError("which data set? give --dataset NAME, or the path of a YAML")
        days = given.days()
        if needs_days and not days:
            raise OptionsError("which day? give --ds YYYY-MM-DD, or --from and --to")
        dataset, file = load_dataset(given.dataset), dataset_file(given.dataset)
        step(StepArgs(dataset=dataset, days=days, options=given, dataset_file=file))

    run_command(doc, work, options)


def run_command(
    doc: str | None, work: Callable[[OptionsT], None], options: type[OptionsT] | Mapping[str, type[OptionsT]]
) -> NoReturn:
    """Parse the command line, configure logging, work, exit.

    0 done, 2 the user's mistake (one line on stderr), 3 an audit failed. Any other exception is a bug and keeps its
    traceback (exit 1).
    """
    try:
        given = parse(options, doc=doc)
        configure_logging(quiet=given.quiet, as_json=given.log_json)
        work(given)
    except MsrError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        sys.exit(EXIT_AUDIT_FAILED if isinstance(error, AuditFailedError) else EXIT_USER_ERROR)
    sys.exit(EXIT_DONE)
