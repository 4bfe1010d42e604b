"""What a tuning leaves in its folder: settings to paste, tables and curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from optuna.trial import FrozenTrial, TrialState

from jobs.research import plots, tables
from jobs.research.options import TRAINER, epochs_logged
from jobs.research.tune_options import TuneOptions
from jobs.research.tuning import Request
from jobs.research.tuning_plots import Panels, sensitivity
from lake.files import write_json, write_text
from msr_models.experiments.search_space import Drawn
from msr_models.experiments.sources import data_set_of, trainer_defaults
from msr_models.experiments.trials import Trial
from msr_models.experiments.tuning import Tuning, best_of, importances, shown_value
from msr_models.experiments.variants import file_name, registered_name
from schemas.dataset_spec import DatasetSpec
from schemas.pipeline_spec import SearchSpec, TrainerConfig, TrainingSpec
from schemas.text import markdown_table

# How experiments choose epochs: no finding of a study, so that a data set keeps its own
PROTOCOL = ("select_on", "calibration")
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Winner:
    """The best trial of a study, its settings and, by seed, its trainings with test figures."""

    tuning: Tuning
    trial: FrozenTrial
    drawn: Drawn
    tests: Sequence[Trial]

    @property
    def parameter_names(self) -> list[str]:
        return list(self.tuning.space.parameters)


def write_results(options: TuneOptions, request: Request) -> str:
    """Test each winner and write all files; returns tuning.md."""
    with epochs_logged(options.verbose):
        winners = [_winner(tuning, options.seed_numbers) for tuning in request.tunings]
    dataset = data_set_of(options.data)
    sections = []
    for winner in winners:
        folder = options.out / file_name(winner.tuning.model)
        write_text(folder / "best.yaml", best_yaml(winner, dataset))
        sections.append(_write_trials(folder, winner))
    entries = {winner.tuning.model: _options_entry(winner, trainer_defaults(options.data)) for winner in winners}
    head = f"# Tuned on {options.data}, {request.trials} trials each; for --options of jobs.research.compare_models\n"
    write_text(options.out / "options.yaml", head + _yaml(entries))
    results = {winner.tuning.model: _result(winner) for winner in winners}
    whole = {"data": options.data, "budget": request.trials, "skipped": request.skipped, "models": results}
    write_json(options.out / "results.json", whole)
    skipped = [f"Skipped: {model}: {why}\n" for model, why in request.skipped.items()]
    text = "\n".join([_overview(options, request, winners), *skipped, *sections])
    write_text(options.out / "tuning.md", text)
    return text


def best_yaml(winner: Winner, dataset: DatasetSpec | None) -> str:
    """Blocks that replace those of the same name in a data set's YAML; a lake's data set keeps its other settings.

    Trainer settings are those of the model's entry, so that entries of several studies can stand in one list.

    They are checked by the blocks' own specs before anything is written.
    """
    tuning, drawn = winner.tuning, winner.drawn
    training = {} if dataset is None else dataset.training.model_dump(mode="json", exclude_defaults=True)
    entry = _options_entry(winner, TrainerConfig() if dataset is None else dataset.training.trainer)
    own = entry.pop(TRAINER)
    for name in PROTOCOL:
        if f"{TRAINER}.{name}" not in winner.parameter_names:
            own.pop(name, None)
    # Of this model alone, so that entries of several models stand beside each other
    training["models"] = [{"name": registered_name(tuning.model), "options": entry, TRAINER: own}]
    blocks: dict[str, Any] = {"training": training}
    if tuning.config.shared:
        if drawn.ratio is not None:
            training["ratios"] = [drawn.ratio]
        search = tuning.runner.search_spec(tuning.model, tuning.config.train_seed, drawn.search)
        blocks["search"] = search.model_dump(mode="json", exclude_defaults=True)
    text = _yaml(blocks)
    _check(text, dataset)
    where = f"trial {winner.trial.number} of {len(tuning.trials())}, validation {winner.trial.value:.4f}"
    return (
        f"# {tuning.model} tuned on {tuning.runner.split.name}: {where}. Replace the blocks of the same name.\n{text}"
    )


def _check(text: str, dataset: DatasetSpec | None) -> None:
    """Raises ValidationError for blocks that a data set would refuse."""
    blocks = yaml.safe_load(text)
    if dataset is not None:
        given = {name: getattr(dataset, name) for name in DatasetSpec.model_fields}
        DatasetSpec.model_validate(given | blocks)
    TrainingSpec.model_validate(blocks["training"])
    SearchSpec.model_validate(blocks.get("search", {}))


def _winner(tuning: Tuning, seeds: Sequence[int]) -> Winner:
    trial = best_of(tuning.trials())
    drawn = tuning.space.drawn(trial.params)
    shared_N, _ = tuning.shared_rows(drawn)
    runner = tuning.tuned_runner(drawn)
    runner.expect(len(seeds))
    tests = [runner.train(tuning.model, seed, shared_N=shared_N) for seed in seeds]
    return Winner(tuning=tuning, trial=trial, drawn=drawn, tests=tests)


def _options_entry(winner: Winner, defaults: TrainerConfig) -> dict[str, Any]:
    """Options and trainer settings as a file for --options has them."""
    before = defaults.model_dump(mode="json")
    settings = winner.drawn.trainer.model_dump(mode="json", exclude={"seed"})
    own = {
        name: value
        for name, value in settings.items()
        if value != before[name] or f"{TRAINER}.{name}" in winner.parameter_names
    }
    return {**_plain(winner.drawn.options), TRAINER: own}


def _counts(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    return {name: sum(t.state == state for t in trials) for state, name in STATES.items()}


def _result(winner: Winner) -> dict[str, Any]:
    tuning, trial, tests = winner.tuning, winner.trial, winner.tests
    trials = tuning.trials()
    return {
        "study": tuning.study.study_name,
        "trials": _counts(trials),
        "best": {"number": trial.number, "validation": trial.value, **trial.user_attrs},
        "trainer": winner.drawn.trainer.model_dump(mode="json", exclude={"seed"}),
        "options": _plain(winner.drawn.options),
        "search": dict(winner.drawn.search),
        "ratio": winner.drawn.ratio,
        "importance": importances(tuning.study),
        "test": {str(test.record["seed"]): test.record["test"] for test in tests},
    }


def _overview(options: TuneOptions, request: Request, winners: Sequence[Winner]) -> str:
    rows = []
    for winner in winners:
        trials = winner.tuning.trials()
        counts = _counts(trials)
        first = trials[0].value if winner.tuning.config.method == "tpe" else None
        test = [t.record["test"]["all"] for t in winner.tests]
        means = (tables.mean([t[metric] for t in test]) for metric in ("mean_scenario_auc", "auc", "logloss"))
        values = [first, winner.trial.value, *means]
        rows.append([winner.tuning.model, *(str(counts[s]) for s in STATES.values()), *map(tables.number, values)])
    columns = ["", *STATES.values(), "as set before: validation", "tuned: validation"]
    columns += [f"test: {metric}" for metric in ("mean AUC", "AUC all", "logloss")]
    title = (
        f"Tuned on {options.data}, {request.trials} trials each; test rows decided nothing, {options.seeds} seeds.\n"
    )
    return title + "\n" + markdown_table(columns, rows)


def _write_trials(folder: Path, winner: Winner) -> str:
    """Tables and curves of one study; returns its section of tuning.md."""
    tuning = winner.tuning
    trials = tuning.trials()
    tables.write_csv(folder / "trials.csv", [_record(t) for t in trials])
    write_text(folder / "history.svg", _history(tuning.model, trials))
    panels = Panels.of(tuning, trials)
    write_text(folder / "sensitivity.svg", sensitivity(panels, title=f"{tuning.model} on {tuning.runner.split.name}"))
    parts = [f"## {tuning.model}\n", _best_trials(winner, trials)]
    if found := importances(tuning.study):
        parts.append(markdown_table(["importance", ""], [[n, f"{share:.2f}"] for n, share in found.items()]))
    if tuning.config.method == "grid":
        parts.append(_by_value(panels))
    return "\n".join(parts)


def _record(trial: FrozenTrial) -> dict[str, Any]:
    facts = {k: v for k, v in trial.user_attrs.items() if k != "scenario_auc"}
    aucs = {f"auc_{name}": auc for name, auc in trial.user_attrs.get("scenario_auc", {}).items()}
    params = {name: shown_value(v) if isinstance(v, str) else v for name, v in trial.params.items()}
    return {"trial": trial.number, "state": STATES[trial.state], **params, "validation": trial.value, **facts, **aucs}


def _best_trials(winner: Winner, trials: Sequence[FrozenTrial], most: int = 10) -> str:
    """The best complete trials."""
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    ranked = sorted(complete, key=lambda t: (-(t.value or 0.0), t.number))[:most]
    names = winner.parameter_names
    rows = [
        [
            str(t.number),
            *(shown_value(t.params[name]) for name in names),
            tables.number(t.value),
            tables.number(t.user_attrs["validation_logloss"]),
            str(t.user_attrs["epochs"]),
        ]
        for t in ranked
    ]
    columns = ["trial", *(name.partition(".")[2] or name for name in names), "validation", "logloss", "epochs"]
    return markdown_table(columns, rows)


def _by_value(panels: Panels) -> str:
    """Mean over the trials with each value: all scenarios and each."""
    rows = []
    for panel in panels.panels:
        for place, (label, scores) in enumerate(zip(panel.labels, panel.scores, strict=True)):
            means = map(tables.number, panels.means(panel, place))
            rows.append([panel.name, label, str(len(scores)), tables.number(max(scores)), *means])
    return markdown_table(["parameter", "value", "trials", "best validation", *panels.series], rows)


def _history(model: str, trials: Sequence[FrozenTrial]) -> str:
    complete = [(float(t.number), t.value) for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    best = np.maximum.accumulate([value for _, value in complete]).tolist()
    series = {
        ("validation", "trial"): complete,
        ("validation", "best so far"): [(n, value) for (n, _), value in zip(complete, best, strict=True)],
    }
    return plots.curves(series, title=f"{model}: trials", x_label="trial", panels=["validation"])


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON and YAML have them: lists instead of tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(options)))
    return plain


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(value), sort_keys=False, default_flow_style=None, width=120)
