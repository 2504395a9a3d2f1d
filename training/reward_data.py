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
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, IterableDataset, Value, load_dataset
from datasets import Sequence as ListOf
from datasets.exceptions import DatasetGenerationError
from transformers import PreTrainedTokenizerBase

from wildreward.errors import UserError, described
from wildreward.lookup import why_not
from wildreward.modeling_wildreward.template import RESPONSE, EncodedInput, encode_batch, frame_of

logger = logging.getLogger(__name__)

PREPARATION = 5  # raise when the meaning of a prepared feature changes: old caches are then not read
USABLE, NO_LABEL, RESPONSE_CUT = 0, 1, 2
OWNER_COLUMNS = ("user_id", "conversation_id", "history", "messages", "user_feedback")
OWNERS_AT_ONCE = 1000  # rows, whose messages are in memory
STATUS = {NO_LABEL: "no label", RESPONSE_CUT: "response longer than max_length"}
REMEDIES = {STATUS[RESPONSE_CUT]: " (raise --max-length, or set --keep-cut-responses True)"}

FEATURES = Features(
    {
        "input_ids": ListOf(Value("int32")),
        "length": Value("int32"),
        "label": Value("int8"),
        "confidence": Value("float32"),
        "source": Value("string"),
        "id": Value("string"),
        "group": Value("string"),
        "dropped_messages": Value("int32"),
        "status": Value("int8"),
    }
)


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
        reason = "it holds no row" if isinstance(error, StopIteration) else why_not(name, error.__cause__ or error)
        raise UserError(
            f"cannot load split {split!r} of {name!r} ({reason}); expected a folder written by build-dataset, "
            "a parquet or JSON Lines file, or the id of a dataset on the Hub"
        ) from error


def prepare_features(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    num_levels: int,
    num_proc: int | None = None,
) -> Dataset:
    """Tokenize rows once; a second call with the same rows, tokenizer and limits reads the cache.

    Args:
        rows: see the module's first lines; `id`, `user_id`, `conversation_id`, `label_confidence` and `label_source`
            are used where they exist.
        tokenizer: one with the reward model's template.
        max_length: longest input in tokens.
        num_levels: labels must be 1..num_levels or null.
        num_proc: processes to tokenize with.

    Returns:
        The columns of `FEATURES`, one row for each of `rows`; `status` says why a row cannot be used.

    Raises:
        UserError: columns are missing; a label is out of range; a conversation cannot be rendered. Each names the row.
    """
    if rows.column_names and set(FEATURES) <= set(rows.column_names):
        return rows
    check_columns(rows.column_names)
    return rows.map(
        feature_function(tokenizer, max_length, num_levels),
        batched=True,
        batch_size=256,
        with_indices=True,
        remove_columns=rows.column_names,
        features=FEATURES,
        num_proc=num_proc,
        new_fingerprint=_fingerprint(rows, tokenizer, max_length, num_levels),
        desc="Tokenizing",
    )


def check_columns(found: Sequence[str] | None) -> None:
    """Refuse rows without a label or without anything to read (`UserError` with both lists)."""
    columns = set(found or ())
    if "label" in columns and columns & {"messages", "text"}:
        return
    raise UserError(
        f"the dataset has the columns {', '.join(sorted(columns)) or 'none'}; expected `label` together with "
        "`messages` (and `history`), or with `text`"
    )


