"""Reading a large JSON array of objects through a sliding window, in constant memory and past damage; or a document.

The next whole record after a corrupt one is found by trying: a place that decodes as an object with the expected key,
because text inside a JSON string cannot hold an unescaped quote.
"""

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from wildreward.dataset_builder.sources.files import opened

CHUNK = 4 << 20
# A record that is still incomplete with so much text at hand may be corrupt: look for a whole one behind it.
SUSPICIOUS = 8 << 20
_START = re.compile(r"(?:^|[\[,}])\s*(?=\{)")
_SPACE = re.compile(r"[\s,]*")
_decode = json.JSONDecoder().raw_decode


def read_array(file: Path, key: str | None, on_error: Callable[[str, str], None]) -> Iterator[Any]:
    """The records of an array at the top of a file; without one, the objects that stand there one after the other.

    Args:
        file: the JSON file.
        key: a key that every record has, needed to find the next one after damage.
        on_error: called with a reason and a message for each corrupt record and for a cut-off end; may raise.
    """
    # Invalid bytes survive as lone surrogates, so that text can be turned back into the same number of bytes.
    with opened(file) as binary, io.TextIOWrapper(binary, "utf-8", "surrogateescape", newline="") as handle:
        window = _Window(handle)
        count = 0
        if window.next_sign() == "\ufeff":
            window.position += 1
        window.in_array = window.next_sign() == "["
        window.position += window.in_array
        while sign := window.next_sign():
            if sign == "]" and window.in_array:
                window.position += 1
                if window.next_sign():
                    on_error("text_after_array", f"{file} goes on behind the array's end, at byte {window.byte()}")
                return
            found, value = window.take(key)
            if found == "whole":
                count += 1
                yield value
            elif found == "corrupt":
                on_error("corrupt_records", f"{file} is corrupt at byte {value}, after {count} complete records")
            else:
                on_error("cut_off_records", f"{file} is cut off in the middle of a record, after {count} complete ones")
                return
        if window.in_array or not count:
            on_error("cut_off_files", f"{file} is cut off: the array is not closed after {count} complete records")


class _Window:
    """The part of the file that is in memory, and a position in it."""

    def __init__(self, handle: TextIO) -> None:
        self.handle = handle
        self.text, self.position, self.ended, self.bytes_before = "", 0, False, 0
        self.in_array = False

    def byte(self) -> int:
        """Where in the file the position is."""
        return self.bytes_before + len(self.text[: self.position].encode("utf-8", "surrogateescape"))

    def grow(self, size: int) -> None:
        """Drop what is behind the position and read on."""
        self.bytes_before = self.byte()
        more = self.handle.read(max(size, CHUNK))
        self.text, self.position, self.ended = self.text[self.position :] + more, 0, not more

    def next_sign(self) -> str:
        """Move to the next sign that is not white space or a comma; "" at the end of the file."""
        while True:
            self.position = _SPACE.match(self.text, self.position).end()
            if self.position < len(self.text) or self.ended:
                return self.text[self.position : self.position + 1]
            self.grow(CHUNK)

    def take(self, key: str | None) -> tuple[str, Any]:
        """The record at the position: ("whole", record), ("corrupt", its byte) or ("cut off", None)."""
        while True:
            try:
                record, self.position = _decode(self.text, self.position)
                return "whole", record
            except (ValueError, RecursionError):
                left = len(self.text) - self.position
                if self.in_array and (left > SUSPICIOUS or self.ended):  # a document may be of any size
                    start, following = self.byte(), self._next_record(self.position + 1, key)
                    if following is not None:
                        self.position = following
                        return "corrupt", start
                if self.ended:
                    return "cut off", None
                self.grow(left)

    def _next_record(self, begin: int, key: str | None) -> int | None:
        for match in _START.finditer(self.text, begin):
            try:
                record, _ = _decode(self.text, match.end())
            except (ValueError, RecursionError):
                continue
            if key is None or key in record:
                return match.end()
        return None
