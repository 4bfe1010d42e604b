"""Which vectors are common and which a scenario's."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from msr_models.modules.feature_partition import FeaturePartition
from schemas.errors import TrainingError
from tests.support.batches import LAYOUT

X_BFD = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(1))  # four fields and the behaviours


@pytest.mark.parametrize(
    ("names", "order"), [(("item",), [0, 2, 3, 4, 1]), (("price", "user"), [1, 2, 4, 0, 3]), ((), [0, 1, 2, 3, 4])]
)
def test_common_vectors_come_first_and_behaviours_are_common(names: tuple[str, ...], order: list[int]) -> None:
    partition = FeaturePartition(LAYOUT, 5, names)
    assert torch.equal(partition(X_BFD), X_BFD[:, order])
    assert (partition.num_common, partition.num_specific) == (5 - len(names), len(names))


def test_unless_named_the_statistics_in_a_scenario_are_specific() -> None:
    """By their role: a field of the log may have such a name too."""
    layout = dataclasses.replace(LAYOUT, names=("user", "user_ctr", "my_scenario_tags", "item_scenario_impressions"))
    layout = dataclasses.replace(layout, roles=("user", "statistic", "feature", "statistic"))
    assert torch.equal(FeaturePartition(layout, 4, None)(X_BFD[:, :4]), X_BFD[:, [0, 2, 1, 3]])


@pytest.mark.parametrize(
    ("names", "vectors", "pattern"),
    [(("prize",), 5, "'prize'.*user, item, tags, price"), (LAYOUT.names, 4, "leaves none that scenarios share")],
)
def test_a_name_that_is_no_field_and_a_partition_of_nothing_are_refused(
    names: tuple[str, ...], vectors: int, pattern: str
) -> None:
    with pytest.raises(TrainingError, match=pattern):
        FeaturePartition(LAYOUT, vectors, names)
