"""`wildreward train-dpo`: improve a policy with a reward model by online DPO on best-of-n pairs."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wildreward.errors import UserError
from wildreward.files import FolderLock, write_json
from wildreward.settings import check_settings
from wildreward.training.best_of_n_dpo_config import BestOfNDPOConfig

logger = logging.getLogger(__name__)

RESULTS = "dpo_results.json"
# What a resumed run must not change, beside the arguments of the command itself.
SETTINGS = (
    "beta",
    "loss_type",
    "learning_rate",
    "num_generations",
    "min_margin",
    "choose_truncated",
    "max_completion_length",
    "temperature",
    "seed",
)


@dataclass
class TrainDPOArguments:
    """What to train, on what, judged by what."""

    model: str = field(metadata={"help": "The policy: a folder or Hub id of a causal language model."})
    reward_model: list[str] = field(
        metadata={
            "help": "Reward model folder or Hub id, or the URL of a reward server; several are summed with "
            "--reward_weights."
        }
    )
    dataset: str = field(
        metadata={
            "help": "Prompts: a feedback dataset, or any folder, file or Hub id with `prompt`, `messages` or "
            "`conversations`."
        }
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a dataset that has several."})
    max_prompts: int | None = field(default=None, metadata={"help": "Most prompts to train on; all by default."})
    max_prompt_length: int = field(default=1024, metadata={"help": "Longer prompts, in tokens, are left out."})
    held_out_prompts: int = field(
        default=64, metadata={"help": "Prompts on which the policy is compared before and after; 0 leaves it out."}
    )
    reward_request: Literal["query", "messages"] = field(
        default="query",
        metadata={"help": "What a reward server is sent: rendered texts (`query`) or chat messages (`messages`)."},
    )
    pairs_only: bool = field(
        default=False,
        metadata={
            "help": "Train nothing: sample, score and select once, and write the pairs as a preference dataset for TRL's "
            "DPOTrainer."
        },
    )
    lora_rank: int = field(default=0, metadata={"help": "Train a LoRA adapter of this rank; 0 trains all weights."})
    lora_alpha: int = field(default=32, metadata={"help": "Scale of the LoRA adapter."})


CONFIGS = (TrainDPOArguments, BestOfNDPOConfig)


def main(arguments: TrainDPOArguments, config: BestOfNDPOConfig) -> None:
    """Train, save the policy, and print what changed on held-out prompts."""
    results = train_policy(arguments, config)
    if config.process_index != 0:
        return
    if "pairs" in results:
        print(f"{results['pairs']} pairs from {results['prompts']} prompts: {config.output_dir}")
    else:
        for name, unit in (("reward", ""), ("length", " tokens")):
            if change := results["held_out"].get(name):
                print(
                    f"held-out {name}: {_estimate(change['before'])} before, {_estimate(change['after'])} after{unit}"
                )
        print(f"policy: {config.output_dir}")


def train_policy(arguments: TrainDPOArguments, config: BestOfNDPOConfig) -> dict[str, Any]:
    """Train a policy and write it, with `dpo_results.json`, to `config.output_dir`. Resumes a run that was cut off.

    Returns:
        The content of `dpo_results.json`.

    Raises:
        UserError: what the user can put right: models, prompts, settings that differ from the run to resume.
        RewardSourceError: rewards cannot be had; a checkpoint is saved.
    """
    if config.process_index == 0:
        with FolderLock(config.output_dir):
            check_settings(config.output_dir, _settings(arguments, config))
            return _train(arguments, config)
    return _train(arguments, config)


def _train(arguments: TrainDPOArguments, config: BestOfNDPOConfig) -> dict[str, Any]:
    from transformers import AutoTokenizer

    from wildreward.bundled import resolve
    from wildreward.training.best_of_n_dpo_trainer import BestOfNDPOTrainer
    from wildreward.training.dpo_prompts import load_prompts
    from wildreward.training.policy_report import HeldOutCallback, last_complete_checkpoint

    policy = resolve(arguments.model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(policy, padding_side="left", truncation_side="left")
    except (OSError, ValueError) as error:
        raise UserError(f"the policy {arguments.model} cannot be loaded: {error}") from error
    train, held_out = load_prompts(
        arguments.dataset,
        tokenizer,
        arguments.max_prompt_length,
        arguments.held_out_prompts,
        arguments.max_prompts,
        config.seed,
        arguments.dataset_config,
    )
    if arguments.pairs_only:
        return _write_pairs(arguments, config, policy, tokenizer, train)
    per_rollout = config.generation_batch_size // config.num_generations
    if len(train) < per_rollout:
        raise UserError(
            f"{len(train)} prompts are fewer than the {per_rollout} of one step; give more, or lower "
            "per_device_train_batch_size or gradient_accumulation_steps"
        )
    callback = HeldOutCallback(held_out, config.seed) if len(held_out) else None
    trainer = BestOfNDPOTrainer(
        model=policy,
        reward_funcs=_reward_functions(arguments, config),
        args=config,
        train_dataset=train,
        processing_class=tokenizer,
        callbacks=[callback] if callback else None,
        peft_config=_adapter(arguments),
    )
    if callback:
        callback.trainer = trainer
    checkpoint = config.resume_from_checkpoint or last_complete_checkpoint(config.output_dir)
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model(config.output_dir)
    results = _results(arguments, config, trainer, len(train))
    results["held_out"] = callback.report(config.seed) if callback else {}
    if config.process_index == 0:
        from wildreward.model_card import write_model_card

        write_json(os.path.join(config.output_dir, RESULTS), results)
        Path(config.output_dir, "training_args.bin").unlink(missing_ok=True)  # a pickle: a model folder holds none
        write_model_card(config.output_dir, config.hub_model_id)
    return results


def _write_pairs(
    arguments: TrainDPOArguments, config: BestOfNDPOConfig, policy: str, tokenizer: Any, prompts: Any
) -> dict[str, Any]:
    from wildreward.training.best_of_n_dpo_trainer import BestOfNDPOTrainer
    from wildreward.training.offline_pairs import write_pairs

    config.num_generations_eval = config.num_generations
    config.per_device_eval_batch_size = config.per_device_train_batch_size
    trainer = BestOfNDPOTrainer(
        model=policy,
        reward_funcs=_reward_functions(arguments, config),
        args=config,
        train_dataset=prompts,
        processing_class=tokenizer,
    )
    pairs = write_pairs(trainer, prompts, config.output_dir, config.seed)
    return {"settings": _settings(arguments, config), "prompts": len(prompts), "pairs": pairs}


def _reward_functions(arguments: TrainDPOArguments, config: BestOfNDPOConfig) -> list[Any]:
    from wildreward.reward_source import is_url
    from wildreward.training.reward_function import RewardFunction

    functions = []
    for source in arguments.reward_model:
        if is_url(source):
            functions.append(RewardFunction(source, request=arguments.reward_request))
        else:
            functions.append(RewardFunction(source, device_map={"": config.device}))
    return functions


def _adapter(arguments: TrainDPOArguments) -> Any:
    if arguments.lora_rank == 0:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise UserError("lora_rank needs the `peft` package; install wildreward[peft]") from error
    return LoraConfig(
        r=arguments.lora_rank, lora_alpha=arguments.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def _settings(arguments: TrainDPOArguments, config: BestOfNDPOConfig) -> dict[str, Any]:
    return {
        **{
            name: getattr(arguments, name)
            for name in ("model", "reward_model", "dataset", "max_prompts", "lora_rank", "pairs_only")
        },
        **{name: getattr(config, name) for name in SETTINGS},
        "prompts_per_step": _prompts_per_step(config),
    }


def _prompts_per_step(config: BestOfNDPOConfig) -> int:
    return config.pairs_per_device * config.world_size * config.gradient_accumulation_steps


def _results(arguments: TrainDPOArguments, config: BestOfNDPOConfig, trainer: Any, prompts: int) -> dict[str, Any]:
    """What the run did, from its own log; JSON-serialisable."""
    steps = [row for row in trainer.state.log_history if "pairs/masked" in row]
    series = {
        name: [row.get(name) for row in steps]
        for name in ("step", "reward", "reward/margin", "kl", "completions/mean_length", "pairs/masked", "loss")
    }
    timed = [row for row in steps if "time/training" in row]
    seconds = {
        key.removeprefix("time/"): sum(row[key] for row in timed) / len(timed)
        for key in (timed[0] if timed else {})
        if key.startswith("time/")
    }
    return json.loads(
        json.dumps(
            {
                "settings": _settings(arguments, config),
                "steps": trainer.state.global_step,
                "prompts": prompts,
                "log": series,
                "seconds_per_step": seconds,
            }
        )
    )


def _estimate(value: dict[str, float | None]) -> str:
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
