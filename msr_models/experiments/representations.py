"""Where rows lie in a network: OptMSM's representations of its scenarios, and the vectors that an SSIM selector reads.

Numbers are computed in the vectors themselves; t-SNE (van der Maaten and Hinton 2008) is for pictures only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from msr_models.evaluation.blocks import Floats, Ints
from msr_models.experiments.code_digest import code_digest
from msr_models.experiments.runner import ExperimentRunner, Mask
from msr_models.experiments.scikit import scikit, torch_threads
from msr_models.experiments.shared_rows import selector_vectors
from msr_models.experiments.split import Split, all_rows
from msr_models.experiments.trials import Arrays, Trial, TrialKey
from msr_models.experiments.variants import file_name, options_of, registered_name
from msr_models.models.base import MultiScenarioModel
from msr_models.models.optmsm import OptMSM
from msr_models.models.registry import build_model, model_class
from msr_models.modules.contrasts import pairwise_cosines
from msr_models.modules.routing import Routing
from msr_models.training.trainer import train
from schemas.errors import TrainingError

LEAST_ROWS = 10  # of a kind of rows, for a silhouette


@dataclass(frozen=True, kw_only=True, slots=True)
class Cloud:
    """M rows as points, with their scenarios and what describes them in numbers.

    silhouette: by scenario, from -1 to 1 (0: the scenarios lie among one another), by the cosine distance of the
    vectors; None where a silhouette is not defined.
    """

    name: str
    points_M2: Floats
    scenario_M: Ints
    silhouette: float | None


def representations(runner: ExperimentRunner, model: str, seed: int, rows: int) -> Trial:
    """The trial of one OptMSM: `own` [M, H], r^m of M validation rows in their own scenario (eq. 5-8), with `scenario`
    [M]; its record has `cosine`, the mean cos(r^i, r^j) over these rows and all pairs of scenarios (eq. 9).

    Raises TrainingError for a model that is no OptMSM.
    """
    registered = registered_name(model)
    if not issubclass(model_class(registered), OptMSM):
        raise TrainingError(f"model {model!r} has no representations of scenarios; give optmsm or a variant of it")
    options, trainer = options_of(runner.options, model), runner.trainer_of(model).model_copy(update={"seed": seed})
    settings = {
        **runner.conditions("representations"),
        "model": registered,
        "options": dict(options),
        "trainer": trainer.model_dump(),
        "rows": rows,
    }
    label = f"{file_name(model)}-representations-s{seed}"
    key = TrialKey(label=label, settings=settings, code=code_digest([model_class(registered).__module__, __name__]))

    def make() -> tuple[dict[str, Any], Arrays]:
        split = runner.split
        network = build_model(registered, options, split.train.layout, split.num_scenarios, seed).to(runner.device)
        result = train(network, all_rows(split.train), all_rows(split.validation), trainer)
        own_MH, scenario_M, cosine = _represented(network, split, rows)
        facts: Mapping[str, Any] = {
            "kind": "representations",
            "model": model,
            "seed": seed,
            "seconds": result.train_seconds,
            "epochs": [result.epochs],
            "validation_auc": result.validation_auc,
            "cosine": cosine,
        }
        return dict(facts), {"own": own_MH, "scenario": scenario_M}

    return runner.stored(key, make)


def _represented(network: MultiScenarioModel, split: Split, rows: int) -> tuple[Floats, Ints, float]:
    """(r of each row's own scenario, the scenarios, mean cosine of eq. 9 over pairs and rows)."""
    assert isinstance(network, OptMSM)
    window = split.validation
    sample = torch.from_numpy(evenly(len(window), rows)).to(window.label_N.device)
    network.eval()
    with torch.no_grad():
        batch = window.batch(sample).to(next(network.parameters()).device)
        everywhere = Routing.everywhere(len(sample), split.num_scenarios, batch.scenario_B.device)
        r_KMH = network.representations(network.embed(batch), everywhere).view(split.num_scenarios, len(sample), -1)
        pairs = split.num_scenarios * (split.num_scenarios - 1) / 2
        cosine = float(pairwise_cosines(r_KMH).mean()) / pairs
        own_MH = r_KMH[batch.scenario_B, torch.arange(len(sample), device=batch.scenario_B.device)]
    return own_MH.double().cpu().numpy(), batch.scenario_B.cpu().numpy(), cosine


def shared_and_other(runner: ExperimentRunner, backbone: str, seed: int, ratio: float, rows: int) -> list[Cloud]:
    """Shared and other rows (eq. 16) among evenly sampled training rows, by the vectors that the selector reads.

    Both are placed by one t-SNE, so that their points can be compared. Raises TrainingError for a ratio that shares
    all sampled rows or none.
    """
    found = runner.find_shared(backbone, seed)
    sample = evenly(len(runner.split.train), rows)
    shared_M: Mask = runner.share(found, ratio)[sample]
    if shared_M.all() or not shared_M.any():
        raise TrainingError(f"ratio {ratio} shares all rows or none; give one between 0 and 1")
    vectors_ME = selector_vectors(runner.split.train, found.array("embedding"), sample)
    scenario_M = runner.split.train.scenario_N.cpu().numpy()[sample].astype(np.int64)
    points_M2 = tsne(vectors_ME, seed)
    kinds = {"shared rows": shared_M, "other rows": ~shared_M}
    return [
        Cloud(
            name=name,
            points_M2=points_M2[is_kind_M],
            scenario_M=scenario_M[is_kind_M],
            silhouette=silhouette(vectors_ME[is_kind_M], scenario_M[is_kind_M]),
        )
        for name, is_kind_M in kinds.items()
    ]


def cloud_of(name: str, trial: Trial) -> Cloud:
    """Rows of an OptMSM by their representations."""
    own_MH, scenario_M = trial.array("own"), trial.array("scenario")
    points_M2 = tsne(own_MH, int(trial.record["seed"]))
    return Cloud(name=name, points_M2=points_M2, scenario_M=scenario_M, silhouette=silhouette(own_MH, scenario_M))


def tsne(vectors_ME: Floats, seed: int) -> Floats:
    """Two dimensions by t-SNE with a perplexity of 30 (less for few rows), the same for the same vectors and seed."""
    perplexity = min(30.0, (len(vectors_ME) - 1) / 3)
    manifold = scikit("manifold").TSNE(perplexity=perplexity, init="pca", random_state=seed)
    with torch_threads():
        points_M2: Floats = manifold.fit_transform(vectors_ME.astype(np.float32))
    return points_M2.astype(np.float64)


def silhouette(vectors_ME: Floats, group_M: Ints) -> float | None:
    """Mean silhouette by cosine distance over the groups of at least LEAST_ROWS rows; rows of zeros are left out."""
    is_some_M = np.abs(vectors_ME).sum(1) > 0
    groups, counts = np.unique(group_M[is_some_M], return_counts=True)
    kept_M = is_some_M & np.isin(group_M, groups[counts >= LEAST_ROWS])
    if len(np.unique(group_M[kept_M])) < 2:
        return None
    return float(scikit("metrics").silhouette_score(vectors_ME[kept_M], group_M[kept_M], metric="cosine"))


def evenly(count: int, wanted: int) -> Ints:
    """At most `wanted` evenly spaced positions of 0 .. count - 1."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).astype(np.int64))
