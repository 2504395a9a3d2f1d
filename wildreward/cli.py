"""The `wildreward` command: which module answers which command, and how errors reach the user.

Nothing heavy is imported before a command is chosen, so `wildreward --help` is instant.
"""

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from wildreward.errors import UserError


class Command(NamedTuple):
    """Where a command lives: a module with `CONFIGS` (dataclasses) and `main(*configs)`."""

    module: str
    help: str


COMMANDS = {
    "quickstart": Command("wildreward.quickstart", "the whole way, small, on this machine"),
    "build-dataset": Command("wildreward.dataset_builder.command", "chat logs to a feedback dataset"),
    "train-reward": Command("wildreward.training.reward_command", "train an ordinal reward model on a feedback dataset"),
    "evaluate": Command("wildreward.evaluation.command", "measure a reward model: results.json, plots, table"),
    "train-dpo": Command("wildreward.training.dpo_command", "improve a policy with a reward model by online DPO"),
}


def run(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 when it worked, 2 for what the user can put right, 130 when interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        sys.exit(0 if argv else 2)
    if argv[0] == "--version":
        from importlib.metadata import version

        print(version("wildreward"))
        sys.exit(0)
    if argv[0] not in COMMANDS:
        sys.exit(_fail(f"unknown command {argv[0]!r}; expected one of: {', '.join(COMMANDS)}", 2))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "datasets", "fsspec", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        module = importlib.import_module(COMMANDS[argv[0]].module)
        module.main(*parse(argv[0], module.CONFIGS, argv[1:]))
    except UserError as error:
        sys.exit(_fail(str(error), 2))
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted; run the same command again to go on where it stopped", 130))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output went away
        sys.exit(1)


def parse(command: str, config_types: tuple[type, ...], argv: Sequence[str]) -> tuple[Any, ...]:
    """Flags, over the YAML file given with `--config`, over the defaults → one object for each dataclass.

    Raises:
        UserError: the file cannot be read, holds something unknown, or a value does not fit its field.
    """
    from trl import TrlParser

    parser = TrlParser(
        config_types,
        prog=f"wildreward {command}",
        description=COMMANDS[command].help,
        epilog="--config FILE.yaml sets any of these (names with underscores); flags override the file.",
    )
    try:
        return parser.parse_args_and_config(_merge_repeated(argv))
    except FileNotFoundError as error:
        raise UserError(f"the configuration file {error.filename} does not exist") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"configuration of {command}: {' '.join(str(error).split())}") from error


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


def _merge_repeated(argv: Sequence[str]) -> list[str]:
    """`--benchmark A --benchmark B` means what `--benchmark A B` means."""
    merged: dict[str, list[str]] = {}
    key = ""
    for word in argv:
        if word.startswith("--"):
            key, _, value = word.partition("=")
            values = merged.setdefault(key, [])
            values.extend([value] if value else [])
        else:
            merged.setdefault(key, []).append(word)
    return [word for key, values in merged.items() for word in ([key] if key else []) + values]


def _fail(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
