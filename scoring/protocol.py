"""What every source of scores is, on this machine or behind a URL: conversations in, scores out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from wildreward.common.chat import Message
from wildreward.common.errors import UserError

Conversation = Sequence[Message]
"""Messages that end with the answer to score."""


class RewardSourceError(UserError):
    """A source of scores cannot be reached, or answers with something that is not a score."""


class NotFinite(ValueError):
    """A score is NaN or infinite."""


@dataclass(frozen=True)
class Scored:
    """What a source says of one conversation; the level distribution where it has one."""

    score: float
    level_probs: tuple[float, ...] | None = None


class Scorer(Protocol):
    """Any reward model. There are `WildRewardScorer` and `ClassifierScorer` (local.py), `OwnCodeScorer`, `ImplicitScorer` and `RemoteScorer`."""

    name: str
    kind: str
    fingerprint: str
    """Changes whenever the scores may change; names the file the scores are kept in."""
    revision: str | None
    """Commit of a model from the Hub."""
    weights: str | None
    """`wildreward.common.weights.weights_digest` of a model folder: by it a card knows whether results are the folder's own."""
    settings: dict[str, Any]
    """What else the scores depend on, in a form that can be published: number format, longest input."""
    num_levels: int | None
    """Levels of a model that has them."""

    def score(self, conversations: Sequence[Conversation]) -> list[Scored | None]:
        """One result for each conversation, None where the source says that it cannot score it.

        Raises:
            ValueError: a conversation cannot be rendered, or (`NotFinite`) has no score; the message names it.
            RewardSourceError: the source gave no scores.
        """
        ...


def kept(keep_reasoning: bool | None) -> dict[str, bool]:
    """The setting of scores that count an answer's reasoning; nothing for the others."""
    return {"keep_reasoning": True} if keep_reasoning else {}
