"""A model or dataset by its name: a folder here, or else an id on the Hub; and what to say of one that is neither."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub import ResolvedRevision

LONGEST_REASON = 400  # transformers lists all classes it knows


def hub_httpx() -> ModuleType:
    """The `httpx` whose errors `huggingface_hub` raises: its release 2 came with `httpx2`."""
    from huggingface_hub import __version__

    return import_module("httpx" if __version__.startswith("1.") else "httpx2")


def hub_commit(name: str, revision: str | None = None, **access: Any) -> ResolvedRevision | None:
    """The commit of a model on the Hub, or in its cache; None of a folder.

    Asked for once: downloads would try a Hub that cannot be reached again and again, for most of a minute.

    Args:
        name: folder or Hub id.
        revision: branch, tag or commit.
        **access: `token`, `cache_dir` and `local_files_only`, as in `huggingface_hub.resolve_revision`.

    Raises:
        OSError, ValueError: there is no such model or revision, or neither the Hub nor the cache can tell.
    """
    from huggingface_hub import resolve_revision
    from huggingface_hub.errors import RevisionResolutionError

    if Path(name).is_dir():
        return None
    try:
        return resolve_revision(name, revision=revision, **access)
    except (RevisionResolutionError, hub_httpx().ProxyError) as error:
        raise ConnectionError(str(error)) from error


def load_error_message(name: str, error: Exception) -> str:
    """What went wrong with opening `name`, in one line; first of all that it was taken for a Hub id, where it is nothing here."""
    from huggingface_hub.errors import HFValidationError

    reason = " ".join(str(error).split()) or type(error).__name__
    if len(reason) > LONGEST_REASON:
        reason = f"{reason[:LONGEST_REASON]}…"
    if Path(name).exists() or not isinstance(error, OSError | HFValidationError):
        return reason
    return f"there is no file or folder {name!r} here, and as an id on the Hub: {reason}"
