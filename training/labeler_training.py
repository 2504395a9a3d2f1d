"""Training the classifier of follow-ups: gate → fine-tune on what passes it → calibrate → choose thresholds → measure → write.

The five probabilities are calibrated on users held out for validation (temperature and one bias a level, folded into the
last layer), and the thresholds are chosen there; what is reported comes from users held out for test, who have no part in
any choice.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wildreward.common.files import make_folder, write_json
from wildreward.common.names import public_name
from wildreward.dataset_builder.labelers.classifier import SIDES
from wildreward.dataset_builder.labelers.feedback_model import (
    ADAPTERS,
    GATE,
    LEVELS,
    SETTINGS,
    FeedbackModel,
    digest,
    follow_up_ids,
    load_encoder,
    load_tokenizer,
    pair_ids,
)
from wildreward.dataset_builder.labelers.gate import Gate
from wildreward.dataset_builder.labelers.pooling_layer import has_pooling_layer, starting_model
from wildreward.evaluation.calibration import expected_calibration_error
from wildreward.training.labeler_data import Example

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

Splits = Mapping[str, Sequence[Example]]

# Precision that a side's threshold must reach on validation, and the share of feedback that the gate may pass over there.
# Labelled follow-ups are richer in feedback than logs are, so on a log the precision is a little lower.
PRECISION = {"negative": 0.93, "positive": 0.95}
GATE_LOSS = 0.05
CONFIDENCES = (0.3, 0.5, 0.7, 0.8, 0.9)  # of the reported trade-off


@dataclass(frozen=True)
class Recipe:
    """How the classifier is trained; see `TrainLabelerConfig`."""

    base_model: str
    learning_rate: float
    epochs: float = 2.0
    batch_size: int = 32
    num_layers: int | None = None
    adapter_rank: int = 0
    seed: int = 0


def train_labeler(splits: Splits, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Train, calibrate and measure a classifier, and write its folder: model, tokenizer, gate and `labeler_results.json`,
    with an adapter rank also `adapters/`, nearly the same in the small form that the package holds.

    Args:
        splits: train, validation and test.
        recipe: how it is trained.
        folder: for the model.

    Returns:
        What `labeler_results.json` holds.

    Raises:
        UserError: the base model cannot be trained so.
    """
    requests = {name: [example.request for example in rows] for name, rows in splits.items()}
    tokenizer = load_tokenizer(recipe.base_model)
    gate = fit_gate(tokenizer, splits["train"], splits["validation"])
    passed = gate(follow_up_ids(tokenizer, requests["train"])) >= gate.threshold
    seen = [example for example, chosen in zip(splits["train"], passed, strict=True) if chosen]
    logger.info("the gate passes over %d of %d turns; training on the others", len(passed) - len(seen), len(passed))
    model = fine_tune(recipe, tokenizer, seen, folder)
    classifier = FeedbackModel(model, tokenizer, gate, model.dtype)
    levels = {name: np.asarray([example.level for example in rows]) for name, rows in splits.items()}
    passed = classifier.passes(requests["validation"])
    logits = classifier.logits(
        [request for request, chosen in zip(requests["validation"], passed, strict=True) if chosen]
    )
    shares = np.asarray([example.shares for example in splits["validation"]])[passed]
    fold_in(model, *calibrate(logits, shares))
    validation, _ = classifier.probabilities(requests["validation"])
    test, asked = classifier.probabilities(requests["test"])
    classifier.close()
    thresholds = choose_thresholds(validation, levels["validation"])
    results = {
        "turns": {name: len(rows) for name, rows in splits.items()},
        "levels": {name: np.bincount(rows, minlength=6)[1:].tolist() for name, rows in levels.items()},
        "passed_over": round(1 - float(asked.mean()), 3),
        "thresholds": thresholds,
        "trade_off": trade_off(test, levels["test"], thresholds),
        "calibration_error": {
            side: round(expected_calibration_error(chances, np.isin(levels["test"], SIDES[side]).astype(float)), 4)
            for side, chances in side_chances(test).items()
        },
        "recipe": asdict(recipe) | {"base_model": public_name(recipe.base_model)},
    }
    write_folder(folder, classifier, results, recipe.base_model)
    return results


