"""Parse a command line into an Options model: argparse collects texts, the model converts and checks them.

pydantic-settings would do this too, but reads options from environment variables of the same name, splits values at
commas and names types of Python in the help.
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from jobs.cli.options import POSITIONAL, DatasetOptions, Options, OptionsError

_COMMAND = "_command"

OptionsT = TypeVar("OptionsT", bound=Options)


def parse(
    options: type[OptionsT] | Mapping[str, type[OptionsT]], arguments: Sequence[str] | None = None, doc: str | None = ""
) -> OptionsT:
    """The options that `arguments` (of the process where None) give; a mapping has a model per command's name.

    Raises OptionsError for unknown or missing options and commands, and for a value that the model refuses.
    """
    parser = _Parser(description=doc)
    if isinstance(options, Mapping):
        _add_flags(parser, DatasetOptions)
        commands = parser.add_subparsers(dest=_COMMAND, required=True, metavar="COMMAND")
        for name, model in options.items():
            _add_flags(commands.add_parser(name, help=model.__doc__, description=model.__doc__), model)
    else:
        _add_flags(parser, options)
    given = vars(parser.parse_args(arguments))
    model = options[given.pop(_COMMAND)] if isinstance(options, Mapping) else options
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise OptionsError(_describe(error, model)) from error


class _Parser(argparse.ArgumentParser):
    """Without abbreviations of flags, whose meaning a later option could change."""

    def __init__(self, *, prog: str | None = None, help: str | None = None, description: str | None = None) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=prog, description=description, formatter_class=formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise OptionsError(f"{message}; see --help")


def _add_flags(parser: argparse.ArgumentParser, model: type[Options]) -> None:
    """Flags of the model's own fields first, then those that all commands have."""
    common = [name for name in model.model_fields if name in Options.model_fields]
    for name in [*(n for n in model.model_fields if n not in common), *common]:
        field = model.model_fields[name]
        kind, many = _kind(field)
        help_ = field.description or ""
        if field.default is not None and field.default is not False and not field.is_required() and not many:
            help_ += f" (default {field.default})"
        # Absent unless given: the model has the defaults, and a flag may stand before or behind a command's name
        settings: dict[str, Any] = {"help": help_.replace("%", "%%"), "default": argparse.SUPPRESS}
        if kind is bool:
            settings["action"] = "store_true"
        elif get_origin(kind) is Literal:
            settings["metavar"] = "{" + ",".join(get_args(kind)) + "}"
        else:
            settings["metavar"] = field.title or name.upper()
        if many:
            settings |= {"nargs": "+", "action": "extend"}
        if POSITIONAL in field.metadata:
            parser.add_argument(name, **settings)
        else:
            parser.add_argument(_flag(name, field), dest=_key(name, field), **settings)


def _kind(field: FieldInfo) -> tuple[Any, bool]:
    """(type of a value, whether the field is a list of them); None is left out of unions."""
    kind: Any = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (arg for arg in get_args(kind) if arg is not types.NoneType)
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return (get_args(kind)[0], True) if get_origin(kind) is list else (kind, False)


def _key(name: str, field: FieldInfo) -> str:
    return field.validation_alias if isinstance(field.validation_alias, str) else name


def _flag(name: str, field: FieldInfo) -> str:
    if POSITIONAL in field.metadata:
        return field.title or name.upper()
    return "--" + _key(name, field).replace("_", "-")


def _describe(error: ValidationError, model: type[Options]) -> str:
    """The first error as `--threads 0: must be 1 or more`."""
    first = error.errors()[0]
    by_key = {_key(name, field): (name, field) for name, field in model.model_fields.items()}
    if not first["loc"] or first["loc"][0] not in by_key:
        return _reason(first)
    name, field = by_key[str(first["loc"][0])]
    if first["type"] == "missing":
        return f"{_flag(name, field)} is missing: {field.description}"
    return f"{_flag(name, field)} {first['input']}: {_reason(first)}"


def _reason(error: Any) -> str:
    """pydantic's words for a reason, shorter where they are about types of Python."""
    limits = error.get("ctx", {})
    match error["type"]:
        case "greater_than_equal":
            return f"must be {limits['ge']:.12g} or more"
        case "less_than":
            return f"must be less than {limits['lt']:.12g}"
        case "less_than_equal":
            return f"must be {limits['le']:.12g} or less"
        case "literal_error":
            return f"must be {limits['expected']}"
        case "int_parsing" | "int_from_float":
            return "must be a whole number"
        case "float_parsing":
            return "must be a number"
        case "value_error":
            return str(limits["error"])
        case _:
            return str(error["msg"]).replace("Input should", "must", 1)
