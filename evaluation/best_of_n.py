"""Best-of-n: pick the best of several answers with a reward model, and what that gains as n grows."""

from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from wildreward.common.chat import Message
from wildreward.evaluation.statistics import Floats, checked_pair
from wildreward.evaluation.store import Group, score_all
from wildreward.scoring.protocol import Scorer


def best_of_n(scorer: Scorer, prompts: Sequence[Sequence[Message]], completions: Sequence[Sequence[str]]) -> list[int]:
    """Index of the best completion under each prompt; the first of equals.

    Args:
        scorer: see `wildreward.scoring.load_scorer`.
        prompts: messages before the response, one list a prompt.
        completions: the answers to choose from.
    """
    groups = [Group(str(i), p, c) for i, (p, c) in enumerate(zip(prompts, completions, strict=True))]
    scored = score_all(scorer, groups)
    return [int(np.argmax([next(scored).score for _ in group.completions])) for group in groups]


def best_of_k_curve(scores: ArrayLike, quality: ArrayLike) -> Floats:
    """Expected quality of the top-scored among k of the n answers, for k = 1..n, over all choices of k.

    Args:
        scores: (n,) what the reward model says.
        quality: (n,) what is true of each answer (1 for right, 0 for wrong, or any number).

    Returns:
        (n,) exact expectations; equal scores share their mean quality, as if ties were broken at random.
    """
    s, q = checked_pair(scores, quality, ("scores", "quality"))
    order = np.argsort(s, kind="stable")
    _, group, counts = np.unique(s[order], return_inverse=True, return_counts=True)
    ranked = (np.bincount(group, q[order]) / counts)[group]
    return _top_chances(s.size) @ ranked


@lru_cache(maxsize=8)
def _top_chances(n: int) -> Floats:
    """(k, r): the r-th lowest of n is the highest of a random k-subset in C(r-1, k-1) of the C(n, k) subsets."""
    return np.asarray([[comb(r - 1, k - 1) / comb(n, k) for r in range(1, n + 1)] for k in range(1, n + 1)])
