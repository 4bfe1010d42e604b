"""Start a model from the weights of an earlier one: ids keep their rows, new ids get those of a fresh model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model
from msr_models.modules.embedding import FieldEmbedding
from msr_models.training.checkpoint import ModelCard, load_checkpoint
from schemas.errors import TrainingError

REMEDY = "or set training.start: scratch"


def build_from_checkpoint(card: ModelCard, path: Path, sha256: str) -> MultiScenarioModel:
    """The model of `card` with the weights of the checkpoint at `path`.

    Raises TrainingError where the file is missing or not the one of `sha256`, or its model does not fit `card`.
    """
    before, card_before = load_checkpoint(path, sha256)
    model = build_model(card.model, card.options, card.layout, card.num_scenarios, card.seed)
    carry_over(model, card, before, card_before)
    return model


@torch.no_grad()
def carry_over(model: MultiScenarioModel, card: ModelCard, before: MultiScenarioModel, card_before: ModelCard) -> None:
    """Copy the weights of `before` into the fresh `model`, in place.

    Embedding rows go by (field, id), since a field's first row moves when the fields before it grow; ids that `before`
    does not know keep the fresh rows, and ids evicted since are left behind. Everything else is copied whole.
    Raises TrainingError that names both sides where the two are not of one model, options, lineage and scenarios.
    """
    require_same_model(card, card_before)
    tables, tables_before = _tables(model), _tables(before)
    rows_of = {f"{name}.weight" if name else "weight" for name in tables}
    weights, weights_before = model.state_dict(), before.state_dict()
    for name, weight in weights_before.items():
        if name in rows_of:
            continue
        if name not in weights or weights[name].shape != weight.shape:
            here = f"shape {list(weights[name].shape)}" if name in weights else "no such weight"
            raise TrainingError(
                f"weight {name} of the checkpoint's {card_before.model!r} has shape {list(weight.shape)}, the new "
                f"model has {here}: it depends on the vocabulary and cannot be carried over; {_scratch()}"
            )
        weights[name].copy_(weight)
    for name, table in tables.items():
        _carry_rows(table, tables_before[name])


def require_same_model(card: ModelCard, before: ModelCard) -> None:
    """Raises TrainingError that names what differs, both values and the remedy."""
    pairs = {
        "model": (before.model, card.model),
        "options": (before.options, card.options),
        "vocabulary lineage": (before.lineage, card.lineage),
        "scenarios": (before.num_scenarios, card.num_scenarios),
        "fields": (_fields(before), _fields(card)),
    }
    for what, (old, new) in pairs.items():
        if json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True):
            raise TrainingError(
                f"the checkpoint to start from has {what} {old!r}, this run has {new!r}; train the days before again "
                f"with the settings of today, {REMEDY}"
            )
    for f, name in enumerate(card.layout.names):
        # Evicted ids leave no row behind; the largest id of all is then unknown here, and nothing can be compared
        old_rows, new_rows = before.layout.num_rows[f], card.layout.num_rows[f]
        if old_rows > new_rows and before.layout.has_all_ids(f) and card.layout.has_all_ids(f):
            raise TrainingError(
                f"the checkpoint to start from knows {old_rows - 1} ids of field {name!r} (vocabulary "
                f"{before.vocabulary_version}), this run {new_rows - 1} ({card.vocabulary_version}): ids are only ever "
                f"appended; {_scratch()}"
            )


def _fields(card: ModelCard) -> list[list[str | int]]:
    """What a model's inputs mean: names and slots of the fields, and whose rows behaviours use."""
    layout = card.layout
    named: list[list[str | int]] = [[n, s] for n, s in zip(layout.names, layout.num_slots, strict=True)]
    return [*named, ["behaviours", layout.names[layout.item_field]]]


def _tables(model: MultiScenarioModel) -> dict[str, FieldEmbedding]:
    return {name: part for name, part in model.named_modules() if isinstance(part, FieldEmbedding)}


def _carry_rows(table: FieldEmbedding, before: FieldEmbedding) -> None:
    starts = zip(table.layout.row_starts, before.layout.row_starts, strict=True)
    for f, (start, start_before) in enumerate(starts):
        # Ids that were evicted since then have no row any more, new ones had none before
        _, rows, rows_before = np.intersect1d(table.layout.ids_of(f), before.layout.ids_of(f), return_indices=True)
        table.weight[start + torch.from_numpy(rows)] = before.weight[start_before + torch.from_numpy(rows_before)]


def _scratch() -> str:
    return REMEDY.removeprefix("or ")
