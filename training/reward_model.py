"""The model that `train-reward` trains: a backbone with a fresh head, its tokenizer and adapters."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerBase, set_seed

from wildreward.bundled import resolve
from wildreward.errors import UserError
from wildreward.lookup import hub_commit, why_not
from wildreward.modeling_wildreward import WildRewardForSequenceClassification
from wildreward.modeling_wildreward.template import install_template
from wildreward.names import public_name
from wildreward.training.adapters import lora
from wildreward.training.backbone_layers import freeze
from wildreward.training.ordinal_reward_config import OrdinalRewardConfig
from wildreward.weights import check_files

if TYPE_CHECKING:
    from wildreward.training.reward_command import TrainRewardArguments


def build_model(arguments: "TrainRewardArguments", config: OrdinalRewardConfig) -> WildRewardForSequenceClassification:
    """The backbone with a fresh head; its configuration names the backbone as it was asked for."""
    loading: dict[str, Any] = {"dtype": arguments.dtype, "trust_remote_code": arguments.trust_remote_code}
    if arguments.attn_implementation:
        loading["attn_implementation"] = arguments.attn_implementation
    if arguments.model_revision:
        loading["revision"] = arguments.model_revision
    set_seed(config.seed)  # the head's first weights
    with naming_the_backbone(arguments.base_model):
        folder = resolve(arguments.base_model)
        hub_commit(folder, arguments.model_revision)  # a mistyped name is told at once
        check_files(folder)
        model = WildRewardForSequenceClassification.from_backbone(
            folder,
            num_levels=arguments.num_levels,
            head=arguments.head,
            pooling=arguments.pooling,
            max_length=config.max_length,
            **loading,
        )
    model.config.base_model = public_name(arguments.base_model)
    freeze(model, arguments.frozen_layers)
    return model


def load_tokenizer(arguments: "TrainRewardArguments") -> PreTrainedTokenizerBase:
    """The backbone's tokenizer with the reward model's template."""
    tokenizer = AutoTokenizer.from_pretrained(
        resolve(arguments.base_model),
        revision=arguments.model_revision,
        trust_remote_code=arguments.trust_remote_code,
    )
    return install_template(tokenizer)


@contextlib.contextmanager
def naming_the_backbone(name: str) -> Iterator[None]:
    """Turn what loading says about missing or broken files into an error that names the backbone."""
    try:
        yield
    except (ValueError, OSError, ImportError, SafetensorError, StrictDataclassError) as error:
        raise UserError(f"cannot load the backbone {name!r}: {why_not(resolve(name), error)}") from error


def adapters(arguments: "TrainRewardArguments") -> Any:
    """The `peft` configuration asked for, or None; the head is no linear layer of the backbone."""
    head = {"exclude_modules": ["score"], "modules_to_save": ["score"]}
    return lora(arguments.lora_rank, arguments.lora_alpha, arguments.lora_dropout, **head)
