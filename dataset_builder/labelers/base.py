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
from typing import Any, Literal

from wildreward.common.llm.answers import Answer
from wildreward.common.llm.quoting import ChatMessage

Task = Literal["feedback", "refusal"]
RefusalVerdict = Literal["answered", "justified_refusal", "false_refusal"]
REFUSAL_VERDICTS: tuple[RefusalVerdict, ...] = ("answered", "justified_refusal", "false_refusal")

UNLABELLED_NOT_FOUND = "not_in_labels_file"


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
