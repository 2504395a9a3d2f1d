"""Train the classifier that backs up the `cues` labeler, on the labelled follow-ups.

    python benchmarks/train_feedback_classifier.py --output runs/feedback-classifier [--seed 0]

Low-rank adapters on all linear layers of all-MiniLM-L6-v2 and a linear head over the mean of the follow-up's tokens, by
cross-entropy over the five levels; where several readers gave a label, its target is shared out among theirs.
Conversations that `cues_labeler.held_out` names are left out, so that `python benchmarks/cues_labeler.py` can measure on
them. Writes `feedback_classifier.safetensors`, which belongs in `dataset_builder/data/`. 25 minutes on two cores.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
from cues_labeler import LABELS, SECOND_READERS, Example, held_out, labelled
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import AutoModel

from wildreward.dataset_builder.labelers.feedback_classifier import (
    ADAPTERS,
    encoder_folder,
    plain_tokenizer,
    token_ids,
    weights_digest,
)
from wildreward.files import make_folder

ROWS, WINDOW = 24, 480  # of a step; sorted by length within
WARM_UP = 0.06
SCALE = 2.0  # of what the adapters add: lora_alpha / rank

Row = tuple[list[int], int, list[float]]  # token ids, tokens of the follow-up, share of the readers for each level


def rows_of(examples: list[Example], tokenizer: Tokenizer) -> list[Row]:
    """What the model is given of each example."""
    ids = token_ids(tokenizer, [(example.query, example.response, example.feedback) for example in examples])
    return [(*shown, shares(example.label)) for shown, example in zip(ids, examples, strict=True)]


def shares(label: dict) -> list[float]:
    """Of the readers of a follow-up, how many gave each level."""
    readings = [label["level"], *label.get("others", [])]
    return [readings.count(level) / len(readings) for level in range(1, 6)]


def batches(rows: list[Row], rng: random.Random) -> list[list[Row]]:
    """All rows once, in steps of rows of about the same length."""
    rows = rng.sample(rows, len(rows))
    found = []
    for start in range(0, len(rows), WINDOW):
        window = sorted(rows[start : start + WINDOW], key=lambda row: len(row[0]))
        found += [window[place : place + ROWS] for place in range(0, len(window), ROWS)]
    rng.shuffle(found)
    return found


def logits_of(model: torch.nn.Module, head: torch.nn.Linear, batch: list[Row]) -> torch.Tensor:
    """(rows, 5) of a batch, padded on the right."""
    longest = max(len(row[0]) for row in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask, counted = torch.zeros_like(ids), torch.zeros(len(batch), longest, 1)
    for place, (tokens, count, _) in enumerate(batch):
        ids[place, : len(tokens)] = torch.tensor(tokens)
        mask[place, : len(tokens)] = 1
        counted[place, :count] = 1
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return head((states * counted).sum(1) / counted.sum(1))


def train(
    rows: list[Row], model: torch.nn.Module, head: torch.nn.Linear, learning_rate: float, epochs: int, seed: int
) -> None:
    """AdamW with a linear schedule."""
    rng = random.Random(seed)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW([*weights, *head.parameters()], lr=learning_rate, weight_decay=0.01)
    steps = [batch for _ in range(epochs) for batch in batches(rows, rng)]
    warm = max(1, int(WARM_UP * len(steps)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (len(steps) - step) / (len(steps) - warm + 1))
    )
    started, recent = time.monotonic(), 0.0
    for number, batch in enumerate(steps, 1):
        loss = cross_entropy(logits_of(model, head, batch), torch.tensor([row[2] for row in batch]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        recent += loss.item() / 50
        if number % 50 == 0:
            print(f"step {number} of {len(steps)}: loss {recent:.3f}, {time.monotonic() - started:.0f} s", flush=True)
            recent = 0.0


def write(model: torch.nn.Module, head: torch.nn.Linear, folder: Path, settings: dict) -> None:
    """Adapters and head in half precision, with what the labeler must know of them."""
    tensors = {"head.weight": head.weight, "head.bias": head.bias}
    for name, tensor in get_peft_model_state_dict(model).items():
        module = name.removeprefix("base_model.model.").removesuffix(".weight")
        tensors[module.replace(".lora_A", ".A").replace(".lora_B", ".B")] = tensor
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}
    make_folder(folder)
    save_file(tensors, folder / ADAPTERS.name, {"format": "pt", "settings": json.dumps(settings)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="folder for the trained file")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    wants = parser.parse_args()
    torch.manual_seed(wants.seed)
    folder = encoder_folder()
    tokenizer = plain_tokenizer(folder)
    examples = labelled(LABELS, SECOND_READERS)
    rows = rows_of([example for example in examples if not held_out(example.label["id"])], tokenizer)
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # attention is fused without
    backbone = AutoModel.from_pretrained(folder, trust_remote_code=False, **dropout)
    digest = weights_digest(backbone.state_dict())
    lora = LoraConfig(
        r=wants.rank,
        lora_alpha=SCALE * wants.rank,
        target_modules=["query", "key", "value", "dense"],
        exclude_modules=".*pooler.*",
    )
    model = get_peft_model(backbone, lora).train()
    head = torch.nn.Linear(backbone.config.hidden_size, 5)
    torch.nn.init.normal_(head.weight, std=0.02)
    torch.nn.init.zeros_(head.bias)
    print(f"{len(rows)} labelled follow-ups")
    train(rows, model, head, wants.learning_rate, wants.epochs, wants.seed)
    settings = {"encoder_digest": digest, "scale": SCALE, "rows": len(rows), "seed": wants.seed}
    write(model, head, Path(wants.output), settings)


if __name__ == "__main__":
    main()
