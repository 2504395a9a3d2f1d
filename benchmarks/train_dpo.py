"""Online DPO on SmolLM2-135M, measured: does the reward rise, and where does the time of a step go?

    python benchmarks/train_dpo.py reward  [--steps 24] [--output runs/benchmarks/train_dpo]
    python benchmarks/train_dpo.py time    [--steps 3]
    python benchmarks/train_dpo.py model --reward-model DIR --dataset DIR [--steps 24]

Each writes its figures to benchmarks/results/train_dpo_*.json, too.

`reward`: the reward is a program, the share of words written in lower case; prompts are plain questions. Prints the mean
reward of the first and the last steps, and on held-out prompts before and after, and draws reward.png.
`time`: seconds of a step by stage with n = 2 and n = 8 completions a prompt, and the ratio of their training stages.
`model`: the same as `reward` with a trained reward model and the prompts of a feedback dataset.
"""

import argparse
import json
import logging
from pathlib import Path

import numpy as np
from record import record

from wildreward.common.tables import estimate_text

TOPICS = [
    "the sea",
    "bread",
    "a train",
    "winter",
    "a garden",
    "music",
    "the moon",
    "a library",
    "coffee",
    "a bridge",
    "rain",
    "chess",
    "a clock",
    "a kite",
    "the desert",
    "tea",
    "a mirror",
    "a mountain",
    "paper",
    "a river",
    "honey",
    "a lamp",
    "the wind",
    "glass",
    "a market",
    "salt",
]
FORMS = (
    "Write a short text about {}.",
    "Tell me something about {}.",
    "Describe {} to a child.",
    "What is {} good for?",
)


def share_of_lower_case(prompts, completions, **kwargs):
    """Share of words without a capital letter; None for a completion without words."""
    rewards = []
    for completion in completions:
        words = completion[0]["content"].split()
        rewards.append(sum(w == w.lower() for w in words) / len(words) if words else None)
    return rewards


def prompt_rows(count, start=0):
    texts = [form.format(topic) for form in FORMS for topic in TOPICS]
    order = np.random.default_rng(0).permutation(len(texts))[start : start + count]
    return [{"prompt": [{"role": "user", "content": texts[i]}]} for i in order]


def config(output, steps, **changes):
    from wildreward.training import BestOfNDPOConfig

    values = {
        "output_dir": str(output),
        "num_generations": 8,
        "num_generations_eval": 4,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 64,
        "max_completion_length": 24,
        "choose_truncated": True,
        "max_steps": steps,
        "learning_rate": 2e-5,
        "lr_scheduler_type": "constant",
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": 0,
    }
    return BestOfNDPOConfig(**{**values, **changes})


def train(args, reward, train_rows, held_out_rows=()):
    """Train and return (the log of each step, the held-out report)."""
    from datasets import Dataset

    from wildreward.packages import smollm2_folder
    from wildreward.training import BestOfNDPOTrainer
    from wildreward.training.dpo_report import HeldOutCallback

    callbacks = [HeldOutCallback(Dataset.from_list(list(held_out_rows)), args.seed)] if held_out_rows else []
    trainer = BestOfNDPOTrainer(smollm2_folder(), reward, args, Dataset.from_list(train_rows), callbacks=callbacks)
    for callback in callbacks:
        callback.trainer = trainer
    trainer.train()
    log = [row for row in trainer.state.log_history if "loss" in row]
    return log, callbacks[0].report(args.seed) if callbacks else {}


def run_reward(options):
    args = config(options.output, options.steps)
    rows = prompt_rows(80)
    log, held_out = train(args, share_of_lower_case, rows, prompt_rows(24, start=80))
    report("reward", options, log, held_out, "share of words in lower case")


def run_model(options):
    from transformers import AutoTokenizer

    from wildreward.packages import smollm2_folder
    from wildreward.training import RewardFunction
    from wildreward.training.dpo_prompts import load_prompts

    tokenizer = AutoTokenizer.from_pretrained(smollm2_folder(), trust_remote_code=False)
    prompts, held_out = load_prompts(options.dataset, tokenizer, 96, held_out=48, limit=200, seed=0)
    args = config(options.output, options.steps, max_completion_length=48, per_device_train_batch_size=32)
    log, change = train(args, RewardFunction(options.reward_model), list(prompts), list(held_out))
    report("model", options, log, change, "score of the reward model")


