"""The search phase of SSIM: backbone, selector and gate trained on a window, then every row of it scored once.

`joint` is the paper's objective (eq. 15), backbone and gate end to end (warmup_epochs: 0 is the literal form).
`reference` trains the backbone's towers without sharing, keeps them, and trains the gate on their label-free excess
loss: joint towers that share everything become equal, and then nothing tells a shareable row from a harmful one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from msr_models.data.window import Window
from msr_models.modules.routing import Routing
from msr_models.modules.weighted import weighted_mean
from msr_models.ssim.joint import learn_jointly
from msr_models.ssim.reference import learn_gate_from_reference
from msr_models.ssim.scoring import score_rows
from msr_models.ssim.search_state import SearchState
from msr_models.ssim.selector import Selector
from msr_models.training.prediction import validate
from schemas.errors import TrainingError
from schemas.pipeline_spec import SearchSpec


@dataclass(kw_only=True, slots=True)
class SearchResult:
    """What a search found. probs_N: share probability of every window row (eval mode, see `scoring`); curves: one
    record per epoch; metrics: of the backbone on held-out rows; status accepted or rejected. reason: why rejected; of
    an accepted search the scenarios that share none or all of their rows, empty where there is none.
    """

    selector: Selector
    threshold: float
    kl_weight: float
    probs_N: NDArray[np.float32]
    metrics: dict[str, float | int | None]
    status: str
    reason: str
    curves: list[dict[str, float | int | str]] = field(default_factory=list)

    @property
    def shared_N(self) -> NDArray[np.bool_]:
        """g of eq. 10 in eval mode. A score is stored as float32, so it is compared with the threshold as such."""
        return self.probs_N > np.float32(self.threshold)


def run_search(window: Window, spec: SearchSpec, *, device: str = "cpu") -> SearchResult:
    """Search `window` for shared instances on `device`; on a CPU a function of window, spec and thread count.

    Raises TrainingError for labels of one class, a loss that is not finite, a backbone that is unknown or has no
    towers, and one that needs more warm-up epochs than the spec gives it.
    """
    window.require_both_labels(window.counted())
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        return _search(SearchState(window.to(device), spec))


def _search(state: SearchState) -> SearchResult:
    """Warm-up, gate, scoring."""
    spec = state.spec
    _warm_up(state)
    if spec.objective == "reference":
        learn_gate_from_reference(state)
    else:
        learn_jointly(state)
    metrics: dict[str, float | int | None] = {"rows": len(state.held_out)}
    if len(state.held_out):
        found = validate(state.model, state.window, state.held_out)
        metrics["mean_scenario_auc"], metrics["logloss"] = found.auc, found.logloss
    state.selector.eval()
    result = SearchResult(
        selector=state.selector,
        threshold=_threshold_of_scores(state),
        kl_weight=state.kl_weight,
        probs_N=score_rows(state.selector, state.window),
        metrics=metrics,
        status="accepted",
        reason="",
        curves=state.curves,
    )
    fault = _fault(state, result)
    result.status = "rejected" if fault else "accepted"
    result.reason = fault or _oddities(state.window, result.shared_N)
    return result


def _warm_up(state: SearchState) -> None:
    """All epochs without sharing; a model's pretraining epochs come first, and end before the last of them.

    Raises TrainingError where no epoch is left after those: identical towers would have no disagreement.
    """
    epochs, pretraining = state.spec.warmup_epochs, state.model.pretraining_epochs
    if pretraining and epochs <= pretraining:
        raise TrainingError(
            f"search.warmup_epochs {epochs} leaves no epoch behind the pretraining_epochs {pretraining} of "
            f"search.backbone {state.spec.backbone!r}, so its towers would be one and the same when the gate learns; "
            f"set search.warmup_epochs to {pretraining + 1} or more"
        )
    for epoch in range(1, epochs + 1):
        if pretraining and epoch == pretraining + 1:
            state.model.end_pretraining()
            state.make_optimiser()
        state.epoch("warm-up", epoch, epochs, state.rows, lambda rows: _warm_up_step(state, rows))


def _warm_up_step(state: SearchState, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 6 with g = 0: every row trains its own tower, whatever masks the window brings along."""
    batch, model = state.window.batch(rows), state.model
    routing = Routing.own(batch.scenario_B, model.num_scenarios)
    with state.autocast():
        logits_V, penalty = model.penalised_logits(model.embed(batch), batch, routing)
    logits_B = routing.to_rows(logits_V)
    if batch.weight_B is None:  # PyTorch's own mean rounds otherwise than a mean of its losses
        loss = F.binary_cross_entropy_with_logits(logits_B, batch.label_B)
    else:
        losses_B = F.binary_cross_entropy_with_logits(logits_B, batch.label_B, reduction="none")
        loss = weighted_mean(losses_B, batch.weight_B)
    if penalty is not None:
        loss = loss + penalty
    torch.autograd.backward(loss)
    state.optimiser.step()
    return loss, torch.zeros_like(batch.label_B)


def _threshold_of_scores(state: SearchState) -> float:
    """eps for p without temperature, float32: sigmoid(T z) > eps where sigmoid(z) > sigmoid(logit(eps) / T).

    Scores are stored without the temperature, which would round most of them to 0 or 1 and so lose their ranks.
    """
    threshold = state.gate.threshold.detach()
    if state.temperature != 1.0:
        threshold = (threshold.double().logit() / state.temperature).sigmoid()
    return float(np.float32(threshold.item()))


def _fault(state: SearchState, result: SearchResult) -> str:
    """Why the result is unusable; empty where it is usable."""
    rate = float(result.shared_N.mean())
    if state.window.num_scenarios == 1:
        return "one scenario only: there is none to share with"
    least = state.spec.collapse_share
    if rate in (0.0, 1.0):
        return f"shares {rate:.0%} of the rows: the gate collapsed"
    if not least < rate < 1.0 - least:
        return (
            f"shares {rate:.2%} of the rows, within search.collapse_share {least:g} of {round(rate):.0%}: "
            "the gate collapsed"
        )
    if float(np.ptp(result.probs_N)) < 1e-6:
        return "all rows have the same score: the selector learned nothing"
    if state.gate.at_bound():
        return f"threshold {result.threshold:.4f} ran to its bound {state.spec.threshold_bounds}"
    return ""


def _oddities(window: Window, shared_N: NDArray[np.bool_]) -> str:
    """What to check in an accepted search: scenarios that share none or all of their rows."""
    scenario_N = window.scenario_N.cpu().numpy()
    found = []
    for k, name in enumerate(window.scenario_names):
        own = shared_N[scenario_N == k]
        if len(own) and (own.all() or not own.any()):
            found.append(f"scenario {name} shares {float(own[0]):.0%} of its {len(own):,} rows")
    return ", ".join(found)
