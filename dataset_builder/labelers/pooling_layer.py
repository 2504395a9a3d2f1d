"""A classifier that reads [CLS], made from a sentence encoder whose sentences are means over tokens.

[CLS] says nothing in such an encoder. So a layer is added that starts by handing the mean of all tokens' states to [CLS]: learning
begins from what the encoder knows, in the plain architecture that transformers loads. For that layer only the first token is
computed.
"""

from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import BertModel, PreTrainedConfig, PreTrainedModel


def starting_model(base: "PreTrainedModel", config: "PreTrainedConfig") -> "PreTrainedModel":
    """A sequence classifier with the weights of an encoder.

    Args:
        base: the encoder.
        config: of the classifier: labels, dropout; a BERT has one layer more than `base`.

    Returns:
        The classifier; its head is random.
    """
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    model.base_model.load_state_dict(base.state_dict(), strict=False)
    if has_pooling_layer(config):
        start_with_mean(model.base_model)
    return model.eval()


def has_pooling_layer(config: "PreTrainedConfig") -> bool:
    """Whether a classifier of this architecture gets one."""
    return config.model_type == "bert"


def start_with_mean(encoder: "BertModel") -> None:
    """Make the last layer add the mean of all tokens' states to [CLS], and the pooler pass it on."""
    import torch

    before, last = encoder.encoder.layer[-2:]
    attention = last.attention
    copies = (attention.self.value, attention.output.dense, encoder.pooler.dense)
    last.load_state_dict(before.state_dict())
    with torch.no_grad():
        for linear in (attention.self.query, last.output.dense, *copies):
            linear.weight.zero_()
            linear.bias.zero_()
        for linear in copies:
            linear.weight.fill_diagonal_(1)
        for norm in (attention.output.LayerNorm, last.output.LayerNorm):
            norm.weight.fill_(1)
            norm.bias.zero_()


def compute_first_token_only(model: "PreTrainedModel") -> None:
    """Let the last layer of a BERT classifier compute [CLS] alone, the only state of that layer that is read."""
    if has_pooling_layer(model.config):
        last = model.base_model.encoder.layer[-1]
        last.forward = MethodType(_first_token, last)


def _first_token(
    layer: Any, states: "torch.Tensor", attention_mask: "torch.Tensor | None" = None, *_: Any, **__: Any
) -> "torch.Tensor":
    """(B, L, H) → (B, 1, H): what `BertLayer.forward` gives for the first token."""
    from torch.nn.functional import scaled_dot_product_attention

    attention, first = layer.attention.self, states[:, :1]
    projected = (attention.query(first), attention.key(states), attention.value(states))
    heads = (one.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2) for one in projected)
    mask = None if attention_mask is None else attention_mask[:, :, :1]
    context = scaled_dot_product_attention(*heads, mask).transpose(1, 2).flatten(2)
    return layer.feed_forward_chunk(layer.attention.output(context, first))
