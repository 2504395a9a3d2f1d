"""Running a small encoder over many texts: in batches of like length, a batch a core, or all on a GPU."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# Tokens of a batch with its padding. On a CPU a batch is one core's work: small, so that the cores end together.
CPU_TOKENS, GPU_TOKENS = 768, 32_768


class BatchRunner:
    """An encoder in evaluation mode, and what it gives for tokenized texts.

    On a CPU, batches are shared out to threads that compute with one core each: there is nothing to wait for between
    the layers, and the result does not depend on the number of cores.

    Args:
        model: the encoder.
        tokenizer: pads its rows.
        device: "auto" takes a GPU where there is one.
        threads: CPU cores to use; None: all.
        dtype: that the weights are changed to, in place; None: the fastest here.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerFast",
        device: str = "auto",
        threads: int | None = None,
        dtype: "torch.dtype | None" = None,
    ) -> None:
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model, self.tokenizer = model.eval().to(device, dtype or best_dtype(device)), tokenizer
        self.budget = CPU_TOKENS if device == "cpu" else GPU_TOKENS
        # The threads stay: each new one would take memory of its own.
        count = (threads or len(os.sched_getaffinity(0))) if device == "cpu" else 1
        self.pool = ThreadPoolExecutor(count, initializer=_compute_alone, initargs=(device,))

    def __call__(
        self, rows: Mapping[str, list[list[int]]], output: Callable[[Any, "torch.Tensor"], "torch.Tensor"], width: int
    ) -> np.ndarray:
        """What `output` makes of each row: (N, `width`) float32, in the order of the rows.

        Args:
            rows: `input_ids` and what else the tokenizer gave, as lists of N lists.
            output: (what the model returns, (B, L) attention mask) → (B, width).
            width: numbers a row.
        """
        import torch

        found = np.zeros((len(rows["input_ids"]), width), np.float32)

        def run(batch: list[int]) -> None:
            picked = {name: [values[row] for row in batch] for name, values in rows.items()}
            inputs = self.tokenizer.pad(picked, return_tensors="pt").to(self.model.device)
            with torch.inference_mode():
                found[batch] = output(self.model(**inputs), inputs["attention_mask"]).float().cpu().numpy()

        batches = length_batches([len(ids) for ids in rows["input_ids"]], self.budget)
        list(self.pool.map(run, reversed(batches)))
        return found

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown()


def _compute_alone(device: str) -> None:
    import torch

    if device == "cpu":
        torch.set_num_threads(1)


def best_dtype(device: str) -> "torch.dtype":
    """bfloat16 where the hardware computes in it, float32 elsewhere (where bfloat16 would be slower)."""
    import torch

    native = torch.cpu._is_avx512_bf16_supported() if device == "cpu" else True
    return torch.bfloat16 if native else torch.float32


def length_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Row numbers, shortest first, in batches of at most `budget` tokens with padding (at least one row each).

    >>> length_batches([5, 1, 2, 9], budget=6)
    [[1, 2], [0], [3]]
    """
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
