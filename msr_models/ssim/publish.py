"""Publish a finished search: selector file, masks day by day, then the row of `shared_instance_sets`."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from lake.locations import artifact_uri, artifacts_dir
from lake.lock import exclusive
from lake.rows import write_rows
from msr_models.data.window import Window
from msr_models.sets.catalogue import read_catalogue
from msr_models.sets.curves import curves_file
from msr_models.sets.describe import tie_lines
from msr_models.sets.feature_files import feature_files
from msr_models.ssim.search import SearchResult
from msr_models.ssim.set_scoring import publish_masks
from msr_models.ssim.store import make_scorer, save_scorer
from msr_models.training.manifest import code_version
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.pipeline_spec import SearchSpec
from schemas.tables.shared_instance_sets import SharedSet
from schemas.text import short_digest

log = logging.getLogger(__name__)

# Settings that decide when a search is due and on which days, not what it does with them
_NOT_IN_ID = {"every_days", "window_days"}

ShareRates = dict[str, dict[str, float | None]]


def shared_set_id(window: Window, spec: SearchSpec) -> str:
    """<backbone>-<window end>-<8 hex digits of rows and configuration>."""
    config = spec.model_dump_json(exclude=_NOT_IN_ID)
    if dims := window.layout.own_dims:
        config += json.dumps(dims, sort_keys=True)
    digest = short_digest(f"{window.dataset_name}|{config}|{window.fingerprint}", 8)
    return f"{spec.backbone}-{window.days[-1]:%Y%m%d}-{digest}"


def is_published(dataset: DatasetSpec, set_id: str) -> bool:
    """Whether the catalogue has the set."""
    return any(s.shared_set_id == set_id for s in read_catalogue(dataset).sets)


def share_rates(window: Window, result: SearchResult) -> ShareRates:
    """Scenario name -> {all, label_0, label_1} -> share of its rows with is_shared; None without such rows."""
    scenario_N, label_N = window.scenario_N.numpy(), window.label_N.numpy()

    def rate(at_N: Any) -> float | None:
        return float(result.shared_N[at_N].mean()) if at_N.any() else None

    return {
        name: {
            "all": rate(scenario_N == k),
            "label_0": rate((scenario_N == k) & (label_N == 0)),
            "label_1": rate((scenario_N == k) & (label_N == 1)),
        }
        for k, name in enumerate(window.scenario_names)
    }


def selector_record(window: Window, result: SearchResult) -> dict[str, Any]:
    """What the JSON beside the selector records: learning curves, share rates, status and its reason."""
    return {
        "curves": result.curves,
        "share_rates": share_rates(window, result),
        "status": result.status,
        "status_reason": result.reason,
    }


def publish_set(dataset: DatasetSpec, window: Window, spec: SearchSpec, set_id: str, result: SearchResult) -> None:
    """Publish the set, unless another process did so meanwhile: then this result is dropped.

    The file comes first, then the masks, then the catalogue row, so that a listed set is complete. Raises
    SharedSetError where scores are not finite.
    """
    folder = artifacts_dir(dataset) / "selectors" / set_id
    with exclusive(folder / ".lock"):
        # On a GPU two searches of one id differ in last digits: masks of one and selector of the other are no set
        if is_published(dataset, set_id):
            log.info(f"shared set {set_id} was published by another process meanwhile; this one's result is dropped")
            return
        if not np.isfinite(result.probs_N).all():
            raise SharedSetError(f"shared set {set_id}: scores are not finite; lower search.selector_learning_rate")
        path = folder / "selector.pt"
        scorer = make_scorer(set_id, window, result)
        record = selector_record(window, result)
        sha256 = save_scorer(path, scorer, spec, record)
        masks = scorer.masks(window, result.probs_N)
        # Of the versions that were read: features that were rebuilt during the search make these masks stale
        files = feature_files(dataset, window.days, window.table_versions)
        for index, day in enumerate(window.days):
            rows = masks.filter(pa.array(window.day_N.numpy() == index))
            if rows.num_rows:
                log.info(f"{day}: {publish_masks(dataset, set_id, day, rows, files[day]):,} masks")
        rates = record["share_rates"]
        row = _catalogue_row(window, spec, set_id, result, rates, artifact_uri(dataset, path), sha256)
        write_rows(dataset, [row])
    _report(dataset, window, result, row, rates, curves=str(curves_file(path)))


def _catalogue_row(
    window: Window,
    spec: SearchSpec,
    set_id: str,
    result: SearchResult,
    rates: ShareRates,
    selector_uri: str,
    selector_sha256: str,
) -> SharedSet:
    return SharedSet(
        shared_set_id=set_id,
        dataset=window.dataset_name,
        window_start=str(window.days[0]),
        window_end=str(window.days[-1]),
        source_backbone=spec.backbone,
        objective=spec.objective,
        kl_weight=result.kl_weight,
        threshold=result.threshold,
        gate_estimator=spec.gate_estimator,
        kl_form=spec.kl_form,
        seed=spec.seed,
        scenarios=json.dumps(window.scenario_names),
        config=spec.model_dump_json(),
        table_versions=json.dumps(dict(window.table_versions), sort_keys=True),
        window_fingerprint=window.fingerprint,
        vocabulary_version=window.vocabulary_version,
        selector_uri=selector_uri,
        selector_sha256=selector_sha256,
        share_rate=float(result.shared_N.mean()),
        share_rates=json.dumps(rates, sort_keys=True),
        validation_metrics=json.dumps(result.metrics, sort_keys=True),
        code_version=code_version(),
        created_at=datetime.now(UTC),
        status=result.status,
        status_reason=result.reason,
    )


def _report(
    dataset: DatasetSpec, window: Window, result: SearchResult, row: SharedSet, rates: ShareRates, *, curves: str
) -> None:
    for name, rate in rates.items():
        parts = ", ".join(f"{key} {'no rows' if value is None else f'{value:.1%}'}" for key, value in rate.items())
        log.info(f"share rate {name}: {parts}")
    shared = f"shares {row.share_rate:.1%} of {len(window):,} rows"
    if result.status == "accepted":
        log.info(f"shared set {row.shared_set_id}: accepted{result.reason and f' ({result.reason})'}; {shared}")
    else:
        log.warning(f"shared set {row.shared_set_id}: REJECTED: {result.reason} (curves: {curves}); {shared}")
    for line in tie_lines(read_catalogue(dataset), window.days[-1]):
        log.info(line)
