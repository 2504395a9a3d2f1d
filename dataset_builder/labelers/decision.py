"""The `transformers` labeler: a local model chooses among the five levels by their probabilities.

No text is generated: transformers' `decision` pipeline writes the levels as options, and one forward pass over the
prompt gives every option's probability. The level is the likeliest option, the confidence its probability. Any chat
model works; a decision model (one with a `decision.json`) uses its own head and template.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from wildreward.dataset_builder.labelers.base import REFUSAL_VERDICTS, Answer, Labeler, Request, Task
from wildreward.dataset_builder.labelers.prompts import (
    DECISIONS,
    LEVELS,
    PROMPT_VERSION,
    request_record,
    settings_digest,
)
from wildreward.dataset_builder.labelers.quoting import Budget, report_cut_rows
from wildreward.errors import UserError
from wildreward.lookup import why_not
from wildreward.names import public_name
from wildreward.settings import check_least

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


def read_probabilities(probabilities: Any, task: Task) -> tuple[str, float] | None:
    """The likeliest option and its probability; None unless every option has a finite one, together about 1.

    Args:
        probabilities: option → probability, options named as in `DECISIONS`.
        task: whose options are expected.
    """
    options = DECISIONS[task]["criteria"]
    if not isinstance(probabilities, dict) or set(probabilities) != set(options):
        return None
    if not all(isinstance(p, int | float) and 0 <= p <= 1 for p in probabilities.values()):
        return None  # NaN is not between 0 and 1
    if abs(sum(probabilities.values()) - 1) > 1e-2:
        return None
    best = max(probabilities, key=probabilities.__getitem__)
    return best, float(probabilities[best])


def decision_answer(key: str, task: Task, probabilities: Any, attempts: int = 1, prompt_tokens: int = 0) -> Answer:
    """The answer to a request from the probabilities of its options."""
    read = read_probabilities(probabilities, task)
    if read is None:
        return Answer(key, None, reason=NOT_A_PROBABILITY, attempts=attempts, prompt_tokens=prompt_tokens)
    option, probability = read
    level = level_of(option) if task == "feedback" else None
    verdict = next((verdict for verdict in REFUSAL_VERDICTS if verdict == option), None)
    return Answer(key, level, confidence=probability, verdict=verdict, attempts=attempts, prompt_tokens=prompt_tokens)


def level_of(option: str) -> int:
    """The level an option of the feedback question stands for."""
    return next(level for level, (name, _) in LEVELS.items() if name == option)


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
        self.version = f"{public_name(model)}@{settings_digest([PROMPT_VERSION, model, repr(self.budget)])}"
        self._pipeline: DecisionPipeline | None = load_pipeline(model, device)

    def label(self, request: Request) -> Answer:
        return next(self.label_many([request]))

    def label_many(self, requests: Iterable[Request]) -> Iterator[Answer]:
        source = iter(requests)
        while window := list(itertools.islice(source, self.batch_size * BATCHES_SORTED_TOGETHER)):
            prepared = sorted(
                ((request, self._prepare(request)) for request in window), key=lambda pair: -_length(pair[1])
            )
            for start in range(0, len(prepared), self.batch_size):
                batch = prepared[start : start + self.batch_size]
                answers = decide([prompts for _, prompts in batch], self._pipeline)
                for (request, prompts), answer in zip(batch, answers, strict=True):
                    probabilities = answer[request.task].get("probabilities")
                    yield decision_answer(request.key, request.task, probabilities, prompt_tokens=_length(prompts))

    def _prepare(self, request: Request) -> list[tuple[dict[str, Any], list[Any]]]:
        asked, cut = decision_request(request, self.budget)
        self.cut_rows += cut
        return self._pipeline.preprocess(asked)["prompts"]

    def close(self) -> None:
        self._pipeline = None
        report_cut_rows(self.cut_rows)


def load_pipeline(model: str, device: str | None) -> "DecisionPipeline":
    """The decision pipeline of a model, in the precision of its weights where the device is fast at it.

    Raises:
        UserError: there is no such model, or it cannot answer with one token an option.
    """
    import torch
    from transformers import pipeline

    from wildreward.bundled import resolve

    path = resolve(model)
    try:
        _check_weights(path)
        safely = {"use_safetensors": True}
        pipe = pipeline(
            "decision", model=path, device=device, dtype="auto", trust_remote_code=False, model_kwargs=safely
        )
        if pipe.model.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            pipe.model.float()  # half precision without hardware for it is several times slower
        pipe.tokenizer.padding_side = "left"
        asked = {"state": "", "questions": dict(DECISIONS)}
        pipe(asked)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot label with the model {model}: {why_not(path, error)}; choose a chat model or a decision model "
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

    length = max(len(row) for row in rows)
    input_ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for index, row in enumerate(rows):
        input_ids[index, length - len(row) :] = row
        mask[index, length - len(row) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    inputs = {"input_ids": input_ids, "attention_mask": mask, "position_ids": positions}
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


def _length(prompts: list[tuple[dict[str, Any], list[Any]]]) -> int:
    return sum(inputs["input_ids"].shape[-1] for inputs, _ in prompts)