def feature_function(
    tokenizer: PreTrainedTokenizerBase, max_length: int, num_levels: int
) -> Callable[[dict[str, list], list[int]], dict[str, list]]:
    """The function from a batch of rows (with their indices) to the columns of `FEATURES`."""

    def features(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        ids = row_ids(batch, indices)
        encoded = _encode_rows(batch, ids, tokenizer, max_length)
        labels = [_label(value, row, num_levels) for value, row in zip(batch["label"], ids, strict=True)]
        none = [None] * len(ids)
        confidences = [_confidence(*pair) for pair in zip(batch.get("label_confidence") or none, ids, strict=True)]
        return {
            "input_ids": [result.input_ids for result in encoded],
            "length": [len(result.input_ids) for result in encoded],
            "label": labels,
            "confidence": confidences,
            "source": batch.get("label_source") or none,
            "id": ids,
            "group": groups_of(batch, ids),
            "dropped_messages": [result.dropped_messages for result in encoded],
            "status": [
                NO_LABEL if label == 0 else RESPONSE_CUT if result.cut_response else USABLE
                for label, result in zip(labels, encoded, strict=True)
            ],
        }

    return features


def _encode_rows(
    batch: dict[str, list], ids: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[EncodedInput]:
    if "messages" not in batch:
        frame = frame_of(tokenizer)
        texts = zip(batch["text"], ids, strict=True)
        return [_encode_text(text, row, tokenizer, max_length, frame) for text, row in texts]
    histories = batch.get("history") or [None] * len(ids)
    conversations = [
        [*_chat(history, row), *_chat(messages, row)]
        for history, messages, row in zip(histories, batch["messages"], ids, strict=True)
    ]
    try:
        return encode_batch(tokenizer, conversations, max_length)
    except ValueError:
        for row, conversation in zip(ids, conversations, strict=True):
            try:
                encode_batch(tokenizer, [conversation], max_length)
            except ValueError as error:
                reason = str(error).removeprefix("conversation 0").lstrip(": ")
                raise UserError(f"row {row} of the dataset cannot be used: the conversation {reason}") from error
        raise


def _chat(messages: Any, row: str) -> list[dict[str, Any]]:
    """`role` and `content` of each message; errors tell what was found by its type and keys, never by its text."""
    if messages is None:
        return []
    for message in messages if isinstance(messages, list) else [messages]:
        if not (isinstance(messages, list) and isinstance(message, dict) and {"role", "content"} <= message.keys()):
            raise UserError(
                f"row {row} of the dataset cannot be used: found {described(message)} where a list of messages with role and content "
                "was expected"
            )
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _encode_text(
    text: Any, row: str, tokenizer: PreTrainedTokenizerBase, max_length: int, frame: tuple[str, str]
) -> EncodedInput:
    """A rendered input ends with the response, so a long one loses its beginning, but not its first special token.

    It is framed by the special tokens that the template writes, where it does not have them already: otherwise the model
    would be trained on other ids than it is asked about later.
    """
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"row {row} of the dataset cannot be used: expected a text to read, found {described(text)}")
    start, end = frame
    text = text if text.startswith(start) else start + text
    text = text if text.rstrip().endswith(end) else text + end
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) <= max_length:
        return EncodedInput(ids)
    mark = text.rfind(RESPONSE)
    response = [] if mark < 0 else tokenizer(text[mark:], add_special_tokens=False, verbose=False)["input_ids"]
    return EncodedInput(ids[:1] + ids[1 - max_length :], dropped_messages=1, cut_response=len(response) >= max_length)


def _label(value: Any, row: str, num_levels: int) -> int:
    """The label as an int; 0 for null."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in range(1, num_levels + 1):
        raise UserError(
            f"row {row} of the dataset has label {value!r}; expected a whole number from 1 to {num_levels}, or null"
        )
    return int(value)


def _confidence(value: Any, row: str) -> float:
    """The trust in a label; 1 where there is none stated."""
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise UserError(
            f"row {row} of the dataset has a label_confidence of {described(value)}; expected a number, 0 or more, or null"
        )
    return float(value)


def groups_of(batch: Mapping[str, list], ids: Sequence[str]) -> list[str]:
    """Who a row belongs to, so that one person is never on both sides of a split.

    The user, where known. Else, in rows that say what came next, the beginning of the chat up to the second thing the user
    says, as for the dataset's own split: a log of requests holds one chat many times, each time a turn longer and under
    another id. Else the conversation, else what the chat begins with, else the row.

    Args:
        batch: columns of the dataset, of them those in `OWNER_COLUMNS`.
        ids: one for each row.
    """
    none = [None] * len(ids)
    columns = [batch.get(name) or none for name in OWNER_COLUMNS]
    return [_owner(*row) for row in zip(ids, *columns, strict=True)]


def _owner(row: str, user: Any, conversation: Any, history: Any, messages: Any, feedback: Any) -> str:
    if user:
        return f"user:{user}"
    said = [*_chat(history, row), *_chat(messages, row)]
    spoken = [message["content"] for message in said if message["role"] != "system"]
    next_said = feedback.get("content") if isinstance(feedback, dict) else feedback
    if spoken and next_said:
        return _opening([*spoken, next_said][:3])
    if spoken and not conversation:
        return _opening(spoken[:2])
    return f"conversation:{conversation or row.rpartition('_turn')[0] or row}"


def _opening(contents: list) -> str:
    return f"opening:{hashlib.sha256(json.dumps(contents, default=str).encode()).hexdigest()[:32]}"


def owners(rows: Dataset) -> list[str]:
    """[`groups_of`] all rows of a dataset, read a batch at a time."""
    present = [name for name in ("id", *OWNER_COLUMNS) if name in rows.column_names]
    chosen, found = rows.select_columns(present).with_format(None), []
    for start in range(0, len(rows), OWNERS_AT_ONCE):
        places = range(start, min(start + OWNERS_AT_ONCE, len(rows)))
        batch = chosen[start : places.stop] if present else {}
        found += groups_of(batch, row_ids(batch, places))
    return found


def row_ids(batch: Mapping[str, list], indices: Sequence[int]) -> list[str]:
    """The rows' own ids, or their places in the dataset."""
    return [str(value) for value in batch.get("id") or [f"row {index}" for index in indices]]


