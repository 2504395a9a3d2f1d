"""Packed rows under flash attention, whose kernel is written out here: it needs a GPU, the arguments that reach it do not."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, AutoModel, XLMRobertaConfig
from transformers.masking_utils import flash_attention_mask

from tests.tiny import SHAPE, backbone_config
from wildreward.modeling_wildreward import WildRewardConfig, WildRewardForSequenceClassification
from wildreward.training.reward_batching import RewardCollator


def attention_by_hand(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling=None,
    cu_seq_lens_q=None,
    is_causal=None,
    sliding_window=None,
    **_,
):
    """What a variable-length kernel computes: each sequence between two offsets by itself."""
    assert attention_mask is None, "flash attention reads offsets, no mask"
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    parts = []
    for start, end in zip(cu_seq_lens_q.tolist(), cu_seq_lens_q[1:].tolist(), strict=False):
        places = torch.arange(end - start)
        ahead = places - places[:, None]
        seen = (ahead <= 0) if causal else torch.ones_like(ahead, dtype=torch.bool)
        if sliding_window:
            seen = seen & (ahead.abs() < sliding_window)
        part = (states[:, :, start:end] for states in (query, key, value))
        parts.append(F.scaled_dot_product_attention(*part, attn_mask=seen, scale=scaling))
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


AttentionInterface.register("flash_by_hand", attention_by_hand)
AttentionMaskInterface.register("flash_by_hand", flash_attention_mask)


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert", "llama", "qwen3", "gemma3"])
def test_packed_rows_under_flash_attention_equal_padded_ones(kind):
    roberta = XLMRobertaConfig(**SHAPE, max_position_embeddings=130, pad_token_id=1)  # its positions begin at 2
    settings = roberta if kind == "roberta" else backbone_config(kind)
    torch.manual_seed(0)
    backbone = AutoModel.from_config(settings, attn_implementation="sdpa")
    encoder = kind in ("bert", "roberta", "modernbert")
    config = WildRewardConfig(
        text_config=backbone.config,
        pooling="mean" if encoder else "last",
        pad_token_id=settings.pad_token_id,
        attn_implementation="sdpa",
    )
    model = WildRewardForSequenceClassification(config, backbone=backbone).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.15)
    rows = [{"input_ids": torch.randint(5, 300, (size,)).tolist(), "label": 1} for size in (30, 7, 19)]
    given = ("input_ids", "attention_mask", "position_ids", "cu_seq_lens_q")
    padded, packed = (RewardCollator(settings.pad_token_id, packs).micro_batch(rows) for packs in (False, True))
    with torch.no_grad():
        expected = model(**{name: padded[name] for name in given if name in padded}).threshold_logits
        for config in {
            id(part.config): part.config for part in model.model.modules() if hasattr(part, "config")
        }.values():
            config._attn_implementation = "flash_by_hand"  # asked for by its name it would need a kernel's package
        found = model(**{name: packed[name] for name in given if name in packed}).threshold_logits
    assert expected.std(0).min() > 1e-4
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
