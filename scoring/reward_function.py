"""A reward model, local or remote, as the callable that TRL's trainers and `BestOfNDPOTrainer` take."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from wildreward.common.chat import read_all
from wildreward.common.names import source_name
from wildreward.scoring.load import load_scorer
from wildreward.scoring.protocol import Conversation, RewardSourceError


class RewardFunction:
    """Scores completions with a reward model or a reward server.

    >>> reward = RewardFunction("runs/quickstart/reward-model")
    >>> trainer = GRPOTrainer(model=..., reward_funcs=reward, train_dataset=...)

    A model from a folder or the Hub is on the accelerator where there is one.

    Args:
        source: folder or Hub id of a reward model; the URL of a reward server, or a list of URLs of servers with the same
            model; or a function that maps conversations (lists of messages that end with the assistant's) to one score each,
            None for what it cannot score.
        keep_reasoning: judge completions with the reasoning in them, which is taken out by default, see `common.chat`.
        name: under which TRL logs the rewards; by default the last part of the folder or id, or the hosts.
        options: see `load_scorer`.
    """

    def __init__(
        self,
        source: str | Sequence[str] | Callable[[list[Conversation]], Sequence[float | None]],
        name: str | None = None,
        keep_reasoning: bool = False,
        **options: Any,
    ) -> None:
        self._source = source if callable(source) else load_scorer(source, keep_reasoning=keep_reasoning, **options)
        self._keep_reasoning = keep_reasoning
        self.__name__ = name or source_name(source if callable(source) or isinstance(source, str) else ",".join(source))

    def score(self, conversations: list[Conversation]) -> list[float | None]:
        """One reward per conversation; None where it ends without an answer in words (that is empty, or was cut off while the
        model reasoned or called tools), or the source cannot score it.

        Raises:
            RewardSourceError: the source is unreachable, or a score is NaN or infinite, or their number is wrong.
        """
        given = [i for i, messages in enumerate(conversations) if _is_said(messages)]
        try:
            read = read_all([conversations[i] for i in given], self._keep_reasoning)
        except ValueError as error:
            raise RewardSourceError(f"the reward model could not score a batch: {error}") from error
        answers = {i: chat for i, chat in zip(given, read, strict=True) if _is_answered(chat)}
        scorable = list(answers)
        scores = self._scores(list(answers.values())) if answers else []
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

    def _scores(self, conversations: list[Conversation]) -> list[float | None]:
        if callable(self._source):
            return list(self._source(conversations))
        try:
            return [None if scored is None else scored.score for scored in self._source.score(conversations)]
        except ValueError as error:
            raise RewardSourceError(f"the reward model could not score a batch: {error}") from error

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


def _is_said(messages: Conversation) -> bool:
    """Whether the last message says something in words, and waits for no tool."""
    last = messages[-1] if messages else {}
    said = last.get("content") or last.get("parts") or []
    words = isinstance(said, str) or any(not isinstance(part, dict) or part.get("text") for part in said)
    return words and not last.get("tool_calls")


def _is_answered(messages: Conversation) -> bool:
    return messages[-1]["role"] == "assistant" and bool(messages[-1]["content"].strip())
