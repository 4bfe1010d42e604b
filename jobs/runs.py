"""List trained runs and choose which are kept for ever, whatever the YAML's `retain` says.

  python -m jobs.runs --dataset D list
  python -m jobs.runs --dataset D keep --run ID --reason "champion of March"
  python -m jobs.runs --dataset D release --run ID

A kept run keeps its row, metrics, weights and predictions, the weights that it starts from, and the table versions that
its manifest names, so that it can be repeated. `jobs.maintain_tables` removes what is not kept and has expired.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime

import pyarrow as pa
from pydantic import Field

from jobs.cli import DatasetOptions, StepArgs, run_step
from lake.arrow_writer import overwrite_partition
from lake.locations import artifact_path
from lake.rows import read_rows, write_rows
from msr_models.sets.usage import read_runs
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.tables import get_table
from schemas.tables.kept_runs import KeptRun
from schemas.tables.training_runs import TrainingRun
from schemas.text import aligned_table

GROUP = "operators"


class Command(DatasetOptions, ABC):
    """A command and its options."""

    @abstractmethod
    def lines(self, dataset: DatasetSpec) -> list[str]:
        """Do the work; the lines to print. Raises TableError for an unknown run."""


class List(Command):
    """one line per run: id, selected, validation AUC, files that are there, why it is kept"""

    def lines(self, dataset: DatasetSpec) -> list[str]:
        kept = {row.run_id: row.reason for row in read_rows(dataset, KeptRun)}
        rows = [["run", "selected", "validation AUC", "weights", "predictions", "kept"]]
        for run in read_runs(dataset):
            auc = "none" if run.validation_auc is None else f"{run.validation_auc:.4f}"
            reason = f"yes ({kept[run.run_id]})" if run.run_id in kept else "no"
            chosen = "yes" if run.is_selected else "no"
            files = [_has(dataset, uri) for uri in (run.checkpoint_uri, run.predictions_uri)]
            rows.append([run.run_id, chosen, auc, *files, reason])
        return list(aligned_table(rows)) if len(rows) > 1 else [f"data set {dataset.name} has no runs"]


class Keep(Command):
    """keep a run and everything that repeats it"""

    run: str = Field(title="ID", description="a run's id, see list")
    reason: str = Field(default="kept by hand", title="TEXT", description="stored with the run")

    def lines(self, dataset: DatasetSpec) -> list[str]:
        _named(dataset, self.run)
        write_rows(dataset, [KeptRun(run_id=self.run, reason=self.reason, kept_at=datetime.now(UTC))])
        return [f"run {self.run} is kept: {self.reason}"]


class Release(Command):
    """let a kept run expire again"""

    run: str = Field(title="ID", description="a run's id, see list")

    def lines(self, dataset: DatasetSpec) -> list[str]:
        if self.run not in {row.run_id for row in read_rows(dataset, KeptRun)}:
            _named(dataset, self.run)
            return [f"run {self.run} is not kept"]
        nothing: pa.Table = get_table(KeptRun.table).arrow_schema().empty_table()
        overwrite_partition(nothing, dataset, KeptRun.table, {"run_id": self.run})
        return [f"run {self.run} is released; it expires as retain in the YAML says"]


COMMANDS: dict[str, type[Command]] = {c.__name__.lower(): c for c in (List, Keep, Release)}


def step(args: StepArgs[Command]) -> None:
    """Run one command and print its lines."""
    for line in args.options.lines(args.dataset):
        print(line, flush=True)


def _named(dataset: DatasetSpec, run_id: str) -> TrainingRun:
    for run in read_runs(dataset):
        if run.run_id == run_id:
            return run
    listing = command("runs", dataset, "list")
    raise TableError(f"data set {dataset.name} has no run {run_id!r}; choose one of: {listing}")


def _has(dataset: DatasetSpec, uri: str) -> str:
    return "yes" if artifact_path(dataset, uri).is_file() else "no"


if __name__ == "__main__":
    run_step(__doc__, step, COMMANDS, needs_days=False)
