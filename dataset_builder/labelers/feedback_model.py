"""The classifier of follow-ups: what it is shown, where it comes from, and the probabilities of the five levels.

An ordinary `AutoModelForSequenceClassification` whose five labels are the levels, and a gate in front of it, made by
`wildreward train-labeler` from a user's own labels.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wildreward.dataset_builder.encoding import BatchRunner
from wildreward.dataset_builder.labelers.base import Request
from wildreward.dataset_builder.labelers.gate import Gate
from wildreward.errors import UserError
from wildreward.lookup import hub_commit, why_not
from wildreward.weights import check_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

LEVELS = ("rejection", "error correction", "neutral", "positive engagement", "satisfaction")
SETTINGS = "feedback_labeler"  # key of a model's config.json: thresholds, languages, measured trade-off
GATE = "gate.safetensors"

# Characters of each text that are shown, and tokens that all of them are cut to.
FEEDBACK_HEAD, FEEDBACK_TAIL, QUERY, RESPONSE_HEAD, RESPONSE_TAIL, TOKENS = 200, 100, 40, 40, 110, 160


class FeedbackModel:
    """A classifier with its tokenizer and gate.

    Args:
        model: gives (B, 5) logits of the levels.
        tokenizer: of the model, as `load_tokenizer` gives it.
        gate: passes over what is surely neutral; None: everything is classified.
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", gate: Gate | None) -> None:
        self.model, self.tokenizer, self.gate = model, tokenizer, gate
        self.runner = BatchRunner(model, tokenizer)

    def probabilities(self, requests: Sequence[Request]) -> tuple[np.ndarray, np.ndarray]:
        """(N, 5) probabilities of the levels, and (N,) whether the classifier was asked; the others are the gate's."""
        passed = self.passes(requests)
        asked = np.flatnonzero(passed)
        shares = self.gate.shares if self.gate else (0,) * len(LEVELS)
        found = np.tile(np.asarray(shares, np.float32), (len(requests), 1))
        if len(asked):
            logits = self.logits([requests[row] for row in asked])
            exponents = np.exp(logits - logits.max(1, keepdims=True))
            found[asked] = exponents / exponents.sum(1, keepdims=True)
        return found, passed

    def passes(self, requests: Sequence[Request]) -> np.ndarray:
        """(N,) whether the gate leaves the classifier to decide."""
        if self.gate is None or not requests:
            return np.ones(len(requests), bool)
        return self.gate(follow_up_ids(self.tokenizer, requests)) >= self.gate.threshold

    def logits(self, requests: Sequence[Request]) -> np.ndarray:
        """(N, 5) logits of the levels, whatever the gate says."""
        rows = pair_ids(self.tokenizer, requests)
        return self.runner(rows, lambda output, mask: output.logits, len(LEVELS))

    def close(self) -> None:
        """End the threads."""
        self.runner.close()


def shown(request: Request) -> tuple[str, str]:
    """What the classifier reads: the follow-up, and the request with beginning and end of the answer; long texts are cut."""
    context = f"{_cut(request.query, QUERY, 0)} | {_cut(request.response, RESPONSE_HEAD, RESPONSE_TAIL)}"
    return _cut(request.feedback, FEEDBACK_HEAD, FEEDBACK_TAIL), context


def _cut(text: str, head: int, tail: int) -> str:
    text = text.strip()
    return text if len(text) <= head + tail else f"{text[:head]} … {text[-tail:] if tail else ''}"


def follow_up_ids(tokenizer: "PreTrainedTokenizerFast", requests: Sequence[Request]) -> list[list[int]]:
    """What the gate reads: token ids of the follow-ups alone."""
    options = {"add_special_tokens": False, "split_special_tokens": True, "truncation": True, "max_length": TOKENS}
    return tokenizer([shown(request)[0] for request in requests], **options)["input_ids"]


def pair_ids(tokenizer: "PreTrainedTokenizerFast", requests: Sequence[Request]) -> dict[str, list[list[int]]]:
    """`input_ids`, `attention_mask` and what else the tokenizer gives for follow-up and context, as lists of N lists.

    Special tokens that stand in a text are plain text.
    """
    firsts, seconds = zip(*map(shown, requests), strict=True)
    options = {"split_special_tokens": True, "truncation": "longest_first", "max_length": TOKENS}
    return dict(tokenizer(list(firsts), list(seconds), **options))


def load(name: str) -> FeedbackModel:
    """A classifier from a folder or the Hub.

    Raises:
        UserError: it cannot be loaded.
    """
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import cached_file

    from wildreward.modeling_wildreward.loading import load_whole

    with naming(name):
        check_files(name)
        model, _ = load_whole(
            AutoModelForSequenceClassification.from_pretrained, name, trust_remote_code=False, use_safetensors=True
        )
        gate = cached_file(name, GATE, _raise_exceptions_for_missing_entries=False)
        return FeedbackModel(model, load_tokenizer(name), Gate.load(Path(gate)) if gate else None)


def read_settings(name: str) -> dict[str, Any]:
    """What `train-labeler` wrote into a model's config.json, found out without its weights.

    Raises:
        UserError: it cannot be read, or the model does not classify into the five levels.
    """
    from transformers import AutoConfig

    with naming(name):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    names = tuple(str(config.id2label[number]) for number in sorted(config.id2label))
    if names != LEVELS:
        raise UserError(
            f"{name} classifies into {', '.join(names[:8])}; expected a classifier of the five levels "
            f"{', '.join(LEVELS)}, as `wildreward train-labeler` makes"
        )
    return getattr(config, SETTINGS, {})


def load_tokenizer(name: str) -> "PreTrainedTokenizerFast":
    """The tokenizer of a model.

    Raises:
        OSError, ValueError: there is none, or it has no fast form.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ValueError("its tokenizer has no fast form (tokenizer.json)")
    return tokenizer


def version(name: str) -> str:
    """A digest of the classifier and of what it is shown; thresholds are in the labeler's settings."""
    found = hashlib.sha256(repr((FEEDBACK_HEAD, FEEDBACK_TAIL, QUERY, RESPONSE_HEAD, RESPONSE_TAIL, TOKENS)).encode())
    found.update((Path(__file__).parent / "phrases.json").read_bytes())
    if Path(name).is_dir():
        for path in sorted(Path(name).glob("*.safetensors")):
            found.update(path.read_bytes())
    else:
        found.update(str(hub_commit(name)).encode())
    return found.hexdigest()[:12]


@contextmanager
def naming(name: str) -> Iterator[None]:
    """What goes wrong with a model's files as an error that names it."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"cannot load the classifier of follow-ups, {name} ({why_not(name, error)}); give a model that "
            "`wildreward train-labeler` made with --model, or choose another --labeler"
        ) from error
