"""The commands: which module answers which, and how flags and YAML become its configuration."""

import argparse
import importlib
from collections.abc import Collection, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple, NoReturn

from wildreward.common.errors import UserError
from wildreward.common.settings import check_finite
from wildreward.config_file import is_foreign, read_config, unknown_options


class Command(NamedTuple):
    """Where a command lives: a module with `CONFIGS` (dataclasses) and `main(*configs)`."""

    module: str
    help: str


COMMANDS = {
    "quickstart": Command("wildreward.quickstart", "the whole way, small, on this machine"),
    "build-dataset": Command("wildreward.dataset_builder.command", "chat logs to a feedback dataset"),
    "train-labeler": Command(
        "wildreward.training.labeler_command", "train the classifier that reads levels, on your own labels"
    ),
    "train-reward": Command(
        "wildreward.training.reward_command", "train an ordinal reward model on a feedback dataset"
    ),
    "evaluate": Command("wildreward.evaluation.command", "measure a reward model: results.json, plots, table"),
    "train-dpo": Command("wildreward.training.dpo_command", "improve a policy with a reward model by online DPO"),
    "score": Command(
        "wildreward.scoring.score_command", "score conversations or completions, or select by their scores"
    ),
    "serve": Command("wildreward.scoring.serve_command", "a reward model behind HTTP"),
    "demo": Command("wildreward.demo.command", "try a model, browse its data and see its results in the browser"),
    "push": Command("wildreward.model_card.command", "put a model or dataset folder on the Hub, card included"),
    "export": Command("wildreward.scoring.export_command", "to a plain sequence classifier that vLLM and others load"),
    "convert": Command("wildreward.scoring.convert_command", "from a plain sequence classifier with K-1 labels"),
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
        config_types: dataclasses. Class attributes may say what `--help` shows: `hidden_options: ClassVar[tuple[str, ...]]`
            are left out; `option_groups: ClassVar[dict[str, str]]` names the first option of a group and its title.
        argv: the command's words.

    Raises:
        UserError: the file cannot be read, something is unknown, or a value does not fit its option.
    """
    from trl import TrlParser

    parser = TrlParser(
        config_types,
        prog=f"wildreward {command}",
        description=COMMANDS[command].help,
        epilog="--config FILE.yaml sets any of these (names with underscores); flags override the file.",
        formatter_class=_HyphensFormatter,
    )
    parser.error = partial(_refuse, command)
    hidden = {name for config in config_types for name in getattr(config, "hidden_options", ())}
    _arrange_help(parser, config_types, hidden, everything="--help-all" in argv)
    argv = ["--help" if word == "--help-all" else word for word in argv]
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


class _HyphensFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows `--a-b VALUE` of an option that is also understood as `--a_b`."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = dict.fromkeys(name.replace("_", "-") for name in action.option_strings)
        value = (
            "" if action.nargs == 0 else f" {self._format_args(action, self._get_default_metavar_for_optional(action))}"
        )
        return ", ".join(names) + value

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def _arrange_help(
    parser: argparse.ArgumentParser, config_types: Sequence[type], hidden: Collection[str], everything: bool
) -> None:
    """Put the options into titled groups, without the hidden ones and, but for `--help-all`, those that libraries declare."""
    actions: dict[str, list[argparse.Action]] = {}
    for action in parser._actions:
        actions.setdefault(action.dest, []).append(action)
    parser.usage = f"{parser.prog} [--config FILE.yaml] [options]"
    inherited = parser.add_argument_group("options of transformers and TRL")
    for config in config_types:
        titles = getattr(config, "option_groups", {})
        group = parser.add_argument_group()
        for option in (f.name for f in fields(config) if f.init):
            if option in titles:
                group = parser.add_argument_group(titles[option])
            home = inherited if is_foreign(config, option) else group
            for action in actions[option]:
                parser._optionals._group_actions.remove(action)
                home._group_actions.append(action)
                if option in hidden or (home is inherited and not everything):
                    action.help = argparse.SUPPRESS
    parser._action_groups.append(parser._action_groups.pop(parser._action_groups.index(inherited)))
    if inherited._group_actions and not everything:
        parser.epilog = f"{parser.epilog} --help-all lists those of transformers and TRL, too."


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
