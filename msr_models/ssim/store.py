"""A search's result as one file: selector with its embeddings, threshold, and the window's sorted scores."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lake.files import write_bytes, write_json
from msr_models.data.layout import FieldLayout
from msr_models.data.window import Window
from msr_models.ssim.ranks import rank_pct
from msr_models.ssim.scoring import score_rows
from msr_models.ssim.search import SearchResult
from msr_models.ssim.selector import Selector
from schemas.commands import command
from schemas.errors import SharedSetError
from schemas.pipeline_spec import SearchSpec
from schemas.provenance import appends

FORMAT = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Scorer:
    """All that scoring needs: the selector, its threshold and the window's scores that ranks are taken among.

    sorted_scores [N] and sorted_scores_by_scenario (K arrays) are float32, ascending.
    """

    shared_set_id: str
    dataset: str
    vocabulary_version: str
    scenarios: tuple[str, ...]
    threshold: float
    selector: Selector
    sorted_scores: NDArray[np.float32]
    sorted_scores_by_scenario: tuple[NDArray[np.float32], ...]

    @property
    def lineage(self) -> str:
        """Lineage of the vocabularies that the selector knows."""
        return self.vocabulary_version.rpartition("-")[2]

    @property
    def num_scenarios(self) -> int:
        """K of the search."""
        return len(self.scenarios)

    def fit(self, window: Window) -> tuple[Scorer, Window]:
        """This scorer for the window's scenarios, and the window with the selector's fields.

        A scenario that was appended since the search gets the mean of the heads, and its rows rank among all rows of
        the set's window. Raises SharedSetError that names both sides where the window is of another data set or
        lineage, where scenarios or fields did not only grow, or where behaviours have other parts.
        """
        here = (window.dataset_name, window.vocabulary_version.rpartition("-")[2])
        layout = self.selector.embedding.layout
        fields, behaviours = layout.names, layout.behaviour_names
        if (
            here != (self.dataset, self.lineage)
            or not appends(self.scenarios, window.scenario_names)
            or not set(fields) <= set(window.layout.names)
            or behaviours != window.layout.behaviour_names
        ):
            search = command("search_shared_instances", here[0], "--ds DAY")
            raise SharedSetError(
                f"shared set {self.shared_set_id} was searched in data set {self.dataset!r} (vocabulary lineage "
                f"{self.lineage}, scenarios {', '.join(self.scenarios)}, fields {', '.join(fields)}, behaviours of "
                f"{', '.join(behaviours)}) and cannot score "
                f"{here[0]!r} (lineage {here[1]}, scenarios {', '.join(window.scenario_names)}, fields "
                f"{', '.join(window.layout.names)}, behaviours of {', '.join(window.layout.behaviour_names)}); "
                f"search a new set: {search}"
            )
        added = window.num_scenarios - self.num_scenarios
        if not added:
            return self, window.with_fields(fields)
        grown = replace(
            self,
            scenarios=window.scenario_names,
            selector=self.selector.with_more_heads(added),
            sorted_scores_by_scenario=(*self.sorted_scores_by_scenario, *[self.sorted_scores] * added),
        )
        return grown, window.with_fields(fields)

    def masks(self, window: Window, probs_N: NDArray[np.float32] | None = None) -> pa.Table:
        """Rows of `shared_instance_masks` in the window's order. `probs_N`: scores that are known already."""
        scorer, window = self.fit(window)
        scores_N = score_rows(scorer.selector, window) if probs_N is None else probs_N
        scenario_N = window.scenario_N.cpu().numpy()
        in_scenario_N = np.empty(len(scores_N), dtype=np.float64)
        for scenario, reference in enumerate(scorer.sorted_scores_by_scenario):
            at = scenario_N == scenario
            in_scenario_N[at] = rank_pct(scores_N[at], reference)
        days = pa.array([str(d) for d in window.days], pa.string())
        return pa.table(
            {
                "shared_set_id": pa.repeat(pa.scalar(self.shared_set_id, pa.string()), len(scores_N)),
                "ds": days.take(pa.array(window.day_N.cpu().numpy())),
                "instance_id": window.instance_id_N.cpu().numpy(),
                "scenario_id": scenario_N.astype(np.int32),
                "shared_score": scores_N,
                "rank_pct": rank_pct(scores_N, self.sorted_scores),
                "rank_pct_scenario": in_scenario_N,
                "is_shared": scores_N > np.float32(self.threshold),
            }
        )


