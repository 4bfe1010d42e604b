"""Look at shared-instance sets, compare them, and say which one training uses.

  python -m jobs.shared_sets --dataset D list
  python -m jobs.shared_sets --dataset D show ID            # share rates, validation gain, who uses it
  python -m jobs.shared_sets --dataset D diff ID ID         # overlap and rank correlation on common instances
  python -m jobs.shared_sets --dataset D pin ID --from DAY  # training of DAY and later days uses ID
  python -m jobs.shared_sets --dataset D unpin --from DAY   # ... from DAY on the newest set again
  python -m jobs.shared_sets --dataset D retire ID          # never used again; refused while runs use it
  python -m jobs.shared_sets --dataset D export ID --out DIR

Which set a day uses follows from the tables alone. A pin whose --from lies in the past changes what a rerun of those
days would use; runs that exist stay as they are, and the command names the trained days it concerns.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from jobs.cli import StepArgs, add_dataset, run_step
from msr_models.sets.catalogue import read_catalogue
from msr_models.sets.compare import compare_sets
from msr_models.sets.describe import difference_lines, list_lines, show_lines
from msr_models.sets.export import export_set
from msr_models.sets.pins import pin, retire, unpin
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands of this step."""
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="one line per set: id, window, backbone, status, share rate, runs, pinned")
    _add_id(commands.add_parser("show", help="all that is known of a set"))
    diff = commands.add_parser("diff", help="overlap and rank correlation of two sets")
    diff.add_argument("ids", nargs=2, metavar="ID")
    pinning = commands.add_parser("pin", help="train with this set from a day on, instead of the newest")
    _add_id(pinning)
    _add_from(pinning, "first training day; one in the past changes what a rerun of the days since then uses")
    unpinning = commands.add_parser("unpin", help="train with the newest set again from a day on")
    _add_from(unpinning, "first training day without the pin; the pin's own first day takes it back altogether")
    retiring = commands.add_parser("retire", help="never use this set again")
    _add_id(retiring)
    retiring.add_argument("--reason", default="retired by hand", help="kept with the set")
    exporting = commands.add_parser("export", help="write masks as Parquet and the catalogue row as JSON")
    _add_id(exporting)
    exporting.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    for command in commands.choices.values():
        add_dataset(command)


def step(args: StepArgs) -> None:
    """Run one command."""
    if args.days:
        raise SharedSetError("jobs.shared_sets is for no single day; give --from after pin or unpin, and no --ds")
    for line in run_command(args.dataset, args.options):
        print(line, flush=True)


def run_command(dataset: DatasetSpec, options: argparse.Namespace) -> list[str]:
    """The lines to print. Raises SharedSetError for unknown ids and for what a command refuses."""
    match options.command:
        case "list":
            return list_lines(dataset)
        case "show":
            return show_lines(dataset, options.id)
        case "diff":
            return _diff(dataset, *options.ids)
        case "pin":
            return pin(dataset, options.id, _day(options.since))
        case "unpin":
            return unpin(dataset, _day(options.since))
        case "retire":
            return retire(dataset, options.id, options.reason)
        case _:
            days, rows = export_set(dataset, options.id, options.out)
            return [f"{options.out}: catalogue.json and {rows:,} masks of {days} days of shared set {options.id}"]


def _diff(dataset: DatasetSpec, first: str, second: str) -> list[str]:
    catalogue = read_catalogue(dataset)
    for shared_set_id in (first, second):
        catalogue.named(shared_set_id)
    return difference_lines(dataset, first, second, compare_sets(dataset, first, second))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SharedSetError(f"--from {text!r} is not a day; write YYYY-MM-DD") from None


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="a set's id, see list")


def _add_from(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--from", dest="since", required=True, metavar="DAY", help=text)


if __name__ == "__main__":
    run_step(__doc__, step, add_arguments, needs_days=False)
