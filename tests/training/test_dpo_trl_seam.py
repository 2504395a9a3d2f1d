"""What `RolloutTrainer` relies on in TRL and transformers beyond their public interface. A failure here after an upgrade
names the part that changed, before training goes wrong."""

import inspect
import re

import pytest
import transformers
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
    shuffle_sequence_dict,
    split_tensor_dict,
    use_adapter,
)

from wildreward.training.best_of_n_dpo_config import _WITHOUT_EFFECT


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
        (shuffle_sequence_dict, "seq_dict"),
        (split_tensor_dict, "tensor_dict num_chunks"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_signatures(function, parameters):
    found = list(inspect.signature(function).parameters)
    assert found[: len(parameters.split())] == parameters.split()


@pytest.mark.parametrize(
    "attribute",
    [
        "_metrics",
        "_logs",
        "_pending_extra_logs",
        "_pending_metrics",
        "_tokenizer",
        "_step",
        "_buffered_inputs",
        "_is_vlm",
        "reward_funcs",
        "reward_func_names",
        "reward_weights",
        "ref_model",
        "eos_token_ids",
        "pad_to_multiple_of",
        "num_generations",
        "num_generations_eval",
        "aux_loss_enabled",
        "router_aux_loss_coef",
        "log_completions",
        "reward_clip_range",
    ],
)
def test_attributes_set_by_the_constructor(attribute):
    assert re.search(rf"self\.{attribute}\b.* = ", inspect.getsource(RLOOTrainer.__init__))


def test_the_loss_is_divided_by_the_accumulation_steps_outside():
    assert RLOOTrainer.loss_is_scaled_for_ga is False
    source = inspect.getsource(transformers.Trainer.training_step)
    assert "loss / self.current_gradient_accumulation_steps" in source


def test_rollouts_are_buffered_shuffled_and_split_by_rows():
    source = inspect.getsource(RLOOTrainer._prepare_inputs)
    for part in (
        "self._generate_and_score_completions(generation_batch)",
        "shuffle_sequence_dict(generation_batch)",
        "split_tensor_dict(generation_batch, self.args.steps_per_generation)",
        "self._buffered_inputs[self._step % self.args.steps_per_generation]",
    ):
        assert part in source


def test_prompts_are_repeated_in_runs():
    sampler = RepeatSampler(range(4), mini_repeat_count=2, batch_size=2, repeat_count=1, shuffle=False)
    assert list(sampler) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert hasattr(RepeatSampler(range(4), 2, seed=1), "generator")


def test_the_warning_that_would_log_chat_text():
    assert "All reward functions returned None" in inspect.getsource(RLOOTrainer._calculate_rewards)


def test_settings_without_effect_exist():
    assert set(_WITHOUT_EFFECT) <= set(RLOOConfig.__dataclass_fields__)


def test_checkpoints_are_complete_once_the_trainer_state_is_written():
    source = inspect.getsource(transformers.Trainer._save_checkpoint)
    assert source.index("_save_rng_state") < source.index("save_to_json")
