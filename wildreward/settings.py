"""Settings: numbers in range, and a folder is not gone on with under others than it was begun with."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wildreward.errors import UserError
from wildreward.files import read_json, write_json

REOPENED = "reopened"  # key of settings.json


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
        UserError: the folder was made with other settings, naming each that differs.
    """
    path = Path(folder) / "settings.json"
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        write_json(path, settings)
        return
    before = read_json(path)
    reopened = before.pop(REOPENED, ())
    differing = [
        f"{key} was {before.get(key)!r}, now {settings.get(key)!r}"
        for key in sorted(before.keys() | settings.keys())
        if before.get(key) != settings.get(key) and key.partition(".")[0] not in reopened
    ]
    if differing:
        raise UserError(
            f"{folder} was made with other settings ({'; '.join(differing)}); "
            "use the same settings, or choose another output folder"
        )
    if reopened:
        write_json(path, settings)


def check_least(*numbers: tuple[str, int | None, int]) -> None:
    """Refuse numbers, each with its option's name, that are below their least value; None is no number.

    Raises:
        UserError: naming all of them.
    """
    low = [f"--{name} is {n}; expected at least {least}" for name, n, least in numbers if n is not None and n < least]
    if low:
        raise UserError(". ".join(low))
