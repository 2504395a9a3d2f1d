"""The commands: which module answers which, and how flags and YAML become its configuration."""

import argparse
import importlib
from collections.abc import Collection, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple, NoReturn

from wildreward.errors import UserError
from wildreward.settings import check_finite


class Command(NamedTuple):
    """Where a command lives: a module with `CONFIGS` (dataclasses) and `main(*configs)`."""

    module: str
    help: str


COMMANDS = {
    "quickstart": Command("wildreward.quickstart", "the whole way, small, on this machine"),
    "build-dataset": Command("wildreward.dataset_builder.command", "chat logs to a feedback dataset"),
    "train-labeler": Command(
        "wildreward.training.labeler_command", "train a classifier that reads levels, on your own labels"
    ),
    "train-reward": Command(
        "wildreward.training.reward_command", "train an ordinal reward model on a feedback dataset"
    ),
    "analyze": Command(
        "wildreward.training.analyze_command", "train on variants of a dataset: data strategy, user diversity, size"
    ),
    "evaluate": Command("wildreward.evaluation.command", "measure a reward model: results.json, plots, table"),
    "train-dpo": Command("wildreward.training.dpo_command", "improve a policy with a reward model by online DPO"),
    "score": Command("wildreward.evaluation.score_command", "score a file of conversations, one score a line"),
    "serve": Command("wildreward.serving.command", "a reward model behind HTTP"),
    "push": Command("wildreward.model_card.command", "put a model or dataset folder on the Hub, card included"),
    "export": Command("wildreward.export_command", "to a plain sequence classifier that vLLM and others load"),
    "convert": Command("wildreward.convert_command", "from a plain sequence classifier with K-1 labels"),
    "evaluate-labeler": Command(
        "wildreward.evaluation.labeler_command", "agreement of feedback levels with gold levels"
    ),
}


def execute(command: str, argv: Sequence[str]) -> None:
    """Run one command as the shell would.

    Raises:
        UserError: something the user can put right.
    """
    module = importlib.import_module(COMMANDS[command].module)
    module.main(*parse(command, module.CONFIGS, argv))


def parse(command: str, config_types: tuple[type, ...], argv: Sequence[str]) -> tuple[Any, ...]:
    """Flags, over the YAML file given with `--config`, over the defaults → one object for each dataclass.

    Args:
        command: whose options they are.
        config_types: dataclasses; one may name fields in a class attribute `hidden_options: ClassVar[tuple[str, ...]]`,
            which `--help` then leaves out.
        argv: the command's words.

    Raises:
        UserError: the file cannot be read, something is unknown, or a value does not fit its option.
    """
    from trl import TrlParser

    from wildreward.config_file import read_config, unknown_options

    parser = TrlParser(
        config_types,
        prog=f"wildreward {command}",
        description=COMMANDS[command].help,
        epilog="--config FILE.yaml sets any of these (names with underscores); flags override the file.",
    )
    parser.error = partial(_refuse, command)
    hidden = {name for config in config_types for name in getattr(config, "hidden_options", ())}
    for action in parser._actions:
        if action.dest in hidden:
            action.help = argparse.SUPPRESS
    lists = {f.name for config in config_types for f in fields(config) if "list" in str(f.type)}
    words, path = take_config(merge_repeated(argv, lists))
    if path is not None:
        parser.set_defaults_with_config(**read_config(path, command, config_types))
    found, rest = parser.parse_known_args(words)
    if rest:
        flags = [word for word in rest if word.startswith("-")]
        known = [f.name for config in config_types for f in fields(config) if f.init and f.name not in hidden]
        raise UserError(unknown_options(flags or rest, known, command))
    check_finite(vars(found))
    try:
        return parser.parse_dict(vars(found))
    except (ValueError, TypeError) as error:
        raise UserError(f"configuration of {command}: {error}") from error


def _refuse(command: str, message: str) -> NoReturn:
    """What argparse has to say, in one line and without its usage text."""
    raise UserError(f"{message}; wildreward {command} --help lists the options")


def take_config(words: Sequence[str]) -> tuple[list[str], str | None]:
    """Words without `--config FILE`, and the file.

    Raises:
        UserError: the flag is there without a file.
    """
    if "--config" not in words:
        return list(words), None
    place = words.index("--config")
    if place + 1 == len(words) or words[place + 1].startswith("--"):
        raise UserError("--config names no file; expected --config FILE.yaml")
    return [*words[:place], *words[place + 2 :]], words[place + 1]


def merge_repeated(argv: Sequence[str], lists: Collection[str]) -> list[str]:
    """`--benchmark A --benchmark B` means what `--benchmark A B` means; of other repeated flags the last counts.

    Args:
        argv: the command's words.
        lists: names of the options that take several values, with underscores.
    """
    merged: dict[str, list[str]] = {}
    key = ""
    for word in argv:
        if word.startswith("--"):
            key, _, value = word.partition("=")
            if key.removeprefix("--").replace("-", "_") not in lists:
                merged.pop(key, None)
            merged.setdefault(key, []).extend([value] if value else [])
        else:
            merged.setdefault(key, []).append(word)
    return [word for key, values in merged.items() for word in ([key] if key else []) + values]
