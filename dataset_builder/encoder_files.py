"""What a sentence encoder's files say about it, found out without its weights, before anything is paid for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wildreward.bundled import resolve
from wildreward.errors import UserError
from wildreward.files import read_json
from wildreward.lookup import why_not

PLAIN_BERT_FILES = ("config.json", "tokenizer.json", "model.safetensors")
# What `packed_bert` computes; a config that says otherwise is another model.
PLAIN_BERT = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "auto_map": {},
    "quantization_config": {},
}
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "layer_norm_eps")
SAFE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def check_encoder(name: str) -> None:
    """Read everything of an encoder but its weights, and make sure that there are some.

    Raises:
        UserError: what is missing or cannot be used, naming --mining-encoder.
    """
    with naming(name):
        path = resolve(name)
        if is_plain_bert(Path(path)):
            from tokenizers import Tokenizer

            Tokenizer.from_file(str(Path(path) / "tokenizer.json"))
        else:
            load_config_and_tokenizer(path)


@contextmanager
def naming(encoder: str) -> Iterator[None]:
    """What goes wrong with an encoder's files as an error that names it."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError, UserError) as error:
        raise UserError(
            f"cannot load the sentence encoder {encoder} ({why_not(resolve(encoder), error)}); give another with --mining-encoder, "
            "or do without implicit feedback (--mining-window 0)"
        ) from error


def is_plain_bert(folder: Path) -> bool:
    """Whether a folder holds a BERT that `packed_bert` computes: its config says so, and no weight is missing."""
    if not all((folder / name).is_file() for name in PLAIN_BERT_FILES):
        return False
    config = read_json(folder / "config.json")
    if config.get("model_type") != "bert" or not all(config.get(name) for name in SIZES):
        return False
    if any((config.get(name) or value) != value for name, value in PLAIN_BERT.items()):
        return False
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="np") as weights:
        names = weights.keys()
    return plain_bert_weights(config["num_hidden_layers"]) <= {name.removeprefix("bert.") for name in names}


def plain_bert_weights(layers: int) -> set[str]:
    """The names of all weights of a BERT without its pooler and heads."""
    parts = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    parts += ("attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm")
    pairs = {f"encoder.layer.{layer}.{part}" for layer in range(layers) for part in parts} | {"embeddings.LayerNorm"}
    tables = {f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type")}
    return tables | {f"{pair}.{kind}" for pair in pairs for kind in ("weight", "bias")}


def load_config_and_tokenizer(path: str) -> tuple[Any, Any]:
    """The config and tokenizer of an encoder that transformers computes, from the Hub or a folder.

    Raises:
        OSError, ValueError, ImportError: one of them or the weights are missing, or it is no encoder of texts.
    """
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import has_file

    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
        raise ValueError(f"a {config.model_type} model; expected an encoder of texts such as BERT or RoBERTa")
    if not any(has_file(path, name) for name in SAFE_WEIGHTS):
        raise ValueError("it has no model.safetensors; weights in other forms are not loaded")
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    if tokenizer.pad_token is None:
        raise ValueError("its tokenizer has no padding token")
    return config, tokenizer
