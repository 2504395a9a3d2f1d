"""What a run of `train-reward` would need, computed, and the recipes."""

from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, ModernBertConfig, Qwen3Config

from tests.tiny import save_backbone
from tests.training.reward_tiny import config
from wildreward.commands import parse
from wildreward.errors import UserError
from wildreward.training.reward_command import CONFIGS, TrainRewardArguments, main
from wildreward.training.reward_estimates import estimate, printed_estimate
from wildreward.training.reward_model import build_model

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def test_an_estimate_is_printed_instead_of_training(tmp_path, capsys):
    flags = ["--config", str(RECIPES / "qwen3-8b.yaml"), "--output-dir", str(tmp_path / "out")]
    flags += ["--estimate", "8", "--estimate-sharding", "zero3"]
    main(*parse("train-reward", CONFIGS, flags))
    printed = capsys.readouterr().out
    assert "7,568 M" in printed and not (tmp_path / "out").exists()
    assert "rows of 1,000 tokens, if a device achieves 200 TFLOP/s (--estimate-tokens, --estimate-tflops)" in printed
    main(*parse("train-reward", CONFIGS, [*flags, "--estimate-tflops", "50", "--estimate-tokens", "2000"]))
    assert "rows of 2,000 tokens, if a device achieves 50 TFLOP/s" in capsys.readouterr().out


def test_speed_and_length_have_to_be_positive():
    with pytest.raises(UserError, match=r"--estimate_tflops is 0; expected at least 1\. --estimate_tokens is -1"):
        TrainRewardArguments(dataset="x", base_model="y", estimate_tflops=0, estimate_tokens=-1)


def recipe(name, *flags):
    return parse("train-reward", CONFIGS, ["--config", str(RECIPES / f"{name}.yaml"), *flags])


EMBEDDINGS_4B = 151_936 * 2560


def test_sharding_divides_what_it_shards():
    arguments, settings = recipe("qwen3-4b")
    alone, copies = estimate(arguments, settings), estimate(arguments, settings, devices=4)
    two, three = (estimate(arguments, settings, devices=4, zero_stage=stage) for stage in (2, 3))
    weights = alone.parameters
    # autocast's copies of all but the embeddings; DDP's buckets
    assert alone.weights == copies.weights == 4 * weights + 2 * (weights - EMBEDDINGS_4B)
    assert (alone.gradients, copies.gradients, alone.optimizer) == (4 * weights, 8 * weights, 8 * weights)
    # ZeRO-2 is DeepSpeed's: weights and gradients in bfloat16, and a share of a float32 copy
    assert two.weights == 2 * weights + 4 * weights / 4
    assert (two.gradients, two.optimizer) == (2 * weights / 4, 8 * weights / 4)
    assert (three.weights, three.gradients, three.optimizer) == (weights, weights, 2 * weights)
    assert three.hours_per_million_rows == pytest.approx(alone.hours_per_million_rows / 4)


def test_activations_by_hand():
    """Qwen3-4B: hidden size 2,560, 36 layers, queries of 4,096, keys of 1,024 and a feed-forward part of 9,728."""
    arguments, settings = recipe("qwen3-4b")
    rest = 8 * 4096 + 10 * 1024 + 6 * 9728  # in bfloat16, but for the queries' and the keys' norms
    layer = 2 * (4 + 4) * 2560 + rest + 2 * (5 * 2560 + 4096 + 9728)
    assert estimate(arguments, settings).activations == 16_384 * (layer + 36 * 4 * 2560)
    # a sharded engine's layers get bfloat16, which is not cast for each linear layer
    layer = 2 * (4 + 2) * 2560 + rest + 2 * (2 * 2560 + 4096 + 9728)
    assert estimate(arguments, settings, devices=8, zero_stage=3).activations == 16_384 * (layer + 36 * 2 * 2560)
    arguments, settings = recipe("qwen3-4b", "--activation-checkpointing", "False", "--tokens-per-device", "8192")
    assert estimate(arguments, settings, devices=8, zero_stage=2).activations == 8192 * 36 * layer


def test_adapters_by_hand():
    """Qwen3-8B: hidden size 4,096, 36 layers, queries of 4,096, keys of 1,024 and a feed-forward part of 12,288."""
    arguments, settings = recipe("lora-24gb")
    needed = estimate(arguments, settings)
    assert needed.trained == 36 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 12_288))
    assert needed.weights == 2 * needed.parameters + (4 + 2) * needed.trained
    # every linear layer's adapter has an input of its own in two bytes, with a dropout mask in one
    layer = 12 * 4096 + 8 * 4096 + 10 * 1024 + 6 * 12_288 + (2 + 1) * (5 * 4096 + 4096 + 12_288)
    assert needed.activations == 4096 * (layer + 36 * 2 * 4096)
    # float32 weights are cast, too, and where activations are kept the copies of all layers are
    arguments, settings = recipe("lora-24gb", "--dtype", "float32", "--activation-checkpointing", "False")
    cast = needed.parameters - 151_936 * 4096
    assert estimate(arguments, settings).weights == 4 * needed.parameters + 6 * needed.trained + 2 * cast


