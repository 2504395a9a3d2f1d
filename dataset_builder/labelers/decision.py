"""The `transformers` labeler: a local model chooses among the five levels by their probabilities.

No text is generated: transformers' `decision` pipeline writes the levels as options, and one forward pass over the
prompt gives every option's probability. The level is the likeliest option, the confidence its probability. Any chat
model works; a decision model (one with a `decision.json`) uses its own head and template. A server can do the same.
"""

import itertools
import logging
from collections.abc import Generator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from wildreward.common.errors import UserError
from wildreward.common.llm.answers import Answer, Reading, Unusable
from wildreward.common.llm.client import RetryPolicy
from wildreward.common.llm.quoting import Budget, report_cut_rows
from wildreward.common.lookup import load_error_message
from wildreward.common.names import public_name
from wildreward.common.settings import check_least
from wildreward.dataset_builder.labelers.base import Labeler, Request, Task
from wildreward.dataset_builder.labelers.endpoint import EndpointLabeler
from wildreward.dataset_builder.labelers.prompts import (
    DECISIONS,
    LEVELS,
    request_record,
    version_of,
)

if TYPE_CHECKING:
    import torch
    from transformers.pipelines import DecisionPipeline

logger = logging.getLogger(__name__)

NOT_A_PROBABILITY = "no_probabilities"
# Requests sorted by length together, in batches: more evens out the lengths, but keeps more answers waiting.
BATCHES_SORTED_TOGETHER = 8


def decision_request(request: Request, budget: Budget) -> tuple[dict[str, Any], bool]:
    """The request for the decision pipeline or `/v1/systemone`; was part of the conversation left out?"""
    shown = request_record(request, budget)
    return {"state": shown.text, "questions": {request.task: DECISIONS[request.task]}}, shown.cut


def read_probabilities(probabilities: Any, task: Task) -> Reading:
    """The likeliest option, with its probability as the confidence.

    Args:
        probabilities: option → probability, options named as in `DECISIONS`.
        task: whose options are expected.

    Raises:
        Unusable: not every option has a finite probability, or they do not add up to about 1.
    """
    options = DECISIONS[task]["criteria"]
    if (
        not isinstance(probabilities, dict)
        or set(probabilities) != set(options)
        or not all(isinstance(p, int | float) and 0 <= p <= 1 for p in probabilities.values())  # nor is NaN
        or abs(sum(probabilities.values()) - 1) > 1e-2
    ):
        raise Unusable(NOT_A_PROBABILITY)
    best = max(probabilities, key=probabilities.__getitem__)
    if task == "refusal":
        return Reading(verdict=best, confidence=float(probabilities[best]))
    level = next(level for level, (name, _) in LEVELS.items() if name == best)
    return Reading(level=level, confidence=float(probabilities[best]))


class TransformersLabeler(Labeler):
    """Labels follow-ups and judges refusals with a model on this machine.

    Args:
        model: name or folder of a chat model or a decision model.
        batch_size: prompts in one forward pass.
        device: such as "cpu" or "cuda:0"; None picks an accelerator where there is one.
        budget: how much of the conversation is shown.
    """

    name = "transformers"
    paid = True
    judges_refusals = True

    def __init__(
        self, model: str, batch_size: int = 8, device: str | None = None, budget: Budget | None = None
    ) -> None:
        check_least(("batch_size", batch_size, 1))
        self.budget = budget or Budget()
        self.batch_size = batch_size
        self.cut_rows = 0
        self.version = version_of(model, repr(self.budget))
        self._pipeline: DecisionPipeline | None = load_pipeline(model, device)

    def label(self, request: Request) -> Answer:
        return next(self.label_many([request]))

    def label_many(self, requests: Iterable[Request]) -> Generator[Answer, None, None]:
        source = iter(requests)
        while window := list(itertools.islice(source, self.batch_size * BATCHES_SORTED_TOGETHER)):
            prepared = sorted(
                ((request, self._prepare(request)) for request in window), key=lambda pair: -_length(pair[1])
            )
            for start in range(0, len(prepared), self.batch_size):
                batch = prepared[start : start + self.batch_size]
                answers = decide([prompts for _, prompts in batch], self._pipeline)
                for (request, prompts), answer in zip(batch, answers, strict=True):
                    yield _answer(request, answer[request.task].get("probabilities"), _length(prompts))

    def _prepare(self, request: Request) -> list[tuple[dict[str, Any], list[Any]]]:
        asked, cut = decision_request(request, self.budget)
        self.cut_rows += cut
        return self._pipeline.preprocess(asked)["prompts"]

    def close(self) -> None:
        self._pipeline = None
        report_cut_rows(self.cut_rows)


