"""Tune models on one split and write the settings that validation prefers.

One study per model with the same number of trials each. A trial trains with drawn settings (learning rate, weight
decay, epochs, dropout, widths; with --shared also lambda and the ratio) and is scored by its best validation epoch; the
first has the settings that there are. Test rows are predicted once, with the winner. An interrupted command resumes; a
trial that was killed is run again. --grid runs every combination of a paper's grid instead: ssim, optmsm or sfpnet.

Writes tuning.md, results.json, options.yaml (for compare_models --options), and in a folder per model best.yaml (blocks
for a data set's YAML), trials.csv, history.svg and sensitivity.svg.

  python -m jobs.research.tune --data movielens_fixed --models star --trials 50 --processes 2 --out results/tuned
  python -m jobs.research.tune --data lake:generated --models star --grid ssim --shared --only search.kl_weight \\
      --out results/sensitivity
"""

from __future__ import annotations

import importlib.util
import logging

from jobs.cli import run_command
from jobs.research.tune_options import TuneOptions
from schemas.errors import TrainingError

log = logging.getLogger(__name__)


def tune(options: TuneOptions) -> None:
    """Run the missing trials, test the winners, write the files."""
    if importlib.util.find_spec("optuna") is None:
        raise TrainingError("Optuna is not installed; install the project's extra: pip install '.[train,tune]'")
    from jobs.research.tuning import requested, run_trials
    from jobs.research.tuning_files import write_results

    request = requested(options)
    run_trials(options, request)
    print(write_results(options, request), flush=True)
    made = sum(tuning.made for tuning in request.tunings)
    log.info(f"{made} trials run by this process; written to {options.out}: tuning.md, results.json, options.yaml")


if __name__ == "__main__":
    run_command(__doc__, tune, TuneOptions)
