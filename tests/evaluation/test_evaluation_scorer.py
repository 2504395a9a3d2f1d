"""Shared prompts read once give the same scores as conversations scored one by one, whatever the shapes."""

import numpy as np
import pytest
import torch
from evaluation_tiny import text, tokenizer

from wildreward.modeling_wildreward import WildRewardForSequenceClassification
from wildreward.modeling_wildreward.template import install_template
from wildreward.scorer import RewardScorer, length_batches

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def backbone(name, vocab):
    from transformers import AutoConfig, AutoModel

    extra = {"qwen3": {"head_dim": 8}, "gemma3_text": {"head_dim": 8, "sliding_window": 24, "query_pre_attn_scalar": 8}}
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
    together = scorer.judge_groups(groups)
    for (prompt, completions), rows in zip(groups, together, strict=True):
        assert len(rows) == len(completions)
        for completion, row in zip(completions, rows, strict=True):
            ((alone,),) = scorer.judge_groups([(prompt, [completion])])
            assert row == pytest.approx(alone, abs=1e-4)


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
