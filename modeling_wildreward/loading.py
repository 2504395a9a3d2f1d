"""Loading weights without leaving any to chance: what is missing, left over or of another shape is an error.

This file is copied to the Hub with every model, so it imports nothing but transformers.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from transformers.utils import logging

SHOWN = 3  # names of weights in a message


class WeightsError(ValueError):
    """A checkpoint does not hold the weights of its model."""


def load_whole(
    load: Callable, *args: Any, may_lack: tuple[str, ...] = (), may_have: tuple[str, ...] = (), **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Call a `from_pretrained`, and refuse a checkpoint that is not the model's, weight by weight.

    transformers gives weights that are missing or have another shape new values by chance, and only warns.

    Args:
        load: `from_pretrained` of a model class or an Auto class.
        *args: passed to it.
        may_lack: beginnings of the names of weights that need not be there.
        may_have: beginnings of the names of weights that are passed over.
        **options: passed to `load`.

    Returns:
        The model and transformers' report.

    Raises:
        WeightsError: weights are missing, left over or of another shape, naming them.
    """
    with _without_its_report():  # the error says the same, in one line
        model, report = load(*args, **options, output_loading_info=True, ignore_mismatched_sizes=True)
    lacks = sorted(name for name in report["missing_keys"] if not name.startswith(may_lack))
    left = sorted(name for name in report["unexpected_keys"] if not name.startswith(may_have))
    shapes = [
        f"{name} of shape {tuple(found)} instead of {tuple(expected)}"
        for name, found, expected in sorted(report["mismatched_keys"])
    ]
    faults = [("lacks weights for", lacks), ("has weights the model does not have:", left), ("has", shapes)]
    if found := [f"{fault} {_some(names)}" for fault, names in faults if names]:
        raise WeightsError(f"the checkpoint {' and '.join(found)}")
    return model, report


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


@contextlib.contextmanager
def _without_its_report() -> Iterator[None]:
    # the second speaks up just because the first is made quiet
    names = ("transformers.modeling_utils", "transformers.distributed.tensor_parallel")
    levels = [(library, library.level) for library in map(logging.get_logger, names)]
    for library, _ in levels:
        library.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for library, level in levels:
            library.setLevel(level)
