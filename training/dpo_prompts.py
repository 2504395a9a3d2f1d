"""Prompts for online DPO, from a feedback dataset or any dataset of prompts or chats."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildreward.errors import UserError
from wildreward.lookup import why_not
from wildreward.roles import ROLES

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

FILE_BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}


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
    splits = _load(source, config_name)
    train = _shuffled(splits, "train" if "train" in splits else next(iter(splits)), seed)
    seen: set[str] = set()
    test_rows: list = []
    if "test" in splits and held_out:
        test_rows = _take(_shuffled(splits, "test", seed), held_out, tokenizer, max_prompt_length, seen)
    missing = held_out - len(test_rows)
    train_rows = _take(train, None if limit is None else limit + missing, tokenizer, max_prompt_length, seen)
    test_rows, train_rows = test_rows + train_rows[:missing], train_rows[missing:]
    if not train_rows:
        raise UserError(
            f"{source} holds no prompt to train on beside {held_out} held out; lower held_out_prompts, or raise "
            "max_prompt_length"
        )
    return _dataset(train_rows), _dataset(test_rows)


def prompt_of(row: dict[str, Any]) -> str | list[dict[str, str]] | None:
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
    messages = []
    for turn in turns or []:
        role = ROLES.get(str(turn.get("role") or turn.get("from")).lower())
        if role is None:
            raise _UnusableRow("unknown role")
        content = turn.get("content") or turn.get("value") or ""
        if not isinstance(content, str):
            raise _UnusableRow("content that is not text")
        messages.append({"role": role, "content": content})
    return messages


def _load(source: str, config_name: str | None) -> DatasetDict:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    path = Path(source)
    try:
        if path.is_file():
            if path.suffix not in FILE_BUILDERS:
                raise UserError(f"{source} is a {path.suffix or 'nameless'} file; expected {', '.join(FILE_BUILDERS)}")
            return load_dataset(FILE_BUILDERS[path.suffix], data_files=str(path))
        return load_dataset(source, config_name)
    except (OSError, ValueError, DatasetNotFoundError) as error:
        raise UserError(f"the prompts in {source} cannot be loaded: {why_not(source, error)}") from error


def _shuffled(splits: DatasetDict, name: str, seed: int) -> Dataset:
    split = splits[name]
    columns = set(split.column_names)
    wanted = next(
        (list(c) for c in (("prompt",), ("history", "messages"), ("messages",), ("conversations",)) if {*c} <= columns),
        None,
    )
    if wanted is None:
        raise UserError(
            f"the prompts' columns are {', '.join(sorted(columns))}; expected `prompt`, or `history` and `messages`, or "
            "`messages`, or `conversations`"
        )
    return split.select_columns(wanted).shuffle(seed=seed)


def _take(
    rows: Dataset, count: int | None, tokenizer: PreTrainedTokenizerBase, max_prompt_length: int, seen: set[str]
) -> list:
    """The first `count` usable prompts."""
    taken: list = []
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


def _length(prompt: str | list[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> int:
    if isinstance(prompt, str):
        return len(tokenizer(prompt)["input_ids"])
    return len(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"])


def _dataset(prompts: list) -> Dataset:
    from datasets import Dataset

    return Dataset.from_dict({"prompt": prompts})
