"""Options of the commands that run experiments, and the lab that they open."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
import yaml
from pydantic import ValidationError

from jobs.cli import EXIT_DONE, EXIT_USER_ERROR, progress
from msr_models.experiments.cells import CellStore
from msr_models.experiments.lab import Lab
from msr_models.experiments.sources import open_split, search_defaults, trainer_defaults
from msr_models.experiments.variants import check_name, merged_options, options_of
from msr_models.models.registry import known_models
from msr_models.training.device import usable_device
from msr_models.training.memory import keep_freed_memory
from schemas.errors import MsrError, TrainingError
from schemas.pipeline_spec import SearchSpec, TrainerConfig

S = TypeVar("S", TrainerConfig, SearchSpec)


def run_command(
    doc: str | None, add: Callable[[argparse.ArgumentParser], None], work: Callable[[argparse.Namespace], None]
) -> NoReturn:
    """Parse the command line, work, exit: 0 done, 2 the user's mistake (one line on stderr)."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add(parser)
    options = parser.parse_args()
    try:
        work(options)
    except MsrError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        sys.exit(EXIT_USER_ERROR)
    sys.exit(EXIT_DONE)


def add_lab_options(parser: argparse.ArgumentParser) -> None:
    """What decides the cells and where they are kept."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="SOURCE",
        help="movielens_fixed, planted or lake:NAME; with settings as in movielens_fixed:scenario=genre,rows=30000",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 1 .. N of every training (default 3)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="cells and tables; go on by repeating")
    parser.add_argument(
        "--options",
        type=Path,
        metavar="FILE",
        help="YAML: model -> its options; defaults for others. MODEL/VARIANT -> options of one more form of the model, "
        "on top of those of MODEL; it is a name like any model's: --models optmsm,optmsm/no_priors",
    )
    parser.add_argument("--trainer", nargs="+", default=[], metavar="K=V", help="trainer settings: learning_rate=1e-3")
    parser.add_argument("--search", nargs="+", default=[], metavar="K=V", help="search settings: warmup_epochs=4")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; results depend on it")
    parser.add_argument("--device", default="auto", help="auto (a GPU when there is one), cpu, cuda or cuda:N")
    parser.add_argument("--resamples", type=int, default=1000, help="of users, for intervals and p (default 1000)")
    parser.add_argument("--any-code", action="store_true", help="take cells that other versions of the code made too")
    parser.add_argument("--verbose", action="store_true", help="say every epoch, not only every cell")


def open_lab(options: argparse.Namespace, models: Sequence[str]) -> Lab:
    """The lab that the options describe; everything is checked before rows are read."""
    keep_freed_memory()
    if not options.verbose:
        for name in ("msr_models.training", "msr_models.ssim"):
            logging.getLogger(name).setLevel(logging.WARNING)
    for name, least in (("threads", 1), ("seeds", 1), ("resamples", 100)):
        if getattr(options, name) < least:
            raise TrainingError(f"--{name} {getattr(options, name)} must be {least} or more")
    model_options = read_model_options(options.options, models)
    trainer = changed_trainer(trainer_defaults(options.data), options.trainer)
    search = changed_search(search_defaults(options.data), options.search)
    device = usable_device(options.device)
    torch.set_num_threads(options.threads)
    progress(f"{options.data}: reading")
    split = open_split(options.data)
    rows = ", ".join(f"{len(w):,} {n}" for n, w in (("train", split.train), ("test", split.test)))
    progress(f"{split.name}: {rows} rows, {split.num_scenarios} scenarios, content {split.fingerprint}")
    return Lab(
        split=split.to(device),
        store=CellStore(options.out, any_code=options.any_code),
        trainer=trainer,
        search=search,
        options=model_options,
        device=device,
    )


def seeds_of(options: argparse.Namespace) -> list[int]:
    """1 .. N."""
    return list(range(1, options.seeds + 1))


def named_base(text: str) -> str:
    """The one model of --base. Raises TrainingError for none or several, and for one that is not known."""
    names = named_models(text)
    if len(names) != 1:
        raise TrainingError(f"--base {text!r} names {len(names)} models; give the one that others are compared with")
    return names[0]


def named_models(text: str) -> list[str]:
    """`all` registered ones, or names separated by commas, variants (MODEL/VARIANT) among them.

    Raises TrainingError for one whose model is not known.
    """
    names = known_models() if text == "all" else list(dict.fromkeys(filter(None, text.split(","))))
    for name in names:
        check_name(name)
    if not names:
        raise TrainingError(f"{text!r} names no model; known models: {', '.join(known_models())}")
    return names


def read_model_options(path: Path | None, models: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Options of models and variants by name, those of a variant merged with its model's; `models`: those asked for.

    Raises TrainingError that names the file, the model and what is allowed, for every entry of the file and for a
    variant that is asked for and not in it.
    """
    options = {} if path is None else _options_in(path)
    for name in models:
        try:
            options_of(options, name)
        except TrainingError as error:
            where = "give --options FILE with it" if path is None else f"add it to {path}"
            raise TrainingError(f"{error}; {where}, as `{name}: {{OPTION: VALUE}}`") from error
    return options


def _options_in(path: Path) -> dict[str, Mapping[str, Any]]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TrainingError(f"--options {path} cannot be read ({error}); give a YAML file: model -> options") from error
    if not isinstance(raw, dict) or not all(isinstance(k, str) and isinstance(v, dict) for k, v in raw.items()):
        raise TrainingError(f"--options {path} is no mapping of models to options, as `star: {{hidden: [64, 32]}}`")
    try:
        return merged_options(raw)
    except TrainingError as error:
        raise TrainingError(f"--options {path}: {error}") from error


def changed_trainer(config: TrainerConfig, changes: Sequence[str]) -> TrainerConfig:
    """The config with settings `key=value`. Raises TrainingError that names what is allowed."""
    return _changed("--trainer", config, changes, fixed=("seed",))


def changed_search(spec: SearchSpec, changes: Sequence[str]) -> SearchSpec:
    """The same for a search's settings."""
    return _changed("--search", spec, changes, fixed=("backbone", "seed"))


def _changed(option: str, settings: S, changes: Sequence[str], *, fixed: Sequence[str]) -> S:
    allowed = [name for name in type(settings).model_fields if name not in fixed]
    values: dict[str, Any] = {}
    for key, value in _pairs(option, changes, allowed):
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise TrainingError(f"{option} {key}={value} is no YAML value; give one, as hidden=[64,32]") from error
    try:
        return type(settings).model_validate({**settings.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TrainingError(f"{option} {where}: {first['msg']}; given {' '.join(changes)}") from error


def _pairs(option: str, changes: Sequence[str], allowed: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or key not in allowed:
            raise TrainingError(f"{option} {change!r} is not understood; give KEY=VALUE with {', '.join(allowed)}")
        pairs.append((key, value))
    return pairs
