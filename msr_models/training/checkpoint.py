"""A model in one file: its weights and the JSON that says how to build it."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from lake.files import write_bytes, write_json
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.many_labels import MAIN_LABEL, Labels
from msr_models.models.registry import build_model
from schemas.errors import TrainingError

FORMAT = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """How to build the model again, and which ids it knows. labels: as it was built with."""

    model: str
    options: dict[str, Any]
    layout: FieldLayout
    scenarios: tuple[str, ...]
    seed: int
    dataset: str
    vocabulary_version: str
    labels: Labels = MAIN_LABEL

    def build(self) -> MultiScenarioModel:
        """The model with fresh weights."""
        return build_model(self.model, self.options, self.layout, self.num_scenarios, self.seed, self.labels)

    @property
    def num_scenarios(self) -> int:
        """K."""
        return len(self.scenarios)

    @property
    def lineage(self) -> str:
        """Lineage of the vocabularies whose ids the model knows."""
        return self.vocabulary_version.rpartition("-")[2]


def save_checkpoint(path: Path, model: MultiScenarioModel, card: ModelCard) -> str:
    """Write weights and card atomically, and the card as JSON beside it; returns the file's sha256.

    The same weights give the same bytes.
    """
    metadata = {"format": FORMAT, **asdict(card), "layout": card.layout.to_dict()}
    if card.labels == MAIN_LABEL:  # as it was before there could be others
        del metadata["labels"]
    buffer = io.BytesIO()
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    torch.save({"metadata": json.dumps(metadata, sort_keys=True), "weights": weights}, buffer)
    sha256 = write_bytes(path, buffer.getvalue())
    write_json(path.with_suffix(".json"), metadata | {"sha256": sha256})
    return sha256


def load_checkpoint(path: Path, sha256: str | None = None) -> tuple[MultiScenarioModel, ModelCard]:
    """The model in eval mode and its card.

    Raises TrainingError where the file is missing, truncated, of another format, or not the one of `sha256`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"checkpoint {path} cannot be read ({error}); train the model again") from error
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise TrainingError(
            f"checkpoint {path} has sha256 {found}, expected {sha256}: it is damaged or another run's; train again"
        )
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        metadata = {"labels": asdict(MAIN_LABEL)} | json.loads(content["metadata"])
        weights, written = content["weights"], metadata.pop("format")
    except Exception as error:  # torch and pickle raise many types for a damaged file
        raise TrainingError(
            f"checkpoint {path} is truncated or not a checkpoint ({type(error).__name__}); train again"
        ) from error
    if written != FORMAT or set(metadata) != {f.name for f in fields(ModelCard)}:
        raise TrainingError(f"checkpoint {path} was written in another format than {FORMAT}; train again")
    layout, scenarios = FieldLayout.from_dict(metadata["layout"]), tuple(metadata["scenarios"])
    further, esmm = tuple(metadata["labels"]["further"]), metadata["labels"]["esmm"]
    labels = Labels(further=further, esmm=esmm)
    card = ModelCard(**(metadata | {"layout": layout, "scenarios": scenarios, "labels": labels}))
    model = card.build()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise TrainingError(
            f"checkpoint {path} does not fit model {card.model!r} of this version; train again"
        ) from error
    return model.eval(), card