def report(kind, options, log, held_out, label):
    rewards = [row["reward"] for row in log]
    quarter = max(1, len(log) // 4)
    print(
        f"mean reward: first {quarter} steps {np.mean(rewards[:quarter]):.3f}, last {np.mean(rewards[-quarter:]):.3f}"
    )
    for name in ("reward", "length"):
        change = held_out[name]
        text = {k: estimate_text(v) for k, v in change.items()}
        print(f"held-out {name}: before {text['before']}, after {text['after']}, difference {text['difference']}")
    record(f"train_dpo_{kind}", held_out_rows(held_out, label))
    Path(options.output).mkdir(parents=True, exist_ok=True)
    (Path(options.output) / f"{kind}.json").write_text(json.dumps({"log": log, "held_out": held_out}, indent=2))
    plot(log, held_out, label, Path(options.output) / f"{kind}.png")


def held_out_rows(held_out, label):
    rows = []
    for name, what in (("reward", label), ("length", "completion length in tokens")):
        before, after, change = (held_out[name][k] for k in ("before", "after", "difference"))
        rows.append(
            {
                "measure": f"online DPO of SmolLM2-135M, held-out {what}: after, before, difference [95% interval]",
                "ours": round(after["value"], 3),
                "alternative": round(before["value"], 3),
                "ratio": estimate_text(change),
            }
        )
    return rows


def plot(log, held_out, label, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [row["step"] for row in log]
    for name, text in (("reward/chosen", "chosen"), ("reward", "all"), ("reward/rejected", "rejected")):
        left.plot(steps, [row[name] for row in log], marker=".", label=text)
    left.set(xlabel="optimizer step", ylabel=label, title="Training prompts, mean of the step's completions")
    left.legend(frameon=False)
    for x, moment in enumerate(("before", "after")):
        e = held_out["reward"][moment]
        right.errorbar(x, e["value"], [[e["value"] - e["low"]], [e["high"] - e["value"]]], fmt="o", capsize=4)
        length = held_out["length"][moment]["value"]
        right.annotate(f"{length:.0f} tokens", (x, e["value"]), xytext=(10, 0), textcoords="offset points")
    right.set(xticks=[0, 1], xticklabels=["before", "after"], xlim=(-0.5, 1.8), title="Held-out prompts, 95% interval")
    figure.savefig(path, dpi=120)
    print(f"plot: {path}")


def run_time(options):
    stages = ("generation", "scoring", "selection", "reference", "training")
    means = {}
    for n in (2, 8):
        args = config(options.output, options.steps + 1, num_generations=n, per_device_train_batch_size=2 * n)
        log, _ = train(args, share_of_lower_case, prompt_rows(40))
        log = log[1:]  # the first step warms up
        means[n] = {stage: float(np.mean([row[f"time/{stage}"] for row in log])) for stage in stages}
    print(f"{'seconds a step':<14}" + "".join(f"{stage:>12}" for stage in stages) + f"{'total':>12}")
    for n, row in means.items():
        print(f"n = {n:<10}" + "".join(f"{row[s]:>12.3f}" for s in stages) + f"{sum(row.values()):>12.3f}")
    print(f"training with n = 8 over n = 2: {means[8]['training'] / means[2]['training']:.2f}")
    print(
        f"selection and bookkeeping, share of the step at n = 8: {means[8]['selection'] / sum(means[8].values()):.2%}"
    )
    Path(options.output).mkdir(parents=True, exist_ok=True)
    (Path(options.output) / "time.json").write_text(json.dumps(means, indent=2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("reward", "time", "model"))
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--output", default="runs/benchmarks/train_dpo")
    parser.add_argument("--reward-model")
    parser.add_argument("--dataset")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    {"reward": run_reward, "time": run_time, "model": run_model}[options.kind](options)


if __name__ == "__main__":
    main()
