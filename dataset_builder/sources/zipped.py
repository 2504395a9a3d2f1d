"""Archives, as data exports come in: read as the folders that they hold, member by member. Nothing is unpacked to the disk.

A member's path is `<archive>.zip/<name>`, where nothing else can lie.
"""

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

MOST_TIMES = 200  # larger than packed, as no log is;
SMALL = 256 << 20  # bytes that may be
_FAULTS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, KeyError)


def is_archive(path: Path) -> bool:
    """Whether a path is that of an archive."""
    return path.suffix.lower() == ".zip" and path.is_file()


def archive_of(path: str | Path) -> Path | None:
    """The archive that a member's path leads into; None for any other path."""
    return next((parent for parent in Path(path).parents if is_archive(parent)), None)


def members(archive: Path) -> list[Path]:
    """The paths of all members.

    Raises:
        OSError: it is damaged, encrypted, or no archive that a person would make: names that lead out of it, or many times
            its size.
    """
    with _damage_as_os_error(), zipfile.ZipFile(archive) as file:
        found = [info for info in file.infolist() if not info.is_dir()]
    size = sum(info.file_size for info in found)
    if size > max(SMALL, MOST_TIMES * archive.stat().st_size):
        raise OSError(f"it would unpack to {size:,} bytes; unpack it and give the folder, if it is to be trusted")
    for info in found:
        name = PurePosixPath(info.filename)
        if name.is_absolute() or ".." in name.parts or str(name) != info.filename:
            raise OSError(f"a member has the name {info.filename[:80]!r}")
        if info.flag_bits & 1:
            raise OSError("it is encrypted; unpack it and give the folder")
    return list(dict.fromkeys(archive / info.filename for info in found))


def member_size(path: str | Path) -> int:
    """Bytes of a member, unpacked."""
    archive = archive_of(path)
    assert archive is not None
    with _damage_as_os_error(), zipfile.ZipFile(archive) as file:
        return file.getinfo(Path(path).relative_to(archive).as_posix()).file_size


class Member(io.RawIOBase):
    """The bytes of a member. Reading raises `OSError` where it is damaged."""

    def __init__(self, archive: Path, path: str | Path) -> None:
        with _damage_as_os_error():
            self.file = zipfile.ZipFile(archive)
            self.member = self.file.open(Path(path).relative_to(archive).as_posix())

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # noqa: ANN001 - anything that bytes can be written into
        with _damage_as_os_error():
            data = self.member.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self.file.close()
        super().close()


@contextmanager
def _damage_as_os_error() -> Iterator[None]:
    try:
        yield
    except _FAULTS as error:
        raise OSError(f"it is damaged: {' '.join(str(error).split())[:120]}") from error
