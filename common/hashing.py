"""Digests by which files and settings are known again."""

import hashlib
import json
import os
from typing import Any


def file_sha256(path: str | os.PathLike) -> str:
    """64 hex digits of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def text_sha256(text: str, digits: int = 64) -> str:
    """The first hex digits of a text's digest."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def json_sha256(value: Any, digits: int = 64) -> str:
    """The first hex digits of the digest of a value that JSON can hold."""
    return text_sha256(json.dumps(value, sort_keys=True), digits)
