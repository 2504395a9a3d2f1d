"""The `llm` labeler: a level for every follow-up from any OpenAI-compatible chat endpoint.

    with LlmLabeler("gpt-oss-120b", base_url="http://localhost:8000/v1") as labeler:
        for answer in labeler.label_many(requests):
            ...

Servers differ in what they take: structured output, log-probabilities, a temperature. All of it is asked for at first,
and left out for the rest of the run once the server refuses it. The key comes from the environment only.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from wildreward.dataset_builder.labelers.asking import Asker, Patience, Usage
from wildreward.dataset_builder.labelers.base import Answer, Labeler, Request, Task
from wildreward.dataset_builder.labelers.endpoint import Endpoint, check_api_key, load_openai
from wildreward.dataset_builder.labelers.parsing import Reading, read_chat_completion
from wildreward.dataset_builder.labelers.prompts import (
    PROMPT_VERSION,
    chat_messages,
    request_record,
    response_format,
    settings_digest,
)
from wildreward.dataset_builder.labelers.quoting import Budget, report_cut_rows
from wildreward.errors import UserError

logger = logging.getLogger(__name__)

# A reply that could not be read is asked for again at this temperature: at 0 the same reply would come back.
REASK_TEMPERATURE = 0.5


class ChatForm:
    """Questions as chat completions; remembers what the server does not take.

    Args:
        model: as the server calls it.
        temperature: of the first question about a row.
        max_answer_tokens: room for the reply, a reasoning model's thinking included.
        budget: how much of the conversation is shown.
        extra: further fields of every request, such as `reasoning_effort`.
    """

    path = "/chat/completions"

    def __init__(
        self, model: str, temperature: float, max_answer_tokens: int, budget: Budget, extra: dict[str, Any]
    ) -> None:
        self.model, self.temperature, self.max_answer_tokens = model, temperature, max_answer_tokens
        self.budget, self.extra = budget, extra
        self.refused: set[str] = set()
        self.cut_rows: int = 0

    def body(self, request: Request, asked_before: int) -> dict[str, Any]:
        shown = request_record(request, self.budget)
        self.cut_rows += shown.cut and not asked_before
        body = {
            "model": self.model,
            "messages": chat_messages(request.task, shown, remind=asked_before > 0),
            "temperature": max(self.temperature, REASK_TEMPERATURE) if asked_before else self.temperature,
            "max_tokens": self.max_answer_tokens,
            "response_format": response_format(request.task),
            "logprobs": True,
            "top_logprobs": 5,
        }
        if "max_tokens" in self.refused:
            body["max_completion_tokens"] = body["max_tokens"]
        return {name: value for name, value in body.items() if name not in self.refused} | self.extra

    def read(self, payload: Any, task: Task) -> Reading:
        return read_chat_completion(payload, task)

    def tokens(self, payload: Any) -> tuple[int, int]:
        usage = payload.get("usage") if isinstance(payload, dict) else None
        usage = usage if isinstance(usage, dict) else {}
        return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))

    def adapt(self, sent: dict[str, Any], message: str) -> bool:
        groups = {
            "response_format": ("response_format",),
            "logprobs": ("logprobs", "top_logprobs"),
            "max_tokens": ("max_tokens",),
            "temperature": ("temperature",),
        }
        hints = {
            "response_format": ("response_format", "json_schema", "structured", "guided", "grammar"),
            "logprobs": ("logprob",),
            "max_tokens": ("'max_tokens'", '"max_tokens"', "max_completion_tokens"),
            "temperature": ("temperature",),
        }
        lowered = message.lower()
        for name, fields in groups.items():
            if name in sent and name not in self.extra and any(hint in lowered for hint in hints[name]):
                if name not in self.refused:
                    logger.warning("the server does not take %s (%s); going on without it", name, message)
                self.refused.update(fields)
                return True
        return False


class LlmLabeler(Labeler):
    """Labels follow-ups and judges refusals by asking a chat model.

    Args:
        model: as the server calls it.
        base_url: the server, up to and including `/v1`; None for OpenAI's own.
        api_key_env: environment variable that holds the key; may be empty for other servers.
        concurrency: the most requests under way at once.
        temperature: 0 gives the same level for the same row, as far as the server is deterministic.
        max_answer_tokens: room for the reply, a reasoning model's thinking included.
        extra_body: JSON object of further request fields, such as '{"reasoning_effort": "low"}'.
        budget, patience: see `Budget` and `Patience`.
    """

    name = "llm"
    paid = True
    judges_refusals = True

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 128,
        temperature: float = 0.0,
        max_answer_tokens: int = 1024,
        extra_body: str = "",
        budget: Budget | None = None,
        patience: Patience | None = None,
    ) -> None:
        load_openai()
        check_api_key(base_url, api_key_env)
        extra = read_extra_body(extra_body)
        self.form = ChatForm(model, temperature, max_answer_tokens, budget or Budget(), extra)
        settings = [PROMPT_VERSION, model, temperature, max_answer_tokens, repr(self.form.budget), extra]
        self.version = f"{model}@{settings_digest(settings)}"
        self._asker = Asker(
            lambda: Endpoint(base_url, api_key_env, concurrency), self.form, concurrency, patience or Patience()
        )

    @property
    def usage(self) -> Usage:
        """Requests and tokens so far."""
        return self._asker.usage

    def label(self, request: Request) -> Answer:
        return next(self.label_many([request]))

    def label_many(self, requests: Iterable[Request]) -> Iterator[Answer]:
        return self._asker.answer_all(requests)

    def close(self) -> None:
        report_cut_rows(self.form.cut_rows)


def read_extra_body(text: str) -> dict[str, Any]:
    """The JSON object given as further request fields.

    Raises:
        UserError: it is not a JSON object.
    """
    try:
        extra = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise UserError(
            f"--extra-body is not valid JSON ({error}); expected an object like '{{\"seed\": 1}}'"
        ) from error
    if not isinstance(extra, dict):
        raise UserError(f"--extra-body is {text!r}; expected a JSON object like '{{\"seed\": 1}}'")
    return extra


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
