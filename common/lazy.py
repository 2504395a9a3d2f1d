"""Public names that are imported on first use, so that `import wildreward` and `--help` stay instant."""

import importlib
from collections.abc import Callable
from typing import Any


def lazy_names(package: str, names: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Build the module-level `__getattr__` and `__dir__` of `package`.

    Args:
        package: `__name__` of the package that exposes the names.
        names: public name → module that defines it (absolute, or relative to `package` with a leading dot).

    Returns:
        `(__getattr__, __dir__)`.
    """

    def getattr_(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(names[name], package), name)

    def dir_() -> list[str]:
        return sorted(names)

    return getattr_, dir_
