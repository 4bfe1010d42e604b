"""What the transfers share: a visit meets its scenario's network, and no number is negative."""

from __future__ import annotations

import pytest
import torch

from msr_models.modules.progressive import ScenarioExperts
from msr_models.modules.routing import Routing
from msr_models.modules.transfer import CustomisedTransfer, MixtureTransfer, StarTransfer, Transfer


def transfers() -> list[Transfer]:
    generator = torch.Generator().manual_seed(1)
    return [
        StarTransfer(3, 6, (5, 4), 0.0, generator),
        MixtureTransfer(3, 6, 2, (5, 4), 0.0, generator),
        CustomisedTransfer(3, 6, 2, 1, (5, 4), 0.0, generator),
    ]


@pytest.mark.parametrize("transfer", transfers(), ids=lambda t: type(t).__name__)
def test_a_representation_is_that_of_its_visits_scenario_and_never_negative(transfer: Transfer) -> None:
    x_BE = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for parameter in transfer.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        everywhere = Routing.everywhere(4, 3, x_BE.device)
        every_KBH = transfer(x_BE.repeat(3, 1), everywhere).view(3, 4, 4)
        own = Routing.own(torch.tensor([2, 0, 2, 1]), 3)
        own_BH = own.to_rows(transfer(x_BE.index_select(0, own.row_index_V), own))
    torch.testing.assert_close(own_BH, every_KBH[[2, 0, 2, 1], range(4)])
    assert every_KBH.min() >= 0 and not torch.allclose(every_KBH[0], every_KBH[1])


@pytest.mark.parametrize("transfer", transfers(), ids=lambda t: type(t).__name__)
def test_dropout_is_for_training_alone(transfer: Transfer) -> None:
    for part in transfer.modules():
        if isinstance(part, Transfer | ScenarioExperts):
            part.dropout = 0.5
    x_VE, own = torch.randn(90, 6), Routing.own(torch.arange(90) % 3, 3)
    assert not torch.equal(transfer.train()(x_VE, own), transfer(x_VE, own))
    assert torch.equal(transfer.eval()(x_VE, own), transfer(x_VE, own))
