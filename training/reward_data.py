"""From dataset rows to training features: token ids, label, confidence, and the group a row belongs to.

Rows come as published (`history`, `messages`, `label`), as whole conversations (`messages`, `label`) or as rendered
input (`text`, `label`). Preparation is a `datasets.map` with a fingerprint of everything it depends on, so it is done
once and read from the memory-mapped cache afterwards.
"""

import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, IterableDataset, List, Value, load_dataset
from datasets.exceptions import DatasetGenerationError
from transformers import PreTrainedTokenizerBase

from wildreward.common.chat import Message, read_messages
from wildreward.common.errors import UserError, described
from wildreward.common.lookup import load_error_message
from wildreward.modeling_wildreward.template import RESPONSE, EncodedInput, encode_batch, frame_of
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_batching import rows_of
from wildreward.training.reward_config import OrdinalRewardConfig

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]

PREPARATION = 7  # raise when the meaning of a prepared feature changes: old caches are then not read
USABLE, NO_LABEL, RESPONSE_CUT = 0, 1, 2
STATUS = {NO_LABEL: "no label", RESPONSE_CUT: "response longer than max_length"}
REMEDIES = {STATUS[RESPONSE_CUT]: " (raise --max-length, or set --keep-cut-responses True)"}
OWNER_COLUMNS = ("user_id", "conversation_id", "history", "messages", "user_feedback")
FEATURES = Features(
    {
        "input_ids": List(Value("int32")),
        "length": Value("int32"),
        "label": Value("int8"),
        "confidence": Value("float32"),
        "source": Value("string"),
        "id": Value("string"),
        "group": Value("string"),
        "status": Value("int8"),
    }
)


# ---- load and split


def load_splits(
    arguments: TrainRewardArguments,
    config: OrdinalRewardConfig,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    num_levels: int,
) -> tuple[Dataset, Dataset, dict[str, int]]:
    """Features to train on, features of other users to choose the checkpoint by and to calibrate on, and what was left out.

    Both are carved out of the train split; the test split is never touched.
    """
    names = (arguments.dataset, arguments.train_split, arguments.dataset_config, arguments.dataset_revision)
    with config.main_process_first(desc="dataset preparation"):
        features, left_out = prepare_rows(
            load_rows(*names),
            tokenizer,
            max_length,
            num_levels,
            config.keep_cut_responses,
            config.dataset_num_proc,
            config.keep_reasoning,
        )
    share, most = arguments.validation_share, arguments.max_validation_rows
    train, validation = hold_out_users(features, share, config.seed, most, left_out)
    return train, validation, left_out


def load_rows(
    name: str, split: str, config: str | None = None, revision: str | None = None, *, streaming: bool = False
) -> Dataset | IterableDataset:
    """Load one split, or a slice of one, of a dataset folder, a parquet or JSON Lines file, or a Hub dataset.

    A single file has the split `train` only: rows to measure on are never those that were trained on.

    Raises:
        UserError: there is no such dataset or split, naming what is there.
    """
    path = Path(name)
    if path.is_file() and not re.match(r"train\b", split):
        raise UserError(
            f"{name} is a single file, whose rows are the split 'train'; there is no split {split!r}: give a folder "
            "written by build-dataset, or a dataset on the Hub, which can have several"
        )
    try:
        if path.is_file():
            kind = "parquet" if path.suffix == ".parquet" else "json"
            return load_dataset(kind, data_files={"train": str(path)}, split=split, streaming=streaming)
        return load_dataset(name, config, split=split, revision=revision, streaming=streaming)
    except (FileNotFoundError, ValueError, ConnectionError, DatasetGenerationError, StopIteration) as error:
        reason = (
            "it holds no row"
            if isinstance(error, StopIteration)
            else load_error_message(name, error.__cause__ or error)
        )
        raise UserError(
            f"cannot load split {split!r} of {name!r} ({reason}); expected a folder written by build-dataset, "
            "a parquet or JSON Lines file, or the id of a dataset on the Hub"
        ) from error


