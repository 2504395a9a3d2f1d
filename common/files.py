"""Writing so that a crash, a full disk or a second run never leaves a half-written file behind."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from wildreward.common.errors import UserError


def make_folder(folder: str | os.PathLike) -> Path:
    """Create `folder` with its parents and make sure that files can be written in it.

    Raises:
        UserError: it cannot be created or written, naming the folder and the system's reason.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; choose a folder you can write to"
        ) from error
    return folder


def refuse_filled(folder: str | os.PathLike) -> None:
    """Refuse an output folder that holds anything: the input itself, perhaps, or what somebody else has put there.

    Raises:
        UserError: naming what is there.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"the output {folder} is a file; expected a new or an empty folder")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UserError(
            f"the output folder {folder} is not empty (it holds {', '.join(names[:3])}{more}); expected a new or an empty "
            "folder: choose another, or remove it"
        )


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; on success it is flushed to disk and renamed to `path`, else removed.

    Raises:
        UserError: the system refused to write (disk full, no permission); the old file, if any, is intact.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; the old file, if any, is unchanged"
        ) from error
    finally:
        with contextlib.suppress(NotADirectoryError):
            temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused (`ValueError`)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON, naming it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error})") from error


def complete_lines(path: str | os.PathLike) -> Iterator[tuple[int, bytes]]:
    """Lines, numbered from 1, of a file that `append_lines` writes; a last one that was half written is cut off."""
    if not os.path.exists(path):
        return
    complete = 0
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.endswith(b"\n"):
                break
            yield number, line
            complete += len(line)
    os.truncate(path, complete)


def append_lines(path: str | os.PathLike, rows: Iterable[Any]) -> None:
    """Append rows as JSON Lines, and have them on disk.

    Raises:
        UserError: the system refused (disk full, no permission), naming the file.
    """
    try:
        with open(path, "a", encoding="utf-8") as handle:
            handle.write("".join(json.dumps(row) + "\n" for row in rows))
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; what was written before is kept") from error


def lock_file(handle: IO[Any], name: str | os.PathLike, shared: bool = False) -> None:
    """Lock an open file until it is closed.

    Raises:
        UserError: another living process has locked it; `name` is what it is told to write to.
    """
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"another run is writing to {name}; wait for it to end, or choose another output folder"
        ) from error


class FolderLock:
    """Hold a folder for one run. The kernel drops the lock when the process dies, so a killed run leaves none behind.

    Args:
        folder: to hold.
        shared: with the other processes of the same run, which take it so as well.

    Raises:
        UserError: on entry, when another living process holds the folder.
    """

    def __init__(self, folder: str | os.PathLike, shared: bool = False) -> None:
        self.folder, self.shared = Path(folder), shared

    def __enter__(self) -> Self:
        make_folder(self.folder)
        self._handle = open(self.folder / ".lock", "a+")
        try:
            lock_file(self._handle, self.folder, shared=self.shared)
        except BaseException:
            self._handle.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()