def make_scorer(shared_set_id: str, window: Window, result: SearchResult) -> Scorer:
    """The scorer of a finished search."""
    scenario_N = window.scenario_N.cpu().numpy()
    return Scorer(
        shared_set_id=shared_set_id,
        dataset=window.dataset_name,
        vocabulary_version=window.vocabulary_version,
        scenarios=window.scenario_names,
        threshold=result.threshold,
        selector=result.selector,
        sorted_scores=np.sort(result.probs_N),
        sorted_scores_by_scenario=tuple(np.sort(result.probs_N[scenario_N == k]) for k in range(window.num_scenarios)),
    )


def save_scorer(path: Path, scorer: Scorer, spec: SearchSpec, record: Mapping[str, Any]) -> str:
    """Write the scorer atomically, with a JSON of its metadata and `record` beside it; returns the file's sha256.

    The same search gives the same bytes.
    """
    metadata = {
        "format": FORMAT,
        "shared_set_id": scorer.shared_set_id,
        "dataset": scorer.dataset,
        "vocabulary_version": scorer.vocabulary_version,
        "scenarios": list(scorer.scenarios),
        "threshold": scorer.threshold,
        "layout": scorer.selector.embedding.layout.to_dict(),
        "embedding_dim": scorer.selector.embedding.width,
        "selector_hidden": list(spec.selector_hidden),
        "trunk": scorer.selector.trunk,
        "scenario_heads": scorer.selector.scenario_heads,
    }
    content = {
        "metadata": json.dumps(metadata, sort_keys=True),
        "selector": {name: tensor.detach().cpu() for name, tensor in scorer.selector.state_dict().items()},
        "scores": torch.from_numpy(scorer.sorted_scores),
        "scores_by_scenario": [torch.from_numpy(s) for s in scorer.sorted_scores_by_scenario],
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    sha256 = write_bytes(path, buffer.getvalue())
    write_json(path.with_suffix(".json"), {**metadata, **record, "sha256": sha256})
    return sha256


def file_fault(path: Path, sha256: str) -> str:
    """Why the file is not the selector of this checksum; empty where it is."""
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"selector {path} cannot be read ({error})"
    return "" if found == sha256 else f"selector {path} has sha256 {found}, its set says {sha256}: it was changed"


def load_scorer(path: Path, sha256: str, *, remedy: str = "restore the file from a copy") -> Scorer:
    """Read a scorer back, its selector in eval mode. remedy: what the error suggests.

    Raises SharedSetError where the file is missing, is not the one of `sha256`, or is of another format.
    """
    if fault := file_fault(path, sha256):
        raise SharedSetError(f"{fault}; {remedy}")
    content = torch.load(path, map_location="cpu", weights_only=True)
    meta = json.loads(content["metadata"])
    if meta["format"] != FORMAT:
        search = command("search_shared_instances", str(meta["dataset"]), "--ds DAY", "--seed N")
        raise SharedSetError(
            f"selector {path} has format {meta['format']}, this version reads {FORMAT}; search with another seed and "
            f"pin that set: {search}"
        )
    selector = Selector(
        FieldLayout.from_dict(meta["layout"]),
        meta["embedding_dim"],
        len(meta["scenarios"]),
        meta["selector_hidden"],
        meta["trunk"],
        torch.Generator(),
        scenario_heads=meta["scenario_heads"],
    )
    selector.load_state_dict(content["selector"])
    return Scorer(
        shared_set_id=meta["shared_set_id"],
        dataset=meta["dataset"],
        vocabulary_version=meta["vocabulary_version"],
        scenarios=tuple(meta["scenarios"]),
        threshold=meta["threshold"],
        selector=selector.eval(),
        sorted_scores=content["scores"].numpy(),
        sorted_scores_by_scenario=tuple(s.numpy() for s in content["scores_by_scenario"]),
    )
