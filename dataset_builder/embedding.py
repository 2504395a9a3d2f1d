"""Sentence embeddings for the mining step: mean-pooled, unit length, batched by length under a token budget."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wildreward.bundled import resolve
from wildreward.dataset_builder.encoder_files import (
    PLAIN_BERT_FILES,
    is_plain_bert,
    load_config_and_tokenizer,
    naming,
)

if TYPE_CHECKING:
    from torch import Tensor

    from wildreward.dataset_builder.packed_bert import PackedBert

logger = logging.getLogger(__name__)

# Tokens of a batch with its padding. On a CPU a batch is one core's work: small, so that the cores end together.
CPU_TOKENS = 512
GPU_TOKENS = 32_768
CHARS_PER_TOKEN = 16


class Embedder:
    """A sentence encoder from the Hub or a folder.

    Args:
        name: e.g. "sentence-transformers/all-MiniLM-L6-v2".
        max_tokens: longer texts are cut to their beginning.
        device: "auto" takes a GPU when there is one.
        threads: CPU cores to use; None: all.
    """

    def __init__(self, name: str, *, max_tokens: int = 128, device: str = "auto", threads: int | None = None) -> None:
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.on_cpu = device == "cpu"
        with naming(name):
            packed = _packed(resolve(name), max_tokens) if self.on_cpu else None
            self.model = packed or _Padded(resolve(name), max_tokens, device)
        self.max_tokens = max_tokens
        # Threads that compute with one core each. They stay, because each new thread would take memory of its own.
        count = threads or len(os.sched_getaffinity(0))
        self.pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors (N, hidden), float32, in the order of `texts`.

        On a CPU, batches are shared out to threads that compute with one core each: there is nothing to wait for between
        the layers, and the result does not depend on the number of cores.
        """
        from torch.nn.functional import normalize

        cut = self.max_tokens * CHARS_PER_TOKEN
        ids = self.model.tokenize([text[:cut] for text in texts])
        vectors = np.zeros((len(texts), self.model.hidden_size), np.float32)
        batches = length_batches([len(row) for row in ids], CPU_TOKENS if self.on_cpu else GPU_TOKENS)

        def embed(rows: list[int]) -> None:
            vectors[rows] = normalize(self.model([ids[row] for row in rows]), dim=-1).cpu().numpy()

        if self.on_cpu:
            list(self.pool.map(embed, reversed(batches)))
        else:
            for rows in batches:
                embed(rows)
        return vectors


class _Padded:
    """Any encoder that transformers knows, in padded batches."""

    def __init__(self, path: str, max_tokens: int, device: str) -> None:
        from transformers import AutoModel

        from wildreward.modeling_wildreward.loading import load_whole

        config, self.tokenizer = load_config_and_tokenizer(path)
        options = {"may_lack": ("pooler.",), "may_have": ("",), "dtype": best_dtype(device), "use_safetensors": True}
        loaded, _ = load_whole(AutoModel.from_pretrained, path, trust_remote_code=False, **options)
        self.model, self.hidden_size = loaded.eval().to(device), config.hidden_size
        places = getattr(config, "max_position_embeddings", None) or max_tokens
        self.max_tokens = min(max_tokens, places, self.tokenizer.model_max_length)

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, truncation=True, max_length=self.max_tokens)["input_ids"]

    def __call__(self, texts: list[list[int]]) -> "Tensor":
        """Mean over the tokens of each text (N, hidden), float32."""
        import torch

        batch = self.tokenizer.pad({"input_ids": texts}, return_tensors="pt").to(self.model.device)
        with torch.inference_mode():
            hidden = self.model(**batch).last_hidden_state.float()  # (B, L, H)
        mask = batch["attention_mask"].unsqueeze(-1)
        return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)


def _packed(path: str, max_tokens: int) -> "PackedBert | None":
    """The encoder computed without padding, if it is one of the models for which that is written down here."""
    folder = Path(path)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(path, allow_patterns=list(PLAIN_BERT_FILES)))
    if not is_plain_bert(folder):
        return None
    from wildreward.dataset_builder.packed_bert import PackedBert

    return PackedBert(folder, best_dtype("cpu"), max_tokens)


def best_dtype(device: str) -> Any:
    """bfloat16 where the hardware computes in it, float32 elsewhere (where bfloat16 would be slower)."""
    import torch

    if device == "cpu":
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    return torch.bfloat16


def length_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Row numbers, shortest first, in batches of at most `budget` tokens with padding (at least one row each)."""
    batches: list[list[int]] = []
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if batch and lengths[row] * (len(batch) + 1) > budget:
            batches.append(batch)
            batch = []
        batch.append(row)
    if batch:
        batches.append(batch)
    return batches
