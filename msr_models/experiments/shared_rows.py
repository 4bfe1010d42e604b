"""Properties of shared rows: do other scenarios have their features, and where are they in embedding space?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from msr_models.data.window import Window
from msr_models.evaluation.blocks import Floats, Ints
from msr_models.experiments.arms import random_mask
from msr_models.experiments.runner import ExperimentRunner, Mask
from msr_models.modules.embedding import FieldEmbedding
from schemas.errors import TrainingError


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenElsewhere:
    """Fraction of features (ids of a field other than 0) that also occur in another scenario.

    shared: of the rows that a search shares at this ratio; unshared: of the other rows; random: of as many random rows.
    """

    backbone: str
    seed: int
    ratio: float
    field: str
    shared: float | None
    unshared: float | None
    random: float | None


def seen_elsewhere(
    runner: ExperimentRunner, backbones: Sequence[str], seeds: Sequence[int], ratios: Sequence[float]
) -> list[SeenElsewhere]:
    """One record per backbone, seed, ratio and field, and one for all fields together (`all`)."""
    runner.expect(len(backbones) * len(seeds))
    names = runner.split.train.layout.names
    found_NF, counts_NF = features_seen_elsewhere(runner.split.train)
    records = []
    for seed in seeds:
        for name in backbones:
            found = runner.find_shared(name, seed)
            for ratio in ratios:
                shared_N = runner.share(found, ratio)
                random_N = random_mask(len(shared_N), float(shared_N.mean()), seed)
                parts = [_share(found_NF, counts_NF, rows_N) for rows_N in (shared_N, ~shared_N, random_N)]
                for place, field in enumerate([*names, "all"]):
                    shared, unshared, random = (part[place] for part in parts)
                    records.append(
                        SeenElsewhere(
                            backbone=name,
                            seed=seed,
                            ratio=ratio,
                            field=field,
                            shared=shared,
                            unshared=unshared,
                            random=random,
                        )
                    )
    return records


def features_seen_elsewhere(window: Window) -> tuple[Ints, Ints]:
    """Per row and field, [N, F]: (ids that also occur in another scenario, all ids)."""
    layout = window.layout
    ids_NS = layout.rows_of(window.slot_ids_NS.cpu().numpy().astype(np.int64))
    scenario_N = window.scenario_N.cpu().numpy().astype(np.int64)
    starts_S = np.repeat(layout.row_starts, layout.num_slots)
    rows_NS = ids_NS + starts_S
    real_NS = ids_NS > 0
    pairs = (scenario_N[:, None] * layout.total_rows + rows_NS)[real_NS]
    has_KR = np.zeros(window.num_scenarios * layout.total_rows, dtype=np.bool_)
    has_KR[pairs] = True
    scenarios_R = has_KR.reshape(window.num_scenarios, -1).sum(0)
    # The row's own scenario has the id, so that a count of two means another one
    found_NS = real_NS & (scenarios_R[rows_NS] > 1)
    slots = np.asarray(layout.slot_starts)
    return (
        np.add.reduceat(found_NS.astype(np.int64), slots, axis=1),
        np.add.reduceat(real_NS.astype(np.int64), slots, axis=1),
    )


def _share(found_NF: Ints, counts_NF: Ints, rows_N: Mask) -> list[float | None]:
    """Fraction per field and, last, of all fields; None without ids."""
    found_F, counts_F = found_NF[rows_N].sum(0), counts_NF[rows_N].sum(0)
    pairs = [*zip(found_F.tolist(), counts_F.tolist(), strict=True), (int(found_F.sum()), int(counts_F.sum()))]
    return [found / count if count else None for found, count in pairs]


@dataclass(frozen=True, kw_only=True, slots=True)
class Projection:
    """Two principal components of the field vectors of M sampled rows, as the search's selector reads them.

    explained: fraction of the variance in the two components. scenario_share_*: fraction of the total variance that is
    between the scenarios' means, a measure of how well the scenarios can be separated.
    """

    points_M2: Floats
    shared_M: Mask
    scenario_M: Ints
    explained: float
    scenario_share_shared: float
    scenario_share_unshared: float


def project(runner: ExperimentRunner, backbone: str, seed: int, ratio: float, rows: int = 4_000) -> Projection:
    """Principal components of evenly sampled training rows, marked by eq. 16's mask.

    Raises TrainingError if all sampled rows are shared or none is.
    """
    runner.expect(1)
    found = runner.find_shared(backbone, seed)
    shared_N = runner.share(found, ratio)
    sample = np.unique(np.linspace(0, len(shared_N) - 1, rows).astype(np.int64))
    shared_M = shared_N[sample]
    if shared_M.all() or not shared_M.any():
        raise TrainingError(f"ratio {ratio} shares all rows or none; give one between 0 and 1")
    vectors_ME = selector_vectors(runner.split.train, found.array("embedding"), sample)
    centred_ME = vectors_ME - vectors_ME.mean(0)
    _, spread, axes = np.linalg.svd(centred_ME, full_matrices=False)
    scenario_M = runner.split.train.scenario_N.cpu().numpy()[sample].astype(np.int64)
    return Projection(
        points_M2=centred_ME @ axes[:2].T,
        shared_M=shared_M,
        scenario_M=scenario_M,
        explained=float((spread[:2] ** 2).sum() / (spread**2).sum()),
        scenario_share_shared=between_share(vectors_ME[shared_M], scenario_M[shared_M]),
        scenario_share_unshared=between_share(vectors_ME[~shared_M], scenario_M[~shared_M]),
    )


def between_share(vectors_ME: Floats, group_M: Ints) -> float:
    """Variance between the groups' means as a fraction of the total variance; 0 without any variance."""
    centred_ME = vectors_ME - vectors_ME.mean(0)
    total = float((centred_ME**2).sum())
    between = sum(float((group_M == g).sum() * (centred_ME[group_M == g].mean(0) ** 2).sum()) for g in set(group_M))
    return between / total if total else 0.0


def selector_vectors(window: Window, table_RD: NDArray[np.float32], rows: Ints) -> Floats:
    """Field vectors of these rows, [M, F * D], from a search's embedding table."""
    embedding = FieldEmbedding(window.layout.without_dense(), table_RD.shape[1], torch.Generator().manual_seed(0))
    with torch.no_grad():
        embedding.weight.copy_(torch.from_numpy(table_RD))
        batch = window.batch(torch.from_numpy(rows).to(window.label_N.device)).to("cpu")
        vectors: Floats = embedding.fields(batch).flatten(1).double().numpy()
    return vectors
