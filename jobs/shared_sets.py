"""List shared-instance sets, compare them, and choose which one training uses.

  python -m jobs.shared_sets --dataset D list
  python -m jobs.shared_sets --dataset D show ID            # share rates, validation gain, who uses it
  python -m jobs.shared_sets --dataset D diff ID ID         # overlap and rank correlation on common instances
  python -m jobs.shared_sets --dataset D pin ID --from DAY  # training of DAY and later days uses ID
  python -m jobs.shared_sets --dataset D unpin --from DAY   # ... from DAY on the newest set again
  python -m jobs.shared_sets --dataset D retire ID          # never used again; refused while runs use it
  python -m jobs.shared_sets --dataset D export ID --out DIR

Which set a day uses follows from the tables alone. A pin whose --from lies in the past changes which set a rerun of
those days would use; existing runs stay as they are, and the command names the trained days that it affects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated

from pydantic import Field

from jobs.cli import POSITIONAL, DatasetOptions, Day, StepArgs, run_step
from msr_models.sets.catalogue import read_catalogue
from msr_models.sets.compare import compare_sets
from msr_models.sets.describe import difference_lines, list_lines, show_lines
from msr_models.sets.export import export_set
from msr_models.sets.pins import pin, retire, unpin
from schemas.dataset_spec import DatasetSpec

GROUP = "operators"

SetId = Annotated[str, POSITIONAL, Field(title="ID", description="a set's id, see list")]


class Command(DatasetOptions, ABC):
    """A command and its options."""

    @abstractmethod
    def lines(self, dataset: DatasetSpec) -> list[str]:
        """Do the work; the lines to print. Raises SharedSetError for unknown ids and for what the command refuses."""


class List(Command):
    """one line per set: id, window, backbone, status, share rate, runs, pinned"""

    def lines(self, dataset: DatasetSpec) -> list[str]:
        return list_lines(dataset)


class Show(Command):
    """all that is known of a set"""

    id: SetId

    def lines(self, dataset: DatasetSpec) -> list[str]:
        return show_lines(dataset, self.id)


class Diff(Command):
    """overlap and rank correlation of two sets"""

    first: SetId
    second: SetId

    def lines(self, dataset: DatasetSpec) -> list[str]:
        catalogue = read_catalogue(dataset)
        for shared_set_id in (self.first, self.second):
            catalogue.named(shared_set_id)
        return difference_lines(dataset, self.first, self.second, compare_sets(dataset, self.first, self.second))


class Pin(Command):
    """train with this set from a day on, instead of the newest"""

    id: SetId
    since: Day = Field(
        validation_alias="from",
        title="DAY",
        description="first training day; one in the past changes what a rerun of the days since then uses",
    )

    def lines(self, dataset: DatasetSpec) -> list[str]:
        return pin(dataset, self.id, self.since)


class Unpin(Command):
    """train with the newest set again from a day on"""

    since: Day = Field(
        validation_alias="from",
        title="DAY",
        description="first training day without the pin; the pin's own first day removes it altogether",
    )

    def lines(self, dataset: DatasetSpec) -> list[str]:
        return unpin(dataset, self.since)


class Retire(Command):
    """never use this set again"""

    id: SetId
    reason: str = Field(default="retired by hand", title="TEXT", description="kept with the set")

    def lines(self, dataset: DatasetSpec) -> list[str]:
        return retire(dataset, self.id, self.reason)


class Export(Command):
    """write masks as Parquet and the catalogue row as JSON"""

    id: SetId
    out: Path = Field(title="DIR", description="a new folder")

    def lines(self, dataset: DatasetSpec) -> list[str]:
        days, rows = export_set(dataset, self.id, self.out)
        return [f"{self.out}: catalogue.json and {rows:,} masks of {days} days of shared set {self.id}"]


COMMANDS: dict[str, type[Command]] = {c.__name__.lower(): c for c in (List, Show, Diff, Pin, Unpin, Retire, Export)}


def step(args: StepArgs[Command]) -> None:
    """Run one command and print its lines."""
    for line in args.options.lines(args.dataset):
        print(line, flush=True)


if __name__ == "__main__":
    run_step(__doc__, step, COMMANDS, needs_days=False)
