"""Sentence embeddings for the mining step: mean-pooled, unit length."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from wildreward.common.errors import UserError
from wildreward.common.lookup import load_error_message
from wildreward.common.weights import check_files
from wildreward.dataset_builder.encoding import BatchRunner
from wildreward.modeling_wildreward.loading import load_whole

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SAFE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
CHARS_PER_TOKEN = 16


class Embedder:
    """A sentence encoder from the Hub or a folder.

    Args:
        name: e.g. "sentence-transformers/all-MiniLM-L6-v2".
        max_tokens: longer texts are cut to their beginning.
        device: "auto" takes a GPU when there is one.
        threads: CPU cores to use; None: all.

    Raises:
        UserError: it cannot be loaded.
    """

    def __init__(self, name: str, *, max_tokens: int = 128, device: str = "auto", threads: int | None = None) -> None:
        from transformers import AutoModel

        with naming(name):
            config, self.tokenizer = load_config_and_tokenizer(name)
            safely = {"trust_remote_code": False, "use_safetensors": True, "may_lack": ("pooler.",), "may_have": ("",)}
            model, _ = load_whole(AutoModel.from_pretrained, name, **safely)
        places = getattr(config, "max_position_embeddings", None) or max_tokens
        self.max_tokens = min(max_tokens, places, self.tokenizer.model_max_length)
        self.hidden_size = config.hidden_size
        self.runner = BatchRunner(model, self.tokenizer, device, threads)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors (N, hidden), float32, in the order of `texts`."""
        cut = self.max_tokens * CHARS_PER_TOKEN
        rows = self.tokenizer([text[:cut] for text in texts], truncation=True, max_length=self.max_tokens)
        vectors = self.runner(dict(rows), _mean, self.hidden_size)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _mean(output: Any, mask: Any) -> Any:
    """(B, L, H) states → (B, H) mean over the tokens of each text."""
    weights = mask.unsqueeze(-1)
    return (output.last_hidden_state.float() * weights).sum(1) / weights.sum(1).clamp(min=1)


def check_encoder(name: str) -> None:
    """Read everything of an encoder but its weights, and make sure that there are some, before anything is paid for.

    Raises:
        UserError: what is missing or cannot be used, naming --mining-encoder.
    """
    with naming(name):
        load_config_and_tokenizer(name)


@contextmanager
def naming(encoder: str) -> Iterator[None]:
    """What goes wrong with an encoder's files as an error that names it."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError, UserError) as error:
        raise UserError(
            f"cannot load the sentence encoder {encoder} ({load_error_message(encoder, error)}); give another with --mining-encoder, "
            "or do without implicit feedback (--mining-window 0)"
        ) from error


def load_config_and_tokenizer(path: str) -> tuple[Any, Any]:
    """The config and tokenizer of an encoder, from the Hub or a folder.

    Raises:
        OSError, ValueError, ImportError: one of them or the weights are missing, or it is no encoder of texts.
    """
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import has_file

    check_files(path)
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
        raise ValueError(f"a {config.model_type} model; expected an encoder of texts such as BERT or RoBERTa")
    if not any(has_file(path, name) for name in SAFE_WEIGHTS):
        raise ValueError("it has no model.safetensors; weights in other forms are not loaded")
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    if tokenizer.pad_token is None:
        raise ValueError("its tokenizer has no padding token")
    return config, tokenizer