def fine_tune(
    recipe: Recipe, tokenizer: "PreTrainedTokenizerFast", examples: Sequence[Example], folder: Path
) -> "PreTrainedModel":
    """The base model with a head of five levels, trained by cross-entropy against the readers' shares.

    The embeddings stay as they are: a few thousand follow-ups say little about each word.
    """
    import torch
    from datasets import Dataset
    from transformers import (
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    torch.manual_seed(recipe.seed)
    base = load_encoder(recipe.base_model, recipe.num_layers)
    config = deepcopy(base.config)
    config.update({"id2label": dict(enumerate(LEVELS)), "label2id": {level: n for n, level in enumerate(LEVELS)}})
    if has_pooling_layer(config):
        config.num_hidden_layers += 1
    for dropout in ("hidden_dropout_prob", "attention_probs_dropout_prob"):  # attention is fused without
        if hasattr(config, dropout):
            setattr(config, dropout, 0.0)
    model = starting_model(base, config)
    model.get_input_embeddings().requires_grad_(False)
    rows = pair_ids(tokenizer, [example.request for example in examples])
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        num_train_epochs=recipe.epochs,
        warmup_steps=0.06,
        weight_decay=0.01,
        train_sampling_strategy="group_by_length",
        logging_steps=50,
        save_strategy="no",
        report_to="none",
        seed=recipe.seed,
    )
    Trainer(
        model,
        arguments,
        DataCollatorWithPadding(tokenizer),
        Dataset.from_dict(rows | {"labels": [example.shares for example in examples]}),
        compute_loss_func=_cross_entropy,
    ).train()
    return model.cpu().eval()


def _cross_entropy(outputs: Any, labels: "torch.Tensor", **_: Any) -> "torch.Tensor":
    from torch.nn.functional import cross_entropy

    return cross_entropy(outputs.logits.float(), labels)


def fit_gate(tokenizer: "PreTrainedTokenizerFast", train: Sequence[Example], validation: Sequence[Example]) -> Gate:
    """A gate that passes over `GATE_LOSS` of the validation's feedback."""
    texts, levels = [], []
    for rows in (train, validation):
        texts.append(follow_up_ids(tokenizer, [example.request for example in rows]))
        levels.append(np.asarray([example.level for example in rows]))
    gate = Gate.fit(texts[0], levels[0] != 3)
    chances = gate(texts[1])
    threshold = float(np.quantile(chances[levels[1] != 3], GATE_LOSS))
    below = np.bincount(levels[1][chances < threshold], minlength=6)[1:]
    shares = (below / below.sum()).tolist() if below.any() else Gate.shares
    return replace(gate, threshold=threshold, shares=tuple(shares))


