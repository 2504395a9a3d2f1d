"""`wildreward train-dpo`: improve a policy with a reward model by online DPO on best-of-n pairs."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wildreward.errors import UserError
from wildreward.evaluation.report import estimate_text
from wildreward.files import FolderLock, make_folder, read_json, write_json
from wildreward.lookup import why_not
from wildreward.names import public_name
from wildreward.settings import claim
from wildreward.training.adapters import lora
from wildreward.training.best_of_n_dpo_config import BestOfNDPOConfig
from wildreward.training.launch_checks import use_one_gpu
from wildreward.training.provenance import dataset_digest, decisive_settings, model_digest

logger = logging.getLogger(__name__)

RESULTS = "dpo_results.json"
# what decides the resulting weights, beside what does for every trainer
DECISIVE = (
    "beta",
    "loss_type",
    "min_margin",
    "choose_truncated",
    "reward_weights",
    "reward_clip_range",
    "num_generations",
    "num_generations_eval",
    "num_iterations",
    "steps_per_generation",
    "max_completion_length",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "generation_kwargs",
    "chat_template_kwargs",
    "shuffle_dataset",
    "sync_ref_model",
    "ref_model_mixup_alpha",
    "ref_model_sync_steps",
    "eval_strategy",  # evaluating draws random numbers, which training then goes on from
    "eval_steps",
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
    reward_dtype: Literal["auto", "bfloat16", "float16", "float32"] = field(
        default="auto",
        metadata={
            "help": "Weights of a local reward model, which every process holds. `auto`: bfloat16 on a GPU that has it, else "
            "as saved."
        },
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
                    f"held-out {name}: {estimate_text(change['before'])} before, {estimate_text(change['after'])} after{unit}"
                )
        print(f"policy: {config.output_dir}")


def train_policy(arguments: TrainDPOArguments, config: BestOfNDPOConfig) -> dict[str, Any]:
    """Train a policy and write it, with `dpo_results.json`, to `config.output_dir`.

    A finished folder made with the same settings is left as it is; a run that was cut off is continued.

    Returns:
        The content of `dpo_results.json`; its `settings` on the main process only.

    Raises:
        UserError: what the user can put right: models, prompts, settings that differ from the run to resume.
        RewardSourceError: rewards cannot be had; a checkpoint is saved.
    """
    use_one_gpu(config)
    folder = make_folder(config.output_dir)
    finished = (folder / RESULTS).exists()  # every process looks for itself, before any waits for another
    if config.process_index > 0:
        return read_json(folder / RESULTS) if finished else _train(arguments, config, {})
    with FolderLock(folder):
        settings = _settings(arguments, config)
        with claim(folder, settings, begun=lambda: finished or _begun(folder)):
            if not finished:
                return _train(arguments, config, settings)
        from wildreward.model_card import write_model_card

        logger.info("%s is complete already", folder)
        if not (folder / "README.md").exists():
            write_model_card(folder, config.hub_model_id)
        return read_json(folder / RESULTS)


def _begun(folder: Path) -> bool:
    """Whether a run has left something to go on from: checkpoints, or parts of `pairs_only`."""
    from wildreward.training.checkpoints import has_checkpoint

    return has_checkpoint(folder) or any(folder.glob("data/*.parquet"))


def _train(arguments: TrainDPOArguments, config: BestOfNDPOConfig, settings: dict[str, Any]) -> dict[str, Any]:
    from transformers import AutoTokenizer

    from wildreward.bundled import resolve
    from wildreward.training.best_of_n_dpo_trainer import BestOfNDPOTrainer
    from wildreward.training.checkpoints import check_checkpoint, choose_checkpoint
    from wildreward.training.dpo_prompts import load_prompts
    from wildreward.training.policy_report import HeldOutCallback

    policy = resolve(arguments.model)
    try:
        sides = {"padding_side": "left", "truncation_side": "left"}
        tokenizer = AutoTokenizer.from_pretrained(policy, trust_remote_code=config.trust_remote_code, **sides)
    except (OSError, ValueError) as error:
        raise UserError(f"the policy {arguments.model} cannot be loaded: {why_not(policy, error)}") from error
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
        return _write_pairs(arguments, config, policy, tokenizer, train) | {"settings": settings}
    per_rollout = config.generation_batch_size // config.num_generations
    if len(train) < per_rollout:
        raise UserError(
            f"{len(train)} prompts are fewer than the {per_rollout} of one step; give more, or lower "
            "per_device_train_batch_size or gradient_accumulation_steps"
        )
    if config.eval_strategy != "no" and len(held_out) == 0:
        raise UserError(
            f"eval_strategy is {config.eval_strategy.value} and no prompt is held out to evaluate on; set held_out_prompts "
            f"(now {arguments.held_out_prompts}), or eval_strategy to 'no'"
        )
    callback = HeldOutCallback(held_out, config.seed) if len(held_out) else None
    trainer = BestOfNDPOTrainer(
        model=policy,
        reward_funcs=_reward_functions(arguments, config),
        args=config,
        train_dataset=train,
        eval_dataset=None if config.eval_strategy == "no" else held_out,
        processing_class=tokenizer,
        callbacks=[callback] if callback else None,
        peft_config=lora(arguments.lora_rank, arguments.lora_alpha, task_type="CAUSAL_LM"),
    )
    if callback:
        callback.trainer = trainer
    checkpoint = config.resume_from_checkpoint or choose_checkpoint(config.output_dir, config)
    if config.resume_from_checkpoint:
        check_checkpoint(checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.pair_counts.check(config)
    trainer.save_model(config.output_dir)
    results = {"settings": settings, **_results(trainer, len(train))}
    results["held_out"] = callback.report(config.seed) if callback else {}
    if config.process_index == 0:
        _finish(Path(config.output_dir), arguments.model, results, config.hub_model_id)
    return results


def _finish(folder: Path, policy: str, results: dict[str, Any], repo_id: str | None) -> None:
    """Make the folder that the policy was saved to one that can be shown, and complete."""
    from wildreward.model_card import write_model_card

    adapter = folder / "adapter_config.json"
    if adapter.exists():  # peft writes, here and on a card, the folder that the policy was loaded from
        write_json(adapter, read_json(adapter) | {"base_model_name_or_path": policy})
        (folder / "README.md").unlink(missing_ok=True)
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle: a model folder holds none
    write_json(folder / RESULTS, results)
    write_model_card(folder, repo_id)


def _write_pairs(
    arguments: TrainDPOArguments, config: BestOfNDPOConfig, policy: str, tokenizer: Any, prompts: Any
) -> dict[str, Any]:
    from wildreward.training.best_of_n_dpo_trainer import BestOfNDPOTrainer
    from wildreward.training.offline_pairs import write_pairs

    if config.eval_strategy != "no":
        raise UserError("pairs_only trains nothing, so there is nothing to evaluate: set eval_strategy to 'no'")
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
    return {"prompts": len(prompts), "pairs": pairs}


def _reward_functions(arguments: TrainDPOArguments, config: BestOfNDPOConfig) -> list[Any]:
    from wildreward.reward_source import is_url
    from wildreward.training.reward_function import RewardFunction

    functions = []
    for source in arguments.reward_model:
        if is_url(source):
            functions.append(RewardFunction(source, request=arguments.reward_request))
        else:
            dtype = _reward_dtype(arguments.reward_dtype, config.device.type)
            functions.append(RewardFunction(source, device_map={"": config.device}, dtype=dtype))
    return functions


def _reward_dtype(asked: str, device: str) -> str:
    """What a local reward model is loaded with; `auto` means as saved to transformers."""
    from wildreward.training.precision import fast_bf16

    return "bfloat16" if asked == "auto" and device == "cuda" and fast_bf16() else asked


def _settings(arguments: TrainDPOArguments, config: BestOfNDPOConfig) -> dict[str, Any]:
    """What the result depends on, without machine paths, addresses or what they may carry of credentials."""
    settings = dataclasses.asdict(arguments) | {
        "model": public_name(arguments.model),
        "model_digest": model_digest(arguments.model),
        "reward_model": [public_name(source) for source in arguments.reward_model],
        "reward_model_digest": [model_digest(source) for source in arguments.reward_model],
        "dataset": public_name(arguments.dataset),
        "dataset_digest": dataset_digest(arguments.dataset),
        "prompts_per_step": config.pairs_per_device * config.world_size * config.gradient_accumulation_steps,
    }
    loading = config.model_init_kwargs or {}  # may hold a token, too
    settings |= {f"model_{name}": loading.get(name) for name in ("dtype", "revision")}
    return json.loads(json.dumps(settings | decisive_settings(config, DECISIVE), default=str))


def _results(trainer: Any, prompts: int) -> dict[str, Any]:
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
                "steps": trainer.state.global_step,
                "prompts": prompts,
                "prompts_with_pair": trainer.pair_counts.kept,
                "prompts_without_pair": trainer.pair_counts.masked,
                "log": series,
                "seconds_per_step": seconds,
            }
        )
    )
