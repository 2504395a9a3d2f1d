"""Reading a large JSON array of objects through a sliding window, also from the middle and past damage.

A range of bytes stands for the records that *begin* in it, so ranges can be read side by side. Ranges begin where records
do: one pass over the file counts brackets, which tells a record from an object inside one. The next whole record after a
corrupt one is found by trying: a place that decodes as an object with the expected key, because text inside a JSON string
cannot hold an unescaped quote.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 4 << 20
# A record that is still incomplete with so much text at hand may be corrupt: look for a whole one behind it.
SUSPICIOUS = 8 << 20
_START = re.compile(r"(?:^|[\[,}])\s*(?=\{)")
_SPACE = re.compile(r"[\s,]*")
_QUOTE, _BACKSLASH = 2, ord("\\")
_KINDS = np.zeros(256, np.int8)
_KINDS[[ord(sign) for sign in "[{"]], _KINDS[[ord(sign) for sign in "]}"]], _KINDS[ord('"')] = 1, -1, _QUOTE
_decode = json.JSONDecoder().raw_decode


def record_starts(file: Path, length: int) -> list[int]:
    """Bytes at which ranges of about `length` bytes should begin: 0, and then the first record behind each multiple.

    In a damaged file, where brackets do not come out even, there may be none, or places inside records.
    """
    starts, wanted, depth, offset = [0], length, 0, 0
    in_text = escaped = False
    with open(file, "rb") as handle:
        while data := handle.read(CHUNK):
            places, classes, in_text, escaped = _brackets(np.frombuffer(data, np.uint8), in_text, escaped)
            depths = depth + np.cumsum(classes)
            opening = places[(classes > 0) & (depths == 2)] + offset  # a record, in the array
            while len(behind := opening[opening >= wanted]):
                starts.append(int(behind[0]))
                wanted = (starts[-1] // length + 1) * length
            depth = int(depths[-1]) if len(depths) else depth
            offset += len(data)
    return starts


def _brackets(data: np.ndarray, in_text: bool, escaped: bool) -> tuple[np.ndarray, np.ndarray, bool, bool]:
    """Where brackets stand outside strings, with 1 for those that open and -1 for those that close.

    Args:
        data: (N,) bytes, a part of a JSON file.
        in_text: it begins inside a string.
        escaped: its first byte is escaped.

    Returns:
        places and classes of the brackets, and `in_text` and `escaped` of what follows.
    """
    kinds = _KINDS[data]
    places = np.flatnonzero(kinds)
    kinds = kinds[places]
    quotes = kinds == _QUOTE
    candidates = places[quotes]
    # a quote after an odd number of backslashes ends nothing
    live = np.ones(len(candidates), bool)
    active, back = np.arange(len(candidates)), 1
    while len(active):
        before = candidates[active] - back
        outside = before < 0
        slash = np.where(outside, escaped and back == candidates[active] + 1, data[np.maximum(before, 0)] == _BACKSLASH)
        active = active[slash]
        live[active] ^= True
        active, back = active[candidates[active] - back >= 0], back + 1
    toggles = np.zeros(len(places), np.int64)
    toggles[quotes] = live
    inside = (np.cumsum(toggles) + in_text) % 2 == 1
    structural = ~quotes & ~inside
    whole = data.tobytes()
    run = len(whole) - len(whole.rstrip(b"\\"))
    run += escaped and run == len(whole)
    return (
        places[structural],
        kinds[structural].astype(np.int64),
        bool(inside[-1]) if len(inside) else in_text,
        run % 2 == 1,
    )


def read_array(
    file: Path,
    start: int,
    stop: int,
    key: str | None,
    on_loss: Callable[[str, str], None],
    *,
    at_record: bool = False,
) -> Iterator[Any]:
    """Records that begin at bytes `start` to `stop`.

    Args:
        file: the JSON file, an array at its top.
        start, stop: byte range; 0 to the file's size for all.
        key: a key that every record has, needed to find the first record when `start` is not 0, and after damage.
        on_loss: called with a reason and a message for each corrupt record and for a cut-off end; may raise.
        at_record: `start` is one of `record_starts`; otherwise the first record behind it is looked for.
    """
    with open(file, "rb") as handle:
        window = _Window(handle, start)
        count = 0
        if start == 0:
            window.open_array()
        elif at_record:
            window.grow(0)
        elif not window.find_record(key):
            return
        while window.skip_space() and window.text[window.position] != "]":
            if window.byte_offset() >= stop:
                return
            record, found = window.take(key)
            if found == "whole":
                count += 1
                yield record
            elif found == "corrupt":
                on_loss("corrupt_records", f"{file} is corrupt at byte {record}, after {count} complete records")
            else:
                on_loss("cut_off_records", f"{file} is cut off in the middle of a record, after {count} complete ones")
                return
        if window.ended and window.position >= len(window.text):
            on_loss("cut_off_files", f"{file} is cut off: the array is not closed after {count} complete records")
            return
        window.position += 1
        if window.skip_space():
            on_loss("text_after_array", f"{file} goes on behind the array's end, at byte {window.byte_offset()}")


class _Window:
    """The part of the file that is in memory, as text, and a position in it."""

    def __init__(self, handle: Any, start: int) -> None:
        handle.seek(start)
        self.handle = handle
        # Invalid bytes survive as lone surrogates, so that text can be turned back into the same number of bytes.
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self.text, self.position, self.ended = "", 0, False
        self.known_char, self.known_byte = 0, start

    def byte_offset(self) -> int:
        """Where in the file the position is."""
        passed = self.text[self.known_char : self.position].encode("utf-8", "surrogateescape")
        self.known_char, self.known_byte = self.position, self.known_byte + len(passed)
        return self.known_byte

    def grow(self, size: int) -> None:
        """Drop what is behind the position and read on."""
        self.byte_offset()
        data = self.handle.read(max(size, CHUNK))
        self.ended = not data
        self.text = self.text[self.position :] + self.decoder.decode(data, final=self.ended)
        self.position = self.known_char = 0

    def skip_space(self) -> bool:
        """Move to the next sign that is not white space or a comma; False at the end of the file."""
        while True:
            self.position = _SPACE.match(self.text, self.position).end()
            if self.position < len(self.text):
                return True
            if self.ended:
                return False
            self.grow(CHUNK)

    def open_array(self) -> None:
        self.grow(CHUNK)
        if self.text.startswith("\ufeff"):
            self.position = 1
        if self.skip_space() and self.text[self.position] == "[":
            self.position += 1

    def take(self, key: str | None) -> tuple[Any, str]:
        """The record at the position: (record, "whole"), (its byte, "corrupt") or (None, "cut off")."""
        while True:
            try:
                record, self.position = _decode(self.text, self.position)
            except (ValueError, RecursionError):
                left = len(self.text) - self.position
                if left > SUSPICIOUS or self.ended:
                    offset = self.byte_offset()
                    following = self._next_record(self.position + 1, key)
                    if following is not None:
                        self.position = following
                        return offset, "corrupt"
                if self.ended:
                    return None, "cut off"
                self.grow(left)
            else:
                return record, "whole"

    def find_record(self, key: str | None) -> bool:
        """Move to the first record in what follows; False when there is none."""
        while True:
            self.grow(len(self.text) - self.position)
            following = self._next_record(self.position, key)
            if following is not None:
                self.position = following
                return True
            if self.ended:
                return False

    def _next_record(self, begin: int, key: str | None) -> int | None:
        for match in _START.finditer(self.text, begin):
            try:
                record, _ = _decode(self.text, match.end())
            except (ValueError, RecursionError):
                continue
            if key is None or key in record:
                return match.end()
        return None