def owner_of(row: Row, name: str) -> str:
    """Who a row belongs to, so that one person is never on both sides of a split.

    The user, where known. Else, in rows that say what came next, the beginning of the chat up to the second thing the user
    says, as for the dataset's own split: a log of requests holds one chat many times, each time a turn longer and under
    another id. Else the conversation, else what the chat begins with, else the row.

    Args:
        row: of the dataset, of its columns those in `OWNER_COLUMNS`.
        name: its id.
    """
    if row.get("user_id"):
        return f"user:{row['user_id']}"
    feedback = row.get("user_feedback")
    next_said = feedback.get("content") if isinstance(feedback, dict) else feedback
    spoken = [message["content"] for message in row_messages(row, name) if message["role"] != "system"]
    if spoken and (next_said or (next_said == "" and len(spoken) > 2)):  # "": after a rated answer nothing may come
        return _opening([*spoken, next_said][:3])
    if spoken and not row.get("conversation_id"):
        return _opening(spoken[:2])
    return f"conversation:{row.get('conversation_id') or name.rpartition('_turn')[0] or name}"


def _opening(contents: list) -> str:
    return f"opening:{hashlib.sha256(json.dumps(contents, default=str).encode()).hexdigest()[:32]}"


def owners(rows: Dataset) -> list[str]:
    """[`owner_of`] all rows of a dataset."""
    present = [column for column in ("id", *OWNER_COLUMNS) if column in rows.column_names] or rows.column_names[:1]
    chosen = rows.select_columns(present).with_format(None)
    return [owner_of(row, row_id(row, index)) for index, row in enumerate(chosen)]


def row_id(row: Row, index: int) -> str:
    """The row's own id, or its place in the dataset."""
    return str(row.get("id", f"row {index}"))


