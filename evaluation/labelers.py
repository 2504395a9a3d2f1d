"""Agreement of a labeler with gold levels: per level, per polarity, kappa, and whether its confidence can be trusted."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.common.errors import UserError, described
from wildreward.common.rows import read_rows
from wildreward.evaluation.bootstrap import bootstrap, defined_or_none
from wildreward.evaluation.calibration import expected_calibration_error
from wildreward.evaluation.statistics import Floats, Ints, cohen_kappa

LEVELS = 5
LEVEL_NAMES = ("rejection", "error correction", "neutral", "positive engagement", "satisfaction")
POLARITIES = {"negative": (1, 2), "neutral": (3,), "positive": (4, 5)}
UNLABELLED = 0


@dataclass(frozen=True)
class Label:
    """A level, or None for a turn that was left unlabelled, and how sure the labeler was."""

    level: int | None
    confidence: float | None


def read_labels(path: str | Path) -> dict[str, Label]:
    """Read a labels file (JSON Lines or parquet): `id`, `level` 1-5 or null, optional `confidence`.

    Raises:
        UserError: a row does not fit or an id occurs twice, naming file and line.
    """
    labels: dict[str, Label] = {}
    for where, row in read_rows(Path(path), "labels"):
        key, level, confidence = row.get("id"), row.get("level"), row.get("confidence")
        if not isinstance(key, str) or not key:
            raise UserError(f"{where}: id is {described(key)}; expected a text (columns found: {', '.join(row)})")
        if key in labels:
            raise UserError(f"{where}: id {key!r} occurs twice; expected one level a turn")
        if level is not None and (isinstance(level, bool) or level not in range(1, LEVELS + 1)):
            raise UserError(
                f"{where}: level is {described(level)}; expected 1 to {LEVELS}, or null for an unlabelled turn"
            )
        if confidence is not None and not (isinstance(confidence, int | float) and 0 <= confidence <= 1):
            raise UserError(f"{where}: confidence is {described(confidence)}; expected 0 to 1")
        labels[key] = Label(None if level is None else int(level), confidence)
    if not labels:
        raise UserError(f"{path} holds no labels")
    return labels


def conversation_of(turn_id: str) -> str:
    """The conversation a turn id (`<conversation>_turn<k>`) belongs to."""
    return re.sub(r"_turn\d+$", "", turn_id)


def _polarity(levels: Ints) -> Ints:
    """Levels → 1 negative, 2 neutral, 3 positive, 0 unlabelled."""
    return np.select([levels == UNLABELLED, levels <= 2, levels == 3], [0, 1, 2], 3)


def _precision(predicted: Ints, gold: Ints, wanted: Sequence[int]) -> float:
    chosen = np.isin(predicted, wanted)
    return float(np.isin(gold[chosen], wanted).mean()) if chosen.any() else float("nan")


def _recall(predicted: Ints, gold: Ints, wanted: Sequence[int]) -> float:
    return _precision(gold, predicted, wanted)


def _f1(predicted: Ints, gold: Ints, wanted: Sequence[int]) -> float:
    hits = float((np.isin(predicted, wanted) & np.isin(gold, wanted)).sum())
    total = float(np.isin(predicted, wanted).sum() + np.isin(gold, wanted).sum())
    return 2 * hits / total if total else float("nan")


def agreement(
    gold: Mapping[str, Label], labels: Mapping[str, Label], repeats: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Compare a labeler with gold levels on the gold turns.

    A turn the labeler left out counts against recall and accuracy, not against precision; kappa is over the labelled
    ones. Intervals resample conversations.

    Args:
        gold: id → gold label; turns whose gold level is null are set aside.
        labels: id → the labeler's.
        repeats: bootstrap resamples.
        seed: of the resampling.
    """
    ids = [key for key, label in gold.items() if label.level is not None]
    if not any(key in labels for key in ids):
        raise UserError("gold and labels have no id in common; expected labels for the same turns")
    truth = np.asarray([gold[key].level for key in ids])
    found = [labels.get(key) for key in ids]
    said = np.asarray([label.level if label and label.level else UNLABELLED for label in found])
    truth_polarity, said_polarity = _polarity(truth), _polarity(said)
    labelled = said != UNLABELLED
    statistics: dict[str, Any] = {
        "accuracy": lambda rows: float((said[rows] == truth[rows]).mean()),
        "kappa": lambda rows: _kappa(said[rows], truth[rows], LEVELS),
        "quadratic_kappa": lambda rows: _kappa(said[rows], truth[rows], LEVELS, True),
        "polarity_accuracy": lambda rows: float((said_polarity[rows] == truth_polarity[rows]).mean()),
        "polarity_kappa": lambda rows: _kappa(said_polarity[rows], truth_polarity[rows], 3),
    }
    groups = {f"level {k}": (k,) for k in range(1, LEVELS + 1)} | POLARITIES
    for name, wanted in groups.items():
        for measure, function in (("precision", _precision), ("recall", _recall), ("f1", _f1)):
            statistics[f"{name}:{measure}"] = lambda rows, f=function, w=wanted: f(said[rows], truth[rows], w)
    conversations = np.asarray([conversation_of(key) for key in ids])
    share_of = dict.fromkeys(("accuracy", "polarity_accuracy"), np.unique(conversations).size)
    for name, wanted in groups.items():
        share_of[f"{name}:precision"] = np.unique(conversations[np.isin(said, wanted)]).size
        share_of[f"{name}:recall"] = np.unique(conversations[np.isin(truth, wanted)]).size
    estimates = bootstrap(statistics, conversations, repeats, seed, share_of=share_of)
    confusion = np.zeros((LEVELS, LEVELS + 1), dtype=int)
    np.add.at(confusion, (truth - 1, said), 1)
    result: dict[str, Any] = {
        "n": len(ids),
        "labelled": int(labelled.sum()),
        "labels_without_gold": len(labels.keys() - gold.keys()),
        **{name: e.as_dict() for name, e in estimates.items() if ":" not in name},
        "confusion": {"rows": "gold level 1-5", "columns": "unlabelled, then level 1-5", "counts": confusion.tolist()},
    }
    for section, names in (("levels", [n for n in groups if n not in POLARITIES]), ("polarity", list(POLARITIES))):
        result[section] = {
            name.removeprefix("level "): {
                "gold": int(np.isin(truth, groups[name]).sum()),
                "predicted": int(np.isin(said, groups[name]).sum()),
                **{m: estimates[f"{name}:{m}"].as_dict() for m in ("precision", "recall", "f1")},
            }
            for name in names
        }
    result["confidence"] = _confidence(found, said, truth)
    return result


def _kappa(said: Ints, truth: Ints, levels: int, quadratic: bool = False) -> float:
    both = said != UNLABELLED
    return cohen_kappa(said[both], truth[both], levels, quadratic) if both.any() else float("nan")


def _confidence(found: Sequence[Label | None], said: Ints, truth: Ints) -> dict[str, float | None] | None:
    """Calibration of the labeler's confidence, where it states one for every turn it labelled."""
    rows = [i for i, label in enumerate(found) if label and label.level is not None]
    stated = [found[i].confidence for i in rows]  # type: ignore[union-attr]
    if not rows or any(value is None for value in stated):
        return None
    confidence: Floats = np.asarray(stated, dtype=np.float64)
    correct = (said[rows] == truth[rows]).astype(float)
    return {
        "mean": float(confidence.mean()),
        "accuracy": float(correct.mean()),
        "ece": defined_or_none(expected_calibration_error(confidence, correct)),
    }
