"""The files of a source: found, told from those that cannot be read, and recognised when they have changed."""

import hashlib
import io
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from wildreward.common.errors import UserError
from wildreward.dataset_builder.sources.zipped import Member, archive_of, is_archive, member_size, members

FORMATS = {
    ".parquet": "parquet",
    ".arrow": "arrow",  # of a folder made by `save_to_disk`, among others
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
}
_NOT_STREAMED = ("parquet", "arrow")  # but read from their end, or mapped
COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}  # behind the ending of a text format
ARCHIVES = (".tar", ".tgz", ".7z", ".rar", *COMPRESSED)
EXPECTED = "parquet, Arrow, JSON, JSONL or CSV"
# Files of a folder that may hold chats in a form that is not read here; they are not passed over in silence.
OTHER_DATA = re.compile(r"\.(7z|avro|bz2|feather|gz|lz4|orc|pickle|pkl|rar|sqlite|tar|tgz|txt|xlsx?|xz|zip|zst)")
_PROSE = ("changelog", "citation", "copying", "licen", "notice", "readme", "requirements")  # as .txt
_METADATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
WHOLE = 64 << 20  # of a larger file, the digest takes samples:
EDGE = 1 << 20  # its first and last bytes,
BLOCK, BLOCKS = 64 << 10, 64  # and so many blocks between them

logger = logging.getLogger(__name__)


@dataclass
class InputErrors:
    """Input that could not be read. With `skip` it is counted, otherwise it is an error. `first` says what came first."""

    skip: bool = False
    counts: Counter = field(default_factory=Counter)
    first: str = ""

    def add(self, reason: str, message: str, count: int = 1) -> None:
        """Count what is lost, or raise `UserError`."""
        if not self.skip:
            raise UserError(f"{message}; pass --on-bad-input skip to use what can be read and count the loss")
        self.counts[reason] += count
        self.first = self.first or message


def format_of(path: Path) -> str | None:
    """The format that a file's name tells (`chats.jsonl.gz`: jsonl), None for one that is not read."""
    if path.suffix.lower() not in COMPRESSED:
        return FORMATS.get(path.suffix.lower())
    inner = FORMATS.get(Path(path.stem).suffix.lower())
    return inner if inner not in _NOT_STREAMED else None


def opened(path: str | Path) -> io.BufferedReader:
    """A file of text as bytes, decompressed on the way. Of a damaged one, reading raises `OSError` where it ends."""
    if archive := archive_of(path):
        return io.BufferedReader(Member(archive, path))
    codec = COMPRESSED.get(Path(path).suffix.lower())
    return io.BufferedReader(pa.input_stream(str(path), compression=codec)) if codec else open(path, "rb")


def size_of(path: str | Path) -> int:
    """Bytes of a file, or of a member of an archive."""
    return member_size(path) if archive_of(path) else os.path.getsize(path)


def files_in(folder: Path, errors: InputErrors) -> list[Path]:
    """The files of a folder or an archive that are read; others that may hold chats are an error. Hidden ones count if there
    are no others."""
    known, other, packed = [], [], is_archive(folder)
    for path in _members(folder, errors) if packed else _walk(folder, errors):
        kind = FORMATS.get(path.suffix.lower()) if packed else format_of(path)
        if kind and path.name not in _METADATA and not (packed and kind in _NOT_STREAMED):
            known.append(path)
        elif kind in _NOT_STREAMED or OTHER_DATA.fullmatch(path.suffix.lower()):
            other.append(path)
    other = [p for p in _visible(other, folder) if p.suffix.lower() != ".txt" or not p.stem.lower().startswith(_PROSE)]
    names = ", ".join(str(path.relative_to(folder)) for path in other[:3]) + (" …" if len(other) > 3 else "")
    if not known:
        raise UserError(f"{folder} holds no {EXPECTED} file" + (f", only {names}" if other else ""))
    if other:
        message = f"{folder} holds files that are not {EXPECTED} ({len(other)}: {names})"
        errors.add("files_not_read", f"{message}; unpack or convert them, or move them elsewhere", len(other))
        logger.warning("%s; they are not read", message)
    return _visible(known, folder) or known


def _members(archive: Path, errors: InputErrors) -> list[Path]:
    with reading(archive, errors.add):
        return sorted(members(archive))
    return []


def _walk(folder: Path, errors: InputErrors) -> list[Path]:
    """All files below a folder, sorted, also behind links; a folder that is reached twice counts once.

    A folder that is called like a file, with files of which none is read, comes as that file would, to be refused.
    """

    def not_listed(error: OSError) -> None:
        errors.add("unreadable_folder", f"{error.filename} cannot be read ({system_reason(error)})")

    found, seen = [], set()
    for parent, folders, names in os.walk(folder, onerror=not_listed, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        found += [Path(parent, name) for name in names]
        like_a_file = Path(parent) != folder and format_of(Path(parent))
        if like_a_file and names and not any(format_of(Path(name)) for name in names):
            found.append(Path(parent))
    return sorted(found)


def _visible(paths: list[Path], folder: Path) -> list[Path]:
    return [p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts)]


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
            return f"is a link that leads nowhere ({system_reason(error)})"
        if isinstance(error, FileNotFoundError):
            return "does not exist"
        return f"cannot be read ({system_reason(error)})"


def system_reason(error: Exception) -> str:
    """The system's words for an error, without the path."""
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:200]


@contextmanager
def reading(path: str | Path, on_error: Callable[[str, str], None]) -> Iterator[None]:
    """What the system refuses inside the block, such as a file that vanished: `on_error(reason, message)`."""
    try:
        yield
    except OSError as error:
        on_error("unreadable_file", f"{path} cannot be read ({system_reason(error)})")


def source_digest(files: Iterable[str | Path]) -> str:
    """A digest of the files' order, sizes and content; their names and times have no part in it."""
    digest = hashlib.sha256()
    for file in files:
        size = Path(file).stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with open(file, "rb") as handle:
            for start, length in _pieces(size):
                handle.seek(start)
                digest.update(handle.read(length))
    return digest.hexdigest()[:32]


def _pieces(size: int) -> Iterator[tuple[int, int]]:
    """(start, length) of what is read of a file."""
    if size <= WHOLE:
        yield from ((start, EDGE) for start in range(0, size, EDGE))
        return
    yield 0, EDGE
    last = size - EDGE - BLOCK
    yield from ((EDGE + (last - EDGE) * number // (BLOCKS - 1), BLOCK) for number in range(BLOCKS))
    yield size - EDGE, EDGE
