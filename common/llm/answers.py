"""What a model said of one question, or why it said nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from wildreward.common.errors import UserError

# Reasons that an answer says nothing, whoever was asked.
UNPARSABLE = "unparsable_answer"  # there is a reply, but none of those that were asked for
SERVER_ERROR = "server_error"  # the server failed on this question again and again
DEADLINE = "deadline_exceeded"  # no answer in time
REJECTED = "request_rejected"  # the server refuses this very question
NO_ANSWER = "no_answer"  # the question was passed over
# Nothing was said about these: another run asks them again. The others would end the same way.
WORTH_ASKING_AGAIN = frozenset({SERVER_ERROR, DEADLINE, NO_ANSWER})


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said about one question.

    Attributes:
        key: the question's key.
        level: 1–5, or None: unlabelled (always None where a verdict is asked for).
        verdict: one of the question's words, None when it could not be told, or where a level is asked for.
        confidence: 0–1, None where there is no notion of it.
        reason: short code: what decided, or why there is no level or verdict.
        attempts: how many times it was asked, failures included; 0 when nothing was asked.
        prompt_tokens, completion_tokens: over all attempts, 0 where nothing is generated.
    """

    key: str
    level: int | None
    confidence: float | None = None
    reason: str = ""
    verdict: str | None = None
    attempts: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __post_init__(self) -> None:
        if self.level is not None and self.level not in (1, 2, 3, 4, 5):
            raise ValueError(f"level must be 1, 2, 3, 4, 5 or None, got {self.level!r}")

    @property
    def is_final(self) -> bool:
        """Whether asking again would only give the same: not where the server failed or was too slow."""
        return self.reason not in WORTH_ASKING_AGAIN


class Reading(NamedTuple):
    """What a reply says: `level` or `verdict`."""

    level: int | None = None
    verdict: str | None = None
    confidence: float | None = None


class Unusable(Exception):
    """A reply without a usable level or verdict; `reason` is the code the question gets when asking again does not help."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check_share_failed(reasons: Mapping[str, int], asked: int, most: float) -> None:
    """Stop where the server failed on more than the share `most` of the questions.

    Args:
        reasons: how often each reason occurs among the answers.
        asked: number of questions.
        most: the largest share.

    Raises:
        UserError: naming how many failed and for what reasons.
    """
    failures = {reason: reasons[reason] for reason in sorted(WORTH_ASKING_AGAIN) if reasons.get(reason)}
    failed = sum(failures.values())
    if failed > most * asked:
        listed = ", ".join(f"{reason} {count:,}" for reason, count in failures.items())
        raise UserError(
            f"{failed:,} of {asked:,} questions got no answer ({listed}), more than --max_failed {most:g} allows; "
            "check the server, then run the same command again: only these are asked again"
        )
