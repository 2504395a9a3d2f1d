"""A chat model behind any OpenAI-compatible server.

Servers differ in what they take: structured output, log-probabilities, a temperature. All of it is asked for at first,
and left out for the rest of the run once the server refuses it, or a reply shows that it does not heed it. The key
comes from the environment only.
"""

import json
import logging
from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from wildreward.common.errors import UserError, described
from wildreward.common.hashing import json_sha256
from wildreward.common.llm.answers import UNPARSABLE, Reading, Unusable
from wildreward.common.llm.client import EndpointAsker, RetryPolicy
from wildreward.common.llm.quoting import Budget
from wildreward.common.llm.replies import is_prose, reply_of
from wildreward.common.names import public_name
from wildreward.common.settings import check_least

logger = logging.getLogger(__name__)

ReplyForm = Literal["json_schema", "json_object"]

# What a server's message says about a field that it does not take.
REFUSAL_HINTS = {
    "response_format": ("response_format", "json_schema", "json_object", "structured", "guided", "grammar"),
    "logprobs": ("logprob",),
    "max_tokens": ("'max_tokens'", '"max_tokens"', "max_completion_tokens"),
    "temperature": ("temperature",),
}
# A reply that could not be read is asked for again at this temperature: at 0 the same reply would come back.
REASK_TEMPERATURE = 0.5


class ChatModel(EndpointAsker):
    """Asks a chat model; remembers what its server does not take.

    Args:
        model: as the server calls it.
        base_url: the server, up to and including `/v1`; None for OpenAI's own.
        api_key_env: environment variable that holds the key; may be empty for other servers.
        concurrency: the most requests under way at once.
        temperature: 0 gives the same answer to the same question, as far as the server is deterministic.
        max_answer_tokens: room for the reply, a reasoning model's thinking included.
        extra_body: JSON object of further request fields, such as '{"reasoning_effort": "low"}'.
        budget, retry_policy: see `Budget` and `RetryPolicy`.
    """

    path = "/chat/completions"
    wording: str
    """Digest of all that is said to the model besides what it is asked about."""
    more: Mapping[str, Any] = MappingProxyType({})
    """Further request fields that the answers are read from."""

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
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        check_least(("temperature", temperature, 0), ("max_answer_tokens", max_answer_tokens, 1))
        super().__init__(base_url, api_key_env, concurrency, budget, retry_policy)
        self.model, self.temperature, self.max_answer_tokens = model, temperature, max_answer_tokens
        self.extra = read_extra_body(extra_body)
        self.refused: set[str] = set()
        self.reply_form: ReplyForm | None = "json_schema"
        depends = [self.wording, model, temperature, max_answer_tokens, repr(self.budget), self.extra]
        self.version = f"{public_name(model)}@{json_sha256(depends, 12)}"
        # Settings are published: of further fields, which may hold anything, only a digest.
        self.settings = {
            "model": public_name(model),
            "temperature": temperature,
            "max_answer_tokens": max_answer_tokens,
            "extra_body": json_sha256([self.extra], 12) if self.extra else "",
            **self.budget.settings(),
        }

    @abstractmethod
    def messages(self, question: Any, budget: Budget, remind: bool) -> tuple[list[dict[str, str]], bool]:
        """The chat messages that ask a question, and whether it is shown in part only; `remind` after a reply that could
        not be read."""

    @abstractmethod
    def schema(self, question: Any) -> tuple[str, dict[str, object]]:
        """Name and JSON schema of the reply."""

    @abstractmethod
    def understand(self, text: str, choice: dict[str, Any], question: Any) -> Reading:
        """Read a reply's text, of the choice of a chat completion, or raise `Unusable`."""

    def body(self, question: Any, budget: Budget, asked_before: int) -> tuple[dict[str, Any], bool]:
        messages, cut = self.messages(question, budget, asked_before > 0)
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": max(self.temperature, REASK_TEMPERATURE) if asked_before else self.temperature,
            "max_tokens": self.max_answer_tokens,
            **self.more,
        }
        if "max_tokens" in self.refused:
            body["max_completion_tokens"] = body["max_tokens"]
        # The last try does without: some models write white space for ever when they are held to a form.
        if self.reply_form and asked_before < 2:
            name, schema = self.schema(question)
            held = {"json_schema": {"name": name, "strict": True, "schema": schema}}
            body["response_format"] = {"type": self.reply_form} | (held if self.reply_form == "json_schema" else {})
        return {name: value for name, value in body.items() if name not in self.refused} | self.extra, cut

    def read(self, sent: dict[str, Any], payload: Any, question: Any) -> Reading:
        try:
            text, choice = reply_of(payload)
            return self.understand(text, choice, question)
        except Unusable as error:
            if "response_format" in sent and error.reason == UNPARSABLE and is_prose(payload):
                self._ask_in(None, "does not keep to response_format")
            raise

    def adapt(self, sent: dict[str, Any], message: str) -> bool:
        lowered = message.lower()
        for name, hints in REFUSAL_HINTS.items():
            if name not in sent or name in self.extra or not any(hint in lowered for hint in hints):
                continue
            if name == "response_format":
                # Many servers know the simpler form only, and say that the *type* is what they do not take.
                kind = sent[name]["type"]
                weaker = "json_object" if kind == "json_schema" and "type" in lowered else None
                if self.reply_form == kind:
                    self._ask_in(weaker, f"does not take response_format {kind} ({message})")
                return True
            if name not in self.refused:
                logger.warning("the server does not take %s (%s); going on without it", name, message)
            self.refused.update((name, "top_logprobs") if name == "logprobs" else (name,))
            return True
        return False

    def _ask_in(self, form: ReplyForm | None, why: str) -> None:
        """From now on, replies are asked for in another form; None: by the instructions alone."""
        if self.reply_form != form:
            self.reply_form = form
            logger.warning("the server %s; going on %s", why, f"with {form}" if form else "without it")


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
        raise UserError(f"--extra-body is {described(extra)}; expected a JSON object like '{{\"seed\": 1}}'")
    return extra
