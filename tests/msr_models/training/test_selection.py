"""Which of a day's runs is selected: by the criterion that they were trained with, ties by the smaller ratio."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msr_models.training.manifest import RunManifest
from msr_models.training.selection import select
from tests.msr_models.training.test_manifest import MANIFEST


def runs(criterion: str, *metrics: tuple[float | None, float, float]) -> list[RunManifest]:
    """Runs of rising ratio with (AUC, logloss, logloss after calibration)."""
    names = ("validation_auc", "validation_logloss", "validation_calibrated_logloss")
    return [
        replace(MANIFEST, ratio=n / 10, trainer={"select_on": criterion}, metrics=dict(zip(names, found, strict=True)))
        for n, found in enumerate(metrics)
    ]


@pytest.mark.parametrize(("criterion", "expected"), [("auc", 0.2), ("logloss", 0.1)])
def test_the_criterion_decides(criterion: str, expected: float) -> None:
    """The logloss before calibration would take the first."""
    assert select(runs(criterion, (0.6, 0.3, 0.5), (0.7, 0.5, 0.3), (0.8, 0.4, 0.4))).ratio == expected


@pytest.mark.parametrize("criterion", ["auc", "logloss"])
def test_ties_go_to_the_smaller_ratio(criterion: str) -> None:
    found = runs(criterion, (0.6, 0.5, 0.5), (0.7, 0.5, 0.4), (0.7, 0.5, 0.4))
    assert select(found).ratio == select(found[::-1]).ratio == 0.1


def test_without_an_auc_the_logloss_decides() -> None:
    assert select(runs("auc", (0.9, 0.5, 0.5), (None, 0.5, 0.4))).ratio == 0.1
