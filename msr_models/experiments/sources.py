"""Sources of an experiment's rows, named as text: `movielens_fixed:scenario=genre,history=20`."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field

from msr_models.experiments.lake_split import lake_split
from msr_models.experiments.movielens import ScenarioKind, movielens_split
from msr_models.experiments.planted_log import planted_split
from msr_models.experiments.settings import read_settings
from msr_models.experiments.split import Split
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.load_dataset import load_dataset
from schemas.pipeline_spec import SearchSpec, TrainerConfig
from schemas.spec import Spec


class MovieLensFixed(Spec):
    """MovieLens-1M in time order, 80 / 10 / 10 % (see movielens.py). path: folder of its three files.

    history: most behaviours per row; 0: none, which requires models with sequence_pooling: none.
    """

    scenario: ScenarioKind = "age3"
    history: Annotated[int, Field(ge=0)] = 20
    rows: Annotated[int, Field(ge=10)] | None = None
    path: str | None = None


class Planted(Spec):
    """A log with planted truth (see planted_log.py). test_rows: new rows to test on instead of its last 10 %."""

    seed: Annotated[int, Field(ge=0)] = 0
    rows: Annotated[int, Field(ge=10)] = 120_000
    users: Annotated[int, Field(ge=1)] = 2_000
    items: Annotated[int, Field(ge=2)] = 600
    test_rows: Annotated[int, Field(ge=0)] = 0


class Lake(Spec):
    """A data set of the lake, split as daily training splits it. ds: test day, by default the newest published one.

    rows: this many of the training rows, evenly spaced over the window; validation and test keep all of theirs.
    """

    dataset: str
    ds: date | None = None
    rows: Annotated[int, Field(ge=10)] | None = None


Source = MovieLensFixed | Planted | Lake
_KINDS: dict[str, type[Source]] = {"movielens_fixed": MovieLensFixed, "planted": Planted, "lake": Lake}


def parse_source(text: str) -> Source:
    """Parse `KIND[:key=value,...]`, or `lake:NAME[,key=value,...]`. Raises TrainingError that names what is allowed."""
    kind, _, rest = text.partition(":")
    if kind not in _KINDS:
        raise TrainingError(f"--data {text!r} is not known; give movielens_fixed, planted or lake:NAME")
    model = _KINDS[kind]
    changes = [part if "=" in part or kind != "lake" else f"dataset={part}" for part in filter(None, rest.split(","))]
    if empty := [change for change in changes if change.endswith("=")]:
        raise TrainingError(f"--data {text!r}: {empty[0]!r} has no value; give KEY=VALUE or leave it out")
    if kind == "lake" and not any(change.startswith("dataset=") for change in changes):
        raise TrainingError(f"--data {text!r} names no data set; give lake:NAME")
    return read_settings(model, changes, f"--data {text!r}", {})


def open_split(text: str) -> Split:
    """Read the split that `text` names. Raises TrainingError or SourceError if it cannot be read."""
    source = parse_source(text)
    if isinstance(source, Lake):
        return lake_split(load_dataset(source.dataset), source.ds, text, rows=source.rows)
    if isinstance(source, Planted):
        return planted_split(
            rows=source.rows,
            users=source.users,
            items=source.items,
            seed=source.seed,
            name=text,
            test_rows=source.test_rows,
        )
    folder = Path(source.path or Path(os.environ.get("MSR_DATA_DIR") or "data") / "ml-1m")
    # The same rows from another folder are the same split
    kind, _, settings = text.partition(":")
    kept = ",".join(part for part in settings.split(",") if not part.startswith("path="))
    name = f"{kind}:{kept}" if kept else kind
    return movielens_split(folder, scenario=source.scenario, history=source.history, rows=source.rows, name=name)


def data_set_of(text: str) -> DatasetSpec | None:
    """The lake's data set; None for other sources."""
    source = parse_source(text)
    return load_dataset(source.dataset) if isinstance(source, Lake) else None


def search_defaults(text: str) -> SearchSpec:
    """Search settings of the lake's data set, defaults for other sources."""
    source = parse_source(text)
    return load_dataset(source.dataset).search if isinstance(source, Lake) else SearchSpec()


def trainer_defaults(text: str) -> TrainerConfig:
    """Trainer settings of the lake's data set; for MovieLens those of the comparison with public code.

    Weight decay is the trainer's default everywhere: 1e-5 and 1e-6, of the time when it was added to gradients, are
    next to nothing since it is decoupled (docs/decisions.md).
    Epochs are chosen by AUC without calibration, whatever the data set says: the protocol of the published figures
    (docs/experiments.md, docs/comparison.md). `--trainer select_on=logloss` chooses them as daily training does.
    """
    source = parse_source(text)
    if isinstance(source, Lake):
        found = load_dataset(source.dataset).training.trainer
    elif isinstance(source, MovieLensFixed):
        found = TrainerConfig(
            batch_size=4096,
            max_epochs=30,
            patience=3,
            learning_rate=1e-3,
            # As public code, which decays every row of a table in every step; row_sparse scores 0.0007 less here
            embedding_update="dense",
            seed=1,
        )
    else:
        found = TrainerConfig(max_epochs=12, patience=2, learning_rate=1e-3, batch_size=1024, seed=1)
    return found.model_copy(update={"select_on": "auc", "calibration": "none"})
