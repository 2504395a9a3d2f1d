"""What a run would need: memory on each device and time, computed from the model's shape and the run's settings.

    python benchmarks/estimate.py recipes/qwen3-8b.yaml --devices 8 --sharding zero3 [--gradient-checkpointing False …]

What is unknown to this script is an option of `train-reward`.
"""

import argparse
import math
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, Qwen3Config

from wildreward.commands import parse
from wildreward.training.model_setup import layers_of
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_command import CONFIGS
from wildreward.training.reward_config import OrdinalRewardConfig

GIB = 2**30
# shapes of the recipes' backbones, used where the Hub cannot be asked
QWEN3 = {"vocab_size": 151936, "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 36}
KNOWN = {
    "Qwen/Qwen3-4B": Qwen3Config(**QWEN3, hidden_size=2560, intermediate_size=9728, tie_word_embeddings=True),
    "Qwen/Qwen3-8B": Qwen3Config(**QWEN3, hidden_size=4096, intermediate_size=12288, tie_word_embeddings=False),
}
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Estimate:
    """Estimated needs of a run; bytes are for each device.

    Attributes:
        parameters: weights of the backbone; the language-modelling head is not part of a reward model.
        trained: weights that get updates.
        weights: bytes, with the copies in half precision that are kept beside them.
        gradients: bytes, with the buckets they are exchanged through.
        optimizer, activations: bytes.
        hours_per_million_rows: at `flops_per_second` and `mean_tokens` tokens a row.
    """

    parameters: int
    trained: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    flops_per_second: float
    mean_tokens: int
    devices: int
    hours_per_million_rows: float

    @property
    def total(self) -> float:
        """Bytes on each device."""
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate(
    arguments: TrainRewardArguments,
    config: OrdinalRewardConfig,
    *,
    devices: int = 1,
    zero_stage: int = 0,
    flops_per_second: float = 200e12,
    mean_tokens: int = 1000,
) -> Estimate:
    """Estimate a run on `devices` accelerators.

    Args:
        arguments: what to train.
        config: how; the memory of activations follows from `tokens_per_device`.
        devices: number of devices.
        zero_stage: 0 every device holds everything, 1 the optimizer's state is sharded, 2 the gradients too, 3 the
            weights too (FSDP).
        flops_per_second: operations a second that one device achieves.
        mean_tokens: tokens of a row.
    """
    shape = shape_of(arguments)
    with torch.device("meta"):
        backbone = AutoModel.from_config(shape, trust_remote_code=arguments.trust_remote_code)
    text = shape.get_text_config()
    parameters = sum(weight.numel() for weight in backbone.parameters())
    embeddings = sum(m.weight.numel() for m in backbone.modules() if isinstance(m, torch.nn.Embedding))
    dense = parameters - embeddings
    trained = parameters
    if arguments.lora_rank:
        trained = _lora_weights(backbone, arguments.lora_rank)
    elif arguments.frozen_layers:
        frozen = layers_of(backbone)[: arguments.frozen_layers]
        trained -= embeddings + sum(weight.numel() for layer in frozen for weight in layer.parameters())
    recomputed = _recomputed_layers(config, text.num_hidden_layers) / text.num_hidden_layers
    half = bool(config.bf16 or config.fp16)
    share = [1.0 / devices if zero_stage >= stage else 1.0 for stage in (1, 2, 3)]
    # DeepSpeed, which ZeRO-2 is reached by, keeps the model itself in bfloat16, and its share of a float32 copy
    deepspeed = zero_stage == 2 and bool(config.bf16)
    width = 2 if deepspeed else BYTES[arguments.dtype]
    weights = (parameters * width + (trained * 4 if arguments.lora_rank else 0)) * share[2]
    weights += trained * 4 * share[0] if deepspeed else 0
    if zero_stage == 0 and half:
        weights += _autocast_copies(arguments, trained, dense, recomputed)
    gradients = trained * (4 if arguments.lora_rank else width) * share[1]
    if zero_stage == 0 and devices > 1:
        gradients *= 2  # DDP's buckets are copies, gradient_as_bucket_view being off
    optimizer = trained * 8.0 * share[0]
    # a sharded engine hands the layers weights in half precision, and what goes from one to the next is in it, too
    stream = 2 if zero_stage >= 2 and half else BYTES[arguments.dtype]
    activations = _activations(text, config, arguments, stream)
    # forward 2, backward 4 (2 with frozen weights), 2 more where activations are computed twice
    passes = (4 if arguments.lora_rank else 6) + 2 * recomputed
    attention = 2 * passes * text.num_hidden_layers * text.hidden_size * mean_tokens / 2
    per_row = (passes * dense + attention) * mean_tokens
    hours = 1e6 * per_row / (flops_per_second * devices) / 3600
    return Estimate(
        parameters, trained, weights, gradients, optimizer, activations, flops_per_second, mean_tokens, devices, hours
    )


def shape_of(arguments: TrainRewardArguments) -> PreTrainedConfig:
    if arguments.base_model in KNOWN:
        return KNOWN[arguments.base_model]
    return AutoConfig.from_pretrained(arguments.base_model, trust_remote_code=arguments.trust_remote_code)


def _lora_weights(backbone: torch.nn.Module, rank: int) -> int:
    linear = [module for module in backbone.modules() if isinstance(module, torch.nn.Linear)]
    return sum(rank * (module.in_features + module.out_features) for module in linear)


def _recomputed_layers(config: OrdinalRewardConfig, layers: int) -> int:
    """How many of the layers have their activations computed twice.

    Under FSDP's own activation checkpointing all have (where `fsdp_config` asks for it; accelerate's file is not read),
    under transformers' every `every_n_layers`-th. Its `offload` takes nothing off the estimate.
    """
    if config.fsdp and str(config.fsdp_config.get("activation_checkpointing")).lower() == "true":
        return layers
    if not config.gradient_checkpointing:  # the name that all supported versions of transformers have
        return 0
    return math.ceil(layers / (config.gradient_checkpointing_kwargs or {}).get("every_n_layers", 1))


def _autocast_copies(arguments: TrainRewardArguments, trained: int, dense: int, recomputed: float) -> float:
    """Bytes of the half-precision copies of float32 weights that are there when a forward pass ends.

    Autocast keeps the copy of a trained weight until the pass is over, also where activations are computed twice
    (`cached_casts` in torch's aten/src/ATen/autocast_mode.cpp). Those of frozen weights, under adapters, are there where
    their layer's activations are. Embeddings are not cast.
    """
    if arguments.lora_rank:
        frozen = dense if arguments.dtype == "float32" else 0
        return 2 * (trained + frozen * (1 - recomputed))
    return 2.0 * min(trained, dense) if arguments.dtype == "float32" else 0.0


def _activations(
    text: PreTrainedConfig, config: OrdinalRewardConfig, arguments: TrainRewardArguments, stream: int
) -> float:
    """Bytes of activations of one pass: what layers keep, or the inputs alone of layers computed again and one of them whole.

    Counted is what autograd saves of a Qwen3 layer per token: each norm's input in float32 and its result, the inputs of
    the linear layers, what is between those. Under autocast, `stream` being float32, every linear layer has an input of
    its own, as it has under adapters, which peft computes in their type, with a dropout mask of a byte each. A layer with
    the shape of Qwen3-0.6B keeps 80 KiB a token, on an H100 about three fifths of that when compiled.

    Args:
        stream: bytes of a number between the layers.
    """
    half = config.bf16 or config.fp16
    width = 2 if half else stream
    tokens = max(config.tokens_per_device, config.max_length or 0)
    hidden, layers, feed = text.hidden_size, text.num_hidden_layers, text.intermediate_size
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or hidden // heads
    queries, keys = heads * head, (getattr(text, "num_key_value_heads", None) or heads) * head
    kept = 2 * (4 + stream) * hidden + (2 * width + 4) * queries + (3 * width + 4) * keys + 3 * width * feed
    if arguments.lora_rank:
        copy = (2 if half else 4) + (1 if arguments.lora_dropout else 0)
        kept += copy * (5 * hidden + queries + feed)
    else:
        kept += width * ((5 if width < stream else 2) * hidden + queries + feed)
    recomputed = _recomputed_layers(config, layers)
    whole = layers - recomputed + (1 if recomputed else 0)
    return float(tokens * (whole * kept + recomputed * hidden * stream))


def printed_estimate(result: Estimate) -> str:
    """As lines for a person."""
    time = f"{result.hours_per_million_rows:.1f} h for a million rows of {result.mean_tokens:,} tokens"
    time += f", if a device achieves {result.flops_per_second / 1e12:.0f} TFLOP/s"
    time += " (--tokens, --tflops)"
    rows: list[tuple[str, Any]] = [
        ("parameters", f"{result.parameters / 1e6:,.0f} M, trained {result.trained / 1e6:,.0f} M"),
        ("devices", result.devices),
        ("weights", f"{result.weights / GIB:.1f} GiB a device"),
        ("gradients", f"{result.gradients / GIB:.1f} GiB"),
        ("optimizer", f"{result.optimizer / GIB:.1f} GiB"),
        ("activations", f"{result.activations / GIB:.1f} GiB"),
        ("together", f"{result.total / GIB:.1f} GiB a device"),
        ("time", time),
    ]
    return "\n".join(f"{name:12s} {value}" for name, value in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument(
        "--sharding", choices=("none", "zero2", "zero3"), default="none", help="what is sharded; FSDP2 is like zero3"
    )
    parser.add_argument(
        "--tflops",
        type=float,
        default=200,
        help="10^12 operations a second that one device achieves; a fifth of an H100's peak",
    )
    parser.add_argument("--tokens", type=int, default=1000, help="mean tokens of a row")
    options, flags = parser.parse_known_args()
    flags = ["--config", options.recipe, "--output-dir", "unused", *flags]
    print(
        printed_estimate(
            estimate(
                *parse("train-reward", CONFIGS, flags),
                devices=options.devices,
                zero_stage={"none": 0, "zero2": 2, "zero3": 3}[options.sharding],
                flops_per_second=options.tflops * 1e12,
                mean_tokens=options.tokens,
            )
        )
    )


if __name__ == "__main__":
    main()
