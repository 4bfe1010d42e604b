"""Start a model from the weights of an earlier one: ids keep their rows, new ids get those of a fresh model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from msr_models.models.base import MultiScenarioModel
from msr_models.modules.embedding import FieldEmbedding
from msr_models.modules.mixed_embedding import MixedEmbedding
from msr_models.training.checkpoint import ModelCard, load_checkpoint
from msr_models.training.growth import NewFields, NewScenarios
from schemas.errors import TrainingError
from schemas.provenance import appends

REMEDY = "or set training.start: scratch"


def build_from_checkpoint(
    card: ModelCard, path: Path, sha256: str, start_scenario: str | None = None
) -> MultiScenarioModel:
    """The model of `card` with the weights of the checkpoint at `path`; start_scenario as of `carry_over`.

    Raises TrainingError where the file is missing or not the one of `sha256`, or its model does not fit `card`.
    """
    before, card_before = load_checkpoint(path, sha256)
    model = card.build()
    carry_over(model, card, before, card_before, start_scenario)
    return model


@torch.no_grad()
def carry_over(
    model: MultiScenarioModel,
    card: ModelCard,
    before: MultiScenarioModel,
    card_before: ModelCard,
    start_scenario: str | None = None,
) -> None:
    """Copy the weights of `before` into the fresh `model`, in place.

    Embedding rows go by (field, id), since a field's first row moves when the fields before it grow; ids that `before`
    does not know keep the fresh rows, and ids evicted since are left behind. Everything else is copied whole; appended
    scenarios and fields that came in as msr_models/training/growth.py says, new scenarios from start_scenario where one
    is named. Raises TrainingError that names both sides where the two are not of one model, options and lineage, or
    where scenarios or fields did not only grow.
    """
    require_same_model(card, card_before)
    if card.num_scenarios > card_before.num_scenarios and card.layout.names != card_before.layout.names:
        # One after the other: a weight's shape must tell which of the two its axes run over
        between = replace(card_before, scenarios=card.scenarios)
        middle = between.build()
        carry_over(middle, between, before, card_before, start_scenario)
        before, card_before = middle, between
    start = None if start_scenario is None else card_before.scenarios.index(start_scenario)
    scenarios = NewScenarios(card_before.num_scenarios, card.num_scenarios, start)
    names = _names_before(model, before)
    weights = _grown_weights(model, before, names, scenarios, NewFields(card_before.layout, card.layout))
    tables, tables_before = _tables(model), {names.get(name, name): part for name, part in _tables(before).items()}
    rows_of = {f"{name}.weight" if name else "weight" for name in tables}
    for name, weight in model.state_dict().items():
        if name not in rows_of:
            weight.copy_(weights[name])
    for name, table in tables.items():
        if name in tables_before:
            _carry_rows(table, tables_before[name], weights[f"{name}.weight" if name else "weight"])
        else:
            table.weight.copy_(weights[f"{name}.weight"])


def _grown_weights(
    model: MultiScenarioModel,
    before: MultiScenarioModel,
    names: dict[str, str],
    scenarios: NewScenarios,
    fields: NewFields,
) -> dict[str, Tensor]:
    """The weights of `before` in the shapes of `model`; embedding tables keep their rows and may get columns."""
    fresh, old = model.state_dict(), before.state_dict()
    for was, now in names.items():
        old[f"{now}.weight"] = old.pop(f"{was}.weight")
    tables = {f"{name}.weight" if name else "weight" for name in _tables(model)}
    of_new_fields = _of_new_fields(model, fields.before.names)
    grown: dict[str, Tensor] = {}
    for name, weight in fresh.items():
        if name not in old and name in of_new_fields:
            grown[name] = weight
            continue
        if name not in old:
            grown[name] = _mean([old[source] for source in scenarios.source_names(name, old)], name)
            continue
        wanted = weight[: len(old[name])] if name in tables else weight  # rows go by (field, id) later
        if old[name].shape[1:] == weight.shape[1:] and (name in tables or old[name].shape == weight.shape):
            grown[name] = old[name]
        elif scenarios.now > scenarios.before:
            grown[name] = scenarios.grow(name, old[name], wanted)
        else:
            grown[name] = fields.grow(name, old[name], wanted)
    return grown


def _names_before(model: MultiScenarioModel, before: MultiScenarioModel) -> dict[str, str]:
    """Name of a table of `before` -> its name now, where the first field with an embedding_dim came in since."""
    known, names = _tables(before), {}
    for name, part in model.named_modules():
        if isinstance(part, MixedEmbedding) and name in known:
            names[name] = f"{name}.tables.{part.width}"
    return names


def _of_new_fields(model: MultiScenarioModel, known: Sequence[str]) -> set[str]:
    """Names of weights that fields beside `known` have to themselves: projections, and tables of their widths."""
    found = set()
    for name, part in model.named_modules():
        if isinstance(part, MixedEmbedding):
            found |= {f"{name}.projection_{field}" for field in part.layout.names if field not in known}
            for own, table in part.tables.items():
                if isinstance(table, FieldEmbedding) and not set(table.layout.names) & set(known):
                    found.add(f"{name}.tables.{own}.weight")
    return found


def _mean(sources: Sequence[Tensor], name: str) -> Tensor:
    if not sources:
        raise TrainingError(f"the checkpoint has no weight {name}: it is of another version; {_scratch()}")
    return torch.stack([source.double() for source in sources]).mean(0).to(sources[0].dtype)


def require_same_model(card: ModelCard, before: ModelCard) -> None:
    """Raises TrainingError that names what differs, both values and the remedy."""
    pairs = {
        "model": (before.model, card.model),
        "options": (before.options, card.options),
        "labels": (asdict(before.labels), asdict(card.labels)),
        "vocabulary lineage": (before.lineage, card.lineage),
        "scenarios": (before.scenarios, card.scenarios),
        "fields": (_fields(before), _fields(card)),
    }
    for what, (old, new) in pairs.items():
        if what == "scenarios" and appends(before.scenarios, card.scenarios):
            continue
        if what == "fields" and [known for known in _fields(card) if known in _fields(before)] == _fields(before):
            continue  # others came in, and those that were there kept their order
        if json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True):
            raise TrainingError(
                f"the checkpoint to start from has {what} {old!r}, this run has {new!r}; train the days before again "
                f"with the settings of today, {REMEDY}"
            )
    for name in before.layout.names:
        dims = [one.layout.own_dims.get(name, "not set") for one in (before, card)]
        if dims[0] != dims[1]:
            raise TrainingError(
                f"the checkpoint to start from has fields.{name}.embedding_dim {dims[0]}, this run has {dims[1]}; "
                f"train the days before again with the settings of today, {REMEDY}"
            )
    for f, name in enumerate(before.layout.names):
        now = card.layout.names.index(name)
        # Evicted ids leave no row behind; the largest id of all is then unknown here, and nothing can be compared
        old_rows, new_rows = before.layout.num_rows[f], card.layout.num_rows[now]
        if old_rows > new_rows and before.layout.has_all_ids(f) and card.layout.has_all_ids(now):
            raise TrainingError(
                f"the checkpoint to start from knows {old_rows - 1} ids of field {name!r} (vocabulary "
                f"{before.vocabulary_version}), this run {new_rows - 1} ({card.vocabulary_version}): ids are only ever "
                f"appended; {_scratch()}"
            )


def _fields(card: ModelCard) -> list[list[str | int]]:
    """What a model's inputs mean: names and slots of the fields, and the parts of a behaviour."""
    layout = card.layout
    named: list[list[str | int]] = [[n, s] for n, s in zip(layout.names, layout.num_slots, strict=True)]
    dense: list[list[str | int]] = [["dense", *layout.dense_names]] if layout.dense_names else []
    return [*named, *dense, ["behaviours", *layout.behaviour_names]]


def _tables(model: MultiScenarioModel) -> dict[str, FieldEmbedding]:
    return {name: part for name, part in model.named_modules() if isinstance(part, FieldEmbedding)}


def _carry_rows(table: FieldEmbedding, before: FieldEmbedding, weight: Tensor) -> None:
    """weight: the rows of `before` with the columns of `table`."""
    for old, name in enumerate(before.layout.names):
        new = table.layout.names.index(name)
        start, start_before = table.layout.row_starts[new], before.layout.row_starts[old]
        # Ids that were evicted since then have no row any more, new ones had none before
        _, rows, rows_before = np.intersect1d(table.layout.ids_of(new), before.layout.ids_of(old), return_indices=True)
        table.weight[start + torch.from_numpy(rows)] = weight[start_before + torch.from_numpy(rows_before)]


def _scratch() -> str:
    return REMEDY.removeprefix("or ")
