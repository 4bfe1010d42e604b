"""docs/models.md has every registered model, and what it says of one is so."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml

from msr_models.models.registry import build_model, known_models, model_class, parse_options
from schemas.errors import TrainingError
from tests.support.batches import LAYOUT
from tests.support.source_tree import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
TABLE = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = {row[0].strip("`"): dict(zip(TABLE[0], row, strict=True)) for row in TABLE[1:]}
GUIDE = (ROOT / "docs" / "add_a_model.md").read_text(encoding="utf-8")


def test_every_model_has_one_row() -> None:
    assert sorted(row[0].strip("`") for row in TABLE[1:]) == known_models()


@pytest.mark.parametrize("name", known_models())
def test_a_row_says_whether_a_model_asks_for_behaviours_and_can_be_a_source(name: str) -> None:
    try:
        build_model(name, {}, dataclasses.replace(LAYOUT, hist_length=0), 2, 1)
        behaviours = "reads"
    except TrainingError:
        behaviours = "asks"
    assert ROWS[name]["behaviours"] == behaviours
    assert ROWS[name]["source"] == ("yes" if model_class(name).has_towers else "no")


@pytest.mark.parametrize("name", known_models())
def test_a_row_gives_the_default_widths_and_options_that_exist(name: str) -> None:
    config, ours = parse_options(name, {}), ROWS[name]["widths: ours"]
    hidden = getattr(config, "hidden", None)
    if hidden:
        assert re.split(", | ", ours)[0] == "-".join(map(str, hidden))
    if hasattr(config, "transfer_hidden"):
        assert f"transfer {'-'.join(map(str, config.transfer_hidden))}" in ours
    for option in re.findall(r"`(\w+: [^`]+)`", ROWS[name]["options that are the paper's forms and ablations"]):
        parse_options(name, yaml.safe_load(option))


def test_the_guide_names_what_exists() -> None:
    """Files, and lists in tests that a new model may have to stand in."""
    for path in re.findall(r"`((?:msr_models|tests|jobs|docs|benchmarks)/[\w/]+\.\w+)`", GUIDE):
        assert (ROOT / path).is_file(), path
    lists = re.findall(r"`([A-Z_]{6,})` in\s+`([\w/.]+)`", GUIDE)
    assert {name for name, _ in lists} >= {"NUM_PARAMETERS", "OWN_ATTENTION", "NEED_BEHAVIOURS", "FED_TO_ALL"}
    for name, path in lists:
        assert re.search(rf"^{name}\b", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE), name
    for module in re.findall(r"python -m ([\w.]+)", GUIDE):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
