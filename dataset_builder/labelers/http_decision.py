"""The `transformers` labeler over HTTP: the same question, answered by a server that has `/v1/systemone`.

`transformers serve` is one. It answers with the probability of every level, for the price of reading the prompt.
"""

from typing import Any

from wildreward.dataset_builder.labelers.asking import EndpointLabeler
from wildreward.dataset_builder.labelers.base import REFUSAL_VERDICTS, Request, Task
from wildreward.dataset_builder.labelers.decision import (
    NOT_A_PROBABILITY,
    decision_request,
    level_of,
    read_probabilities,
)
from wildreward.dataset_builder.labelers.parsing import Reading, Unusable
from wildreward.dataset_builder.labelers.prompts import PROMPT_VERSION, settings_digest
from wildreward.dataset_builder.labelers.quoting import Budget
from wildreward.dataset_builder.labelers.retries import Patience
from wildreward.names import public_name


class DecisionForm:
    """Questions as System One requests. There are no options to fall back from and nothing is sampled."""

    path = "/systemone"

    def __init__(self, model: str, budget: Budget) -> None:
        self.model, self.budget = model, budget
        self.cut_rows = 0

    def body(self, request: Request, asked_before: int) -> dict[str, Any]:
        asked, cut = decision_request(request, self.budget)
        self.cut_rows += cut and not asked_before
        return {"model": self.model, **asked}

    def read(self, sent: dict[str, Any], payload: Any, task: Task) -> Reading:
        try:
            probabilities = payload["answers"][task]["probabilities"]
        except (KeyError, TypeError):
            raise Unusable(NOT_A_PROBABILITY) from None
        read = read_probabilities(probabilities, task)
        if read is None:
            raise Unusable(NOT_A_PROBABILITY)
        option, probability = read
        if task == "feedback":
            return Reading(level=level_of(option), confidence=probability)
        return Reading(verdict=next(v for v in REFUSAL_VERDICTS if v == option), confidence=probability)

    def tokens(self, payload: Any) -> tuple[int, int]:
        usage = payload.get("usage") if isinstance(payload, dict) else None
        count = usage.get("input_tokens") if isinstance(usage, dict) else None
        return (count if isinstance(count, int) and count > 0 else 0), 0

    def adapt(self, sent: dict[str, Any], message: str) -> bool:
        return False


class HttpDecisionLabeler(EndpointLabeler):
    """Labels follow-ups and judges refusals through a server's `/v1/systemone`.

    Args:
        model: as the server calls it.
        base_url: the server, up to and including `/v1`.
        api_key_env: environment variable that holds the key, where the server wants one.
        concurrency: the most requests under way at once.
        budget, patience: see `Budget` and `Patience`.
    """

    name = "transformers"

    def __init__(
        self,
        model: str,
        base_url: str,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        budget: Budget | None = None,
        patience: Patience | None = None,
    ) -> None:
        form = DecisionForm(model, budget or Budget())
        super().__init__(form, base_url, api_key_env, concurrency, patience)
        self.version = f"{public_name(model)}@{settings_digest([PROMPT_VERSION, model, repr(form.budget)])}"
        self.settings = {"model": public_name(model), **form.budget.settings()}
