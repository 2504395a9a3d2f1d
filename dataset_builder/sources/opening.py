"""Files that cannot be read: told before they are opened, and while they are read."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def unreadable(path: str | Path) -> str:
    """Why a path cannot be read as a file, "" if it can. Pipes and devices may never end, and files are read twice."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return f"is {_KINDS.get(stat.S_IFMT(mode), 'a device')}, not a file"
        with open(path, "rb"):
            return ""
    except (OSError, ValueError) as error:
        if os.path.islink(path):
            return f"is a link that leads nowhere ({reason(error)})"
        if isinstance(error, FileNotFoundError):
            return "does not exist"
        return f"cannot be read ({reason(error)})"


def reason(error: Exception) -> str:
    """The system's words for an error, without the path."""
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:200]


@contextmanager
def reading(path: str | Path, on_loss: Callable[[str, str], None]) -> Iterator[None]:
    """What the system refuses inside the block, such as a file that vanished, is a loss: `on_loss(reason, message)`."""
    try:
        yield
    except OSError as error:
        on_loss("unreadable_file", f"{path} cannot be read ({reason(error)})")
