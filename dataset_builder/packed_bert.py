"""BERT encoders on the CPU, from their weights alone and without padding.

Most sentence encoders are BERT models of six or twelve layers. Importing the model code of a library takes longer than
embedding a thousand texts with one of them, and padded batches compute a fifth of their rows for nothing. Here texts lie
one after the other in a single row of tokens; only attention looks at the texts one by one.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import torch
from torch.nn.functional import embedding, layer_norm, linear, scaled_dot_product_attention

from wildreward.files import read_json

Weights = dict[str, torch.Tensor]

# Rows of tokens are filled up to a multiple of this. For each number of rows that it meets, a matrix product in bfloat16
# makes itself a kernel, which takes time and stays in memory.
STRIDE = 64


class PackedBert:
    """A BERT encoder from a folder with `config.json`, `tokenizer.json` and `model.safetensors`.

    Args:
        folder: of the model; `encoder_files.is_plain_bert` has said that it is one.
        dtype: to compute in.
        max_tokens: longer texts are cut to their beginning.
        adjust: gets the weights by name, without a "bert." in front, and gives those to compute with.
    """

    def __init__(
        self, folder: Path, dtype: torch.dtype, max_tokens: int, adjust: Callable[[Weights], Weights] | None = None
    ) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        config = read_json(folder / "config.json")
        weights = {
            name.removeprefix("bert."): tensor for name, tensor in load_file(folder / "model.safetensors").items()
        }
        found = {name: tensor.to(dtype) for name, tensor in (adjust(weights) if adjust else weights).items()}
        self.hidden_size, self.heads = config["hidden_size"], config["num_attention_heads"]
        self.epsilon = config["layer_norm_eps"]
        self.words, self.places, kinds = (
            found[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        )
        self.first_kind = kinds[0]
        self.norm = _pair(found, "embeddings.LayerNorm")
        self.layers = [_Layer(found, f"encoder.layer.{n}") for n in range(config["num_hidden_layers"])]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(min(max_tokens, len(self.places)))
        self.tokenizer.no_padding()

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return [found.ids for found in self.tokenizer.encode_batch(texts)]

    def __call__(self, texts: Sequence[Sequence[int]], heads: Sequence[int] | None = None) -> torch.Tensor:
        """Mean over the tokens of each text (N, hidden), float32.

        Args:
            texts: token ids; texts of the same length side by side share their attention.
            heads: how many tokens at the beginning of each text the mean is over; None: all.
        """
        counts = [len(text) for text in texts] if heads is None else heads
        states = zip(self.hidden_states(texts), counts, strict=True)
        return torch.stack([text[:count].float().sum(0) / max(1, count) for text, count in states])

    @torch.inference_mode()
    def hidden_states(self, texts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, ...]:
        """The last layer's states of each text (L, hidden)."""
        lengths = [len(text) for text in texts]
        spare = -sum(lengths) % STRIDE
        tokens = torch.tensor([token for text in texts for token in text] + [0] * spare, dtype=torch.long)
        positions = torch.cat([*map(torch.arange, lengths), torch.zeros(spare, dtype=torch.long)])
        hidden = embedding(tokens, self.words) + embedding(positions, self.places) + self.first_kind  # (T, H)
        hidden = self._normed(hidden, self.norm)
        for layer in self.layers:
            mixed = self._attend(linear(hidden, *layer.qkv), lengths)
            hidden = self._normed(linear(mixed, *layer.out).add_(hidden), layer.out_norm)
            inner = torch.ops.aten.gelu_(linear(hidden, *layer.up))
            hidden = self._normed(linear(inner, *layer.down).add_(hidden), layer.down_norm)
        return hidden[: sum(lengths)].split(lengths)

    def _attend(self, qkv: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        """Attention inside each text: (T, 3H) → (T, H)."""
        mixed = torch.zeros(len(qkv), self.hidden_size, dtype=qkv.dtype)
        start = 0
        for length, group in groupby(lengths):
            count = len(list(group))
            rows = slice(start, start + count * length)
            start = rows.stop
            if not length:
                continue
            parts = qkv[rows].view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (3, n, heads, L, H/heads)
            mixed[rows] = scaled_dot_product_attention(*parts).transpose(1, 2).reshape(count * length, -1)
        return mixed

    def _normed(self, hidden: torch.Tensor, norm: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return layer_norm(hidden, (self.hidden_size,), *norm, self.epsilon)


class _Layer:
    """The weights and biases of one layer; queries, keys and values come from one matrix."""

    def __init__(self, found: dict[str, torch.Tensor], name: str) -> None:
        parts = [_pair(found, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        self.qkv = tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))
        self.out, self.out_norm = (_pair(found, f"{name}.attention.output.{part}") for part in ("dense", "LayerNorm"))
        self.up = _pair(found, f"{name}.intermediate.dense")
        self.down, self.down_norm = (_pair(found, f"{name}.output.{part}") for part in ("dense", "LayerNorm"))


def _pair(found: dict[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return found[f"{name}.weight"], found[f"{name}.bias"]
