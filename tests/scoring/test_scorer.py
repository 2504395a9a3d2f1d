"""Shared prompts read once give the same scores as conversations scored one by one, whatever the shapes."""

import numpy as np
import pytest
import torch

from tests.evaluation.evaluation_tiny import text, tokenizer
from wildreward.modeling_wildreward import WildRewardForSequenceClassification
from wildreward.modeling_wildreward.template import install_template
from wildreward.scoring.scorer import RewardScorer, length_batches

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


LINEAR = {
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8}
# Backbones in which other layers than attention carry something from token to token.
HYBRIDS = {
    "qwen3_next": {**LINEAR, "num_experts": 0, "mlp_only_layers": [0, 1]},
    "qwen3_5_text": LINEAR,
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64},
    "granitemoehybrid": {
        **MAMBA,
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 0,
        "shared_intermediate_size": 48,
    },
}


def backbone(name, vocab):
    from transformers import AutoConfig, AutoModel

    extra = {
        "qwen3": {"head_dim": 8},
        "gemma3_text": {"head_dim": 8, "sliding_window": 24, "query_pre_attn_scalar": 8},
        **HYBRIDS,
    }
    config = AutoConfig.for_model(
        name,
        vocab_size=vocab,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        **SIZES,
        **extra.get(name, {}),
    )
    return AutoModel.from_config(config)


def scorer_of(name, folder, token_budget=16_384):
    torch.manual_seed(0)
    tok = install_template(tokenizer())
    backbone(name, len(tok)).save_pretrained(folder)
    tok.save_pretrained(folder)
    model = WildRewardForSequenceClassification.from_backbone(str(folder), head="coral")
    with torch.no_grad():
        model.score.weight.normal_(0, 0.5)
    return RewardScorer(model, tok, token_budget)


def shapes(seed=0):
    """Groups with prompts and candidates of many lengths: six, two, one, thirty-two and no candidates."""
    rng = np.random.default_rng(seed)
    groups = []
    for candidates in (6, 2, 1, 16, 0, 6, 2):
        prompt = [{"role": "user", "content": text(rng, 20, 90)}]
        groups.append((prompt, [text(rng, 1, 80) for _ in range(candidates)]))
    return groups


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3_text"])
@pytest.mark.parametrize("token_budget", [16_384, 600])
def test_shared_prompts_score_as_one_by_one(name, token_budget, tmp_path):
    scorer = scorer_of(name, tmp_path, token_budget)
    groups = shapes()
    together = scorer.predict_groups(groups)
    for (prompt, completions), rows in zip(groups, together, strict=True):
        assert len(rows) == len(completions)
        for completion, row in zip(completions, rows, strict=True):
            ((alone,),) = scorer.predict_groups([(prompt, [completion])])
            assert row == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_hybrid_backbone_shares_no_prompt_and_packs_no_rows(name, tmp_path):
    scorer = scorer_of(name, tmp_path)
    groups = shapes()[:3]
    together = scorer.predict_groups(groups)
    for (prompt, completions), rows in zip(groups, together, strict=True):
        one_by_one = [scorer.score([[*prompt, {"role": "assistant", "content": c}]])[0] for c in completions]
        assert [row[0] for row in rows] == pytest.approx(one_by_one, abs=1e-4)
    assert not scorer.model.supports_packing
    with pytest.raises(
        ValueError, match=f"packed input is not possible for {name} with sdpa attention; pad the batch$"
    ):
        scorer.model(
            input_ids=torch.ones(1, 4, dtype=torch.long),
            position_ids=torch.tensor([[0, 1, 0, 1]]),
            cu_seq_lens_q=torch.tensor([0, 2, 4]),
        )


def test_backbones_of_attention_alone_pack_and_share(tmp_path):
    for name in ("llama", "qwen3", "gemma3_text"):
        scorer = scorer_of(name, tmp_path / name)
        assert scorer.model.supports_packing and scorer._can_share_prefix()


def test_padding_is_bounded_by_the_slack():
    lengths = np.random.default_rng(0).integers(10, 500, 200).tolist()
    for budget, slack in ((16_384, 128), (16_384, None), (1000, 128)):
        batches = list(length_batches(lengths, budget, slack))
        assert sorted(i for batch in batches for i in batch) == list(range(200))
        for batch in batches:
            longest = max(lengths[i] for i in batch)
            assert longest * len(batch) <= budget or len(batch) == 1
            if slack is not None:
                assert sum(longest - lengths[i] for i in batch) <= slack
    assert max(len(b) for b in length_batches([10] * 50, 100, None, extra=40)) == 2
