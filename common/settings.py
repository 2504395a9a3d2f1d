"""Settings: numbers in range, and a folder is not gone on with under others than it was begun with."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wildreward.common.errors import UserError
from wildreward.common.files import read_json, write_json

REOPENED = "reopened"  # key of settings.json
MOST_SHOWN, LONGEST_SHOWN = 5, 60  # settings, and characters of a value, in a message


@contextmanager
def claim(folder: str | os.PathLike, settings: dict[str, Any], begun: Callable[[], object]) -> Iterator[None]:
    """`check_settings`, and let the next run choose others where this one is refused before it has made anything.

    Args:
        folder, settings: see `check_settings`.
        begun: whether there is work that belongs to these settings; asked when the block raises an exception.
    """
    check_settings(folder, settings)
    try:
        yield
    except Exception:
        if not begun():
            (Path(folder) / "settings.json").unlink(missing_ok=True)
        raise


def reopen_settings(folder: str | os.PathLike, *names: str) -> None:
    """Let the next run choose these settings, and those called `<name>.…`, anew: nothing was made under them yet."""
    path = Path(folder) / "settings.json"
    write_json(path, read_json(path) | {REOPENED: sorted(names)})


def check_settings(folder: str | os.PathLike, settings: dict[str, Any]) -> None:
    """Write `settings` to `folder/settings.json` the first time; later compare with it, but for those reopened.

    Args:
        folder: where the run keeps its work.
        settings: what the result depends on, as JSON-serialisable values; no secrets, no worker counts.

    Raises:
        UserError: the folder was made with other settings, naming the first that differ, or by another command.
    """
    path = Path(folder) / "settings.json"
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        write_json(path, settings)
        return
    before = read_json(path)
    reopened = before.pop(REOPENED, ())
    foreign = sorted(before.keys() - settings.keys())
    if len(foreign) > len(before) / 2:
        raise UserError(
            f"{folder} was made by another command: its settings are {_first(foreign, ', ')}, which this one does not have; "
            "choose another output folder"
        )
    differing = [
        f"{key} was {_shown(before.get(key))}, now {_shown(settings.get(key))}"
        for key in sorted(before.keys() | settings.keys())
        if before.get(key) != settings.get(key) and key.partition(".")[0] not in reopened
    ]
    if differing:
        raise UserError(
            f"{folder} was made with other settings ({_first(differing, '; ')}); "
            "use the same settings, or choose another output folder"
        )
    if reopened:
        write_json(path, settings)


def _first(parts: list[str], between: str) -> str:
    more = f"{between}and {len(parts) - MOST_SHOWN} more" if len(parts) > MOST_SHOWN else ""
    return between.join(parts[:MOST_SHOWN]) + more


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def check_above(*numbers: tuple[str, float | None, float]) -> None:
    """Refuse numbers, each with its option's name, that are not above a bound; None is no number.

    Raises:
        UserError: naming all of them.
    """
    low = [
        f"--{name} is {n}; expected more than {bound}" for name, n, bound in numbers if n is not None and not n > bound
    ]
    if low:
        raise UserError(". ".join(low))


def check_below(*numbers: tuple[str, float | None, float]) -> None:
    """The same for numbers that are not below a bound."""
    high = [
        f"--{name} is {n}; expected less than {bound}" for name, n, bound in numbers if n is not None and not n < bound
    ]
    if high:
        raise UserError(". ".join(high))


def check_least(*numbers: tuple[str, float | None, float]) -> None:
    """Refuse numbers, each with its option's name, that are below their least value; None is no number.

    Raises:
        UserError: naming all of them.
    """
    check_range(*((name, number, least, math.inf) for name, number, least in numbers))


def check_range(*numbers: tuple[str, float | None, float, float]) -> None:
    """[`check_least`] for numbers with a largest value, too."""
    wrong = [
        f"--{name} is {n}; expected {f'at least {low}' if high == math.inf else f'from {low} to {high}'}"
        for name, n, low, high in numbers
        if n is not None and not low <= n <= high
    ]
    if wrong:
        raise UserError(". ".join(wrong))


def check_finite(options: Mapping[str, Any]) -> None:
    """Refuse NaN and infinity as the value of an option, or among its values.

    Raises:
        UserError: naming all of them.
    """
    numbers = [(name, n) for name, value in options.items() for n in (value if isinstance(value, list) else [value])]
    wrong = [
        f"--{name} is {n}; expected a finite number"
        for name, n in numbers
        if isinstance(n, float) and not math.isfinite(n)
    ]
    if wrong:
        raise UserError(". ".join(wrong))
