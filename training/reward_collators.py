"""From the rows of one optimizer step to tensors: padded or packed micro-batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

Feature = dict[str, Any]


@dataclass
class RewardCollator:
    """Make one step's batch of features: `input_ids`, `label`, and optionally `weight` and `id`.

    The result holds `micro_batches`, each a dict of tensors for the model plus `rows` and `ids`, and the step's `labels` once more
    at the top, where the trainer counts how many rows the step has. An empty micro-batch (a process without rows in a
    last, short step) becomes a dummy row of weight 0 that counts as none.

    Args:
        pad_token_id: what rows are filled with on the right.
        packed: lay rows end to end: `input_ids` (1, T), `position_ids` restarting at 0, `cu_seq_lens_q` (N + 1,).
    """

    pad_token_id: int
    packed: bool = False

    def __call__(self, step: Sequence[Sequence[Feature]]) -> dict[str, Any]:
        """Collate one step: a list of micro-batches, each a list of features."""
        micro_batches = [self.micro_batch(features) for features in step]
        counted = [batch["labels"] for batch, features in zip(micro_batches, step, strict=True) if features]
        labels = torch.cat(counted) if counted else torch.empty(0, dtype=torch.long)
        return {"micro_batches": micro_batches, "labels": labels}

    def micro_batch(self, features: Sequence[Feature]) -> dict[str, Any]:
        """Tensors of one forward pass."""
        if not features:
            features = [{"input_ids": [self.pad_token_id], "label": 1, "weight": 0.0}]
        rows = [torch.tensor(feature["input_ids"], dtype=torch.long) for feature in features]
        batch = self._pack(rows) if self.packed else self._pad(rows)
        batch["labels"] = torch.tensor([feature["label"] for feature in features], dtype=torch.long)
        batch["sample_weights"] = torch.tensor([feature.get("weight", 1.0) for feature in features])
        batch["rows"] = torch.tensor([feature.get("row", -1) for feature in features])
        batch["ids"] = [str(feature.get("id", "?")) for feature in features]
        return batch

    def _pad(self, rows: list[torch.Tensor]) -> dict[str, Any]:
        input_ids = pad_sequence(rows, batch_first=True, padding_value=self.pad_token_id)
        lengths = torch.tensor([len(row) for row in rows])
        attention_mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    @staticmethod
    def _pack(rows: list[torch.Tensor]) -> dict[str, Any]:
        lengths = torch.tensor([0] + [len(row) for row in rows])
        return {
            "input_ids": torch.cat(rows)[None],
            "position_ids": torch.cat([torch.arange(len(row)) for row in rows])[None],
            "cu_seq_lens_q": lengths.cumsum(0).to(torch.int32),
        }
