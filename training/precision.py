"""In which type training computes."""

import torch
from accelerate import Accelerator
from transformers import TrainingArguments


def fast_bf16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware; where it does not, it is many times slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def choose_precision(args: TrainingArguments) -> None:
    """Train in bfloat16 where the hardware is fast at it and nobody said otherwise; on the CPU where there is nothing else,
    which transformers wants to be told."""
    if args.bf16 is None:
        args.bf16 = not args.fp16 and fast_bf16()
    if not torch.accelerator.is_available():
        args.use_cpu = True


def keep_float32_beside_bf16(accelerator: Accelerator) -> None:
    """Under FSDP2 let the layers compute in bfloat16, and leave what goes in, what comes out and gradients as they are.

    accelerate's own policy casts the model's inputs and outputs, too: row counts and weights, the threshold logits and the
    loss would be rounded to 8 bits, and gradients summed over processes in bfloat16.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)  # there is none without FSDP
    if plugin is None or plugin.fsdp_version != 2 or accelerator.mixed_precision != "bf16":
        return
    from torch.distributed.fsdp import MixedPrecisionPolicy

    plugin.mixed_precision_policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=None, cast_forward_inputs=False
    )
