"""The artifact: comes back as it was, is refused when changed, tells what it does not fit; masks follow the spec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from msr_models.data.window import Window
from msr_models.ssim.publish import shared_set_id
from msr_models.ssim.ranks import rank_pct
from msr_models.ssim.search import SearchResult, run_search
from msr_models.ssim.store import Scorer, load_scorer, make_scorer, save_scorer
from schemas.errors import SharedSetError
from schemas.pipeline_spec import SearchSpec
from schemas.tables import get_table
from tests.support.planted_log import planted_log

WITH_USER = replace(planted_log(rows=100, users=100, items=40).window.layout, attribute_fields=(0,))

SPEC = SearchSpec(
    warmup_epochs=1, epochs=1, batch_size=256, embedding_dim=8, hidden=(16, 8), selector_hidden=(8,), learning_rate=3e-3
)


@pytest.fixture(scope="module")
def window() -> Window:
    return planted_log(rows=3_000, users=100, items=40).window


@pytest.fixture(scope="module")
def result(window: Window) -> SearchResult:
    return run_search(window, SPEC)


@pytest.fixture
def saved(tmp_path: Path, window: Window, result: SearchResult) -> tuple[Path, str, Scorer]:
    scorer = make_scorer("set-1", window, result)
    path = tmp_path / "selector.pt"
    return path, save_scorer(path, scorer, SPEC, {"curves": result.curves}), scorer


@pytest.mark.parametrize("objective", ["reference", "joint"])
def test_a_selector_of_narrow_rows_comes_back(objective: str, window: Window, tmp_path: Path) -> None:
    """A field's embedding_dim reaches the selector, its file, and the set's id."""
    narrow = replace(window, layout=replace(window.layout, embedding_dims=(3, None)))
    spec = SPEC.model_copy(update={"objective": objective})
    found = run_search(narrow, spec)
    assert found.selector.state_dict()["embedding.tables.3.weight"].shape == (window.layout.num_rows[0], 3)
    assert not np.array_equal(found.probs_N, run_search(window, spec).probs_N)
    scorer = make_scorer("set-1", narrow, found)
    sha256 = save_scorer(tmp_path / "selector.pt", scorer, spec, {})
    loaded = load_scorer(tmp_path / "selector.pt", sha256)
    assert loaded.masks(narrow).equals(scorer.masks(narrow)) and loaded.masks(window).equals(scorer.masks(window))
    assert shared_set_id(narrow, spec) != shared_set_id(window, spec)


@pytest.mark.parametrize("objective", ["reference", "joint"])
def test_a_selector_reads_dense_values(objective: str, window: Window, tmp_path: Path) -> None:
    dense_NZ = torch.randn(len(window), 1, generator=torch.Generator().manual_seed(0))
    dense = replace(window, layout=replace(window.layout, dense_names=("item",)), dense_NZ=dense_NZ)
    spec = SPEC.model_copy(update={"objective": objective})
    found = run_search(dense, spec)
    scorer = make_scorer("set-1", dense, found)
    loaded = load_scorer(tmp_path / "selector.pt", save_scorer(tmp_path / "selector.pt", scorer, spec, {}))
    assert loaded.masks(dense).equals(scorer.masks(dense))
    other = replace(dense, dense_NZ=dense_NZ + 1)
    assert not loaded.masks(other).equals(scorer.masks(dense)), "a score depends on the value"
    if objective == "reference":  # x w has the spread of w where x has unit spread
        table = found.selector.embedding.dense_ZD
        assert table is not None and found.selector.input_scale_F.shape == (window.layout.num_fields + 2,)


def test_a_loaded_selector_scores_with_the_same_bits(window: Window, saved: tuple[Path, str, Scorer]) -> None:
    path, sha256, scorer = saved
    loaded = load_scorer(path, sha256)
    assert loaded.masks(window).equals(scorer.masks(window))
    assert (loaded.threshold, loaded.dataset, loaded.lineage) == (scorer.threshold, "planted", "planted")
    assert not loaded.selector.training
    assert path.with_suffix(".json").is_file()


def test_the_same_search_gives_the_same_bytes(tmp_path: Path, window: Window, saved: tuple[Path, str, Scorer]) -> None:
    again = make_scorer("set-1", window, run_search(window, SPEC))
    assert save_scorer(tmp_path / "again.pt", again, SPEC, {}) == saved[1]


def test_masks_fit_the_table_and_ranks_are_those_of_the_window(
    window: Window, result: SearchResult, saved: tuple[Path, str, Scorer]
) -> None:
    masks = saved[2].masks(window, result.probs_N)
    spec = get_table("shared_instance_masks")
    assert masks.cast(pa.schema([field for field in spec.arrow_schema() if field.name != "features_files"]))
    scores = masks["shared_score"].to_numpy()
    assert np.array_equal(scores, result.probs_N)
    np.testing.assert_array_equal(masks["rank_pct"].to_numpy(), rank_pct(scores, np.sort(scores)))
    for k in range(3):
        at = window.scenario_N.numpy() == k
        expected = rank_pct(scores[at], np.sort(scores[at]))
        np.testing.assert_array_equal(masks["rank_pct_scenario"].to_numpy()[at], expected)
    assert np.array_equal(masks["is_shared"].to_numpy(), result.shared_N)
    assert set(masks["ds"].to_pylist()) == {str(d) for d in window.days}


def test_a_changed_file_is_refused(saved: tuple[Path, str, Scorer]) -> None:
    path, sha256, _ = saved
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(SharedSetError, match=rf"sha256.*its set says {sha256}.*changed"):
        load_scorer(path, sha256)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SharedSetError, match=r"gone\.pt cannot be read"):
        load_scorer(tmp_path / "gone.pt", "0" * 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_name": "other"}, r"'planted'.*cannot score 'other'"),
        ({"vocabulary_version": "20260101-another"}, r"lineage planted.*lineage another"),
        ({"scenario_names": ("a", "b")}, r"scenarios .*, .*, .*cannot score .*scenarios a, b"),
        (
            {"layout": WITH_USER},
            r"behaviours of item\).* cannot score .*, behaviours of item, user\); search a new set",
        ),
    ],
)
def test_what_does_not_fit_is_refused_naming_both_sides(
    window: Window, saved: tuple[Path, str, Scorer], change: dict[str, Any], message: str
) -> None:
    strange = replace(window, **change)
    with pytest.raises(SharedSetError, match=message):
        saved[2].masks(strange)
