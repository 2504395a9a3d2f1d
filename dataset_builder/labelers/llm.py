"""The `llm` labeler: a level for every follow-up from any OpenAI-compatible chat endpoint.

with LlmLabeler("gpt-oss-120b", base_url="http://localhost:8000/v1") as labeler:
    for answer in labeler.label_many(requests):
        ...
"""

from types import MappingProxyType
from typing import Any

from wildreward.common.llm.answers import Reading
from wildreward.common.llm.chat_model import ChatModel
from wildreward.common.llm.quoting import Budget
from wildreward.common.llm.replies import one_of
from wildreward.dataset_builder.labelers.base import REFUSAL_VERDICTS, Request
from wildreward.dataset_builder.labelers.endpoint import EndpointLabeler
from wildreward.dataset_builder.labelers.parsing import level_probability, read_level
from wildreward.dataset_builder.labelers.prompts import PROMPT_VERSION, SCHEMAS, chat_messages, request_record


class LlmLabeler(ChatModel, EndpointLabeler):
    """Labels follow-ups and judges refusals by asking a chat model, see `ChatModel`."""

    name = "llm"
    wording = PROMPT_VERSION
    more = MappingProxyType({"logprobs": True, "top_logprobs": 5})

    def messages(self, question: Request, budget: Budget, remind: bool) -> tuple[list[dict[str, str]], bool]:
        shown = request_record(question, budget)
        return chat_messages(question.task, shown, remind), shown.cut

    def schema(self, question: Request) -> tuple[str, dict[str, object]]:
        return question.task, SCHEMAS[question.task]

    def understand(self, text: str, choice: dict[str, Any], question: Request) -> Reading:
        if question.task == "refusal":
            return Reading(verdict=one_of(REFUSAL_VERDICTS, text, "verdict"))
        level = read_level(text)
        return Reading(level=level, confidence=level_probability(choice.get("logprobs"), level))
