"""Names of models and data that can be published: they say nothing about the machine and hold no password."""

from pathlib import Path

from wildreward.reward_source import is_url, source_name


def public_name(name: str) -> str:
    """A Hub id as given; of a local path (also one on a server) only the last part; of a URL only the host."""
    if is_url(name):
        return source_name(name)
    path = Path(name)
    if path.exists():
        return path.resolve().name
    return path.name if path.is_absolute() or name.startswith("~") else name
