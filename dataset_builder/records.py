"""The typed records that travel through the pipeline, and the reason codes of what leaves it."""

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from wildreward.common import chat, parts
from wildreward.common.llm.answers import Answer
from wildreward.common.llm.quoting import ChatMessage
from wildreward.dataset_builder.labelers.base import Request, Task

# Why a source record never became a conversation.
EMPTY_CONVERSATION = "empty_conversation"
UNKNOWN_ROLE = chat.UNKNOWN_ROLE
EMPTY_CONTENT = parts.EMPTY
NON_STRING_CONTENT = parts.NOT_TEXT
INVALID_UNICODE = chat.INVALID_UNICODE
NOT_A_RECORD = chat.NOT_A_MESSAGE
DUPLICATE_CONVERSATION = "duplicate_conversation"

LEVEL_TO_LABEL = {1: 1, 2: 2, 4: 3, 5: 4}
ROLE_LETTERS = {"system": "s", "user": "u", "tool": "t", "assistant": "a", chat.GAP: "x"}
# A user message, up to the next one, between which an answer stands and all could be read.
_ANSWERED = re.compile(r"u(?=[^ux]*a[^ux]*u)")
REQUEST_HISTORY = 20  # labelers see no more messages than these; their prompts cut them further


class Rejected(NamedTuple):
    """A source record that cannot be used, why, and its id, if it has one."""

    reason: str
    source_id: str | None = None


@dataclass(slots=True)
class Conversation:
    """One chat. `messages` are as `common.chat` reads them: an answer, with a `tool` message before it where tools led to it,
    stands between two messages of the user; a system message may stand first, and before any message of the user; where
    something could not be read there is a `gap`.

    `num_turns_within_limit`: turns with a lower number are short enough with all that comes before them.
    `ratings`: of each message what users gave it: the source's words when it is read, levels once it comes from a shard.
    `flagged`: flag → index of the first message on which it is set.
    `branch_of`: a name that it shares with other branches of one chat.
    """

    source_id: str | None
    user_id: str | None
    language: str | None
    model: str | None
    messages: list[ChatMessage]
    message_languages: list[str | None] | None = None
    conversation_id: str = ""
    truncated: bool = False
    num_turns_within_limit: int = 0
    reading: chat.Chat | None = None  # what was done to its messages; known only while they are read
    ratings: list[str | None] | list[int | None] | None = None
    flagged: dict[str, int] = field(default_factory=dict)
    branch_of: str | None = None

    @property
    def first(self) -> int:
        """Index of the first user message."""
        return self.roles.index("u")

    @property
    def roles(self) -> str:
        """A letter for the role of each message, see `ROLE_LETTERS`."""
        return "".join([ROLE_LETTERS[message.role] for message in self.messages])

    @property
    def num_turns(self) -> int:
        """Turns with an answer and a follow-up, and the last one where its answer has a rating."""
        return len(self._places())

    def turns(self) -> list["Turn"]:
        """All turns that have an answer and a follow-up or a rating, as references into this conversation."""
        return [Turn(self, *places) for places in self._places()]

    def _places(self) -> tuple[tuple[int, int, int, int, int], ...]:
        return turn_places(self.roles, bool(self.ratings and self.ratings[-1]))


@lru_cache(maxsize=1024)
def turn_places(roles: str, last_rated: bool = False) -> tuple[tuple[int, int, int, int, int], ...]:
    """Of every turn of a conversation: its number among the user's messages, and where its history, query, answer and
    follow-up are. After a gap the history begins anew, with the user's next message.

    >>> turn_places("suauxuatau")
    ((0, 1, 1, 2, 3), (2, 5, 5, 8, 9))

    With a rating of the last message, nothing need follow it; where the follow-up would be is then the end.
    """
    roles += "u" * last_rated
    return tuple(
        (
            roles.count("u", 0, query),
            roles.index("u", max(roles.rfind("x", 0, query), 0)),
            query,
            roles.rindex("a", query, following := roles.index("u", query + 1)),
            following,
        )
        for query in map(re.Match.start, _ANSWERED.finditer(roles))
    )


@dataclass(slots=True)
class Turn:
    """A reference to turn `number` (from 0, counted by the user's messages) of a conversation, and what the pipeline has found
    out about it.

    `start`, `position`, `answer`, `following`: where, among the messages, its history begins (after a system message that
    opens the conversation), and its query, answer and follow-up are.

    `level` is 1–5 or None (unlabelled). `label_source` is "explicit", "rating", "mined" or "refusal". `dropped` is the reason code
    once the turn has left the pipeline. `raw_label` is the labeler's own answer, whatever became of it.
    `verdict` is the refusal judge's, `verdict_reason` why there is none. `read_level` is what the labeler read in the follow-up
    of a turn that has its level from a rating.
    """

    conversation: Conversation
    number: int
    start: int
    position: int
    answer: int
    following: int
    level: int | None = None
    confidence: float | None = None
    labeler: str = ""
    reason: str = ""
    label_source: str = "explicit"
    dropped: str | None = None
    verdict: str | None = None
    verdict_reason: str = ""
    raw_label: Answer | None = None
    read_level: int | None = None

    @property
    def id(self) -> str:
        return f"{self.conversation.conversation_id}_turn{self.number}"

    @property
    def query(self) -> str:
        return self.conversation.messages[self.position].content

    @property
    def response(self) -> str:
        return self.conversation.messages[self.answer].content

    @property
    def feedback(self) -> str:
        """What the user said next; "" where that was nothing, and the turn is here for its rating."""
        return self.conversation.messages[self.following].content if self.has_follow_up else ""

    @property
    def has_follow_up(self) -> bool:
        return self.following < len(self.conversation.messages)

    @property
    def rating(self) -> int | None:
        """The level that the user's rating of the answer is worth."""
        ratings = self.conversation.ratings
        return ratings[self.answer] if ratings else None

    @property
    def history(self) -> list[ChatMessage]:
        messages = self.conversation.messages
        opening = messages[:1] if messages[0].role == "system" and self.start else []
        return opening + messages[self.start : self.position]

    @property
    def steps(self) -> str:
        """What led to the answer: calls of tools, their results, and what was said before; "" for nothing."""
        if self.answer == self.position + 1:
            return ""
        between = self.conversation.messages[self.position + 1 : self.answer]
        return "\n".join(message.content for message in between if message.role == "tool")

    @property
    def language(self) -> str | None:
        """Of the query where the source tells it for each message, else of the conversation."""
        languages = self.conversation.message_languages
        return (languages[self.position] if languages else None) or self.conversation.language


def request_for(turn: Turn, task: Task, with_key: bool = True) -> Request:
    """What a labeler is asked about a turn. The key covers the task and everything the labeler sees."""
    history = tuple(turn.history[-REQUEST_HISTORY:])
    key = ""
    if with_key:
        digest = hashlib.blake2b(task.encode(), digest_size=16)
        texts = [text for message in history for text in message]
        steps = [turn.steps] if turn.steps else []
        for text in (*texts, turn.query, *steps, turn.response, turn.feedback, turn.language or ""):
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        key = digest.hexdigest()
    return Request(key, turn.id, task, history, turn.query, turn.response, turn.feedback, turn.language, turn.steps)
