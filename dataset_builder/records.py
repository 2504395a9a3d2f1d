"""The typed records that travel through the pipeline, and the reason codes of what leaves it."""

from dataclasses import dataclass
from typing import NamedTuple

from wildreward.dataset_builder.labelers.base import ChatMessage

# Why a source record never became a conversation.
EMPTY_CONVERSATION = "empty_conversation"
BROKEN_ROLE_ORDER = "broken_role_order"
UNKNOWN_ROLE = "unknown_role"
EMPTY_CONTENT = "empty_content"
NON_STRING_CONTENT = "non_string_content"
INVALID_UNICODE = "invalid_unicode"
NOT_A_RECORD = "not_a_record"
DUPLICATE_CONVERSATION = "duplicate_conversation"

# Why a turn is not in the dataset (the filters add theirs, see filters.py).
UNLABELLED = "unlabelled"
NEUTRAL = "neutral"
DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near_duplicate"

LEVEL_TO_LABEL = {1: 1, 2: 2, 4: 3, 5: 4}


class Rejected(NamedTuple):
    """A source record that cannot be used, and why."""

    reason: str


@dataclass(slots=True)
class Conversation:
    """One chat. `messages` is an optional system message, then user and assistant in turn, starting with the user.

    `short_turns`: so many turns, from the first, are short enough with all that comes before them.
    """

    source_id: str | None
    user_id: str | None
    language: str | None
    model: str | None
    messages: list[ChatMessage]
    message_languages: list[str | None] | None = None
    conversation_id: str = ""
    truncated: bool = False
    short_turns: int = 0

    @property
    def first(self) -> int:
        """Index of the first user message."""
        return int(self.messages[0].role == "system")

    @property
    def num_turns(self) -> int:
        """Turns with a follow-up: user messages after the first."""
        return max(0, (len(self.messages) - self.first + 1) // 2 - 1)

    def turns(self) -> list["Turn"]:
        """All turns that have a follow-up, as references into this conversation."""
        return [Turn(self, number) for number in range(self.num_turns)]


@dataclass(slots=True)
class Turn:
    """A reference to turn `number` (from 0) of a conversation, and what the pipeline has found out about it.

    `level` is 1–5 or None (unlabelled). `label_source` is "explicit", "mined" or "refusal". `dropped` is the reason code
    once the turn has left the pipeline. `said` is the labeler's own level, confidence and reason, whatever became of them.
    """

    conversation: Conversation
    number: int
    level: int | None = None
    confidence: float | None = None
    labeler: str = ""
    reason: str = ""
    label_source: str = "explicit"
    dropped: str | None = None
    verdict: str | None = None
    said: tuple[int | None, float | None, str] = (None, None, "")

    @property
    def position(self) -> int:
        """Index of the query in the conversation's messages."""
        return self.conversation.first + 2 * self.number

    @property
    def id(self) -> str:
        return f"{self.conversation.conversation_id}_turn{self.number}"

    @property
    def query(self) -> str:
        return self.conversation.messages[self.position].content

    @property
    def response(self) -> str:
        return self.conversation.messages[self.position + 1].content

    @property
    def feedback(self) -> str:
        return self.conversation.messages[self.position + 2].content

    @property
    def history(self) -> list[ChatMessage]:
        return self.conversation.messages[: self.position]

    @property
    def language(self) -> str | None:
        """Of the query where the source tells it for each message, else of the conversation."""
        languages = self.conversation.message_languages
        return (languages[self.position] if languages else None) or self.conversation.language
