"""Variants: their options and their names."""

from __future__ import annotations

import pytest

from msr_models.experiments.variants import check_name, file_name, merged_options, options_of, registered_name
from schemas.errors import TrainingError


def test_a_variant_is_its_models_own_entry_with_its_options_on_top() -> None:
    raw: dict[str, dict[str, object]] = {
        "star/wide": {"hidden": [64]},
        "star": {"embedding_dim": 8, "hidden": [4]},
        "optmsm/no_priors": {"priors": False},
    }
    merged = merged_options(raw)
    assert merged["star"] == {"embedding_dim": 8, "hidden": [4]}
    assert merged["star/wide"] == {"embedding_dim": 8, "hidden": [64]}
    assert merged["optmsm/no_priors"] == {"priors": False}
    assert raw["star/wide"] == {"hidden": [64]}, "what was given is left alone"
    assert options_of(merged, "optmsm") == {}, "a model without an entry takes its defaults, its variant's never"


def test_names() -> None:
    assert [registered_name(n) for n in ("star", "star/wide")] == ["star", "star"]
    assert [file_name(n) for n in ("star", "star/wide")] == ["star", "star+wide"]
    check_name("star/depth_1.5-x")


@pytest.mark.parametrize("name", ["star/", "star/a/b", "star/a b", "star/*"])
def test_a_variant_that_no_file_could_be_named_after_is_refused(name: str) -> None:
    with pytest.raises(TrainingError, match=r"is not a valid name; give MODEL/VARIANT"):
        check_name(name)


def test_mistakes_name_variant_model_and_what_is_allowed() -> None:
    with pytest.raises(TrainingError, match=r"model 'optmms' is not known; did you mean 'optmsm'\?"):
        merged_options({"optmms/no_priors": {}})
    with pytest.raises(TrainingError, match=r"variant 'optmsm/x': model 'optmsm': no option 'prior'; did you mean"):
        merged_options({"optmsm/x": {"prior": False}})
    with pytest.raises(TrainingError, match=r"variant 'star/tall' has no options; variants with options: star/wide$"):
        options_of({"star": {}, "star/wide": {}}, "star/tall")
