"""Names of models and data that can be published: they say nothing about the machine and hold no password."""

import os
import re
from pathlib import Path
from typing import Any

from wildreward.common.secrecy import public_address


def public_name(name: str) -> str:
    """A Hub id as given, or that of a snapshot in a Hub cache; of another local path (also one on a server) only the last
    part; of a URL only the host."""
    if is_url(name):
        return source_name(name)
    path = Path(name)
    if cached := re.search(r"(?:^|/)(?:models|datasets)--([^/]+)/snapshots/", path.as_posix() + "/"):
        return cached[1].replace("--", "/")
    if path.exists():
        return path.resolve().name
    return path.name if path.is_absolute() or name.startswith("~") else name


def is_url(source: str) -> bool:
    """Whether a reward source is a server rather than a model."""
    return source.lower().startswith(("http://", "https://"))


def split_urls(source: str) -> list[str]:
    """Several addresses that stand in one text with commas between them.

    >>> split_urls("http://a:8000/score,http://b:8000/score")
    ['http://a:8000/score', 'http://b:8000/score']
    """
    return re.split(r",\s*(?=https?://)", source, flags=re.IGNORECASE)


def source_name(source: Any) -> str:
    """A short name for logs: the hosts of URLs, the last part of a path or id, the name of a function."""
    if not isinstance(source, str):
        return getattr(source, "__name__", type(source).__name__)
    if is_url(source):
        return ", ".join(public_address(url).split("://", 1)[1] for url in split_urls(source))
    return os.path.basename(source.rstrip("/")) or source
