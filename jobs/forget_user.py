"""Erase a user from every table, old table versions included, from predictions and texts, and never take them in again.

  python -m jobs.forget_user --dataset D --user ID --dry-run    # what would go, and which runs could not be repeated
  python -m jobs.forget_user --dataset D --user ID --yes

Rows are taken out of the files in place, so that every version of a table stays readable; a run or set that was made
from days with rows of the user cannot be repeated any more, and is named first. The user's id in a vocabulary stays
used, without the value. The log's own files are not touched: `forgotten_users` keeps a salted digest of the user, and
ingest counts such records as `forgotten_user` without storing them. Run it while no step runs, and start Spark servers
again afterwards. A killed run is finished by running it again.
"""

from __future__ import annotations

import json
import logging
import secrets
from pathlib import Path

import pyarrow.compute as pc
from pydantic import Field

from jobs.cli import DatasetOptions, OptionsError, StepArgs, run_step
from jobs.forgetting.artifacts import erase_predictions, erase_texts, predictions_with, remove_states, texts_with
from jobs.forgetting.user_rows import USER_TABLES, UserRows, files_of, find_user
from lake.erase import drop_rows, erase
from lake.locations import lake_root, table_uri
from lake.reader import open_dataset, table_exists
from lake.rows import read_rows, write_rows
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.tables.forgotten_users import ForgottenUser, user_digest
from schemas.tables.shared_instance_sets import SharedSet
from schemas.tables.training_runs import TrainingRun

log = logging.getLogger(__name__)

GROUP = "operators"


class ForgetOptions(DatasetOptions):
    """Options of this command."""

    user: str = Field(title="ID", min_length=1, description="the user's id as in the log")
    dry_run: bool = Field(default=False, description="log what would be erased, change nothing")
    yes: bool = Field(default=False, description="erase; it cannot be undone")


def step(args: StepArgs[ForgetOptions]) -> None:
    """Tell what is there, then erase it."""
    dataset, options = args.dataset, args.options
    if options.dry_run == options.yes:
        raise OptionsError("give either --dry-run, to see what would be erased, or --yes, to erase it for good")
    if "://" in lake_root():
        raise TableError(
            f"the lake {lake_root()} is remote: forget_user changes files in place; run it on a local copy"
        )
    user = find_user(dataset, options.user.strip())
    tell(user)
    if options.yes:
        forget(user)
        log.info("the user is erased and will not be taken in again; start Spark servers again")


def tell(user: UserRows) -> None:
    """Log the rows per table, in all versions, and what can no longer be repeated without them."""
    dataset = user.dataset
    for run_id in unrepeatable(dataset, set(user.instance_ids)):
        log.warning(f"{run_id} was made from days with rows of the user and can no longer be repeated")
    for table in USER_TABLES:
        found = [pc.sum(user.find(table)(file)).as_py() or 0 for file in files_of(dataset, table)]
        log.info(f"{table}: {sum(found)} rows in {sum(n > 0 for n in found)} files of all versions")
    predictions = predictions_with(user)
    log.info(f"predictions: {sum(rows for _, rows in predictions)} rows in {len(predictions)} files")
    log.info(f"texts: {len(texts_with(user))} files")


def unrepeatable(dataset: DatasetSpec, days: set[str]) -> list[str]:
    """Runs and sets that read one of `days`, as `run ID` or `set ID`."""
    runs = read_rows(dataset, TrainingRun)
    found = [f"run {run.run_id}" for run in runs if days & _days_of(run)]
    sets = read_rows(dataset, SharedSet)
    return sorted(found) + sorted(
        f"set {s.shared_set_id}" for s in sets if any(s.window_start <= ds <= s.window_end for ds in days)
    )


def forget(user: UserRows) -> None:
    """Record the user's digest, so that nothing comes back, then erase."""
    dataset = user.dataset
    known = read_rows(dataset, ForgottenUser)
    salt = known[0].salt if known else secrets.token_hex(16)
    write_rows(dataset, [ForgottenUser(digest=user_digest(salt, user.user), salt=salt)])
    erase_predictions(user)
    remove_states(dataset)
    erase_texts(user)
    for table in USER_TABLES:
        if table_exists(dataset, table):
            root = Path(table_uri(dataset, table))
            schema = open_dataset(dataset, table, []).schema
            erase(root, schema, user.find(table), user.change(table) or drop_rows)


def _days_of(run: TrainingRun) -> set[str]:
    manifest = json.loads(run.manifest)
    return {*manifest.get("train_days", []), *manifest.get("validation_days", []), run.ds}


if __name__ == "__main__":
    run_step(__doc__, step, ForgetOptions, needs_days=False)
