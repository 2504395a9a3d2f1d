"""What a run of `train-reward` would need, computed, and the recipes."""

from pathlib import Path

import pytest
import yaml
from transformers import Qwen3Config

from tests.tiny import save_backbone
from tests.training.reward_tiny import config
from wildreward.commands import parse
from wildreward.training.reward_command import CONFIGS, TrainRewardArguments, build_model, main
from wildreward.training.reward_estimates import estimate, printed_estimate

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def test_an_estimate_is_printed_instead_of_training(tmp_path, capsys):
    flags = ["--config", str(RECIPES / "qwen3-8b.yaml"), "--output-dir", str(tmp_path / "out")]
    main(*parse("train-reward", CONFIGS, [*flags, "--estimate", "8", "--estimate-sharding", "zero3"]))
    assert "7,568 M" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_sharding_divides_what_it_shards():
    arguments, settings = parse("train-reward", CONFIGS, ["--config", str(RECIPES / "qwen3-4b.yaml")])
    alone = estimate(arguments, settings)
    two, three = (estimate(arguments, settings, devices=4, zero_stage=stage) for stage in (2, 3))
    assert alone.weights == 4 * alone.parameters and alone.optimizer == 8 * alone.parameters
    # ZeRO-2 is DeepSpeed's: weights and gradients in bfloat16, and a share of a float32 copy
    assert two.weights == 2 * alone.parameters + alone.weights / 4
    assert (two.gradients, two.optimizer) == (alone.gradients / 8, alone.optimizer / 4)
    assert three.weights == alone.weights / 4 and three.activations == alone.activations
    assert three.hours_per_million_rows == pytest.approx(alone.hours_per_million_rows / 4)


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
    arguments, settings = parse("train-reward", CONFIGS, ["--config", str(RECIPES / f"{name}.yaml")])
    if "Qwen" in arguments.base_model:
        text = printed_estimate(estimate(arguments, settings))
        assert "GiB a device" in text and "h for a million rows" in text


def test_recipes_ask_for_no_more_than_their_devices_have():
    def total(name, **options):
        arguments, settings = parse("train-reward", CONFIGS, ["--config", str(RECIPES / f"{name}.yaml")])
        return estimate(arguments, settings, **options).total / 2**30

    assert total("lora-24gb", devices=1, zero_stage=0) < 22
    assert total("qwen3-4b", devices=8, zero_stage=2) < 76
    assert total("qwen3-8b", devices=8, zero_stage=3) < 76


def test_estimates_are_near_what_was_measured_on_an_h100(tmp_path):
    """The figures of docs/training.md: a decoder shaped like Qwen3-0.6B, not compiled, and the LoRA recipe."""
    Qwen3Config(
        vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128,
    ).save_pretrained(tmp_path)  # fmt: skip
    flags = ["--dataset", "rows", "--base-model", str(tmp_path), "--output-dir", str(tmp_path / "out")]
    flags += ["--bf16", "True", "--tokens-per-device", "16384", "--max-length", "4096"]
    small = estimate(*parse("train-reward", CONFIGS, flags)).total / 2**30
    adapters = estimate(*parse("train-reward", CONFIGS, ["--config", str(RECIPES / "lora-24gb.yaml")])).total / 2**30
    assert small == pytest.approx(40.8, rel=0.05)
    assert adapters == pytest.approx(17.6, rel=0.1)


@pytest.mark.parametrize("path", sorted((RECIPES / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_configurations_are_ones_accelerate_knows(path):
    from accelerate.commands.config.config_args import ClusterConfig

    values = yaml.safe_load(path.read_text())
    loaded = ClusterConfig.from_yaml_file(str(path))
    assert loaded.num_processes == values["num_processes"]
