"""`wildreward train-reward`: a dataset and a backbone in, a complete reward model folder out.

The folder holds the model (safetensors, its code and `auto_map`), the tokenizer with the reward model's chat template,
`training_summary.json` and the card. Checkpoints and the run's settings are in `work/`; running the same command again
goes on from the last complete checkpoint.
"""

import copy
import dataclasses
import importlib.metadata
import math
import time
from pathlib import Path
from typing import Any

from wildreward.common.errors import UserError
from wildreward.common.files import make_folder, write_json
from wildreward.common.names import public_name
from wildreward.model_card import write_model_card
from wildreward.training.contrast import contrast_splits
from wildreward.training.model_setup import build_model, check_launch, lora
from wildreward.training.resume import choose_checkpoint, dataset_digest, model_digest, resume_settings, run_or_resume
from wildreward.training.reward_arguments import UNSUPPORTED, TrainRewardArguments
from wildreward.training.reward_batching import level_frequencies
from wildreward.training.reward_config import RESUME_KEYS, RESUME_KEYS_OF_BEST, OrdinalRewardConfig
from wildreward.training.reward_data import load_splits
from wildreward.training.reward_pairs import load_pair_splits, with_contrast
from wildreward.training.reward_stream import check_streaming, split_stream
from wildreward.training.reward_trainer import OrdinalRewardTrainer

SUMMARY = "training_summary.json"
NO_FOLDER = "trainer_output"  # what transformers makes of no output_dir
CONFIGS = (TrainRewardArguments, OrdinalRewardConfig)


def main(arguments: TrainRewardArguments, config: OrdinalRewardConfig) -> None:
    """Run the command and print where the model is and how good it is on the held-out users."""
    summary = train_reward(arguments, config)
    if config.process_index == 0:
        shown = ", ".join(f"{name} {value:.3f}" for name, value in summary["validation"].items() if name != "loss")
        rows = summary["rows"]
        read = f"{summary['steps']} steps of a stream" if arguments.streaming else f"{rows['train']} rows"
        print(
            f"reward model in {config.output_dir}: {read}, {summary['seconds']:.0f} s; "
            f"on {rows['validation']} validation rows: {shown}"
        )


def train_reward(arguments: TrainRewardArguments, config: OrdinalRewardConfig) -> dict[str, Any]:
    """Train, calibrate and write a reward model folder at `config.output_dir`.

    A finished folder made with the same settings is left as it is; an interrupted run is continued.

    Returns:
        What is written to `training_summary.json`; its `arguments` on the main process only.

    Raises:
        UserError: see `check_launch`, `load_rows`, `prepare_rows`; the folder belongs to another run or to other settings.
    """
    check_launch(config, arguments.dtype, adapters=arguments.lora_rank > 0)
    check_unsupported_args(config)
    if arguments.streaming:
        check_streaming(config)
    if config.pair_weight != 1.0 and not arguments.pairs and not arguments.contrast_share:
        raise UserError("pair_weight has no effect without pairs; give --pairs or --contrast-share, or leave it out")
    folder = make_folder(config.output_dir)

    def train(settings: dict[str, Any]) -> dict[str, Any]:
        return _train(arguments, config, folder, settings)

    return run_or_resume(config, folder / "work", folder / SUMMARY, lambda: run_settings(arguments, config), train)


def check_unsupported_args(config: OrdinalRewardConfig) -> None:
    """Refuse options that the command has another way for, naming each with that way, and a run without a folder
    (`UserError`)."""
    if config.output_dir == NO_FOLDER:
        raise UserError("there is no output_dir; name the folder to write with --output-dir")
    given = [f"{name} ({remedy})" for name, remedy in UNSUPPORTED.items() if getattr(config, name)]
    if given:
        raise UserError(f"not possible here, remove: {'; '.join(given)}")


