"""What a tuning varies: ranges and lists of trainer settings, model options, search settings and the ratio.

As YAML, every block may be missing:

    trainer: {learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}}   # TrainerConfig
    options: {dropout: {choices: [0, 0.2]}}                             # of each model that has the option
    models: {sfpnet: {num_blocks: {low: 1, high: 5}}}                   # of one model
    search: {kl_weight: {choices: [0.3, 1]}}                            # SearchSpec, where rows are shared
    ratio: {choices: [0, 0.1, 0.5, 1]}                                  # of eq. 16, where rows are shared
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from msr_models.experiments.variants import registered_name
from msr_models.models.registry import config_class, known_models, parse_options
from schemas.errors import TrainingError
from schemas.pipeline_spec import OptionValue, SearchSpec, TrainerConfig
from schemas.settings import validated
from schemas.spec import Spec
from schemas.text import did_you_mean
from schemas.yaml_text import parse_yaml

TRAINER, OPTIONS, SEARCH, RATIO = "trainer", "options", "search", "ratio"
# The command sets them, or they do not apply to one split
_FIXED = {TRAINER: {"seed"}, SEARCH: {"seed", "backbone", "backbone_options", "window_days", "every_days"}}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

Scalar = str | int | float | bool | None


def _as_number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3, without a point, as text."""
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


Number = Annotated[float, BeforeValidator(_as_number)]


class Parameter(Spec):
    """Values of one setting: a list, or a range with both ends included (whole numbers where both ends are).

    log: the range is searched by the logarithm. step: of the range, from `low` on.
    """

    choices: tuple[Annotated[OptionValue, BeforeValidator(_as_number)], ...] | None = Field(default=None, min_length=1)
    low: Number | None = None
    high: Number | None = None
    log: bool = False
    step: Annotated[Number, Field(gt=0)] | None = None
    whole: bool = Field(default=False, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _notes_whole_numbers(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or "whole" in raw:
            raise ValueError("give {choices: [...]} or {low: .., high: ..}")
        ends = [raw.get("low"), raw.get("high"), raw.get("step", 1)]
        return {**raw, "whole": all(isinstance(end, int) and not isinstance(end, bool) for end in ends)}

    @model_validator(mode="after")
    def _is_a_list_or_a_range(self) -> Parameter:
        if self.choices is not None:
            if self.model_fields_set & {"low", "high", "log", "step"}:
                raise ValueError("has choices and a range; give either")
            if len({encoded(c) for c in self.choices}) < len(self.choices):
                raise ValueError(f"choices {list(self.choices)} hold a value twice; remove one")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give {choices: [...]} or {low: .., high: ..}")
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}; exchange them")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low > 0 and no step")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values whose validity stands for that of all: every choice, or both ends of a range."""
        if self.choices is not None:
            return self.choices
        return tuple(self.typed(end) for end in (self.low, self.high) if end is not None)

    def typed(self, number: float) -> float | int:
        return int(number) if self.whole else float(number)

    def contains(self, value: Any) -> bool:
        """Whether a trial can have this value."""
        if self.choices is not None:
            return encoded(value) in {encoded(choice) for choice in self.choices}
        if isinstance(value, bool) or not isinstance(value, int | float) or self.low is None or self.high is None:
            return False
        step = self.step or (1 if self.whole else None)
        steps = (value - self.low) / step if step else 0.0
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-9


def encoded(value: Any) -> Scalar:
    """A choice as a sampler stores it: a list becomes its JSON text; 1 and 1.0 are one value."""
    if isinstance(value, list | tuple):
        return json.dumps(list(value))
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


Block = dict[str, Parameter]


class SpaceSpec(Spec):
    """The blocks of a space file; see the module's docstring."""

    trainer: Block = Field(default_factory=dict)
    options: Block = Field(default_factory=dict)
    models: dict[str, Block] = Field(default_factory=dict)
    search: Block = Field(default_factory=dict)
    ratio: Parameter | None = None

    @model_validator(mode="after")
    def _names_what_there_is(self) -> SpaceSpec:
        _check_block(TRAINER, self.trainer, TrainerConfig)
        _check_block(SEARCH, self.search, SearchSpec)
        every = sorted({name for model in known_models() for name in option_names(model)})
        _check_names(OPTIONS, self.options, every)
        for model, block in self.models.items():
            _check_names("models", [model.partition("/")[0]], known_models())
            _check_names(f"models.{model}", block, option_names(model))
        for value in self.ratio.ends if self.ratio else ():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"ratio: {value!r} is no share of rows; give numbers from 0 to 1")
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """The settings of one trial. search: what replaces the runner's search settings; ratio: None if it is not tuned."""

    trainer: TrainerConfig
    options: Mapping[str, Any]
    search: Mapping[str, Any]
    ratio: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """The parameters of one model, named `trainer.x`, `options.x`, `search.x` and `ratio`, and what they replace."""

    model: str
    parameters: Mapping[str, Parameter]
    trainer: TrainerConfig
    options: Mapping[str, Any]

    def drawn(self, values: Mapping[str, Any]) -> Drawn:
        """The settings that a trial's stored values mean. Raises TrainingError if they do not go together."""
        blocks: dict[str, dict[str, Any]] = {TRAINER: {}, OPTIONS: {}, SEARCH: {}, RATIO: {}}
        for name, value in values.items():
            block, _, key = name.partition(".")
            blocks[block][key] = _decoded(self.parameters[name], value)
        search = blocks[SEARCH]
        if "kl_weight" in search:
            search.setdefault("target_share_rate", None)  # it would adapt lambda
        options = {**self.options, **blocks[OPTIONS]}
        parse_options(registered_name(self.model), options)
        try:
            trainer = validated(TrainerConfig, {**self.trainer.model_dump(), **blocks[TRAINER]})
        except ValueError as error:
            raise TrainingError(f"trainer: {error}") from error
        return Drawn(trainer=trainer, options=options, search=search, ratio=blocks[RATIO].get(""))

    def defaults(self, search: SearchSpec) -> dict[str, Scalar]:
        """What the parameters replace, as a trial stores it, without values outside of their parameter; ratio: none."""
        config = parse_options(registered_name(self.model), self.options)
        before = {f"{TRAINER}.{key}": value for key, value in self.trainer.model_dump().items()}
        before |= {f"{OPTIONS}.{f.name}": getattr(config, f.name) for f in dataclasses.fields(config)}
        before |= {RATIO: 0.0, **{f"{SEARCH}.{key}": value for key, value in search.model_dump().items()}}
        return {
            name: encoded(before[name]) if parameter.choices is not None else before[name]
            for name, parameter in self.parameters.items()
            if name in before and parameter.contains(before[name])
        }

    def only(self, names: Iterable[str]) -> Space:
        """With these parameters alone. Raises TrainingError for an unknown one."""
        for name in names:
            if name not in self.parameters:
                hint = did_you_mean(name, self.parameters)
                raise TrainingError(f"--only {name}: not tuned; {hint} tuned: {', '.join(self.parameters)}")
        return dataclasses.replace(self, parameters={n: p for n, p in self.parameters.items() if n in set(names)})

    @property
    def grid_size(self) -> int:
        """Number of combinations. Raises TrainingError for a range, which has no end of values."""
        size = 1
        for name, parameter in self.parameters.items():
            if parameter.choices is None:
                raise TrainingError(f"a grid needs choices, and {name} has a range; give {name}: {{choices: [...]}}")
            size *= len(parameter.choices)
        return size