def test_layers_that_are_computed_twice_are_counted():
    arguments, settings = recipe("qwen3-8b", "--activation-checkpointing-kwargs", '{"every_n_layers": 5}')
    every, none = (estimate(*recipe("qwen3-8b", "--activation-checkpointing", flag)) for flag in ("True", "False"))
    fifth = estimate(arguments, settings)
    layer, inputs = none.activations / 36, 16_384 * 4 * 4096
    assert every.activations == layer + 36 * inputs
    assert fifth.activations == (36 - 8 + 1) * layer + 8 * inputs  # layers 0, 5, … 35
    assert every.hours_per_million_rows == pytest.approx(none.hours_per_million_rows * 8 / 6)
    assert fifth.hours_per_million_rows == pytest.approx(none.hours_per_million_rows * (6 + 2 * 8 / 36) / 6)
    settings.activation_checkpointing, settings.fsdp = False, True
    settings.fsdp_config = {"activation_checkpointing": "true"}
    assert estimate(arguments, settings).activations == every.activations


@pytest.mark.parametrize(
    ("dtype", "rank", "over"),
    [("float32", 0, 0.02), ("bfloat16", 0, 0.02), ("bfloat16", 4, 0.06), ("float32", 4, 0.06)],
)
def test_activations_and_copies_are_what_autograd_saves(tmp_path, dtype, rank, over):
    """Two layers more hold as much more as estimated, under autocast; under adapters a little less."""

    def estimated(layers):
        shape(layers).save_pretrained(tmp_path)
        arguments = TrainRewardArguments(
            dataset="x", base_model=str(tmp_path), dtype=dtype, lora_rank=rank, lora_dropout=0.0
        )
        needed = estimate(arguments, config("out", bf16=True, tokens_per_device=128, max_length=128))
        return needed.weights + needed.activations

    def held(layers):
        model = AutoModel.from_config(shape(layers), dtype=getattr(torch, dtype)).train()
        if rank:
            model.enable_input_require_grads()
            model = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear"))
        storages = {weight.untyped_storage().data_ptr(): weight.untyped_storage() for weight in model.parameters()}

        def keep(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16),
        ):
            hidden = model(input_ids=torch.zeros(1, 128, dtype=torch.long), use_cache=False).last_hidden_state
        assert hidden.requires_grad
        return sum(storage.nbytes() for storage in storages.values())

    def shape(layers):
        return Qwen3Config(
            vocab_size=64, hidden_size=64, intermediate_size=320, num_hidden_layers=layers, num_attention_heads=3,
            num_key_value_heads=1, head_dim=32,
        )  # fmt: skip

    assert estimated(3) - estimated(1) == pytest.approx(held(3) - held(1), rel=over)


def test_frozen_layers_take_no_gradients(tmp_path):
    base = save_backbone("bert", tmp_path / "base")
    all_of_it, frozen = (
        estimate(TrainRewardArguments(dataset="x", base_model=str(base), frozen_layers=layers), config("out"))
        for layers in (0, 1)
    )
    model = build_model(TrainRewardArguments(dataset="x", base_model=str(base), frozen_layers=1), config("out"))
    trained = sum(weight.numel() for weight in model.model.parameters() if weight.requires_grad)
    assert 0 < frozen.trained < all_of_it.trained == all_of_it.parameters
    assert (
        frozen.trained - trained == 32 * 32 + 32 + 2 * 32
    )  # a pooler, which is taken off, and the norm of the embeddings


REWARD_RECIPES = ["quickstart-reward", "qwen3-4b", "qwen3-8b", "lora-24gb", "encoder"]


@pytest.mark.parametrize("name", REWARD_RECIPES)
def test_every_recipe_parses_and_its_needs_are_computed(name):
    arguments, settings = recipe(name)
    if "Qwen" in arguments.base_model:
        text = printed_estimate(estimate(arguments, settings))
        assert "GiB a device" in text and "h for a million rows" in text


def test_recipes_ask_for_no_more_than_their_devices_have(tmp_path):
    def total(name, *flags, **options):
        return estimate(*recipe(name, *flags), **options).total / 2**30

    ModernBertConfig().save_pretrained(tmp_path)  # the shape of ModernBERT-base
    assert total("encoder", "--base-model", str(tmp_path)) < 20
    assert total("lora-24gb") < 20
    eight = {"qwen3-4b": {"devices": 8, "zero_stage": 2}, "qwen3-8b": {"devices": 8, "zero_stage": 3}}
    for name, tokens in {"qwen3-4b": "8192", "qwen3-8b": "6144"}.items():
        assert total(name, **eight[name]) < 30
        # what their comments say of the way without computing activations twice
        faster = ["--activation-checkpointing", "False", "--tokens-per-device", tokens]
        assert total(name, *faster, **eight[name]) < 0.85 * 80


def test_estimates_are_near_what_was_measured_on_an_h100(tmp_path):
    """The figures of docs/training.md: a decoder shaped like Qwen3-0.6B, not compiled, and the LoRA recipe.

    The first was measured over one step, whose activations were gone when the optimizer made its state.
    """
    Qwen3Config(
        vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128,
    ).save_pretrained(tmp_path)  # fmt: skip
    flags = ["--dataset", "rows", "--base-model", str(tmp_path), "--output-dir", str(tmp_path / "out")]
    flags += ["--bf16", "True", "--tokens-per-device", "16384", "--max-length", "4096"]
    small, adapters = estimate(*parse("train-reward", CONFIGS, flags)), estimate(*recipe("lora-24gb"))
    assert (small.total - small.optimizer) / 2**30 == pytest.approx(40.8, rel=0.015)
    assert adapters.total / 2**30 == pytest.approx(17.6, rel=0.04)


@pytest.mark.parametrize("path", sorted((RECIPES / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_configurations_are_ones_accelerate_knows(path):
    from accelerate.commands.config.config_args import ClusterConfig

    values = yaml.safe_load(path.read_text())
    loaded = ClusterConfig.from_yaml_file(str(path))
    assert loaded.num_processes == values["num_processes"]
