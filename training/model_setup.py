"""What is done before the first step: the launch is checked, the precision chosen, the model built, and its layers get
adapters, are frozen or compiled."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)

from wildreward.common.errors import UserError
from wildreward.common.lookup import hub_commit, load_error_message
from wildreward.common.names import public_name
from wildreward.common.weights import check_files
from wildreward.modeling_wildreward import WildRewardConfig, WildRewardForSequenceClassification
from wildreward.modeling_wildreward.modeling_wildreward import longest_input
from wildreward.modeling_wildreward.pooling import SECTIONS
from wildreward.modeling_wildreward.template import install_template, response_mark
from wildreward.scoring.limited_template import LimitedTemplate, load_tokenizer
from wildreward.training.reward_arguments import TrainRewardArguments

logger = logging.getLogger(__name__)

RECOMPILE_LIMIT = 64  # kinds of batches times kinds of layers; past it torch goes on uncompiled


# ---- launch and precision


def engine_of(args: TrainingArguments) -> str:
    """What the processes share the model's state with: "none" (one process, or DDP), "fsdp" or "zero1" to "zero3".

    A checkpoint is read by the engine that wrote it only.
    """
    if args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        return "fsdp"
    return "none" if args.deepspeed_plugin is None else f"zero{args.deepspeed_plugin.zero_stage}"


def check_launch(args: TrainingArguments, dtype: str = "float32", adapters: bool = False) -> None:
    """Train on the first of several GPUs that one process sees, and refuse what the launch makes impossible.

    Args:
        args: the training settings.
        dtype: of the model's weights. FSDP would have to shard those in half precision beside a head in float32.
        adapters: whether adapters are trained. They are merged at the end, into weights that no process holds whole under
            FSDP and ZeRO-3 (ZeRO-1 and ZeRO-2 shard the optimizer's state and the gradients only).

    Raises:
        UserError: saying how to start instead.
    """
    if args.n_gpu > 1:  # the Trainer would use nn.DataParallel, which weighs the parts of a step wrongly
        logger.warning(
            "training on the first of %d GPUs; to use all, start one process for each with accelerate launch "
            "--num_processes %d -m wildreward …",
            args.n_gpu,
            args.n_gpu,
        )
        args._n_gpu = 1  # there is no public way to say so
    engine = engine_of(args)
    if engine == "fsdp" and dtype != "float32" and not (args.bf16 or args.fp16):
        raise UserError(
            f"dtype is {dtype} under FSDP without mixed precision; expected weights in float32: leave dtype out, and compute in "
            "half precision with --bf16 True"
        )
    if adapters and engine in ("fsdp", "zero3"):
        raise UserError(
            f"adapters are trained under {'FSDP' if engine == 'fsdp' else 'ZeRO-3'}, which shards the weights, so they could not "
            "be merged at the end; expected whole weights on each process: start with one GPU, with DDP or with ZeRO-2, or "
            "train all weights"
        )


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


def warn_of_bfloat16_weights(model: nn.Module, learning_rate: float) -> None:
    """Say that updates get lost where weights themselves, not only the computation, are in bfloat16."""
    if torch.bfloat16 in {weight.dtype for weight in model.parameters() if weight.requires_grad}:
        logger.warning(
            "the trained weights are bfloat16: most updates of learning rate %g round to nothing; load the model in "
            "float32 (bf16=True computes in bfloat16 all the same), or train adapters",
            learning_rate,
        )


# ---- the model


def build_model(
    arguments: TrainRewardArguments, max_length: int | None, seed: int
) -> tuple[WildRewardForSequenceClassification, PreTrainedTokenizerBase, bool]:
    """A backbone with a fresh head, or a finished reward model as it is, and its tokenizer with the reward model's template.

    Args:
        arguments: the backbone, head and pooling, or the reward model; the first layers that are kept as they are.
        max_length: longest input in tokens; None: as many as the backbone takes, or the reward model was trained on.
        seed: of a fresh head's first weights.

    Returns:
        The model, the tokenizer, and whether the head is fresh.

    Raises:
        UserError: the model cannot be loaded, naming it and the reason; a head, levels or pooling other than a finished model's.
    """
    folder = arguments.base_model
    set_seed(seed)
    try:
        hub_commit(folder, arguments.model_revision)  # a mistyped name is told at once
        check_files(folder)
        trusted, revision = arguments.trust_remote_code, arguments.model_revision
        source = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=trusted)
        fresh = source.model_type != WildRewardConfig.model_type
        load = _with_fresh_head if fresh else _as_it_is
        given = {"revision": revision, "attn_implementation": arguments.attn_implementation}
        loading = {name: value for name, value in given.items() if value} | {"dtype": arguments.dtype}
        model = load(arguments, source, max_length, trust_remote_code=trusted, **loading)
        tokenizer = (AutoTokenizer.from_pretrained if fresh else load_tokenizer)(
            folder, revision=revision, trust_remote_code=trusted
        )
        connect_tokenizer(model, tokenizer)
    except (ValueError, OSError, ImportError, SafetensorError, StrictDataclassError) as error:
        raise UserError(
            f"cannot load the backbone {arguments.base_model!r}: {load_error_message(folder, error)}"
        ) from error
    if fresh or not Path(folder).exists():  # a reward model in a folder knows a better name than that of the folder
        model.config.base_model = public_name(arguments.base_model)
    freeze(model, arguments.frozen_layers)
    return model, tokenizer, fresh


def _with_fresh_head(
    arguments: TrainRewardArguments, source: PreTrainedConfig, max_length: int | None, **loading: Any
) -> WildRewardForSequenceClassification:
    shape = {"num_levels": arguments.num_levels or 4, "head": arguments.head or "coral", "pooling": arguments.pooling}
    return WildRewardForSequenceClassification.from_backbone(
        arguments.base_model, max_length=max_length, **shape, **loading
    )


def _as_it_is(
    arguments: TrainRewardArguments, source: PreTrainedConfig, max_length: int | None, **loading: Any
) -> WildRewardForSequenceClassification:
    given = {name: getattr(arguments, name) for name in ("head", "num_levels", "pooling")}
    others = [
        f"{name} {value} (its own: {getattr(source, name)})"
        for name, value in given.items()
        if value not in (None, getattr(source, name))
    ]
    if others:
        raise UserError(
            f"{arguments.base_model} is a finished reward model and goes on as it is, not with {', '.join(others)}; leave this "
            f"out, or begin with its backbone ({source.base_model})"
        )
    model = WildRewardForSequenceClassification.from_pretrained(arguments.base_model, use_safetensors=True, **loading)
    asked = max_length or model.config.max_length
    model.config.max_length = min(asked, longest_input(model.model) or asked)
    return model


def connect_tokenizer(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer the reward model's template, unless it came with one of a reward model, and the model's configuration
    the token ids that it needs."""
    if not isinstance(tokenizer.apply_chat_template, LimitedTemplate):
        install_template(tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id
    if model.config.pooling == SECTIONS and not model.config.response_mark:
        model.config.response_mark = response_mark(tokenizer)


def lora(rank: int, alpha: int, dropout: float = 0.0, **options: Any) -> Any:
    """The `peft` configuration of adapters (Hu et al. 2021) on all linear layers, with more options of it; None for rank 0."""
    if not rank:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise UserError("lora_rank needs the `peft` package; install wildreward[peft]") from error
    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", **options)


def add_adapters(model: nn.Module, peft_config: Any) -> nn.Module:
    """A reward model whose backbone is frozen under adapters; its head is trained whole."""
    from peft import get_peft_model

    if getattr(peft_config, "modules_to_save", None) is None:
        peft_config.modules_to_save = ["score"]
    model.score.float()  # in bfloat16 a small update leaves its few weights where they are; it computes in float32 anyway
    model.enable_input_require_grads()
    return get_peft_model(model, peft_config)


# ---- layers


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The longest list of modules that is not inside another one (as experts are): the layers; lists in it are joined."""
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    outer = [module for name, module in lists.items() if not any(name.startswith(f"{other}.") for other in lists)]
    if not outer:
        raise UserError("frozen_layers and torch_compile need a backbone with a list of layers, and this one has none")
    return max(([*_joined(layers)] for layers in outer), key=len)


def _joined(layers: nn.ModuleList) -> Iterator[nn.Module]:
    for layer in layers:
        yield from _joined(layer) if isinstance(layer, nn.ModuleList) else (layer,)


def freeze(model: nn.Module, layers: int) -> None:
    """Keep the embeddings and the first `layers` layers of the backbone as they are (`UserError` where it has fewer)."""
    if layers <= 0:
        return
    stack = layers_of(model)
    if layers > len(stack):
        raise UserError(f"frozen_layers is {layers}, but the backbone has {len(stack)} layers")
    embeddings = getattr(model.model, "embeddings", None) or model.model.get_input_embeddings()
    for module in (embeddings, *stack[:layers]):
        module.requires_grad_(False)


def compile_layers(model: nn.Module, backend: str | None = None, mode: str | None = None) -> None:
    """Have `torch.compile` work on each layer, in place: names of modules and weights stay as they are.

    The layers share their code, so whatever their number it is compiled once for each kind of batch (one row or more,
    with gradients or without, with a mask or without) and of layer. What lies around them chooses its way by the batch's
    padding and would break the graph; it costs next to nothing.
    """
    torch._dynamo.config.recompile_limit = max(RECOMPILE_LIMIT, torch._dynamo.config.recompile_limit)
    for layer in layers_of(model):
        layer.compile(backend=backend or "inductor", mode=mode, dynamic=True)