def place_of(group: str, seed: int) -> float:
    """Where a group falls in [0, 1): rows of groups below the share asked for are held out. Seeded, order-free."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def hold_out_users(
    rows: Dataset, share: float, seed: int, most: int | None = None, left_out: Mapping[str, int] | None = None
) -> tuple[Dataset, Dataset]:
    """Rows to train on, and those of other users (or conversations) to choose a checkpoint and to calibrate by.

    Args:
        rows: as published, or prepared features of rows or of pairs, whose groups are their prompts.
        share: of the groups to hold out.
        seed: of the hash that decides.
        most: at most so many rows are held out, by taking fewer groups.
        left_out: from `prepare_rows`, for the error: where most rows are among them, they are what is missing.

    Raises:
        UserError: all users or none are held out.
    """
    names = rows["group"][:] if {"group", "status"} <= set(rows.column_names) else owners(rows)
    groups, inverse = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)
    places = np.asarray([place_of(group, seed) for group in groups])
    if most is not None:
        free, sizes = most, np.bincount(inverse, minlength=len(groups))
        for group in np.argsort(places):  # a group that does not fit is passed over
            if places[group] < share and sizes[group] > free:
                places[group] = 1.0
            elif places[group] < share:
                free -= sizes[group]
    held = (places < share)[inverse]
    if not 0 < held.sum() < len(rows):
        unit, of = ("pairs", "prompts") if "margin" in rows.column_names else ("rows", "users")
        advice = f"use more {of}, or change one of these (--validation-share, --max-validation-rows, --seed)"
        if left_out and sum(left_out.values()) > len(rows):
            advice = f"before that, most were left out, {_counts(left_out, unit)}"
        raise UserError(
            f"of {len(rows)} {unit}, {held.sum()} are held out (share {share}, at most {most} {unit}, seed {seed}); {advice}"
        )
    return rows.select(np.flatnonzero(~held)), rows.select(np.flatnonzero(held))


def _counts(left_out: Mapping[str, int], unit: str = "rows") -> str:
    """How many rows were left out for each reason, and what can be done about it."""
    return "; ".join(f"{count} {unit}: {reason}{REMEDIES.get(reason, '')}" for reason, count in left_out.items())


# ---- prepare


def is_prepared(rows: Dataset) -> bool:
    """Whether these are features already."""
    return set(FEATURES) <= set(rows.column_names)


def prepare_rows(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    num_levels: int,
    keep_cut_responses: bool = False,
    num_proc: int | None = None,
    keep_reasoning: bool = False,
) -> tuple[Dataset, dict[str, int]]:
    """Tokenize rows and leave out those that cannot be trained on; prepared ones come back as they are.

    A second call with the same rows, tokenizer and limits reads the cache.

    Args:
        rows: see the module's first lines; `id`, `user_id`, `conversation_id`, `label_confidence` and `label_source`
            are used where they exist.
        tokenizer: one with the reward model's template.
        max_length: longest input in tokens.
        num_levels: labels must be 1..num_levels or null.
        keep_cut_responses: also keep rows whose response lost its middle; its label may no longer fit.
        num_proc: processes to tokenize with.
        keep_reasoning: see `wildreward.common.chat`.

    Returns:
        The columns of `FEATURES`, and the number of rows left out for each reason.

    Raises:
        UserError: columns are missing; a label is out of range; a conversation cannot be rendered (each names the row); no
            row is left.
    """
    if is_prepared(rows):
        return rows, {}
    check_columns(rows.column_names)
    features = rows.map(
        feature_function(tokenizer, max_length, num_levels, keep_reasoning),
        batched=True,
        batch_size=256,
        with_indices=True,
        remove_columns=rows.column_names,
        features=FEATURES,
        num_proc=num_proc,
        new_fingerprint=fingerprint(rows, tokenizer, max_length, num_levels, keep_reasoning),
        desc="Tokenizing",
    )
    status = features.with_format("numpy")["status"][:]
    bad = unusable_statuses(keep_cut_responses)
    left_out = {STATUS[code]: int((status == code).sum()) for code in bad if (status == code).any()}
    if left_out:
        logger.warning("left out %s", _counts(left_out))
        features = features.select(np.flatnonzero(~np.isin(status, bad)))
    if len(features) == 0:
        reasons = f"left out {_counts(left_out)}" if left_out else "the dataset is empty"
        raise UserError(f"no rows are left to use: {reasons}")
    return features, left_out


def unusable_statuses(keep_cut_responses: bool) -> list[int]:
    """Of rows that are left out."""
    return [NO_LABEL] if keep_cut_responses else [NO_LABEL, RESPONSE_CUT]


def check_columns(found: Sequence[str]) -> None:
    """Refuse rows without a label or without anything to read (`UserError` with both lists)."""
    if "label" in found and {"messages", "text"} & set(found):
        return
    raise UserError(
        f"the dataset has the columns {', '.join(sorted(found)) or 'none'}; expected `label` together with "
        "`messages` (and `history`), or with `text`"
    )


def feature_function(
    tokenizer: PreTrainedTokenizerBase, max_length: int, num_levels: int, keep_reasoning: bool = False
) -> Callable[[dict[str, list], Sequence[int]], dict[str, list]]:
    """The function from a batch of rows (with their indices) to the columns of `FEATURES`."""

    def features(batch: dict[str, list], indices: Sequence[int]) -> dict[str, list]:
        rows = rows_of(batch)
        ids = [row_id(row, index) for row, index in zip(rows, indices, strict=True)]
        encode = partial(encode_chats, keep_reasoning) if "messages" in batch else _encode_texts
        encoded = encode(rows, ids, tokenizer, max_length)
        labels = [_label(row["label"], name, num_levels) for row, name in zip(rows, ids, strict=True)]
        return {
            "input_ids": [result.input_ids for result in encoded],
            "length": [len(result.input_ids) for result in encoded],
            "label": labels,
            "confidence": [_confidence(row.get("label_confidence"), name) for row, name in zip(rows, ids, strict=True)],
            "source": [row.get("label_source") for row in rows],
            "id": ids,
            "group": [owner_of(row, name) for row, name in zip(rows, ids, strict=True)],
            "status": [
                NO_LABEL if label == 0 else RESPONSE_CUT if result.cut_response else USABLE
                for label, result in zip(labels, encoded, strict=True)
            ],
        }

    return features


def encode_chats(
    keep_reasoning: bool, rows: list[Row], ids: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[EncodedInput]:
    """Inputs of rows with `messages`, after a `history` where there is one; errors name the row by its id (`UserError`)."""
    conversations = [row_messages(row, name, keep_reasoning) for row, name in zip(rows, ids, strict=True)]
    try:
        return encode_batch(tokenizer, conversations, max_length)
    except ValueError:
        for name, conversation in zip(ids, conversations, strict=True):
            try:
                encode_batch(tokenizer, [conversation], max_length)
            except ValueError as error:
                reason = str(error).removeprefix("conversation 0").lstrip(": ")
                raise UserError(f"row {name} of the dataset cannot be used: the conversation {reason}") from error
        raise


def row_messages(row: Row, name: str, keep_reasoning: bool = False) -> list[Message]:
    """The messages of a row; errors tell what was found by its type and keys, never by its text."""
    chat = []
    for column in ("history", "messages"):
        messages = row.get(column) or []
        if not isinstance(messages, list):
            raise UserError(
                f"row {name} of the dataset cannot be used: found {described(messages)} where a list of messages with role "
                "and content was expected"
            )
        try:
            chat += read_messages(messages, column, keep_reasoning)
        except ValueError as error:
            raise UserError(f"row {name} of the dataset cannot be used: {error}") from error
    return chat


def _encode_texts(
    rows: list[Row], ids: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[EncodedInput]:
    """A rendered input ends with the response, so a long one loses its beginning, but not its first special token.

    It is framed by the special tokens that the template writes, where it does not have them already: otherwise the model
    would be trained on other ids than it is asked about later.
    """
    start, end = frame_of(tokenizer)
    encoded = []
    for row, name in zip(rows, ids, strict=True):
        text = row["text"]
        if not isinstance(text, str) or not text.strip():
            raise UserError(
                f"row {name} of the dataset cannot be used: expected a text to read, found {described(text)}"
            )
        text = text if text.startswith(start) else start + text
        text = text if text.rstrip().endswith(end) else text + end
        tokens = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        cut = False
        if len(tokens) > max_length:
            tokens = tokens[:1] + tokens[1 - max_length :]
            _, mark, response = text.rpartition(RESPONSE)
            response = tokenizer(mark + response, add_special_tokens=False, verbose=False)["input_ids"] if mark else []
            cut = len(response) >= max_length
        encoded.append(EncodedInput(tokens, cut_response=cut))
    return encoded


def _label(value: Any, name: str, num_levels: int) -> int:
    """The label as an int; 0 for null."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in range(1, num_levels + 1):
        raise UserError(
            f"row {name} of the dataset has label {value!r}; expected a whole number from 1 to {num_levels}, or null"
        )
    return int(value)


def _confidence(value: Any, name: str) -> float:
    """The trust in a label; 1 where there is none stated."""
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise UserError(
            f"row {name} of the dataset has a label_confidence of {described(value)}; expected a number, 0 or more, or null"
        )
    return float(value)


def fingerprint(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, *more: int | str) -> str:
    """Of features: of everything that they depend on."""
    digest = hashlib.sha256()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    for part in (rows._fingerprint, vocabulary, tokenizer.chat_template, max_length, *more, PREPARATION):
        digest.update(f"{part}\0".encode())
    return digest.hexdigest()[:32]
