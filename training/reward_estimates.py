"""What a run would need: memory on each device and time, computed from the model's shape and the run's settings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, Qwen3Config

from wildreward.bundled import resolve
from wildreward.training.backbone_layers import layers_of

if TYPE_CHECKING:
    from wildreward.training.ordinal_reward_config import OrdinalRewardConfig
    from wildreward.training.reward_command import TrainRewardArguments

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
        weights, gradients, optimizer, activations: bytes.
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
    arguments: "TrainRewardArguments",
    config: "OrdinalRewardConfig",
    *,
    devices: int = 1,
    zero_stage: int = 0,
    flops_per_second: float = 400e12,
    mean_tokens: int = 1000,
) -> Estimate:
    """Estimate a run on `devices` accelerators.

    Args:
        arguments: what to train.
        config: how; the memory of activations follows from `tokens_per_device`.
        devices: number of devices.
        zero_stage: 0 every device holds everything, 1 the optimizer's state is sharded, 2 the gradients too, 3 the
            weights too (FSDP).
        flops_per_second: achieved operations a second of one device (an H100 in bfloat16 at 40% utilisation: 400e12).
        mean_tokens: tokens of a row.
    """
    shape = shape_of(arguments)
    with torch.device("meta"):
        backbone = AutoModel.from_config(shape)
    text = shape.get_text_config()
    parameters = sum(weight.numel() for weight in backbone.parameters())
    embeddings = sum(m.weight.numel() for m in backbone.modules() if isinstance(m, torch.nn.Embedding))
    trained = parameters
    if arguments.lora_rank:
        trained = _lora_weights(backbone, arguments.lora_rank)
    elif arguments.frozen_layers:
        frozen = layers_of(backbone)[: arguments.frozen_layers]
        trained -= embeddings + sum(weight.numel() for layer in frozen for weight in layer.parameters())
    share = [1.0 / devices if zero_stage >= stage else 1.0 for stage in (1, 2, 3)]
    # under autocast the bfloat16 copies of a layer's weights live only while it is computed; DeepSpeed, which ZeRO-2 is
    # reached by, keeps the model itself in bfloat16, and its share of a float32 copy
    deepspeed = zero_stage == 2 and bool(config.bf16)
    width = 2 if deepspeed else BYTES[arguments.dtype]
    weights = (parameters * width + (trained * 4 if arguments.lora_rank else 0)) * share[2]
    weights += trained * 4 * share[0] if deepspeed else 0
    gradients = trained * (4 if arguments.lora_rank else width) * share[1]
    optimizer = trained * 8.0 * share[0]
    activations = _activations(text, config, arguments)
    dense = parameters - embeddings
    # forward 2, backward 4 (2 with frozen weights), 2 more where activations are computed twice
    passes = (4 if arguments.lora_rank else 6) + (2 if _checkpointing(config) else 0)
    attention = 2 * passes * text.num_hidden_layers * text.hidden_size * mean_tokens / 2
    per_row = (passes * dense + attention) * mean_tokens
    hours = 1e6 * per_row / (flops_per_second * devices) / 3600
    return Estimate(
        parameters, trained, weights, gradients, optimizer, activations, flops_per_second, mean_tokens, devices, hours
    )


def shape_of(arguments: "TrainRewardArguments") -> PreTrainedConfig:
    if arguments.base_model in KNOWN:
        return KNOWN[arguments.base_model]
    return AutoConfig.from_pretrained(resolve(arguments.base_model), trust_remote_code=arguments.trust_remote_code)


def _lora_weights(backbone: torch.nn.Module, rank: int) -> int:
    linear = [module for module in backbone.modules() if isinstance(module, torch.nn.Linear)]
    return sum(rank * (module.in_features + module.out_features) for module in linear)


def _checkpointing(config: "OrdinalRewardConfig") -> bool:
    return bool(getattr(config, "activation_checkpointing", False))


def _activations(text: PreTrainedConfig, config: "OrdinalRewardConfig", arguments: "TrainRewardArguments") -> float:
    """Bytes of activations of one pass: what every layer keeps, or its input alone and one layer's whole.

    A layer keeps, per token, six tensors of the hidden size in the type of the weights (residuals and the norms' inputs
    and outputs), four of the feed-forward size, four of the queries' and three of the keys' width in the type that is
    computed in. A layer with the shape of Qwen3-0.6B, float32 weights under bfloat16 autocast, kept 75 KB a token on an
    H100 (72 KB here), and about half of that when compiled.
    """
    width = 2 if config.bf16 or config.fp16 else BYTES[arguments.dtype]
    tokens = max(config.tokens_per_device, config.max_length or 0)
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    keys = (getattr(text, "num_key_value_heads", None) or heads) * head
    kept = 6 * BYTES[arguments.dtype] * text.hidden_size
    kept += width * (4 * text.intermediate_size + 4 * heads * head + 3 * keys)
    if _checkpointing(config):
        return float(tokens * (kept + text.num_hidden_layers * text.hidden_size * BYTES[arguments.dtype]))
    return float(tokens * kept * text.num_hidden_layers)


def printed_estimate(result: Estimate) -> str:
    """As lines for a person."""
    time = f"{result.hours_per_million_rows:.1f} h for a million rows of {result.mean_tokens} tokens"
    time += f" at {result.flops_per_second / 1e12:.0f} TFLOP/s a device"
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
