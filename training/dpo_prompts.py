"""Prompts for online DPO, from a feedback dataset or any dataset of prompts or chats."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset
from datasets.exceptions import DatasetNotFoundError
from transformers import PreTrainedTokenizerBase

from wildreward.common.chat import read_messages
from wildreward.common.errors import UserError
from wildreward.common.lookup import load_error_message

logger = logging.getLogger(__name__)

Prompt = str | list[dict[str, str]]

FILE_BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}
COLUMNS = (["prompt"], ["history", "messages"], ["messages"], ["conversations"])


def load_prompts(
    source: str,
    tokenizer: PreTrainedTokenizerBase,
    max_prompt_length: int,
    held_out: int,
    limit: int | None = None,
    seed: int = 42,
    config_name: str | None = None,
) -> tuple[Dataset, Dataset]:
    """Training prompts and held-out prompts, each a dataset with the one column `prompt`.

    Held-out prompts come from the `test` split where there is one, else they are taken out of `train`. Prompts that are
    empty, longer than `max_prompt_length` tokens, or there twice, and those with a message of an unknown role or without
    text, are left out and counted in the log.

    Args:
        source: folder, file or Hub id; its rows hold `prompt`, or `history` and `messages` as feedback datasets do, or
            `messages` or `conversations`, of which everything up to the last user message is the prompt.
        tokenizer: the policy's, whose chat template decides a prompt's length.
        max_prompt_length: in tokens.
        held_out: how many prompts to hold out.
        limit: most training prompts; all by default.
        seed: of the shuffle that decides which prompts are taken.
        config_name: of a dataset that has several.

    Raises:
        UserError: the dataset cannot be loaded, has none of these columns, or too few usable prompts.
    """
    splits, seen = _load(source, config_name), set()
    train = _shuffled(splits, "train" if "train" in splits else next(iter(splits)), seed)
    test_prompts: list[Prompt] = []
    if "test" in splits and held_out:
        test_prompts = _take(_shuffled(splits, "test", seed), held_out, tokenizer, max_prompt_length, seen)
    missing = held_out - len(test_prompts)
    prompts = _take(train, None if limit is None else limit + missing, tokenizer, max_prompt_length, seen)
    test_prompts, prompts = test_prompts + prompts[:missing], prompts[missing:]
    if not prompts:
        raise UserError(
            f"{source} holds no prompt to train on beside {held_out} held out; lower held_out_prompts, or raise "
            "max_prompt_length"
        )
    return Dataset.from_dict({"prompt": prompts}), Dataset.from_dict({"prompt": test_prompts})


def prompt_of(row: dict[str, Any]) -> Prompt | None:
    """The prompt of one row: a text, or messages that end with the user's; None where there is none.

    Raises:
        _UnusableRow: a message's role is unknown, or its content is not text.
    """
    if "prompt" in row:
        prompt = row["prompt"]
        return prompt if isinstance(prompt, str) else _messages(prompt)
    if "history" in row and "messages" in row:
        return _messages([*(row["history"] or []), *row["messages"][:1]])
    turns = row["messages"] if "messages" in row else row["conversations"]
    messages = _messages(turns)
    users = [i for i, message in enumerate(messages) if message["role"] == "user"]
    return messages[: users[-1] + 1] if users else None


class _UnusableRow(Exception):
    """A row that cannot be a prompt; says why."""


def _messages(turns: Any) -> list[dict[str, str]]:
    """What tools were asked and said is left out: many policies' templates refuse it, and none is there to be asked."""
    try:
        messages = read_messages(turns or [], "it")
    except ValueError as error:
        unknown = "unknown role" in str(error)
        raise _UnusableRow("unknown role" if unknown else "content that is not text") from error
    return [message for message in messages if message["role"] != "tool"]


def _load(source: str, config_name: str | None) -> DatasetDict:
    path = Path(source)
    try:
        if path.is_file():
            if path.suffix not in FILE_BUILDERS:
                raise UserError(f"{source} is a {path.suffix or 'nameless'} file; expected {', '.join(FILE_BUILDERS)}")
            return load_dataset(FILE_BUILDERS[path.suffix], data_files=str(path))
        return load_dataset(source, config_name)
    except (OSError, ValueError, DatasetNotFoundError) as error:
        raise UserError(f"the prompts in {source} cannot be loaded: {load_error_message(source, error)}") from error


def _shuffled(splits: DatasetDict, name: str, seed: int) -> Dataset:
    found = splits[name].column_names
    for columns in COLUMNS:
        if {*columns} <= {*found}:
            return splits[name].select_columns(columns).shuffle(seed=seed)
    raise UserError(
        f"the prompts' columns are {', '.join(sorted(found))}; expected `prompt`, or `history` and `messages`, or "
        "`messages`, or `conversations`"
    )


def _take(
    rows: Dataset, count: int | None, tokenizer: PreTrainedTokenizerBase, max_prompt_length: int, seen: set[str]
) -> list[Prompt]:
    """The first `count` usable prompts that were not seen before."""
    taken: list[Prompt] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        if count is not None and len(taken) >= count:
            break
        try:
            prompt = prompt_of(row)
        except _UnusableRow as unusable:
            left_out[str(unusable)] += 1
            continue
        if not prompt or not (prompt if isinstance(prompt, str) else prompt[-1]["content"]).strip():
            left_out["empty"] += 1
        elif str(prompt) in seen:
            left_out["duplicate"] += 1
        elif _length(prompt, tokenizer) > max_prompt_length:
            left_out["too long"] += 1
        else:
            seen.add(str(prompt))
            taken.append(prompt)
    if left_out:
        logger.info("prompts left out: %s", ", ".join(f"{n} {reason}" for reason, n in sorted(left_out.items())))
    return taken


def _length(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> int:
    if isinstance(prompt, str):
        return len(tokenizer(prompt)["input_ids"])
    return len(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"])