def calibrate(logits: np.ndarray, shares: np.ndarray) -> tuple[float, np.ndarray]:
    """Temperature and (5,) biases that make `softmax(logits / temperature + bias)` likeliest for (N, 5) `shares`.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", vector scaling with one common scale.
    """
    import torch
    from torch.nn.functional import cross_entropy

    inputs, targets = torch.from_numpy(logits).double(), torch.from_numpy(shares).double()
    scale = torch.zeros(1, dtype=torch.double, requires_grad=True)  # logarithm of 1 / temperature
    bias = torch.zeros(inputs.shape[1], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (
            cross_entropy(inputs * scale.exp() + bias, targets)
            + 1e-3 * bias.square().sum()
            + 1e-3 * scale.square().sum()
        )
        loss.backward()
        return loss

    optimizer.step(closure)
    return float((-scale).exp().item()), bias.detach().numpy()


def fold_in(model: "PreTrainedModel", temperature: float, bias: np.ndarray) -> None:
    """Put a calibration into the last linear layer, so that the plain softmax is calibrated."""
    import torch

    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.weight.div_(temperature)
        last.bias.div_(temperature).add_(torch.from_numpy(bias).to(last.bias))


def side_chances(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """(N, 5) probabilities of the levels → (N,) of each side."""
    return {side: probabilities[:, [level - 1 for level in levels]].sum(1) for side, levels in SIDES.items()}


def choose_thresholds(probabilities: np.ndarray, levels: np.ndarray) -> dict[str, float]:
    """For each side the lowest probability from which its precision on (N,) true `levels` reaches `PRECISION`."""
    found = {}
    for side, chances in side_chances(probabilities).items():
        order = np.argsort(-chances, kind="stable")
        right = np.isin(levels[order], SIDES[side])
        precise = np.flatnonzero(np.cumsum(right) / np.arange(1, len(right) + 1) >= PRECISION[side])
        found[side] = math.floor(1000 * chances[order[precise[-1]]]) / 1000 if len(precise) else 0.9
    return found


def trade_off(probabilities: np.ndarray, levels: np.ndarray, thresholds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Precision and recall of each side: with the model's own thresholds, and with one threshold for both.

    Args:
        probabilities: (N, 5) of the levels.
        levels: (N,) true ones.
        thresholds: the model's own, by side.
    """
    chances = side_chances(probabilities)
    rows = []
    for name, taken in [("default", thresholds), *((f"{t:g}", dict.fromkeys(SIDES, t)) for t in CONFIDENCES)]:
        row: dict[str, Any] = {"min_confidence": name}
        for side, of_side in SIDES.items():
            said, true = chances[side] >= taken[side], np.isin(levels, of_side)
            row[f"{side}_precision"] = round(float(true[said].mean()), 3) if said.any() else None
            row[f"{side}_recall"] = round(float(said[true].mean()), 3) if true.any() else None
        rows.append(row)
    return rows


def write_folder(folder: Path, classifier: FeedbackModel, results: Mapping[str, Any], base_model: str) -> None:
    """Model, tokenizer, gate and results; with an adapter rank the small form, too."""
    model, recipe = classifier.model, results["recipe"]
    settings = {name: results[name] for name in ("thresholds", "trade_off", "turns")} | {"languages": ["English"]}
    model.config.base_model = recipe["base_model"]
    setattr(model.config, SETTINGS, settings)
    model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    classifier.gate.save(folder / GATE)
    write_json(folder / "labeler_results.json", dict(results))
    if recipe["adapter_rank"]:
        write_adapters(make_folder(folder / "adapters"), classifier, recipe["adapter_rank"], base_model)


def write_adapters(folder: Path, classifier: FeedbackModel, rank: int, base_model: str) -> None:
    """What `feedback_model.load_packaged` reads: the change of each matrix of the encoder in a low rank, the best in the
    sense of least squares (singular value decomposition), all other changes whole, in half precision; gate and config."""
    import torch
    from safetensors.torch import save_file

    model, config = classifier.model, deepcopy(classifier.model.config)
    base = load_encoder(base_model, config.num_hidden_layers - has_pooling_layer(config))
    start_of = starting_model(base, config).base_model.state_dict()
    tensors = {}
    for name, tensor in model.state_dict().items():
        start = start_of.get(name.removeprefix(f"{model.base_model_prefix}."))
        if start is None or (start.dim() < 2 and not tensor.equal(start)):
            tensors[name] = tensor
        elif not tensor.equal(start):
            left, sizes, right = torch.linalg.svd(tensor - start, full_matrices=False)
            tensors[f"{name}.A"], tensors[f"{name}.B"] = right[:rank], left[:, :rank] * sizes[:rank]
    getattr(config, SETTINGS)["base_digest"] = digest(base.state_dict())
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, folder / ADAPTERS)
    config.save_pretrained(folder)
    classifier.gate.save(folder / GATE)
