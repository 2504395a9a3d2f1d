"""Pairs of answers across prompts: is the better-labelled one scored higher, and can the stated chance be trusted?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from wildreward.evaluation.bootstrap import Estimate, defined_or_none, interval, row_weights
from wildreward.evaluation.calibration import (
    accuracy_coverage,
    brier_score,
    negative_log_likelihood,
    pairwise_outcome,
    reliability_bins,
)
from wildreward.evaluation.statistics import Floats, Ints, checked_pair, too_few

if TYPE_CHECKING:
    from wildreward.evaluation.settings import EvaluateConfig


@dataclass(frozen=True)
class Pairs:
    """Row indices of the better and the worse member of each pair, their scores, and the stated P(better beats worse)."""

    better: Ints
    worse: Ints
    better_scores: Floats
    worse_scores: Floats
    chance: Floats

    def __len__(self) -> int:
        return self.better.size

    @property
    def outcome(self) -> Floats:
        """1 where the better one scores higher, 0 where lower, 0.5 on a tie."""
        return pairwise_outcome(self.better_scores, self.worse_scores)

    @property
    def confidence(self) -> Floats:
        """Stated probability of the predicted winner."""
        return np.maximum(self.chance, 1 - self.chance)

    @property
    def correct(self) -> Floats:
        """1 where the predicted winner is the better one, 0 where not, 0.5 without a winner."""
        return (1.0 + np.sign(self.chance - 0.5)) / 2.0


def sample_pairs(labels: Ints, max_pairs: int, seed: int) -> tuple[Ints, Ints]:
    """Indices (better, worse) of row pairs with different labels: all of them, or a seeded sample of `max_pairs`."""
    n = labels.size
    if n * (n - 1) // 2 <= 4 * max_pairs:
        first, second = np.triu_indices(n, 1)
    else:
        drawn = np.random.default_rng(seed).integers(0, n, (8 * max_pairs, 2))
        first, second = np.unique(np.sort(drawn, axis=1), axis=0).T
    differ = labels[first] != labels[second]
    first, second = first[differ], second[differ]
    if first.size > max_pairs:
        keep = np.sort(np.random.default_rng(seed).permutation(first.size)[:max_pairs])
        first, second = first[keep], second[keep]
    swap = labels[first] < labels[second]
    return np.where(swap, second, first), np.where(swap, first, second)


def make_pairs(scores: Floats, probs: Floats | None, labels: Ints, max_pairs: int, seed: int) -> Pairs:
    """Pair rows of different labels, whatever their prompts: an absolute score should order them.

    Args:
        scores: (N,).
        probs: (N, K) level distributions, or None for a model without (its scores are taken as Bradley-Terry logits).
        labels: (N,).
        max_pairs: at most so many, sampled.
        seed: of the sample.
    """
    better, worse = sample_pairs(labels, max_pairs, seed)
    if better.size == 0:
        empty = np.zeros(0)
        return Pairs(better, worse, empty, empty, empty)
    return Pairs(better, worse, scores[better], scores[worse], chances(scores, probs, better, worse))


def bradley_terry(better: ArrayLike, worse: ArrayLike) -> Floats:
    """P(better beats worse) of scores that are Bradley-Terry logits: sigmoid of the difference."""
    b, w = checked_pair(better, worse, ("better", "worse"))
    return np.exp(-np.logaddexp(0.0, w - b))


def chances(scores: Floats, probs: Floats | None, first: Ints, second: Ints) -> Floats:
    """P(row `first` beats row `second`) as the model states it: from the two level distributions where it has them."""
    if probs is None:
        return bradley_terry(scores[first], scores[second])
    import torch

    from wildreward.modeling_wildreward import preference_probability

    chance = preference_probability(torch.from_numpy(probs[first]), torch.from_numpy(probs[second]))
    return np.clip(chance.numpy(), 0.0, 1.0)


def pair_weights(pairs: Pairs, users: Sequence[str], repeats: int, seed: int) -> Floats:
    """(repeats, pairs): how often each pair occurs when users are resampled and pairs formed again among the drawn.

    A pair of two users counts as often as the product of their draws, so that the interval reflects that one row takes
    part in many pairs.
    """
    draws = row_weights(users, repeats, seed)
    return draws[:, pairs.better] * draws[:, pairs.worse]


def weighted_interval(
    values: Floats, weights: Floats, share_of: int | None = None
) -> tuple[float | None, float | None]:
    """95% interval of the weighted mean over resamples (rows of `weights`); for `share_of` see `interval`."""
    totals = weights.sum(axis=1)
    means = np.where(totals > 0, weights @ values / np.maximum(totals, 1), np.nan)
    return interval(means.tolist(), 0.95, share_of)


def calibration_results(stated: Floats, outcome: Floats, n_bins: int) -> dict[str, Any]:
    """Calibration errors of a probability against what happened, with the bins of the diagram."""
    bins = reliability_bins(stated, outcome, n_bins)
    return {
        "ece": bins.calibration_error(),
        "ece_equal_mass": reliability_bins(stated, outcome, n_bins, "mass").calibration_error(),
        "bins": {
            "confidence": bins.confidence.tolist(),
            "accuracy": bins.accuracy.tolist(),
            "count": bins.count.tolist(),
        },
    }


def withheld(results: dict[str, Any], reason: str | None) -> dict[str, Any]:
    """The same results, or, where there is a reason, only the counts in them: null for everything else, and the reason."""
    if reason is None:
        return results
    return {k: v if k == "n" or k.startswith("n_") else None for k, v in results.items()} | {"reason": reason}


def too_few_answers(pairs: Pairs) -> str | None:
    """Why nothing is said of pairs with few different answers on one side; None where there are enough."""
    return too_few(better=np.unique(pairs.better).size, worse=np.unique(pairs.worse).size)


def core_results(pairs: Pairs, n_bins: int) -> dict[str, Any]:
    """What every set of pairs is measured by, whoever made it.

    Accuracy and coverage are of the scores. Calibration is of the stated chance: the calibration errors and bins of the
    predicted winner's, `brier` and `nll` of the better one's.

    Returns:
        `n`, `accuracy` (ties count half), `ece`, `ece_equal_mass`, `bins`, `brier`, `nll`, `coverage` (the curve of
        `accuracy_coverage`), `by_score_margin`.
    """
    curve = accuracy_coverage(pairs.better_scores, pairs.worse_scores)
    won = np.ones_like(pairs.chance)  # by its label the better one should win every pair
    return {
        "n": len(pairs),
        "accuracy": float(pairs.outcome.mean()),
        **calibration_results(pairs.confidence, pairs.correct, n_bins),
        "brier": brier_score(pairs.chance, won),
        "nll": negative_log_likelihood(pairs.chance, won),
        "coverage": {
            "margin": curve.margin.tolist(),
            "coverage": curve.coverage.tolist(),
            "accuracy": curve.accuracy.tolist(),
            "count": curve.count.tolist(),
        },
        "by_score_margin": by_score_margin(pairs),
    }


def like_margins(margin: Floats, most: int = 5) -> Ints:
    """The group of each pair where pairs of like margin make groups of about equal size, at most `most`."""
    edges = np.unique(np.quantile(margin, np.linspace(0, 1, most + 1)))
    return np.clip(np.searchsorted(edges, margin, side="right") - 1, 0, max(edges.size - 2, 0))


def by_score_margin(pairs: Pairs, most: int = 5) -> list[dict[str, float]]:
    """Pairs in groups of like score margin and about equal size: the chance that was stated for the winner, and its accuracy."""
    margin, outcome, confidence = np.abs(pairs.better_scores - pairs.worse_scores), pairs.outcome, pairs.confidence
    bins = like_margins(margin, most)
    return [
        {
            "low": float(margin[bins == k].min()),
            "high": float(margin[bins == k].max()),
            "n": int((bins == k).sum()),
            "stated": float(confidence[bins == k].mean()),
            "accuracy": float(outcome[bins == k].mean()),
        }
        for k in np.unique(bins)
    ]


def pair_results(
    pairs: Pairs, users: Sequence[str], conversations: Sequence[str], config: "EvaluateConfig"
) -> dict[str, Any]:
    """`core_results`, accuracy with its interval, and cross-sample consistency: within one conversation, and across.

    All null but the counts, with the reason, where the pairs are of too few better or worse answers.
    """
    core = core_results(pairs, config.bins)
    outcome = pairs.outcome
    names = np.asarray(conversations)
    same = names[pairs.better] == names[pairs.worse]
    owners = np.asarray(users)
    same_user = owners[pairs.better] == owners[pairs.worse]
    repeats = min(config.bootstrap, 300)
    weights = pair_weights(pairs, users, repeats, config.seed) if repeats else np.zeros((0, len(pairs)))
    # As many trials as the side with fewer users has: a pair is no trial of its own where many share an answer.
    independent = min(len({users[row] for row in side}) for side in (pairs.better, pairs.worse))
    reason = too_few_answers(pairs)
    results = {
        **core,
        "accuracy": Estimate(core["accuracy"], *weighted_interval(outcome, weights, independent)).as_dict(),
        "accuracy_same_conversation": defined_or_none(outcome[same].mean()) if same.any() else None,
        "accuracy_across_conversations": defined_or_none(outcome[~same].mean()) if (~same).any() else None,
        "n_same_conversation": int(same.sum()),
    }
    if list(users) != list(conversations):  # there are users, who may have had several conversations
        results |= {
            "accuracy_same_user": defined_or_none(outcome[same_user].mean()) if same_user.any() else None,
            "accuracy_across_users": defined_or_none(outcome[~same_user].mean()) if (~same_user).any() else None,
            "n_same_user": int(same_user.sum()),
        }
    return withheld(results, reason) | ({"accuracy": Estimate(reason=reason).as_dict()} if reason else {})
