"""What validation measures of predictions, and which of its metrics a choice is made on."""

from __future__ import annotations

from dataclasses import dataclass

from msr_models.evaluation.blocks import Array
from msr_models.evaluation.calibration import fit_calibration
from msr_models.evaluation.metrics import logloss, mean_scenario_auc
from schemas.errors import TrainingError
from schemas.pipeline_spec import CalibrationMethod, Criterion


@dataclass(frozen=True, kw_only=True, slots=True)
class Validated:
    """Validation metrics. auc: mean over scenarios, None where none has both classes; logloss: of all rows, in nats;
    calibrated_logloss: the same once the calibration is fitted on these very rows, and so slightly too low.
    """

    auc: float | None
    logloss: float
    calibrated_logloss: float

    def score(self, criterion: Criterion) -> float:
        """What the best has the most of; where the criterion is AUC and there is none, the logloss decides."""
        return -self.calibrated_logloss if criterion == "logloss" or self.auc is None else self.auc


def validated(
    prob_N: Array,
    label_N: Array,
    scenario_N: Array,
    num_scenarios: int,
    calibration: CalibrationMethod,
    weight_N: Array | None = None,
) -> Validated:
    """Metrics of at least one row's probabilities, before and after a calibration that is fitted on them.

    Raises TrainingError where all weights are 0.
    """
    names = [str(k) for k in range(num_scenarios)]
    calibrated = fit_calibration(calibration, prob_N, label_N, scenario_N, names, weight_N).apply(prob_N, scenario_N)
    before, after = (logloss(each_N, label_N, weight_N) for each_N in (prob_N, calibrated))
    if before is None or after is None:
        raise TrainingError("all validation rows have weight 0: check columns.weight, or take more validation_days")
    auc = mean_scenario_auc(prob_N, label_N, scenario_N, num_scenarios, weight_N)
    return Validated(auc=auc, logloss=before, calibrated_logloss=after)
