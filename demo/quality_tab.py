"""To be written."""

from collections.abc import Callable
from typing import Any


def opened(*_: Any) -> Callable[[], None] | None:
    return None
