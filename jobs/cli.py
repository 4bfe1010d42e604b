"""The one command line that all steps share: arguments, exit codes, progress lines."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import NoReturn

from schemas.dataset_spec import DatasetSpec
from schemas.errors import AuditFailedError, MsrError
from schemas.load_dataset import dataset_file, load_dataset

EXIT_DONE, EXIT_USER_ERROR, EXIT_AUDIT_FAILED = 0, 2, 3


@dataclass(frozen=True, kw_only=True)
class StepArgs:
    """What a step is asked for: a data set, days (ascending), its own options; dataset_file is its YAML."""

    dataset: DatasetSpec
    days: list[date]
    options: argparse.Namespace
    dataset_file: Path | None = None

    @property
    def ds(self) -> date:
        """The one day, or the last of a range."""
        return self.days[-1]


log = logging.getLogger(__name__)


def progress(message: str) -> None:
    """Log one line."""
    log.info(message)


def configure_logging() -> None:
    """Log to stdout, one line per message with the UTC time."""
    handler = logging.StreamHandler(sys.stdout)
    formatter = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    for name in ("jobs", "lake", "msr_models", "__main__"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers = [handler]


def run_step(
    doc: str | None,
    step: Callable[[StepArgs], None],
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
    *,
    needs_days: bool = True,
) -> NoReturn:
    """Parse the command line, run the step, exit.

    0 done, 2 the user's mistake (one line on stderr), 3 an audit failed. Any other exception is a bug and keeps its
    traceback (exit 1).
    """
    configure_logging()
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_dataset(parser)
    parser.add_argument("--ds", type=_day, help="the day to write, YYYY-MM-DD")
    parser.add_argument("--from", dest="first", type=_day, metavar="DAY", help="first day of a range (with --to)")
    parser.add_argument("--to", dest="last", type=_day, metavar="DAY", help="last day of a range, included")
    if add_arguments is not None:
        add_arguments(parser)
    options = parser.parse_args()
    if "dataset" not in options:
        parser.error("which data set? give --dataset NAME, or the path of a YAML")
    try:
        days = _days(parser, options, needs_days=needs_days)
        dataset, file = load_dataset(options.dataset), dataset_file(options.dataset)
        step(StepArgs(dataset=dataset, days=days, options=options, dataset_file=file))
    except MsrError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        sys.exit(EXIT_AUDIT_FAILED if isinstance(error, AuditFailedError) else EXIT_USER_ERROR)
    sys.exit(EXIT_DONE)


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """--dataset; a step with commands also lets it stand behind the command's name."""
    parser.add_argument("--dataset", default=argparse.SUPPRESS, help="name of a data set, or the path of its YAML")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day; write YYYY-MM-DD") from None


def _days(parser: argparse.ArgumentParser, options: argparse.Namespace, *, needs_days: bool) -> list[date]:
    """The day or the range asked for, ascending; argparse's own error (exit 2) where they do not fit."""
    first, last = options.first, options.last
    if options.ds is not None:
        if first is not None or last is not None:
            parser.error("give either --ds or --from and --to")
        return [options.ds]
    if first is None and last is None:
        if needs_days:
            parser.error("which day? give --ds YYYY-MM-DD, or --from and --to")
        return []
    if first is None or last is None:
        parser.error("--from and --to go together")
    if last < first:
        parser.error(f"--to {last} lies before --from {first}")
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