def read_space(path: Path, option: str = "--space") -> SpaceSpec:
    """The space in a YAML file. Raises TrainingError, one line that names the file, the key and what is allowed."""
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TrainingError(f"{option} {path} cannot be read ({error}); give a YAML file of parameters") from error
    if not isinstance(raw, dict) or not raw:
        raise TrainingError(f"{option} {path} is no mapping; give blocks among {', '.join(SpaceSpec.model_fields)}")
    try:
        return SpaceSpec.model_validate(raw)
    except ValidationError as error:
        raise TrainingError(f"{option} {path}: {_first(error)}") from error


def space_of(spec: SpaceSpec, model: str, trainer: TrainerConfig, options: Mapping[str, Any], *, shared: bool) -> Space:
    """The part of a file that applies to one model; search and ratio only where rows are shared.

    Raises TrainingError for a value that the trainer, the search or the model refuses, and where nothing is left.
    """
    own = {n: p for n, p in spec.options.items() if n in option_names(model)}
    own |= spec.models.get(registered_name(model), {}) | spec.models.get(model, {})
    blocks = [(TRAINER, spec.trainer), (OPTIONS, own), *([(SEARCH, spec.search)] if shared else [])]
    parameters = {f"{block}.{name}": p for block, content in blocks for name, p in content.items()}
    if shared and spec.ratio is not None:
        parameters[RATIO] = spec.ratio
    if not parameters:
        raise TrainingError(f"the space has no parameter of {model!r}; add some, or leave the model out")
    space = Space(model=model, parameters=parameters, trainer=trainer, options=options)
    for name, parameter in parameters.items():
        for value in parameter.ends:
            try:
                drawn = space.drawn({name: encoded(value) if parameter.choices is not None else value})
                validated(SearchSpec, drawn.search)
            except (TrainingError, ValueError) as error:
                raise TrainingError(f"the space's {name} does not fit {model!r}: {error}") from error
    return space


def _decoded(parameter: Parameter, value: Scalar) -> Any:
    """What a stored value means."""
    if parameter.choices is None:
        return float(f"{value:.6g}") if isinstance(value, float) else value  # readable, where it is pasted
    return next(choice for choice in parameter.choices if encoded(choice) == encoded(value))


def option_names(model: str) -> list[str]:
    return [f.name for f in dataclasses.fields(config_class(registered_name(model)))]


def _check_block(block: str, content: Block, kind: type[Spec]) -> None:
    _check_names(block, content, [n for n in kind.model_fields if n not in _FIXED[block]])


def _check_names(block: str, content: Iterable[str], allowed: list[str]) -> None:
    for name in content:
        if name not in allowed:
            hint = did_you_mean(name, allowed)
            raise ValueError(f"{block}: {name!r} is not known; {hint} allowed: {', '.join(allowed)}")


def _first(error: ValidationError) -> str:
    """The first mistake as `key: what is wrong`."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; allowed: {', '.join([*SpaceSpec.model_fields, *Parameter.model_fields][:-1])}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