def run_settings(arguments: TrainRewardArguments, config: OrdinalRewardConfig) -> dict[str, Any]:
    """What the result depends on, without machine paths; local data and weights are known by their contents."""
    given = dataclasses.asdict(arguments)
    given |= {name: public_name(given[name]) for name in ("dataset", "base_model", "pairs") if given[name]}
    given["pairs_digest"] = arguments.pairs and dataset_digest(arguments.pairs)
    given["dataset_digest"] = dataset_digest(arguments.dataset)
    given["base_model_digest"] = model_digest(arguments.base_model)
    by_best = config.load_best_model_at_end or config.early_stopping_patience is not None
    return resume_settings(given, config, RESUME_KEYS + (RESUME_KEYS_OF_BEST if by_best else ()))


def _train(
    arguments: TrainRewardArguments, config: OrdinalRewardConfig, folder: Path, settings: dict[str, Any]
) -> dict[str, Any]:
    started = time.monotonic()
    model, tokenizer, fresh = build_model(arguments, config.max_length, config.seed)
    max_length, num_levels = model.config.max_length, model.config.num_levels
    pairs = load_pair_splits(arguments, config, tokenizer, max_length)
    if arguments.streaming:
        train, validation, left_out = split_stream(arguments, config)
    else:
        train, validation, left_out = load_splits(arguments, config, tokenizer, max_length, num_levels)
    if arguments.contrast_share:
        contrast = contrast_splits(arguments, config, num_levels, train, validation)
        pairs = with_contrast(pairs, contrast, config, tokenizer, max_length)
    if fresh:
        labels = (validation if arguments.streaming else train)["label"][:]
        model.score.set_prior(level_frequencies(labels, num_levels))
    inner = copy.copy(config)
    inner.output_dir = str((folder / "work").resolve())  # the state of a checkpoint names the best one by its path
    head = {"exclude_modules": ["score"], "modules_to_save": ["score"]}
    trainer = OrdinalRewardTrainer(
        model=model,
        args=inner,
        train_dataset=train,
        eval_dataset=validation,
        train_pairs=pairs.train,
        eval_pairs=pairs.validation,
        processing_class=tokenizer,
        peft_config=lora(arguments.lora_rank, arguments.lora_alpha, arguments.lora_dropout, **head),
    )
    checkpoint = choose_checkpoint(inner.output_dir, config)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    uncalibrated = metrics = trainer.evaluate()
    if arguments.calibrate:
        metrics = trainer.calibrate()
    trainer.save_reward_model(str(folder))
    summary = {
        "base_model": public_name(arguments.base_model),
        "dataset": public_name(arguments.dataset),
        "arguments": settings,
        "rows": {
            "train": None if arguments.streaming else len(trainer.train_dataset),
            "validation": len(trainer.eval_dataset),
            "left_out": left_out,
        },
        "pairs": pairs.counts(),
        "steps": trainer.state.global_step,
        "best_step": trainer.state.best_global_step,
        "temperatures": trainer.reward_config.temperatures,
        "validation": _named(metrics),
        "validation_uncalibrated": _named(uncalibrated),
        "log": [_finite(entry) for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry],
        "seconds": round(time.monotonic() - started, 1),
        "versions": {
            name: importlib.metadata.version(name) for name in ("wildreward", "torch", "transformers", "datasets")
        },
    }
    if config.process_index == 0:
        write_json(folder / SUMMARY, summary)
        write_model_card(folder, config.hub_model_id)
    return summary


def _finite(entry: dict[str, Any]) -> dict[str, Any]:
    """A log entry without what JSON has no number for, such as the norm of a step that fp16's loss scaler skipped."""
    return {name: value for name, value in entry.items() if not isinstance(value, float) or math.isfinite(value)}


def _named(metrics: dict[str, float]) -> dict[str, float]:
    named = {name.removeprefix("eval_"): value for name, value in metrics.items()}
    speed = ("runtime", "samples_per_second", "steps_per_second", "epoch")
    return {name: value for name, value in named.items() if name not in speed}
