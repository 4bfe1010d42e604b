"""The studies that jobs.research.tune asks for, and the processes that run their trials."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait

from jobs.cli import configure_logging
from jobs.research.options import epochs_logged, named_models, open_runner, usable_models
from jobs.research.tune_options import TRIALS, TuneOptions, space_file
from msr_models.experiments.arms import require_towers
from msr_models.experiments.default_space import default_space
from msr_models.experiments.search_space import space_of
from msr_models.experiments.tuning import Tuning, TuningConfig
from msr_models.experiments.variants import options_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One study per model that these rows can feed; skipped: the others and why. trials: of each study."""

    tunings: Sequence[Tuning]
    skipped: dict[str, str]
    trials: int


def requested(options: TuneOptions) -> Request:
    """Read the rows and lay out the studies. Every mistake in the options is found before."""
    names = named_models(options.models)
    if options.shared and options.models != "all":
        require_towers(names)
    file = space_file(options)
    runner = open_runner(options, names)
    models, skipped = usable_models(runner, names, skip=options.models == "all")
    if options.shared:
        models = [name for name in models if runner.can_share(name)]
    config = TuningConfig(
        method="tpe" if options.grid is None else "grid",
        pruner=options.pruner or ("median" if options.grid is None else "none"),
        seed=options.draws_seed,
        shared=options.shared,
    )
    tunings = []
    for name in models:
        trainer, own = runner.trainer_of(name), options_of(runner.options, name)
        spec = file or default_space(name, trainer, own, shared=options.shared)
        space = space_of(spec, name, trainer, own, shared=options.shared)
        space = space.only(options.only) if options.only else space
        tunings.append(Tuning(runner=runner, space=space, config=config, any_code=options.any_code))
    points = [t.space.grid_size for t in tunings] if config.method == "grid" else [TRIALS]
    return Request(tunings=tunings, skipped=skipped, trials=options.trials or max(points, default=TRIALS))


def run_trials(options: TuneOptions, request: Request) -> None:
    """Run what is missing, in `options.processes` processes. What a process that was killed leaves is run here."""
    if options.processes > 1:
        spawning = multiprocessing.get_context("spawn")
        workers = [spawning.Process(target=work, args=(options,), daemon=True) for _ in range(options.processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if lost := [worker.exitcode for worker in workers if worker.exitcode]:
            log.warning(f"{len(lost)} of {len(workers)} processes ended early; their trials are run again")
    with epochs_logged(options.verbose):
        for tuning in request.tunings:
            tuning.work(request.trials)


def work(options: TuneOptions) -> None:
    """A process of its own: trials of every study until none is left."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    configure_logging(quiet=options.quiet, as_json=options.log_json)
    request = requested(options)
    with epochs_logged(options.verbose):
        for tuning in request.tunings:
            tuning.work(request.trials)


def _end_with(sentinel: int) -> None:
    """A killed parent cannot end its processes: they end themselves."""
    wait([sentinel])
    os._exit(1)
