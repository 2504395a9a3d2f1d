"""A reward model, local or remote, as the callable that TRL's trainers and `BestOfNDPOTrainer` take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from wildreward.reward_source import Conversation, RewardSourceError, open_source, source_name

Message = dict[str, Any]


class RewardFunction:
    """Scores completions with a WildReward model or a reward server.

    >>> reward = RewardFunction("runs/quickstart/reward-model")
    >>> trainer = GRPOTrainer(model=..., reward_funcs=reward, train_dataset=...)

    Args:
        source: folder or Hub id of a reward model, the URL of a reward server, or a function that maps conversations
            (lists of messages that end with the assistant's) to one score each, None for what it cannot score.
        name: under which TRL logs the rewards; by default the last part of the folder, id or host.
        source_options: see `reward_source.open_source`.
    """

    def __init__(
        self,
        source: str | Callable[[list[Conversation]], Sequence[float | None]],
        name: str | None = None,
        **source_options: Any,
    ) -> None:
        self._score = open_source(source, **source_options) if isinstance(source, str) else source
        self.__name__ = name or source_name(source)

    def score(self, conversations: list[Conversation]) -> list[float | None]:
        """One reward per conversation; None where the last message is empty or the source says it cannot score.

        Raises:
            RewardSourceError: the source is unreachable, or a score is NaN or infinite, or their number is wrong.
        """
        scorable = [i for i, messages in enumerate(conversations) if _text(messages[-1]).strip()]
        scores = list(self._score([conversations[i] for i in scorable])) if scorable else []
        if len(scores) != len(scorable):
            raise RewardSourceError(
                f"reward source {self.__name__} returned {len(scores)} rewards for {len(scorable)} completions; "
                "expected one each"
            )
        rewards: list[float | None] = [None] * len(conversations)
        for i, score in zip(scorable, scores, strict=True):
            if score is not None and not math.isfinite(score):
                raise RewardSourceError(
                    f"reward source {self.__name__} returned {score} for completion {i} of a batch of "
                    f"{len(conversations)}; expected a finite number, or null for what cannot be scored"
                )
            rewards[i] = None if score is None else float(score)
        return rewards

    def __call__(
        self, prompts: list, completions: list, completion_ids: list[list[int]] | None = None, **kwargs: Any
    ) -> list[float | None]:
        """TRL's calling convention: prompts and completions are texts or lists of messages."""
        return self.score([to_conversation(p, c) for p, c in zip(prompts, completions, strict=True)])


def to_conversation(prompt: str | Conversation, completion: str | Conversation) -> Conversation:
    """Join a prompt and its completion, either as text or as messages, to one list of messages."""
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    answer = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else list(completion)
    return before + answer


def _text(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    return content or ""
