"""What `RolloutTrainer` relies on in TRL and transformers beyond their public interface. A failure here after an upgrade
names the part that changed, before training goes wrong."""

import inspect

import pytest
from trl import RLOOConfig, RLOOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import (
    RepeatSampler,
    get_config_model_id,
    is_async_callable,
    nanmax,
    nanmin,
    nanstd,
    pad,
    use_adapter,
)

from tests.training.dpo_tiny import fixed_trainer, make_policy, make_prompts, settings, share_of_a
from wildreward.training.dpo_config import WITHOUT_EFFECT


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (RLOOTrainer._generate_and_score_completions, "self inputs"),
        (RLOOTrainer._generate, "self prompts"),
        (RLOOTrainer._generate_single_turn, "self prompt_ids images multimodal_fields"),
        (RLOOTrainer._calculate_rewards, "self inputs prompts completions completion_ids_list"),
        (
            RLOOTrainer._get_per_token_logps_and_entropies,
            "self model input_ids attention_mask logits_to_keep batch_size compute_entropy compute_aux_loss",
        ),
        (RLOOTrainer._get_train_sampler, "self dataset"),
        (RLOOTrainer._prepare_inputs, "self generation_batch"),
        (RLOOTrainer.training_step, "self model inputs num_items_in_batch"),
        (RLOOTrainer.compute_loss, "self model inputs return_outputs num_items_in_batch"),
        (RLOOTrainer.log, "self logs start_time"),
        (RLOOTrainer._save_checkpoint, "self model trial"),
        (disable_gradient_checkpointing, "model gradient_checkpointing_kwargs"),
        (use_adapter, "model adapter_name"),
        (pad, "tensors padding_value padding_side pad_to_multiple_of"),
        (get_config_model_id, "config"),
        (is_async_callable, "func"),
        (nanmax, "tensor"),
        (nanmin, "tensor"),
        (nanstd, "tensor"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_signatures(function, parameters):
    found = list(inspect.signature(function).parameters)
    assert found[: len(parameters.split())] == parameters.split()


def test_what_the_constructor_and_a_rollout_leave(tmp_path):
    """The attributes that the seam reads, and a rollout cut into the batches of its steps, whole pairs each."""
    args = settings(tmp_path / "out", gradient_accumulation_steps=2)
    made = fixed_trainer(make_policy(tmp_path / "policy"), share_of_a, args, make_prompts(4))
    attributes = """_metrics _logs _pending_extra_logs _pending_metrics _tokenizer _step _buffered_inputs reward_funcs
    reward_func_names reward_weights ref_model eos_token_ids pad_to_multiple_of num_generations num_generations_eval
    aux_loss_enabled router_aux_loss_coef log_completions reward_clip_range"""
    assert [name for name in attributes.split() if not hasattr(made, name)] == []
    assert made.loss_is_scaled_for_ga is False  # the Trainer divides by the accumulation steps, see `_scale`
    made.train()
    assert made._step == 2 and [len(batch["keep"]) for batch in made._buffered_inputs] == [2, 2]
    assert all(batch["completion_ids"].shape[:2] == (2, 2) for batch in made._buffered_inputs)


def test_prompts_are_repeated_in_runs():
    sampler = RepeatSampler(range(4), mini_repeat_count=2, batch_size=2, repeat_count=1, shuffle=False)
    assert list(sampler) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert hasattr(RepeatSampler(range(4), 2, seed=1), "generator")


def test_settings_without_effect_exist():
    assert set(WITHOUT_EFFECT) <= set(RLOOConfig.__dataclass_fields__)
