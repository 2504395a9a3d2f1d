"""Is the real answer preferred to broken ones? A check that needs no annotation, on any dataset and any set of pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from wildreward.common.contrast import KINDS, Answered, broken_answers
from wildreward.common.errors import UserError
from wildreward.evaluation.benchmarks.items import Item
from wildreward.evaluation.benchmarks.preference import Preference
from wildreward.evaluation.benchmarks.run import benchmark_results
from wildreward.evaluation.settings import EvaluateConfig
from wildreward.evaluation.wildfb import LEVELS, HeldOut
from wildreward.scoring.protocol import Scored

ANSWERS = 500
"""At most so many real answers of a set are set against broken ones, a seeded sample."""


class Sanity(Preference):
    """Items of a real answer and a broken one, whose kind is the subset; those of one user (or prompt) are resampled
    together."""

    rule = "Share of the broken answers that score below the real one; equal scores count half."

    def __init__(self, name: str) -> None:
        self.name = name

    def cluster(self, item: Item) -> str:
        """Whose chat it is."""
        return item.extra["owner"]


def of_split(data: HeldOut, num_levels: int | None, seed: int, name: str, most: int = ANSWERS) -> list[Item]:
    """Answers of a held-out split that their users liked, at most `most` of them, against broken ones; the answers to other
    questions come from the whole split.

    Raises:
        UserError: there are none.
    """
    from wildreward.modeling_wildreward.ordinal import positive_from  # brings torch, which reading does without

    least = positive_from(num_levels or LEVELS)
    real = [Item(group.id, "", list(group.prompt), list(group.completions)) for group in data.groups]
    liked = np.flatnonzero(data.labels >= least)
    if not liked.size:
        raise UserError(
            f"{name} has no answer with a label from {least} on, and --sanity sets answers that users liked against broken "
            "ones; give a split that has some, or leave --sanity out"
        )
    return _broken_items(real, data.users, data.languages, liked, seed, most)


def of_pairs(items: Sequence[Item], seed: int) -> list[Item]:
    """The chosen answers of a set of pairs against broken ones.

    Raises:
        UserError: no answer is chosen.
    """
    real = [
        Item(item.id, "", [*item.prompt, *(item.leads[0] if item.leads else [])], item.candidates[:1])
        for item in items
        if not item.extra["tie"]
    ]
    if not real:
        raise UserError(
            "the pairs are all ties, and --sanity sets chosen answers against broken ones; leave --sanity out"
        )
    return _broken_items(
        real, [item.prompt_key for item in real], [None] * len(real), np.arange(len(real)), seed, ANSWERS
    )


def _broken_items(
    real: Sequence[Item],
    owners: Sequence[str],
    languages: Sequence[str | None],
    liked: np.ndarray,
    seed: int,
    most: int,
) -> list[Item]:
    answered = [
        Answered(
            item.id,
            owner,
            next((message["content"] for message in reversed(item.prompt) if message["role"] == "user"), ""),
            item.candidates[0],
            language,
        )
        for item, owner, language in zip(real, owners, languages, strict=True)
    ]
    numbers = {owner: str(number) for number, owner in enumerate(dict.fromkeys(owners))}  # who they are stays here
    places = sorted(np.random.default_rng(seed).permutation(liked)[:most].tolist())
    broken = broken_answers(answered, places, tuple(KINDS), len(KINDS), seed, held_out_phrases=True)
    return [
        Item(
            real[place].id,
            kind,
            real[place].prompt,
            [real[place].candidates[0], text],
            1,
            {"owner": numbers[owners[place]]},
        )
        for place, kind, text in broken
    ]


def sanity_results(
    benchmark: Sanity, items: Sequence[Item], scored: Sequence[Sequence[Scored]], config: EvaluateConfig
) -> dict[str, Any]:
    """`n` real answers, and of each kind of broken ones how many there were, and how many the real one beat (intervals
    resample users)."""
    kinds = benchmark_results(benchmark, items, scored, config)["subsets"]
    shown = {kind: kinds[kind] for kind in KINDS if kind in kinds}
    return {"n": len({(item.id, item.prompt_key) for item in items}), "kinds": shown, "rule": benchmark.rule}
