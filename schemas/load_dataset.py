"""Find and read a data set's YAML; turn every mistake in it into one DatasetSpecError."""

from __future__ import annotations

import os
from pathlib import Path
from string import Template
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from schemas.dataset_spec import DatasetSpec
from schemas.errors import DatasetSpecError
from schemas.text import did_you_mean
from schemas.yaml_text import parse_yaml

DATASETS_FOLDER = Path(__file__).parent / "datasets"


def dataset_folders() -> list[Path]:
    """Folders that hold data set YAMLs: the user's (MSR_DATASETS_DIR) before the project's."""
    own = os.environ.get("MSR_DATASETS_DIR")
    return ([Path(own)] if own else []) + [DATASETS_FOLDER]


def known_datasets() -> list[str]:
    """Names of all data sets that can be found."""
    return sorted({p.stem for folder in dataset_folders() for p in folder.glob("*.yaml")})


def load_dataset(name_or_path: str) -> DatasetSpec:
    """Read a data set by name or by the path of its YAML.

    Raises DatasetSpecError that names file, key, value and remedy.
    """
    path = dataset_file(name_or_path)
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetSpecError(f"{path}: cannot be read ({error}); give a readable YAML file") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist, such as 2026-03-41
        detail = " ".join(str(error).split())
        raise DatasetSpecError(f"{path}: is not valid YAML: {detail}; fix the syntax there") from error
    if not isinstance(raw, dict):
        raise DatasetSpecError(f"{path}: holds {type(raw).__name__}, not a mapping; begin with 'name:'")
    try:
        spec = DatasetSpec.model_validate(raw)
    except ValidationError as error:
        raise DatasetSpecError(f"{path}: " + " | ".join(_explain(e) for e in error.errors())) from error
    return spec.model_copy(update={"source": spec.source.model_copy(update={"path": _expand(spec.source.path, path)})})


def dataset_file(name_or_path: str) -> Path:
    """The YAML of a name or path. Raises DatasetSpecError where there is none."""
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise DatasetSpecError(f"data set file {name_or_path!r} does not exist; check the path")
        return path
    for folder in dataset_folders():
        if (path := folder / f"{name_or_path}.yaml").is_file():
            return path
    known = known_datasets()
    hint = did_you_mean(name_or_path, known)
    raise DatasetSpecError(
        f"data set {name_or_path!r} is unknown; {hint and f'{hint} '}known: {', '.join(known)}. "
        "Name one of them, give the path of a YAML file, or set MSR_DATASETS_DIR to a folder of your own"
    )


class _Braced(Template):
    """Expands `${VAR}` alone: a bare `$VAR` is a part of a path. `$$` stands for `$`."""

    idpattern = r"(?!)"
    braceidpattern = r"\w+"


def _expand(source_path: str | None, yaml_path: Path) -> str | None:
    """${VAR} in a source path, made absolute: a relative one counts from the YAML's folder.

    A Spark server may run in another folder than the command that names the path.
    """
    if source_path is None:
        return None
    expanded = _Braced(source_path).safe_substitute({"MSR_DATA_DIR": "./data", **os.environ})
    if "${" in expanded:
        raise DatasetSpecError(f"{yaml_path}: source.path: {source_path!r} names a variable that is not set; export it")
    if "://" in expanded:
        return expanded
    folder = Path.cwd() if source_path.startswith("${") else yaml_path.absolute().parent
    return os.path.normpath(folder.resolve() / expanded) + "/" * expanded.endswith("/")


def _explain(error: Any) -> str:
    """One pydantic error as 'key: value: what is wrong; remedy'."""
    loc = list(error["loc"])
    key = ".".join(str(part) for part in loc) or "(top level)"
    if error["type"] == "extra_forbidden":
        allowed = _keys_at(loc[:-1])
        hint = did_you_mean(str(loc[-1]), allowed, otherwise=f"allowed keys: {', '.join(allowed)}")
        return f"{key}: unknown key with value {error['input']!r}; {hint}"
    if error["type"] == "missing":
        return f"{key}: is missing; add it"
    message = error["msg"].removeprefix("Value error, ")
    value = error["input"]
    shown = "" if isinstance(value, dict | list) else f"{value!r}: "
    return f"{key}: {shown}{message}"


def _keys_at(loc: list[Any]) -> list[str]:
    """Keys that the model at `loc` allows."""
    model: Any = DatasetSpec
    for part in loc:
        if isinstance(part, int) or part not in model.model_fields:  # a position, or a name that the user chose
            continue
        model = _model_in(model.model_fields[part].annotation)
        if model is None:
            return []
    return sorted(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model inside an annotation such as `tuple[FieldSpec, ...]` or `BinningSpec | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        if (found := _model_in(part)) is not None:
            return found
    return None
