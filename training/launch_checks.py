"""How the processes were started: what training cannot do with it is put right, or refused before anything is loaded."""

import logging
import os

from transformers import TrainingArguments

from wildreward.errors import UserError

logger = logging.getLogger(__name__)


def use_one_gpu(args: TrainingArguments) -> None:
    """Train on the first of several GPUs that one process sees.

    The Trainer would use `nn.DataParallel`, which cuts steps apart by rows and weighs the parts wrongly.
    """
    if args.n_gpu > 1:
        logger.warning(
            "training on the first of %d GPUs; to use all, start one process for each with accelerate launch "
            "--num_processes %d -m wildreward …",
            args.n_gpu,
            args.n_gpu,
        )
        args._n_gpu = 1  # there is no public way to say so


def engine_of(args: TrainingArguments) -> str:
    """What the processes share the model's state with; its checkpoints are read by the same engine only.

    Returns:
        "none" (one process, or DDP), "fsdp" or "zero1" to "zero3".
    """
    if args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        return "fsdp"
    if args.deepspeed_plugin is not None:
        return f"zero{args.deepspeed_plugin.zero_stage}"
    return "none"


def refuse_half_weights_under_fsdp(args: TrainingArguments, dtype: str) -> None:
    """Refuse weights in half precision that FSDP would have to shard beside a head in float32.

    Raises:
        UserError: saying how to start instead.
    """
    if engine_of(args) == "fsdp" and dtype != "float32" and not (args.bf16 or args.fp16):
        raise UserError(
            f"dtype is {dtype} under FSDP without mixed precision; expected weights in float32: leave dtype out, and compute in "
            "half precision with --bf16 True"
        )


def refuse_sharded_adapters(args: TrainingArguments) -> None:
    """Refuse to train adapters where no process holds the weights that they are merged into at the end.

    ZeRO-1 and ZeRO-2 shard the optimizer's state and the gradients, not the weights.

    Raises:
        UserError: saying how to start instead.
    """
    engine = {"fsdp": "FSDP", "zero3": "ZeRO-3"}.get(engine_of(args))
    if engine:
        raise UserError(
            f"adapters are trained under {engine}, which shards the weights, so they could not be merged at the end; "
            "expected whole weights on each process: start with one GPU, with DDP or with ZeRO-2, or train all weights"
        )
