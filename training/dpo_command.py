"""`wildreward train-dpo`: improve a policy with a reward model by online DPO on best-of-n pairs."""

import dataclasses
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from wildreward.common.errors import UserError
from wildreward.common.files import make_folder, read_json, write_json
from wildreward.common.lookup import load_error_message
from wildreward.common.names import is_url, public_name
from wildreward.common.tables import estimate_text
from wildreward.model_card import write_model_card
from wildreward.scoring.reward_function import RewardFunction
from wildreward.training.dpo_arguments import TrainDPOArguments
from wildreward.training.dpo_config import RESUME_KEYS, BestOfNDPOConfig
from wildreward.training.dpo_prompts import load_prompts
from wildreward.training.dpo_report import HeldOutCallback, run_report
from wildreward.training.dpo_trainer import BestOfNDPOTrainer
from wildreward.training.model_setup import check_launch, fast_bf16, lora
from wildreward.training.pairs import write_pairs
from wildreward.training.resume import (
    check_checkpoint,
    choose_checkpoint,
    dataset_digest,
    model_digest,
    resume_settings,
    run_or_resume,
)

RESULTS = "dpo_results.json"
CONFIGS = (TrainDPOArguments, BestOfNDPOConfig)


def main(arguments: TrainDPOArguments, config: BestOfNDPOConfig) -> None:
    """Train, save the policy, and print what changed on held-out prompts."""
    results = train_policy(arguments, config)
    if config.process_index != 0:
        return
    if "pairs" in results:
        print(f"{results['pairs']} pairs from {results['prompts']} prompts: {config.output_dir}")
        return
    for name, unit in (("reward", ""), ("length", " tokens")):
        if change := results["held_out"].get(name):
            before, after = (estimate_text(change[moment]) for moment in ("before", "after"))
            print(f"held-out {name}: {before} before, {after} after{unit}")
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
    check_launch(config)
    folder = make_folder(config.output_dir)

    def train(settings: dict[str, Any]) -> dict[str, Any]:
        return _train(arguments, config, folder, settings)

    return run_or_resume(config, folder, folder / RESULTS, lambda: run_settings(arguments, config), train)


def run_settings(arguments: TrainDPOArguments, config: BestOfNDPOConfig) -> dict[str, Any]:
    """What the result depends on, without machine paths, addresses or what they may carry of credentials."""
    given = dataclasses.asdict(arguments) | {
        "model": public_name(arguments.model),
        "model_digest": model_digest(arguments.model),
        "reward_model": [public_name(source) for source in arguments.reward_model],
        "reward_model_digest": [model_digest(source) for source in arguments.reward_model],
        "served_model": arguments.served_model and public_name(arguments.served_model),
        "dataset": public_name(arguments.dataset),
        "dataset_digest": dataset_digest(arguments.dataset),
        "prompts_per_step": config.pairs_per_device * config.world_size * config.gradient_accumulation_steps,
    }
    loading = config.model_init_kwargs or {}  # may hold a token, too
    given |= {f"model_{name}": loading.get(name) for name in ("dtype", "revision")}
    return resume_settings(given, config, RESUME_KEYS)


def _train(
    arguments: TrainDPOArguments, config: BestOfNDPOConfig, folder: Path, settings: dict[str, Any]
) -> dict[str, Any]:
    policy = arguments.model
    try:
        sides = {"padding_side": "left", "truncation_side": "left"}
        tokenizer = AutoTokenizer.from_pretrained(policy, trust_remote_code=config.trust_remote_code, **sides)
    except (OSError, ValueError) as error:
        raise UserError(
            f"the policy {arguments.model} cannot be loaded: {load_error_message(policy, error)}"
        ) from error
    limits = (arguments.max_prompt_length, arguments.held_out_prompts, arguments.max_prompts)
    train, held_out = load_prompts(arguments.dataset, tokenizer, *limits, config.seed, arguments.dataset_config)
    _check_prompts(arguments, config, len(train), len(held_out))
    evaluated = config.eval_strategy != "no"
    if arguments.pairs_only:
        config.num_generations_eval = config.num_generations
        config.per_device_eval_batch_size = config.per_device_train_batch_size
    callback = HeldOutCallback(held_out, config.seed) if len(held_out) and not arguments.pairs_only else None
    trainer = BestOfNDPOTrainer(
        model=policy,
        reward_funcs=_reward_functions(arguments, config),
        args=config,
        train_dataset=train,
        eval_dataset=held_out if evaluated else None,
        processing_class=tokenizer,
        callbacks=[callback] if callback else None,
        peft_config=lora(arguments.lora_rank, arguments.lora_alpha, task_type="CAUSAL_LM"),
    )
    if arguments.pairs_only:
        pairs = write_pairs(trainer, train, folder, config.seed)
        return {"prompts": len(train), "pairs": pairs, "settings": settings}
    if callback:
        callback.trainer = trainer
    checkpoint = config.resume_from_checkpoint or choose_checkpoint(folder, config)
    if config.resume_from_checkpoint:
        check_checkpoint(checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.pair_counts.check(config)
    trainer.save_model(str(folder))
    results = {"settings": settings, **run_report(trainer, len(train))}
    results["held_out"] = callback.report(config.seed) if callback else {}
    if config.process_index == 0:
        _finish(folder, arguments.model, results, config.hub_model_id)
    return results


def _check_prompts(arguments: TrainDPOArguments, config: BestOfNDPOConfig, train: int, held_out: int) -> None:
    """Refuse to begin with too few prompts to train or to evaluate on (`UserError`)."""
    evaluated, per_rollout = config.eval_strategy != "no", config.generation_batch_size // config.num_generations
    if arguments.pairs_only:
        if evaluated:
            raise UserError("pairs_only trains nothing, so there is nothing to evaluate: set eval_strategy to 'no'")
    elif train < per_rollout:
        raise UserError(
            f"{train} prompts are fewer than the {per_rollout} of one step; give more, or lower "
            "per_device_train_batch_size or gradient_accumulation_steps"
        )
    elif evaluated and not held_out:
        raise UserError(
            f"eval_strategy is {config.eval_strategy.value} and no prompt is held out to evaluate on; set held_out_prompts "
            f"(now {arguments.held_out_prompts}), or eval_strategy to 'no'"
        )


def _finish(folder: Path, policy: str, results: dict[str, Any], repo_id: str | None) -> None:
    """Make the folder that the policy was saved to one that can be shown, and complete."""
    adapter = folder / "adapter_config.json"
    if adapter.exists():  # peft writes, here and on a card, the folder that the policy was loaded from
        write_json(adapter, read_json(adapter) | {"base_model_name_or_path": policy})
        (folder / "README.md").unlink(missing_ok=True)
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle: a model folder holds none
    write_json(folder / RESULTS, results)
    write_model_card(folder, repo_id)


def _reward_functions(arguments: TrainDPOArguments, config: BestOfNDPOConfig) -> list[RewardFunction]:
    dtype = _reward_dtype(arguments.reward_dtype, config.device.type)
    return [
        RewardFunction(source, served_model=arguments.served_model)
        if is_url(source)
        else RewardFunction(
            source, device_map={"": config.device}, dtype=dtype, trust_remote_code=config.trust_remote_code
        )
        for source in arguments.reward_model
    ]


def _reward_dtype(asked: str, device: str) -> str:
    """What a local reward model is loaded with; `auto` means as saved to transformers."""
    return "bfloat16" if asked == "auto" and device == "cuda" and fast_bf16() else asked
