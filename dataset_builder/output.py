"""The output folder: one that a build may write to, and what a killed run left half-written in it."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from wildreward.dataset_builder.writer import SPLITS
from wildreward.errors import UserError

_ATOMIC = r"\.\d+\.tmp"  # what `files.atomic_path` adds to a name
_SPLIT = f"({'|'.join(SPLITS)})" + r"-\d{5}"
_SPLIT_FILE = re.compile(rf"\.{_SPLIT}(\.tmp|-of-\d{{5}}\.parquet{_ATOMIC})")
# folder of the dataset → names of the temporary files that a build makes there
_TEMPORARY = {
    ".": re.compile(rf"\.(README\.md|build_report\.json){_ATOMIC}"),
    "figures": re.compile(rf"\.(funnel|levels)\.png{_ATOMIC}"),
    "data": _SPLIT_FILE,
    "unpaired_preference": _SPLIT_FILE,
}
_IN_WORK = re.compile(rf"\..+{_ATOMIC}")


def check_output(output: Path, source: Path) -> None:
    """Refuse a folder inside the source, and one that holds what no build has put there. Writes nothing.

    A run that was refused early leaves `work/` with nothing but its lock: that is no obstacle, nor are hidden files.

    Args:
        output: the dataset folder, there or not.
        source: a file, a folder, or what is not on this machine.

    Raises:
        UserError: naming what is in the way.
    """
    if os.path.isdir(source) and output.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"the output folder {output} lies in the source folder {source}, where the dataset would be read as chats; "
            "choose one outside of it"
        )
    work = output / "work"
    if not output.is_dir() or (work / "settings.json").is_file():
        return
    there = [*output.iterdir()]
    if work.is_dir():
        there = [path for path in there if path != work] + [*work.iterdir()]
    names = sorted(str(path.relative_to(output)) for path in there if not path.name.startswith("."))
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UserError(
            f"{output} is not empty (it holds {', '.join(names[:3])}{more}) and is not a build to go on with (it has no "
            "work/settings.json); expected a new or an empty folder, choose another --output"
        )


def sweep(output: Path) -> None:
    """Delete the temporary files of a killed run, and nothing else."""
    for name, pattern in _TEMPORARY.items():
        _delete((output / name).glob(".*.tmp"), pattern)
    _delete((output / "work").rglob(".*.tmp"), _IN_WORK)


def _delete(paths: Iterable[Path], pattern: re.Pattern) -> None:
    for path in paths:
        if pattern.fullmatch(path.name):
            path.unlink(missing_ok=True)
