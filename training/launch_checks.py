"""How the processes were started: what training cannot do with it is refused before anything is loaded."""

import os

from transformers import TrainingArguments

from wildreward.errors import UserError


def refuse_data_parallel(args: TrainingArguments) -> None:
    """Refuse one process for several GPUs: the Trainer would use `nn.DataParallel`, which cuts steps apart by rows.

    Raises:
        UserError: saying how to start instead.
    """
    if args.n_gpu > 1:
        raise UserError(
            f"{args.n_gpu} GPUs are visible to one process; expected one GPU a process: start with `accelerate launch "
            "-m wildreward …` to use all of them, or set CUDA_VISIBLE_DEVICES=0 to use one"
        )


def refuse_sharded_adapters(args: TrainingArguments) -> None:
    """Refuse to train adapters where no process holds the weights that they are merged into at the end.

    ZeRO-1 and ZeRO-2 shard the optimizer's state and the gradients, not the weights.

    Raises:
        UserError: saying how to start instead.
    """
    engine = None
    if args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        engine = "FSDP"
    elif args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3:
        engine = "ZeRO-3"
    if engine:
        raise UserError(
            f"adapters are trained under {engine}, which shards the weights, so they could not be merged at the end; "
            "expected whole weights on each process: start with one GPU, with DDP or with ZeRO-2, or train all weights"
        )
