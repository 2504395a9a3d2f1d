"""Which defaults train the best reward model: head, pooling, weighting, smoothing, learning rate, confidence, length.

    python benchmarks/experiments.py --dataset runs/quickstart/dataset --output runs/experiments            # frozen
    python benchmarks/experiments.py --dataset runs/quickstart/dataset --output runs/experiments --finetune # whole model

Every setting is changed alone against the base, three seeds each, measured on the test split (users never trained on).
`frozen` trains the head alone on the backbone's hidden states, which are computed once: minutes on a laptop.
`--finetune` trains everything with `OrdinalRewardTrainer`. Finished runs are kept and not done again. Writes
`<mode>.json` and `<mode>.md` (the table of docs/experiments.md).
"""

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from record import part_of
from studies import train_and_measure
from transformers import AutoTokenizer

from wildreward.common.files import atomic_path, make_folder, read_json, write_json
from wildreward.evaluation.statistics import roc_auc, spearman
from wildreward.modeling_wildreward import OrdinalHead, expected_level, ordinal_loss
from wildreward.modeling_wildreward.calibration import fit_temperatures
from wildreward.modeling_wildreward.configuration_wildreward import POOLINGS
from wildreward.modeling_wildreward.pooling import pool, response_tokens
from wildreward.modeling_wildreward.template import install_template, response_mark
from wildreward.training.model_setup import build_model
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_batching import (
    RewardCollator,
    StepDataset,
    TokenBudget,
    TokenBudgetSampler,
    level_frequencies,
    sample_weights,
    threshold_weights,
)
from wildreward.training.reward_config import OrdinalRewardConfig
from wildreward.training.reward_data import (
    hold_out_users,
    load_rows,
    prepare_rows,
)
from wildreward.training.reward_metrics import reward_metrics

BASE = {
    "head": "coral",
    "level_weighting": "none",
    "threshold_weighting": "none",
    "label_smoothing_factor": 0.0,
    "use_confidence": False,
    "mined": True,
}
CHANGES: list[tuple[str, Any]] = [
    ("head", "corn"),
    ("head", "independent"),
    ("level_weighting", "sqrt"),
    ("level_weighting", "balanced"),
    ("threshold_weighting", "importance"),
    ("label_smoothing_factor", 0.05),
    ("label_smoothing_factor", 0.1),
    ("label_smoothing_factor", 0.2),
    ("use_confidence", True),
    ("mined", False),
]
RATES = {"frozen": 1e-2, "finetune": 1e-4}
METRICS = ("roc_auc", "mae", "qwk", "accuracy", "ece", "spearman")


def settings_of(pooling: str, learning_rate: float) -> list[tuple[str, dict[str, Any]]]:
    """(name, settings) of the base and of every single change."""
    base = BASE | {"pooling": pooling, "learning_rate": learning_rate}
    rates = [float(f"{factor * learning_rate:.1g}") for factor in (0.3, 3)]
    changes = [*CHANGES, *(("pooling", other) for other in POOLINGS if other != pooling)]
    changes += [("learning_rate", rate) for rate in rates]
    return [("base", base)] + [(f"{name} = {value}", base | {name: value}) for name, value in changes]


def hidden_states(features: Dataset, arguments, folder: Path) -> dict[str, torch.Tensor]:
    """(N, H or 2 H) pooled hidden states of the backbone for each pooling, computed once and kept."""
    key = hashlib.sha256(f"{features._fingerprint}:{arguments.base_model}:{POOLINGS}".encode()).hexdigest()[:16]
    kept = folder / f"hidden-{key}.pt"
    if kept.exists():
        return torch.load(kept)
    plain = TrainRewardArguments(dataset="", base_model=arguments.base_model)
    model, tokenizer, _ = build_model(plain, arguments.max_length, 0)
    sampler = TokenBudgetSampler(features["length"][:], 64, TokenBudget(2048), shuffle=False)
    collate, steps = RewardCollator(model.config.pad_token_id), StepDataset(features)
    mark = response_mark(tokenizer)
    pooled: dict[str, list[torch.Tensor]] = {name: [] for name in POOLINGS}
    rows = []
    with torch.no_grad():
        for step in sampler:
            for micro_batch in step:
                batch = collate.micro_batch(steps[micro_batch])
                hidden = model.model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
                responses = response_tokens(batch["input_ids"], mark)
                for name, parts in pooled.items():
                    parts.append(pool(hidden, batch["attention_mask"], name, None, responses).float())
                rows.append(batch["rows"])
    order = torch.cat(rows).argsort()
    states = {name: torch.cat(parts)[order] for name, parts in pooled.items()}
    with atomic_path(kept) as temporary:
        torch.save(states, temporary)
    return states


