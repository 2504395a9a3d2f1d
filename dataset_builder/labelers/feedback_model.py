"""The classifier of follow-ups: what it is shown, where it comes from, and the probabilities of the five levels.

An ordinary `AutoModelForSequenceClassification` whose five labels are the levels, and a gate in front of it. The one in
the package is the first layers of all-MiniLM-L6-v2 with changes of low rank, made by `wildreward train-labeler`, which makes
others from a user's own labels.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wildreward.common.errors import UserError
from wildreward.common.files import read_json
from wildreward.common.lookup import hub_commit, load_error_message
from wildreward.common.names import public_name
from wildreward.common.weights import check_files
from wildreward.dataset_builder.encoding import BatchRunner
from wildreward.dataset_builder.labelers.base import Request
from wildreward.dataset_builder.labelers.gate import Gate
from wildreward.dataset_builder.labelers.pooling_layer import compute_first_token_only, starting_model
from wildreward.modeling_wildreward.loading import load_whole

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

LEVELS = ("rejection", "error correction", "neutral", "positive engagement", "satisfaction")
SETTINGS = "feedback_labeler"  # key of a model's config.json: thresholds, languages, measured trade-off
SAFELY = {"trust_remote_code": False, "use_safetensors": True}
GATE, ADAPTERS = "gate.safetensors", "adapters.safetensors"
BASE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"  # what the adapters in PACKAGED change
PACKAGED = Path(__file__).parents[1] / "data" / "feedback_labeler"

# Characters of each text that are shown, and tokens that all of them are cut to.
FEEDBACK_HEAD, FEEDBACK_TAIL, RESPONSE_HEAD, RESPONSE_TAIL, TOKENS = 200, 80, 40, 80, 160


class FeedbackModel:
    """A classifier with its tokenizer and gate.

    Args:
        model: gives (B, 5) logits of the levels.
        tokenizer: of the model, as `load_tokenizer` gives it.
        gate: passes over what is surely neutral; None: everything is classified.
        dtype: that the model's weights are changed to, in place; None: the fastest here.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerFast",
        gate: Gate | None,
        dtype: "torch.dtype | None" = None,
    ) -> None:
        self.model, self.tokenizer, self.gate = model, tokenizer, gate
        compute_first_token_only(model)
        self.runner = BatchRunner(model, tokenizer, dtype=dtype)

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
    """What the classifier reads: the follow-up, and beginning and end of the answer; long texts are cut."""
    return _cut(request.feedback, FEEDBACK_HEAD, FEEDBACK_TAIL), _cut(request.response, RESPONSE_HEAD, RESPONSE_TAIL)


def _cut(text: str, head: int, tail: int) -> str:
    text = text.strip()
    return text if len(text) <= head + tail else f"{text[:head]} … {text[-tail:]}"


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

    with naming(name):
        check_files(name)
        model, _ = load_whole(AutoModelForSequenceClassification.from_pretrained, name, **SAFELY)
        gate = cached_file(name, GATE, _raise_exceptions_for_missing_entries=False)
        return FeedbackModel(model, load_tokenizer(name), Gate.load(Path(gate)) if gate else None)


def read_settings(name: str | None, base_model: str = BASE_MODEL) -> dict[str, Any]:
    """What `train-labeler` wrote into the config.json of a model (None: the one in the package), without its weights.

    Raises:
        UserError: it cannot be read, or the model does not classify into the five levels.
    """
    from transformers import AutoConfig

    if name is None:
        with naming(base_model):
            AutoConfig.from_pretrained(base_model, trust_remote_code=False)  # it will be needed
        return read_json(PACKAGED / "config.json")[SETTINGS]

    with naming(name):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    names = tuple(str(config.id2label[number]) for number in sorted(config.id2label))
    if names != LEVELS:
        raise UserError(
            f"{name} classifies into {', '.join(names[:8])}; expected a classifier of the five levels "
            f"{', '.join(LEVELS)}, as `wildreward train-labeler` makes"
        )
    return getattr(config, SETTINGS, {})


def load_packaged(base_model: str = BASE_MODEL) -> FeedbackModel:
    """The classifier of the package: our adapters on `base_model`, a folder or Hub id of all-MiniLM-L6-v2.

    Raises:
        UserError: the base model cannot be had, or is not the one that the adapters were trained on.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(PACKAGED, trust_remote_code=False)
    with naming(base_model):
        base = load_encoder(base_model, config.num_hidden_layers - 1)
        tokenizer = load_tokenizer(base_model)
    if digest(base.state_dict()) != getattr(config, SETTINGS)["base_digest"]:
        raise UserError(
            f"{public_name(base_model)} is not the encoder that the classifier's adapters were trained on; give --model"
        )
    model = starting_model(base, config)
    model.load_state_dict(merged(model.state_dict(), read_adapters(PACKAGED)))
    return FeedbackModel(model, tokenizer, Gate.load(PACKAGED / GATE))


def load_encoder(name: str, num_layers: int | None) -> "PreTrainedModel":
    """An encoder, or only its first layers, in float32.

    Raises:
        OSError, ValueError, SafetensorError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModel

    options: dict[str, Any] = {"may_lack": ("pooler.",), "may_have": ("",), "dtype": torch.float32}
    if num_layers is not None:
        options["num_hidden_layers"] = num_layers
    check_files(name)
    return load_whole(AutoModel.from_pretrained, name, **SAFELY, **options)[0]


def read_adapters(folder: Path) -> dict[str, "torch.Tensor"]:
    """The tensors of an adapters folder."""
    from safetensors.torch import load_file

    return load_file(folder / ADAPTERS)


def merged(weights: dict[str, "torch.Tensor"], adapters: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """The adapted weights: W + B A where `<name>.A` (r, in) and `<name>.B` (out, r) are given, else the given tensor."""
    found = dict(weights)
    for name, tensor in adapters.items():
        if name.endswith(".A"):
            changed = name.removesuffix(".A")
            found[changed] = found[changed] + adapters[f"{changed}.B"].float() @ tensor.float()
        elif not name.endswith(".B"):
            found[name] = tensor.float()
    return found


def digest(weights: dict[str, Any]) -> str:
    """Tells encoders apart by their matrices behind attention and of the feed-forward parts, in their order."""
    found = hashlib.sha256()
    for name, tensor in weights.items():
        if name.endswith(".dense.weight") and "pooler" not in name:
            found.update(tensor.float().numpy().tobytes())
    return found.hexdigest()[:16]


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


def version(model: str | None) -> str:
    """A digest of the classifier and of what it is shown; thresholds are in the settings."""
    folder = PACKAGED if model is None else Path(model)
    found = hashlib.sha256(repr((FEEDBACK_HEAD, FEEDBACK_TAIL, RESPONSE_HEAD, RESPONSE_TAIL, TOKENS)).encode())
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    for path in files:
        found.update(path.read_bytes())
    if not files:
        found.update(str(hub_commit(model)).encode())
    found.update((Path(__file__).parent / "phrases.json").read_bytes())
    return found.hexdigest()[:12]


@contextmanager
def naming(name: str) -> Iterator[None]:
    """What goes wrong with a model's files as an error that names it."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"cannot load the classifier of follow-ups, {name} ({load_error_message(name, error)}); give a model that "
            "`wildreward train-labeler` made with --model, or choose another --labeler"
        ) from error
