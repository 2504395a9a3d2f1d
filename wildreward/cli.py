"""The `wildreward` program: picks the command and brings errors to the user in one line.

Nothing heavy is imported before a command is chosen, so `wildreward --help` is instant.
"""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version

from wildreward.commands import COMMANDS, execute
from wildreward.common.errors import UserError


def run(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 when it worked, 2 for what the user can put right, 130 when interrupted."""
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except UserError as error:
        code = _fail(str(error), 2)
    except KeyboardInterrupt:
        code = _fail("interrupted; run the same command again to go on where it stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output went away
        code = 1
    sys.exit(code)


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(version("wildreward"))
        return 0
    if argv[0] not in COMMANDS:
        return _fail(f"unknown command {argv[0]!r}; expected one of: {', '.join(COMMANDS)}", 2)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "datasets", "fsspec", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries talk to developers there; python -W default shows it
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault(
            "TQDM_DISABLE", "1"
        )  # bars of libraries; what is told instead stands in common/progress.py
    execute(argv[0], argv[1:])
    return 0


def usage() -> str:
    """The text of `wildreward --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: wildreward COMMAND [--config FILE.yaml] [options]",
            "",
            "Reward models learned from what users really say.",
            "",
            *lines,
            "",
            "wildreward COMMAND --help lists the options of a command.",
        ]
    )


def _fail(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
