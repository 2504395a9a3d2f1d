"""Completions that a reward model may like and a reader does not: told by rules, whatever their reward."""

import re

import torch

from wildreward.common.refusals import looks_like_refusal
from wildreward.common.words import count_words

WEAKNESSES = ("short", "repeating", "refusing")
SENTENCE = 4  # words
RUN = 4  # words that are looked for again
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


def is_repeating(text: str) -> bool:
    """Whether half of the text's runs of four words have come before: seq-rep-4 of Welleck et al. 2020 (arXiv 1908.04319).

    >>> is_repeating("no no no no no no"), is_repeating("Yes, and yes, and yes again.")
    (True, False)
    """
    words = _WORD.findall(text.lower())
    runs = [tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)]
    return 2 * len(set(runs)) <= len(runs) if runs else False


def texts_of(completions: list) -> list[str]:
    """The texts of completions, which are texts or lists of messages."""
    return [c if isinstance(c, str) else str(c[-1]["content"]) for c in completions]


def weaknesses(completions: list, per_prompt: int) -> torch.Tensor:
    """Which completions are shorter than a sentence (four words; each Chinese character is one), repeat themselves, or refuse.

    Args:
        completions: texts or lists of messages, `per_prompt` in a row for each prompt.
        per_prompt: N.

    Returns:
        (P, N, 3) bool, in the order of `WEAKNESSES`.
    """
    found = [
        [count_words(text) < SENTENCE, is_repeating(text), looks_like_refusal(text)] for text in texts_of(completions)
    ]
    return torch.tensor(found, dtype=torch.bool).view(-1, per_prompt, len(WEAKNESSES))


def choosable_under_guard(
    rewards: torch.Tensor, weak: torch.Tensor, choosable: torch.Tensor | None = None
) -> torch.Tensor:
    """(P, N) bool: which completions may be chosen where weak ones may not, as long as the prompt has another.

    Args:
        rewards: (P, N), NaN for what could not be scored, which is no candidate.
        weak: (P, N) bool.
        choosable: (P, N) bool, see `pairs.select_pairs`.
    """
    candidates = torch.ones_like(weak) if choosable is None else choosable
    sound = candidates & ~weak
    return torch.where((sound & ~rewards.isnan()).any(dim=1, keepdim=True), sound, candidates)
