"""YAML files given with `--config`: read, and checked against the options' types and choices; every fault is told at once."""

import argparse
import difflib
import os
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from wildreward.common.errors import UserError

EXPECTED = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
QUOTES = " (put it in quotes: YAML takes numbers, dates and bare words such as off for something else)"


def read_config(path: str, command: str, config_types: Sequence[type]) -> dict[str, Any]:
    """Values for the options of `command` from a YAML file; the variables under `env` go to the environment.

    Raises:
        UserError: the file cannot be read, names an unknown option, or holds a value that does not fit its option.
    """
    values = _mapping(path)
    variables = values.pop("env", {})
    types = _option_types(config_types)
    faults = []
    if not isinstance(variables, dict):
        faults.append(f"env is {_shown(variables)}; expected names with their values")
    unknown = [str(name) for name in values if name not in types]
    if unknown:
        faults.append(unknown_options(unknown, types, command))
    checked = {}
    for name, value in values.items():
        if name in types:
            try:
                checked[name] = _fitted(value, types[name])
            except (ValueError, argparse.ArgumentTypeError):
                faults.append(f"{name} is {_shown(value)}; expected {_expected(types[name], value)}")
    if faults:
        raise UserError(f"{path}: {'. '.join(faults)}")
    os.environ.update({str(name): str(value) for name, value in variables.items()})
    return checked


def unknown_options(unknown: Sequence[str], known: Collection[str], command: str) -> str:
    """What to say of options that do not exist: each with the nearest that does."""
    told = []
    for name in unknown:
        dashes = name[: len(name) - len(name.lstrip("-"))]
        near = difflib.get_close_matches(name.lstrip("-").replace("-", "_"), known, 1)
        told.append(f"{name} (did you mean {dashes}{near[0]}?)" if near else name)
    return f"unknown: {', '.join(told)}; wildreward {command} --help lists the options"


def _mapping(path: str) -> dict[Any, Any]:
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"the configuration file {path} does not exist") from error
    except OSError as error:
        raise UserError(f"cannot read the configuration file {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{place}: not valid YAML ({getattr(error, 'problem', None) or error})") from error
    if not isinstance(values, dict):
        raise UserError(f"the configuration file {path} must contain a YAML mapping, lines of `option: value`")
    return values


def _option_types(config_types: Sequence[type]) -> dict[str, Any]:
    """Option → its type; `Any` where others declare a text, for transformers takes `true` for some of those."""
    found = {}
    for config in config_types:
        types = get_type_hints(config)
        for option in (f.name for f in fields(config) if f.init):
            text = str in _alternatives(types[option])
            found[option] = Any if text and is_foreign(config, option) else types[option]
    return found


def is_foreign(config: type, option: str) -> bool:
    """Whether an option of a dataclass is declared by transformers or TRL, and not again by us."""
    owner = next(one for one in config.__mro__ if option in vars(one).get("__annotations__", ()))
    return owner.__module__.partition(".")[0] in ("transformers", "trl")


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _fitted(value: Any, kind: Any) -> Any:
    """A value as an option of that type has it: a text is read as a flag's would be, a scalar is a list of one.

    What is no scalar, choice or list of them is not judged. Raises `ValueError` where the value does not fit.
    """
    kinds = [one for one in _alternatives(kind) if one is not NoneType]
    if len(kinds) > 1 or (value is None and kind is not kinds[0]):
        return value
    (kind,) = kinds
    if get_origin(kind) is list:
        items = value if isinstance(value, list) else [value]
        if not items:
            raise ValueError("empty")
        return [_fitted(item, get_args(kind)[0]) for item in items]
    if get_origin(kind) is Literal:
        if isinstance(value, str) and value in get_args(kind):
            return value
        raise ValueError("no choice")
    return _scalar(value, kind) if kind in EXPECTED else value


def _scalar(value: Any, kind: type) -> Any:
    from transformers.hf_argparser import string_to_bool

    if kind is bool and type(value) in (bool, int, str):
        return string_to_bool(str(value))
    if kind is not bool and type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return value
    if kind in (int, float) and isinstance(value, str):
        return kind(value)
    raise ValueError("another type")


def _expected(kind: Any, value: Any) -> str:
    """What an option of that type takes, with a hint where YAML may have made something else of the word given."""
    kinds = [one for one in _alternatives(kind) if one is not NoneType]
    item = get_args(kinds[0])[0] if get_origin(kinds[0]) is list else kinds[0]
    choices = get_args(item)
    told = f"one of {', '.join(map(str, choices))}" if choices else EXPECTED[item]
    if item is not kinds[0]:
        told = f"one or more, each {told}"
    quotable = (choices or item is str) and not isinstance(value, str | list | dict | None)
    return told + (QUOTES if quotable else "")


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, bool | None) else "null" if value is None else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "..."
