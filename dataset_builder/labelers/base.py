"""What every labeler is asked and what it answers.

A labeler reads one follow-up (or judges one refusal) at a time and says a level, how sure it is and why. It never
invents a level: where it cannot tell, `level` is None and `reason` says why. Cheap labelers answer in place
(`Labeler.label`); those that wait for a server override `label_many`, which pulls requests from an iterator as it has
room for them (that is the backpressure) and yields answers in whatever order they come.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

Task = Literal["feedback", "refusal"]
RefusalVerdict = Literal["answered", "justified_refusal", "false_refusal"]
REFUSAL_VERDICTS: tuple[RefusalVerdict, ...] = ("answered", "justified_refusal", "false_refusal")

# Reasons an answer has no level, whatever the labeler. Labelers may add their own codes.
UNLABELLED_UNPARSABLE = "unparsable_answer"  # the labeler answered, but not with one of the five levels
UNLABELLED_NOT_FOUND = "not_in_labels_file"
SERVER_ERROR = "server_error"  # the server failed on this question again and again
DEADLINE = "deadline_exceeded"  # no answer in time
REJECTED = "request_rejected"  # the server refuses this very question
NO_ANSWER = "no_answer"  # the labeler passed the question over
# Nothing was said about these: another run asks them again. The others would end the same way.
WORTH_ASKING_AGAIN = frozenset({SERVER_ERROR, DEADLINE, NO_ANSWER})


class ChatMessage(NamedTuple):
    """One message: role is "system", "user", "tool" or "assistant", see `common.chat`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a labeler.

    Attributes:
        key: hash of the content and the task; equal content has an equal key, so an answer can be reused.
        turn_id: `<conversation_id>_turn<k>`; the `file` labeler looks levels up by it. Not part of the key.
        task: "feedback": give the follow-up's level; "refusal": give a verdict on the response.
        history: messages before `query`, oldest first; may be cut to the labeler's budget, newest kept.
        query, response, feedback: user message k, the assistant's answer, user message k+1.
        language: of the conversation or message, in the source's own words, None when unknown.
        steps: what led to the response: calls of tools, their results; "" for nothing.
        on_ask: called before each attempt of a labeler that asks a server, in whatever thread: so that what a killed process
            had under way is counted, too.
    """

    key: str
    turn_id: str
    task: Task
    history: tuple[ChatMessage, ...]
    query: str
    response: str
    feedback: str
    language: str | None = None
    steps: str = ""
    on_ask: Callable[[], object] = field(default=lambda: None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a labeler said about one request.

    Attributes:
        key: the request's key.
        level: 1–5, or None: unlabelled (always None for the "refusal" task).
        verdict: for the "refusal" task: answered | justified_refusal | false_refusal, None when it could not tell.
        confidence: 0–1, None where the labeler has no notion of it.
        reason: short code: what decided, or why there is no level or verdict.
        attempts: how many times the labeler was asked, failures included; 0 when nothing was asked.
        prompt_tokens, completion_tokens: over all attempts, 0 where nothing is generated.
    """

    key: str
    level: int | None
    confidence: float | None = None
    reason: str = ""
    verdict: RefusalVerdict | None = None
    attempts: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __post_init__(self) -> None:
        if self.level is not None and self.level not in (1, 2, 3, 4, 5):
            raise ValueError(f"level must be 1, 2, 3, 4, 5 or None, got {self.level!r}")
        if self.verdict is not None and self.verdict not in REFUSAL_VERDICTS:
            raise ValueError(f"verdict must be one of {REFUSAL_VERDICTS} or None, got {self.verdict!r}")


class Labeler(ABC):
    """The interface of every labeler. Use as a context manager; `close` frees connections and models.

    Attributes:
        name: "classifier", "llm", "transformers", "file" or "rating".
        version: everything but the content that an answer depends on (prompt version, model, sampling settings).
            The ledger keeps answers of different versions apart.
        settings: what the user chose of it, by option, so that a message can name what differs. They are published with the
            dataset's report: no secrets, no paths.
        quality: how right it was when it was measured, for the report; empty where that is not known.
        paid: answers cost time or money, so the pipeline writes each to the ledger and never asks twice.
        judges_refusals: the "refusal" task is supported; otherwise possible refusals keep their level.
        knows_refusals: is asked about every response with negative feedback, not only about those worded like a refusal.
        uses_all_cores: one process at a time should label; labelers that are not paid only.
    """

    name: str
    version: str
    settings: Mapping[str, Any] = MappingProxyType({})
    quality: Mapping[str, Any] = MappingProxyType({})
    paid: bool = False
    judges_refusals: bool = False
    knows_refusals: bool = False
    uses_all_cores: bool = False

    @abstractmethod
    def label(self, request: Request) -> Answer:
        """Answer one request. Raises `UserError` when going on is pointless (wrong key, unknown model)."""

    def label_many(self, requests: Iterable[Request]) -> Generator[Answer, None, None]:
        """Answer all requests, exactly one answer each, in any order (in theirs, where the labeler is not paid).

        Pulls the next request only when there is room for it, so `requests` may be endless. Once it stops (an
        exception, or the caller closes the iterator) nothing is left running.
        """
        for request in requests:
            yield self.label(request)

    def close(self) -> None:  # noqa: B027 - most labelers hold nothing
        """Free what the labeler holds. Called once, also after an error."""

    def __enter__(self) -> "Labeler":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
