"""Evaluation on the held-out split of a feedback dataset: ordinal metrics, separation, calibration, length, consistency."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildreward.common.chat import Message, read_messages
from wildreward.common.errors import UserError, described
from wildreward.common.lookup import load_error_message
from wildreward.common.rows import Origin, file_origins, hub_split, read_rows
from wildreward.evaluation.bootstrap import Estimate, bootstrap_all, defined_or_none
from wildreward.evaluation.calibration import brier_score, negative_log_likelihood
from wildreward.evaluation.metrics import length_bias, ordinal_metrics
from wildreward.evaluation.pairs import Pairs, calibration_results, make_pairs, pair_results, too_few_answers, withheld
from wildreward.evaluation.settings import EvaluateConfig
from wildreward.evaluation.statistics import Floats, Ints, kendall_tau_b, roc_auc, spearman, too_few
from wildreward.evaluation.store import Group
from wildreward.scoring.protocol import Scored

logger = logging.getLogger(__name__)

COLUMNS = ("history", "messages", "label")
WHOLE = "all"
"""What the split of a single file is called."""
MAX_PAIRS = 20_000  # a seeded sample where there are more
LEVELS = 4
"""What the labels are taken for where the model has no levels of its own."""


@dataclass(frozen=True)
class HeldOut:
    """A held-out split: candidates, labels, and whose conversation each row comes from."""

    groups: list[Group]
    labels: Ints
    users: list[str]
    conversations: list[str]
    languages: list[str]
    lengths: Floats
    """Characters of the response."""
    read_from: Sequence[Origin] = ()
    split: str = "test"


def split_files(folder: Path, split: str) -> list[Path]:
    """Parquet files of one split of a dataset folder.

    Raises:
        UserError: there are none.
    """
    files = sorted(folder.glob(f"data/{split}-*.parquet"))
    if not files:
        raise UserError(
            f"{folder} has no data/{split}-*.parquet; expected a dataset folder as build-dataset writes it, with rows in "
            "that split (where users are few, build it with a larger --test_fraction)"
        )
    return files


def read_split(dataset: str, split: str = "test") -> tuple[list[dict[str, Any]], list[Origin]]:
    """Rows of one split of a dataset folder or Hub id, and where they were read from.

    A single file (parquet, JSON or JSON Lines) has no splits: all of it is read, since whoever names it chose its rows.

    Raises:
        UserError: no such split, or columns are missing, naming expected and found.
    """
    folder = Path(dataset)
    if folder.exists():
        files = [folder] if folder.is_file() else split_files(folder, split)
        found = [row for file in files for _, row in read_rows(file, "dataset")]
        columns = list(dict.fromkeys(name for row in found for name in row))
        rows, origins = [dict.fromkeys(columns) | row for row in found], file_origins(files, folder)
    else:
        try:
            data, origin = hub_split(dataset, split)
        except (FileNotFoundError, ConnectionError, ValueError) as error:
            raise UserError(
                f"cannot load split {split!r} of dataset {dataset!r}: {load_error_message(dataset, error)}"
            ) from error
        columns, rows, origins = data.column_names, data.to_list(), [origin]
    if not rows:
        where = dataset if folder.is_file() else f"split {split!r} of {dataset}"
        raise UserError(f"{where} is empty; there is nothing to evaluate on")
    missing = [c for c in COLUMNS if c not in columns]
    if missing:
        raise UserError(
            f"{dataset} lacks the columns {', '.join(missing)}; expected {', '.join(COLUMNS)}, found {', '.join(columns)}"
        )
    return rows, origins


def held_out(
    rows: Sequence[dict[str, Any]],
    limit: int | None = None,
    seed: int = 0,
    read_from: Sequence[Origin] = (),
    split: str = "test",
) -> HeldOut:
    """Turn rows into candidates; with `limit`, a seeded sample of that size.

    Raises:
        UserError: a row's messages or label do not fit, naming the row.
    """
    chosen = list(range(len(rows)))
    if limit is not None and limit < len(rows):
        chosen = sorted(np.random.default_rng(seed).permutation(len(rows))[:limit].tolist())
    groups, labels, users, conversations, languages, lengths = [], [], [], [], [], []
    for index in chosen:
        row = rows[index]
        name = str(row.get("id") or f"row {index}")
        messages = [*_messages(row, "history", name), *_messages(row, "messages", name)]
        if len(messages) < 2 or messages[-1]["role"] != "assistant" or messages[-2]["role"] not in ("user", "tool"):
            raise UserError(f"{name}: messages end with {[m['role'] for m in messages[-2:]]}; expected user, assistant")
        label = row["label"]
        if isinstance(label, bool) or not isinstance(label, int) or label < 1:
            raise UserError(f"{name}: label is {described(label)}; expected a whole level from 1")
        response = messages[-1]["content"]
        groups.append(Group(name, messages[:-1], [response]))
        labels.append(label)
        conversation = row.get("conversation_id") or name
        conversations.append(str(conversation))
        users.append(str(row.get("user_id") or conversation))
        languages.append(str(row.get("language") or "unknown"))
        lengths.append(len(response))
    sizes = np.asarray(lengths, dtype=np.float64)
    return HeldOut(groups, np.asarray(labels), users, conversations, languages, sizes, read_from, split)


def check_labels(data: HeldOut, num_levels: int, dataset: str) -> None:
    """Refuse labels above the model's levels.

    Raises:
        UserError: there is one, naming the row.
    """
    above = np.flatnonzero(data.labels > num_levels)
    if above.size:
        first = int(above[0])
        raise UserError(
            f"{dataset}, {data.groups[first].id}: label is {data.labels[first]}, the model has {num_levels} levels; "
            f"expected labels from 1 to {num_levels}, as the model was trained on"
        )


def _messages(row: dict[str, Any], column: str, name: str) -> list[Message]:
    try:
        return [] if row[column] is None else read_messages(row[column], column, keep_reasoning=True)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error


@dataclass(frozen=True)
class Curves:
    """What the figures show, computed once: kept apart from the JSON results."""

    scores: Floats
    labels: Ints
    users: list[str]
    stated: Floats | None
    """P(positive) of each row, where the model states one."""
    pairs: Pairs
    num_levels: int


def evaluate_split(
    data: HeldOut,
    scored: Sequence[Scored],
    num_levels: int | None,
    config: EvaluateConfig,
) -> tuple[dict[str, Any], Curves]:
    """All results on one held-out split, and the curves to plot.

    Intervals resample users. Pairs are rows of different labels, from any two prompts: the score is meant to be
    absolute, so the better-labelled row should score higher whatever the prompt.

    What sets two classes against each other (ROC-AUC, calibration, pairs) is null, with a `reason`, where one of them has
    fewer than `MIN_CLASS_ROWS` rows. `num_levels` is the model's K, None for a model without levels.
    """
    from wildreward.modeling_wildreward.ordinal import positive_from  # brings torch, which reading does without

    levels = num_levels or LEVELS
    first_positive = positive_from(levels)
    scores = np.asarray([s.score for s in scored])
    probs = _stacked_probs(scored)
    positive = data.labels >= first_positive
    result: dict[str, Any] = {
        "n": len(scores),
        "users": len(set(data.users)),
        "labels": {str(k): int((data.labels == k).sum()) for k in range(1, max(levels, data.labels.max()) + 1)},
        **{
            k: v.as_dict()
            for k, v in _estimates(scores, data, probs is not None, levels, first_positive, config).items()
        },
        "n_positive": int(positive.sum()),
        "n_negative": int((~positive).sum()),
    }
    stated = None
    if probs is not None:
        stated = np.clip(probs[:, first_positive - 1 :].sum(axis=1), 0, 1)
        outcome = positive.astype(float)
        calibration = {
            **calibration_results(stated, outcome, config.bins),
            "brier": brier_score(stated, outcome),
            "nll": negative_log_likelihood(stated, outcome),
        }
        result["calibration"] = withheld(calibration, _too_few_rows(positive))
    pairs = make_pairs(scores, probs, data.labels, MAX_PAIRS, config.seed)
    if len(pairs):
        result["pairs"] = pair_results(pairs, data.users, data.conversations, config)
        result["length_bias"] = _length_bias(scores, pairs, data)
    result["languages"] = _by_language(scores, data, first_positive)
    return result, Curves(scores, data.labels, data.users, stated, pairs, levels)


def _too_few_rows(positive: NDArray[np.bool_]) -> str | None:
    return too_few(positive=int(positive.sum()), negative=int((~positive).sum()))


def _stacked_probs(scored: Sequence[Scored]) -> Floats | None:
    if any(s.level_probs is None for s in scored):
        return None
    return np.asarray([s.level_probs for s in scored])


def _estimates(
    scores: Floats, data: HeldOut, has_levels: bool, num_levels: int, first_positive: int, config: EvaluateConfig
) -> dict[str, Estimate]:
    """Metrics with intervals. Scores of a model without levels (Bradley-Terry) have no unit: rank metrics only."""
    labels = data.labels
    users, positive = np.asarray(data.users), labels >= first_positive
    reason, all_users = _too_few_rows(positive), len(set(data.users))

    def measure(rows: Ints) -> dict[str, float]:
        s, y = scores[rows], labels[rows]
        ranks = {"spearman": spearman, "kendall_tau_b": kendall_tau_b}
        found = (
            ordinal_metrics(s, y, num_levels, first_positive)
            if has_levels
            else {name: rank(s, y) for name, rank in ranks.items()} | {"roc_auc": roc_auc(s, y >= first_positive)}
        )
        return {name: value for name, value in found.items() if not (reason and name == "roc_auc")}

    share_of = {
        "accuracy": all_users,
        "within_one_accuracy": all_users,
        "roc_auc": min(np.unique(users[positive]).size, np.unique(users[~positive]).size),
    }
    found = bootstrap_all(measure, data.users, config.bootstrap, config.seed, share_of=share_of)
    return found | ({"roc_auc": Estimate(reason=reason)} if reason else {})


def _length_bias(scores: Floats, pairs: Pairs, data: HeldOut) -> dict[str, Any]:
    lengths = data.lengths
    pairwise = length_bias(pairs.better_scores, pairs.worse_scores, lengths[pairs.better], lengths[pairs.worse])
    return {
        "score_length_spearman": defined_or_none(spearman(scores, data.lengths)),
        "label_length_spearman": defined_or_none(spearman(data.labels, data.lengths)),
        **withheld({name: defined_or_none(value) for name, value in pairwise.items()}, too_few_answers(pairs)),
    }


def _by_language(scores: Floats, data: HeldOut, first_positive: int) -> dict[str, dict[str, Any]]:
    languages = np.asarray(data.languages)
    result = {}
    for language, n in Counter(data.languages).most_common():
        rows = languages == language
        positive = data.labels[rows] >= first_positive
        result[language] = {"n": n, "n_positive": int(positive.sum()), "n_negative": int((~positive).sum())}
        if reason := _too_few_rows(positive):
            result[language] |= {"roc_auc": None, "reason": reason}
        else:
            result[language]["roc_auc"] = roc_auc(scores[rows], positive)
    return result
