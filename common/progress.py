"""Progress of long work on stderr: a bar on a terminal, with the lines of the log above it; elsewhere a line of the log now
and then.
"""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

EVERY = 30.0  # seconds between two lines

logger = logging.getLogger(__name__)


@contextmanager
def progress(title: str, total: int | None = None, *, unit: str, **options: Any) -> Iterator[tqdm]:
    """A bar to `update`, closed and taken away in the end; without a terminal, it is seen in the log alone.

    Args:
        title: what is done.
        total: how much there is to do; None: not known yet.
        unit: of what, in the singular.
        options: more of tqdm's.
    """
    options = {"total": total, "desc": title, "unit": unit, "leave": False, **options}
    if sys.stderr.isatty():
        with logging_redirect_tqdm(), tqdm(**options) as bar:
            yield bar
    else:
        seldom = {"mininterval": EVERY, "maxinterval": EVERY, "delay": EVERY}
        with _Lines(**options, **seldom, disable=False, file=io.StringIO()) as bar:
            yield bar


class _Lines(tqdm):
    """What a bar says, as lines of the log."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Called when it is time to tell; with a text only to wipe the bar."""
        if msg is None:
            self.bar_format = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed}, {remaining} to go{postfix}"
            logger.info("%s", self)