class HttpDecisionLabeler(EndpointLabeler):
    """The same question, answered by a server that has `/v1/systemone`; `transformers serve` is one.

    Args:
        model: as the server calls it.
        base_url: the server, up to and including `/v1`.
        api_key_env: environment variable that holds the key, where the server wants one.
        concurrency: the most requests under way at once.
        budget, retry_policy: see `Budget` and `RetryPolicy`.
    """

    name = "transformers"
    path = "/systemone"

    def __init__(
        self,
        model: str,
        base_url: str,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        budget: Budget | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        super().__init__(base_url, api_key_env, concurrency, budget, retry_policy)
        self.model = model
        self.version = version_of(model, repr(self.budget))
        self.settings = {"model": public_name(model), **self.budget.settings()}

    def body(self, question: Request, budget: Budget, asked_before: int) -> tuple[dict[str, Any], bool]:
        asked, cut = decision_request(question, budget)
        return {"model": self.model, **asked}, cut

    def read(self, sent: dict[str, Any], payload: Any, question: Request) -> Reading:
        try:
            probabilities = payload["answers"][question.task]["probabilities"]
        except (KeyError, TypeError):
            raise Unusable(NOT_A_PROBABILITY) from None
        return read_probabilities(probabilities, question.task)


def load_pipeline(model: str, device: str | None) -> "DecisionPipeline":
    """The decision pipeline of a model, in the precision of its weights where the device is fast at it.

    Raises:
        UserError: there is no such model, or it cannot answer with one token an option; transformers is older than the pipeline.
    """
    import torch
    from transformers import pipeline

    try:
        _check_weights(model)
        safely = {"use_safetensors": True}
        pipe = pipeline(
            "decision", model=model, device=device, dtype="auto", trust_remote_code=False, model_kwargs=safely
        )
        if pipe.model.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            pipe.model.float()  # half precision without hardware for it is several times slower
        pipe.tokenizer.padding_side = "left"
        asked = {"state": "", "questions": dict(DECISIONS)}
        pipe(asked)
    except KeyError as error:  # no such task
        raise UserError(
            "--labeler transformers needs the `decision` pipeline of transformers 5.23 or later; update transformers, or ask a server "
            "with --base-url"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot label with the model {model}: {load_error_message(model, error)}; choose a chat model or a decision model "
            "whose weights are safetensors files"
        ) from error
    return pipe


def _check_weights(path: str) -> None:
    """Raise `ValueError` where all weights of a model, or of an adapter, are pickled."""
    from transformers.utils import has_file

    for pickled, safe in (
        ("pytorch_model.bin", ("model.safetensors", "model.safetensors.index.json")),
        ("adapter_model.bin", ("adapter_model.safetensors",)),
    ):
        if has_file(path, pickled) and not any(has_file(path, name) for name in safe):
            raise ValueError(f"it has {pickled}, which is not loaded, and no {safe[0]}")


def decide(requests: list[list[tuple[dict[str, Any], list[Any]]]], pipe: "DecisionPipeline") -> list[dict[str, Any]]:
    """Answer several prepared requests, in one forward pass where the model is a plain causal language model.

    The pipeline itself runs prompt by prompt. Where an answer is read from the logits after the last token, as it is
    without a decision head or template, the prompts are padded on the left and go through the model together.
    """
    together = [prompts[0] for prompts in requests if len(prompts) == 1 and _reads_last_token(prompts[0], pipe)]
    if len(together) != len(requests):
        return [pipe.postprocess(pipe.forward({"prompts": prompts})) for prompts in requests]
    logits = last_logits([inputs["input_ids"][0] for inputs, _ in together], pipe)
    answers = []
    for row, (_, questions) in zip(logits, together, strict=True):
        question = questions[0]
        scores = row[pipe.label_token_ids(tuple(question.labels))].float()
        scores = pipe.decision_config.logits_processors[question.type](None, scores)
        answers.append({question.name: question.answer(scores.softmax(-1).tolist())})
    return answers


def last_logits(rows: "list[torch.Tensor]", pipe: "DecisionPipeline") -> "torch.Tensor":
    """Logits (rows, vocabulary) after the last token of each row of token ids (length,), in one forward pass."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    pad = partial(pad_sequence, batch_first=True, padding_side="left")
    mask = pad([torch.ones_like(row) for row in rows])
    inputs = {"input_ids": pad(rows), "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
    inputs = {name: tensor.to(pipe.model.device) for name, tensor in inputs.items()}
    with torch.inference_mode():
        return pipe.model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1].float().cpu()


def _reads_last_token(prompt: tuple[dict[str, Any], list[Any]], pipe: "DecisionPipeline") -> bool:
    """Whether an answer is the logits after the prompt's last token, which is what `last_logits` gives."""
    from transformers.decision.modeling_utils import DecisionMixin

    inputs, _ = prompt
    marks = inputs["marks"].tolist()
    return (
        not isinstance(pipe.model, DecisionMixin)
        and set(inputs) == {"input_ids", "marks"}
        and marks == [inputs["input_ids"].shape[-1]]
    )


def _answer(request: Request, probabilities: Any, prompt_tokens: int) -> Answer:
    try:
        reading, reason = read_probabilities(probabilities, request.task), ""
    except Unusable as unusable:
        reading, reason = Reading(), unusable.reason
    said = reading.level, reading.confidence, reason, reading.verdict
    return Answer(request.key, *said, prompt_tokens=prompt_tokens)


def _length(prompts: list[tuple[dict[str, Any], list[Any]]]) -> int:
    return sum(inputs["input_ids"].shape[-1] for inputs, _ in prompts)