def _fingerprint(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, num_levels: int) -> str:
    digest = hashlib.sha256()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    for part in (rows._fingerprint, vocabulary, tokenizer.chat_template, max_length, num_levels, PREPARATION):
        digest.update(f"{part}\0".encode())
    return digest.hexdigest()[:32]


def usable_rows(features: Dataset, keep_cut_responses: bool = False) -> tuple[Dataset, dict[str, int]]:
    """Leave out rows that cannot be trained on.

    Args:
        features: from `prepare_features`.
        keep_cut_responses: also keep rows whose response lost its middle; its label may no longer fit.

    Returns:
        The rest, and the number of rows left out for each reason.
    """
    status = features.with_format("numpy")["status"][:]
    bad = [NO_LABEL] if keep_cut_responses else [NO_LABEL, RESPONSE_CUT]
    dropped = {STATUS[code]: int((status == code).sum()) for code in bad}
    dropped = {reason: count for reason, count in dropped.items() if count}
    if dropped:
        logger.warning("left out %s", left_out_rows(dropped))
        features = features.select(np.flatnonzero(~np.isin(status, bad)))
    if len(features) == 0:
        reasons = f"left out {left_out_rows(dropped)}" if dropped else "the dataset is empty"
        raise UserError(f"no rows are left to use: {reasons}")
    return features, dropped


def left_out_rows(dropped: Mapping[str, int]) -> str:
    """How many rows were left out for each reason, and what can be done about it."""
    return "; ".join(f"{count} rows: {reason}{REMEDIES.get(reason, '')}" for reason, count in dropped.items())


def validation_share_of(group: str, seed: int) -> float:
    """Where a group falls in [0, 1): rows of groups below the share asked for are held out. Seeded, order-free."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def hold_out(features: Dataset, share: float, seed: int, most: int | None = None) -> tuple[Dataset, Dataset]:
    """Split by group, so that no user (or conversation) is on both sides.

    Args:
        features: from `prepare_features`.
        share: of the groups to hold out.
        seed: of the hash that decides.
        most: at most so many rows are held out, by taking fewer groups.

    Returns:
        (train, held out).
    """
    return _split(features, features["group"][:], share, seed, most)


def hold_out_users(
    rows: Dataset, share: float, seed: int, most: int | None = None, left_out: Mapping[str, int] | None = None
) -> tuple[Dataset, Dataset]:
    """[`hold_out`] of features, or of rows as published: those to train on, and those of other users to choose and to
    calibrate by.

    Args:
        rows, share, seed, most: see there.
        left_out: from `usable_rows`, for the error: where most rows are among them, they are what is missing.

    Raises:
        UserError: all users or none are held out.
    """
    groups = rows["group"][:] if set(FEATURES) <= set(rows.column_names) else owners(rows)
    train, held = _split(rows, groups, share, seed, most)
    if not len(train) or not len(held):
        advice = "use more users, or change one of these (--validation-share, --max-validation-rows, --seed)"
        if left_out and sum(left_out.values()) > len(rows):
            advice = f"before that, most were left out, {left_out_rows(left_out)}"
        raise UserError(
            f"of {len(rows)} rows, {len(held)} are held out (share {share}, at most {most} rows, seed {seed}); {advice}"
        )
    return train, held


def _split(
    rows: Dataset, group_of_row: Sequence[str], share: float, seed: int, most: int | None
) -> tuple[Dataset, Dataset]:
    groups, inverse = np.unique(np.asarray(group_of_row, dtype=object).astype(str), return_inverse=True)
    places = np.asarray([validation_share_of(group, seed) for group in groups])
    if most is not None:
        sizes = np.bincount(inverse, minlength=len(groups))
        for group in np.argsort(places):  # a group that does not fit is passed over
            if places[group] < share and sizes[group] > most:
                places[group] = 1.0
            elif places[group] < share:
                most -= sizes[group]
    held = (places < share)[inverse]
    return rows.select(np.flatnonzero(~held)), rows.select(np.flatnonzero(held))


def level_frequencies(labels: Iterable[int], num_levels: int) -> list[float]:
    """Count of each level plus one, so that every level stays possible."""
    counts = Counter(int(label) for label in labels)
    return [counts[level] + 1.0 for level in range(1, num_levels + 1)]