def train_head(
    states: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    settings: dict,
    seed: int,
    epochs: int,
    rows_per_step: int,
):
    """A head alone on fixed hidden states, with AdamW and a linear schedule."""
    torch.manual_seed(seed)
    head = OrdinalHead(states.shape[1], 4, settings["head"])
    torch.nn.init.normal_(head.weight, std=0.02)
    head.set_prior(level_frequencies(labels.tolist(), 4))
    thresholds = threshold_weights(labels.numpy(), 4, settings["threshold_weighting"])
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings["learning_rate"], weight_decay=0.01)
    steps = epochs * -(-len(labels) // rows_per_step)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(rows_per_step):
            loss = ordinal_loss(
                head(states[rows]), labels[rows], settings["head"], sample_weights=weights[rows],
                threshold_weights=thresholds, label_smoothing=settings["label_smoothing_factor"],
            )  # fmt: skip
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.requires_grad_(False)


def standardised(train: torch.Tensor, *others: torch.Tensor) -> list[torch.Tensor]:
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    return [(states - mean) / deviation for states in (train, *others)]


def frozen_run(data: dict[str, Any], settings: dict[str, Any], seed: int, arguments) -> dict[str, float]:
    """Train a head on the train users, calibrate on held-out train users, measure on the test users."""
    features, test = data["train"], data["test"]
    train, validation = hold_out_users(features.add_column("at", range(len(features))), 0.1, seed)
    rows, held = (np.asarray(part["at"][:]) for part in (train, validation))
    if not settings["mined"]:
        rows = rows[np.asarray(train["source"][:], dtype=object) != "mined"]
    labels = torch.tensor(features["label"][:]).long()
    trust = np.asarray(features["confidence"][:])
    weights = sample_weights(
        labels[rows].numpy(), trust[rows], 4, settings["level_weighting"], settings["use_confidence"]
    )
    states, others, tested = standardised(
        data["train_states"][settings["pooling"]][rows],
        data["train_states"][settings["pooling"]][held],
        data["test_states"][settings["pooling"]],
    )
    weights = torch.from_numpy(weights)
    head = train_head(states, labels[rows], weights, settings, seed, arguments.epochs, arguments.rows_per_step)
    temperatures = fit_temperatures(head(others), labels[held], settings["head"])
    logits, truth = head(tested), torch.tensor(test["label"][:]).long()
    scores = expected_level(logits, settings["head"], temperatures)
    metrics = reward_metrics(logits, truth, settings["head"], temperatures)
    return metrics | {"length_spearman": spearman(scores.numpy(), test["length"][:]), "rows": len(rows)}


def finetune_run(
    data: dict[str, Any], settings: dict[str, Any], seed: int, arguments, folder: Path
) -> dict[str, float]:
    """The same with the whole model."""
    rows = data["train"]
    if not settings["mined"]:
        rows = rows.select(np.flatnonzero(np.asarray(rows["source"][:], dtype=object) != "mined"))
    known = {item.name for item in dataclasses.fields(TrainRewardArguments)}
    chosen = {name: value for name, value in settings.items() if name != "mined"}
    what = TrainRewardArguments(
        dataset="", base_model=arguments.base_model, frozen_layers=arguments.frozen_layers,
        **{name: value for name, value in chosen.items() if name in known},
    )  # fmt: skip
    how = OrdinalRewardConfig(
        str(folder), max_length=arguments.max_length, keep_cut_responses=True, eval_strategy="no",
        save_strategy="no", load_best_model_at_end=False, num_train_epochs=arguments.epochs, disable_tqdm=True,
        logging_strategy="no", report_to="none", rows_per_step=arguments.rows_per_step,
        **{name: value for name, value in chosen.items() if name not in known},
    )  # fmt: skip
    train, held_out = hold_out_users(rows, what.validation_share, seed, what.max_validation_rows)
    return train_and_measure(what, how, train, held_out, data["test"], folder, seed)


def length_confounder(data: dict[str, Any]) -> dict[str, float]:
    """How much of the task the length alone answers: ROC-AUC of the test rows by their number of tokens."""
    truth = np.asarray(data["test"]["label"][:]) >= 3
    lengths = np.asarray(data["test"]["length"][:], dtype=float)
    return {"roc_auc_of_length": roc_auc(lengths, truth), "roc_auc_of_shortness": roc_auc(-lengths, truth)}


def load(arguments) -> dict[str, Any]:
    tokenizer = install_template(AutoTokenizer.from_pretrained(arguments.base_model, trust_remote_code=False))
    data = {}
    for split, most in (("train", arguments.max_train_rows), ("test", arguments.max_test_rows)):
        rows = load_rows(arguments.dataset, split)
        rows = rows.select(np.sort(np.random.default_rng(0).permutation(len(rows))[:most]))
        data[split], _ = prepare_rows(rows, tokenizer, arguments.max_length, 4, keep_cut_responses=True)
    return data


def table(results: dict[str, Any]) -> str:
    lines = ["| setting | " + " | ".join(METRICS) + " |", "|---" * (len(METRICS) + 1) + "|"]
    for name, runs in results["runs"].items():
        cells = []
        for metric in METRICS:
            values = [run[metric] for run in runs if metric in run]
            cells.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}" if values else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--base-model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--finetune", action="store_true")
    parser.add_argument("--pooling", choices=POOLINGS, default="mean", help="of the base")
    parser.add_argument(
        "--learning-rate", type=float, default=None, help="of the base; 1e-4, and 1e-2 for a head alone"
    )
    parser.add_argument("--rows-per-step", type=int, default=None, help="default: 32 frozen, 8 with --finetune")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--frozen-layers", type=int, default=0, help="with --finetune")
    parser.add_argument("--epochs", type=int, default=None, help="default: 30 frozen, 1 with --finetune")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=None, help="names of settings, such as base")
    parser.add_argument("--max-train-rows", type=int, default=None)
    parser.add_argument("--max-test-rows", type=int, default=None)
    parser.add_argument(
        "--part",
        default=None,
        help="such as 0/4: do only every fourth run; afterwards run once without it for the table",
    )
    arguments = parser.parse_args()
    mode = "finetune" if arguments.finetune else "frozen"
    arguments.epochs = arguments.epochs or (1 if arguments.finetune else 30)
    arguments.rows_per_step = arguments.rows_per_step or (8 if arguments.finetune else 32)
    part, parts = part_of(arguments.part, parser)
    arguments.learning_rate = arguments.learning_rate or RATES[mode]
    folder = make_folder(arguments.output)
    data = load(arguments)
    if mode == "frozen":
        for split in ("train", "test"):
            data[f"{split}_states"] = hidden_states(data[split], arguments, folder)
    results: dict[str, Any] = {
        "mode": mode, "base_model": arguments.base_model, "max_length": arguments.max_length,
        "epochs": arguments.epochs, "frozen_layers": arguments.frozen_layers, "seeds": arguments.seeds,
        "rows_per_step": arguments.rows_per_step, "train_rows": len(data["train"]), "test_rows": len(data["test"]),
        "length": length_confounder(data), "runs": {},
    }  # fmt: skip
    number = 0
    for name, settings in settings_of(arguments.pooling, arguments.learning_rate):
        if arguments.only and name not in arguments.only:
            continue
        runs = []
        for seed in arguments.seeds:
            number += 1
            if number % parts != part:
                continue
            key = run_key(arguments, mode, settings, seed, data)
            kept = make_folder(folder / "runs") / f"{mode}-{key}.json"
            if not kept.exists():
                run = (
                    finetune_run(data, settings, seed, arguments, folder / "work" / key)
                    if arguments.finetune
                    else frozen_run(data, settings, seed, arguments)
                )
                write_json(kept, run | {"setting": name, "seed": seed})
            runs.append(read_json(kept))
            print(f"{name}, seed {seed}: roc_auc {runs[-1]['roc_auc']:.3f}", flush=True)
        results["runs"][name] = runs
        if parts == 1:
            write_json(folder / f"{mode}.json", results)
            (folder / f"{mode}.md").write_text(table(results))
    if parts == 1:
        print(table(results))


def run_key(arguments, mode: str, settings: dict[str, Any], seed: int, data: dict[str, Any]) -> str:
    """Names the file of a finished run: everything that decides its result."""
    identity = [mode, settings, seed, arguments.base_model, arguments.epochs, arguments.max_length]
    identity += [arguments.frozen_layers, arguments.rows_per_step]
    identity += [data["train"]._fingerprint, data["test"]._fingerprint]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
