"""LoRA adapters: their configuration, and a reward model that has them."""

from typing import Any

from torch import nn

from wildreward.errors import UserError


def lora(rank: int, alpha: int, dropout: float = 0.0, **options: Any) -> Any:
    """The `peft` configuration of adapters on all linear layers; None where the rank is 0.

    Args:
        rank, alpha, dropout: of Hu et al. 2021.
        options: more of `peft.LoraConfig`, such as the task.

    Raises:
        UserError: peft is not installed.
    """
    if not rank:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise UserError("lora_rank needs the `peft` package; install wildreward[peft]") from error
    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", **options)


def with_adapters(model: nn.Module, peft_config: Any) -> nn.Module:
    """A reward model whose backbone is frozen under adapters; its head is trained whole."""
    from peft import get_peft_model

    if getattr(peft_config, "modules_to_save", None) is None:
        peft_config.modules_to_save = ["score"]
    model.score.float()  # in bfloat16 a small update leaves its few weights where they are; it computes in float32 anyway
    model.enable_input_require_grads()
    return get_peft_model(model, peft_config)
