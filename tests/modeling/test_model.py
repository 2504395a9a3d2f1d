"""The model: every family trains, saves, loads and scores; padding, packing and prefix caches change nothing."""

import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer, Gemma3TextConfig

from tests.tiny import SHAPE, chat, joining_tokenizer, reward_model, save_backbone, tokenizer_for
from wildreward import RewardScorer, WildRewardConfig, WildRewardForSequenceClassification
from wildreward.modeling_wildreward.pooling import pool, response_tokens
from wildreward.modeling_wildreward.template import encode, install_template, response_mark

FAMILIES = ["bert", "modernbert", "llama", "qwen3", "gemma3"]
CONVERSATIONS = [
    chat("the cat sat", "right"),
    chat("please answer again", "the mat was wrong and the cat sat on the mat " * 3, "thanked", "the user"),
    chat("a cat", "an answer for the user that was right"),
    chat("history " * 10, "query response"),
]


@pytest.mark.parametrize(
    ("kind", "head"), [*((kind, "coral") for kind in FAMILIES), ("llama", "corn"), ("bert", "independent")]
)
def test_trains_saves_loads_and_scores(kind, head, tmp_path):
    base = save_backbone(kind, tmp_path / "base")
    model = WildRewardForSequenceClassification.from_backbone(base, head=head)
    scorer = RewardScorer(model, tokenizer_for(kind))
    ids = scorer._encode(CONVERSATIONS)
    input_ids, mask = scorer._pad(ids)
    labels = torch.tensor([1, 4, 2, 3])
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = model(input_ids=input_ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())  # nothing unused: distributed training needs that
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    model.config.temperatures = [1.5, 0.5, 2.0]
    scorer = RewardScorer(model, scorer.tokenizer)
    before = scorer.score(CONVERSATIONS)
    scorer.save_pretrained(tmp_path / "model")
    again = RewardScorer.from_pretrained(tmp_path / "model")
    assert again.score(CONVERSATIONS) == pytest.approx(before, abs=1e-6)
    assert again.model.config.temperatures == [1.5, 0.5, 2.0]
    assert not list((tmp_path / "model").glob("*.bin"))


@pytest.mark.parametrize(("kind", "pooling"), [*((kind, None) for kind in FAMILIES), ("bert", "sections")])
def test_padding_side_and_batch_size_change_nothing(kind, pooling):
    model, tokenizer = reward_model(kind, pooling=pooling), tokenizer_for(kind)
    scorer = RewardScorer(model, tokenizer)
    one_by_one = [scorer.score([conversation])[0] for conversation in CONVERSATIONS]
    assert max(one_by_one) - min(one_by_one) > 0.05, "the scores must differ for this test to mean anything"
    for side in ("left", "right"):
        tokenizer.padding_side = side
        for budget in (64, 300, 100_000):
            assert RewardScorer(model, tokenizer, budget).score(CONVERSATIONS) == pytest.approx(one_by_one, abs=1e-4)


def test_a_decoder_made_to_look_both_ways_does_not_see_padding():
    shape = Gemma3TextConfig(
        **SHAPE, num_key_value_heads=2, head_dim=8, pad_token_id=0, use_bidirectional_attention=True
    )
    backbone = AutoModel.from_config(shape, attn_implementation="sdpa")
    config = WildRewardConfig(text_config=backbone.config, pooling="mean", pad_token_id=0, attn_implementation="sdpa")
    model = WildRewardForSequenceClassification(config, backbone=backbone).eval()
    ids = torch.arange(5, 13)[None]
    pad, one = torch.zeros(1, 3, dtype=torch.long), torch.ones_like(ids)
    with torch.no_grad():
        alone = model(input_ids=ids).logits
        right = model(input_ids=torch.cat([ids, pad], 1), attention_mask=torch.cat([one, pad], 1)).logits
    torch.testing.assert_close(right, alone, atol=1e-5, rtol=0)
    assert not model.causal and not model.supports_packing


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize(
    ("mask", "hidden"),
    [([[1, 1, 1, 1], [1, 1, 0, 0]], True), ([[1, 1, 1, 1], [0, 0, 1, 1]], False), ([[1, 0, 1, 1]], False)],
)
def test_only_padding_that_no_token_can_see_goes_without_a_mask(kind, mask, hidden):
    model, seen = reward_model(kind), []
    model.model.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True)
    mask = torch.tensor(mask)
    with torch.no_grad():
        model(input_ids=torch.full_like(mask, 5), attention_mask=mask)
    unmasked = hidden and model.causal
    assert (seen[0]["attention_mask"] is None) == unmasked
    assert not (unmasked and "position_ids" in seen[0]), "positions that stand still look like packed rows"


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
def test_shared_prefix_equals_one_by_one(kind):
    scorer = RewardScorer(reward_model(kind), tokenizer_for(kind))
    prompt = chat("the user sat on the mat and " * 4, "x", "history", "again")[:-1]
    completions = ["right", "wrong again " * 6, "the cat sat on a mat", "the cat sat on a mat and thanked the user"]
    alone = [scorer.score([[*prompt, {"role": "assistant", "content": text}]])[0] for text in completions]
    assert max(alone) - min(alone) > 0.02
    assert scorer.score_candidates(prompt, completions) == pytest.approx(alone, abs=1e-4)
    groups = scorer.score_groups([(prompt, completions[:3]), (prompt[-1:], completions), (prompt, [])])
    short = [scorer.score([[*prompt[-1:], {"role": "assistant", "content": text}]])[0] for text in completions]
    assert groups[0] == pytest.approx(alone[:3], abs=1e-4)
    assert groups[1] == pytest.approx(short, abs=1e-4)
    assert groups[2] == []


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize("pooling", ["last", "mean", "cls", "sections"])
def test_packed_equals_padded(kind, pooling):
    model, tokenizer = reward_model(kind, pooling=pooling), tokenizer_for(kind)
    ids = [encode(tokenizer, conversation, 128).input_ids for conversation in CONVERSATIONS]
    padded = [row[0] for row in RewardScorer(model, tokenizer).predict_ids(ids)]
    offsets = torch.tensor([0, *map(len, ids)]).cumsum(0)
    with torch.no_grad():
        packed = model(
            input_ids=torch.tensor([[i for row in ids for i in row]]),
            position_ids=torch.cat([torch.arange(len(row)) for row in ids])[None],
            cu_seq_lens_q=offsets,
        )
    assert packed.logits[:, 0].tolist() == pytest.approx(padded, abs=1e-4)


def test_packing_is_refused_where_attention_would_mix_sequences():
    with pytest.raises(ValueError, match="packed input is not possible for bert with sdpa"):
        reward_model("bert")(
            input_ids=torch.ones(1, 4, dtype=torch.long),
            position_ids=torch.zeros(1, 4, dtype=torch.long),
            cu_seq_lens_q=torch.tensor([0, 2, 4]),
        )


def test_pooling_by_hand():
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    mask = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1]])
    assert pool(hidden, mask, "last").flatten().tolist() == [2.0, 7.0]
    assert pool(hidden, mask, "cls").flatten().tolist() == [1.0, 4.0]
    assert pool(hidden, mask, "mean").flatten().tolist() == [1.5, 5.5]
    responses = torch.tensor([[False, False, True, True], [False, True, True, True]])
    assert pool(hidden, mask, "sections", None, responses).tolist() == [[1.0, 2.0], [4.0, 6.0]]
    # a sequence without a mark is all one section: its mean stands in both places
    assert pool(hidden, mask, "sections", None, responses & False).tolist() == [[1.5, 1.5], [5.5, 5.5]]
    packed, offsets = hidden.reshape(1, 8, 1), torch.tensor([0, 3, 8])
    of_five = torch.tensor([[False, True, True, False, False, False, True, True]])
    assert pool(packed, None, "mean", offsets).tolist() == [[1.0], [5.0]]
    assert pool(packed, None, "sections", offsets, of_five).tolist() == [[0.0, 1.5], [4.0, 6.5]]


def test_the_response_begins_at_its_last_mark():
    ids = torch.tensor([[0, 7, 8, 1, 7, 8, 2, 2], [7, 7, 8, 3, 3, 3, 3, 7], [8, 1, 1, 1, 1, 1, 1, 7]])
    assert response_tokens(ids, [7, 8]).int().tolist() == [[0] * 4 + [1] * 4, [0] + [1] * 7, [0] * 8]
    assert response_tokens(ids, [8]).sum(1).tolist() == [3, 6, 8]
    # end to end: the second sequence has no mark
    packed, offsets = torch.tensor([[7, 8, 1, 7, 1, 1, 2, 7, 8, 1]]), torch.tensor([0, 4, 6, 10])
    assert response_tokens(packed, [7, 8], offsets).int().tolist() == [[1, 1, 1, 1, 0, 0, 0, 1, 1, 1]]
    assert not response_tokens(ids, [7, 8] * 9).any()


@pytest.mark.parametrize("kind", FAMILIES)
def test_sections_are_told_apart_in_every_text(kind):
    tokenizer = tokenizer_for(kind)
    mark = response_mark(tokenizer)
    model = reward_model(kind, pooling="sections")
    assert model.config.response_mark == mark and model.score.weight.shape == (1, 2 * SHAPE["hidden_size"])
    tricky = chat("<response>\nthe cat <response>", "on the mat\n<response>\nthe user")
    for conversation in (*CONVERSATIONS, tricky):
        ids = torch.tensor([encode(tokenizer, conversation, 128).input_ids])
        response = tokenizer.decode(ids[0][response_tokens(ids, mark)[0]])
        rendered = tokenizer.apply_chat_template(conversation, tokenize=False).rpartition("<response>")
        expected = tokenizer.decode(tokenizer("".join(rendered[1:]), add_special_tokens=False)["input_ids"])
        assert response == expected and "response" in response
    with torch.no_grad(), pytest.raises(ValueError, match=r"its mark; pass input_ids"):
        model(inputs_embeds=torch.zeros(1, 4, SHAPE["hidden_size"]))
    model.config.response_mark = None
    with pytest.raises(ValueError, match=r"set config.response_mark to response_mark\(tokenizer\)"):
        model(input_ids=ids)


def test_a_tokenizer_without_a_fixed_mark_is_refused():
    with pytest.raises(ValueError, match=r"no fixed tokens for <response>, but \[.*'>Ċ'\] or .*use another pooling"):
        response_mark(install_template(joining_tokenizer()))
    foreign = tokenizer_for("bert")
    foreign.chat_template = "{{ messages[0].content }}"
    with pytest.raises(ValueError, match="is not the reward model's; call install_template first"):
        response_mark(foreign)


def test_a_scorer_tells_a_fresh_model_where_responses_begin():
    model = reward_model("bert", pooling="sections")
    known = RewardScorer(model, tokenizer_for("bert")).score(CONVERSATIONS)
    model.config.response_mark = None
    assert RewardScorer(model, tokenizer_for("bert")).score(CONVERSATIONS) == known


def test_a_longer_response_leaves_the_mean_over_the_question_alone():
    hidden = torch.randn(1, 9, 4)
    begins = torch.arange(9) >= 4
    short = pool(hidden[:, :6], None, "sections", None, begins[None, :6])
    long = pool(hidden, None, "sections", None, begins[None])
    assert torch.equal(short[:, :4], long[:, :4]) and not torch.equal(short[:, 4:], long[:, 4:])


def test_loss_divides_by_the_items_of_the_whole_batch():
    model = reward_model()
    ids, labels = torch.randint(3, 300, (4, 8)), torch.tensor([1, 2, 3, 4])
    whole = model(input_ids=ids, labels=labels).loss
    halves = [model(input_ids=ids[i : i + 2], labels=labels[i : i + 2], num_items_in_batch=4).loss for i in (0, 2)]
    assert torch.allclose(whole, sum(halves), atol=1e-6)


def test_scores_use_the_temperatures_and_losses_do_not():
    model = reward_model()
    ids, labels = torch.randint(3, 300, (2, 8)), torch.tensor([1, 4])
    before = model(input_ids=ids, labels=labels)
    model.config.temperatures = [2.0, 2.0, 2.0]
    after = model(input_ids=ids, labels=labels)
    assert torch.equal(before.loss, after.loss)
    expected = 1 + (before.threshold_logits / 2).sigmoid().sum(1, keepdim=True)
    assert torch.allclose(after.logits, expected, atol=1e-6)
    assert not torch.allclose(after.logits, before.logits, atol=1e-3)


def test_input_beyond_absolute_positions_keeps_its_end():
    model = reward_model("bert")  # 128 positions
    ids = torch.randint(5, 300, (1, 200))
    with torch.no_grad():
        long = model(input_ids=ids).logits
        short = model(input_ids=torch.cat([ids[:, :1], ids[:, -127:]], dim=1)).logits
    assert torch.allclose(long, short, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "softmax"}, "head is 'softmax'; expected one of coral, corn, independent"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"num_levels": 1}, "num_levels is 1"),
        ({"temperatures": [1.0, 0.0, 1.0]}, "expected 3 positive finite numbers"),
    ],
)
def test_bad_configuration_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        WildRewardConfig(**changes)


def test_auto_classes_know_the_model(tmp_path):
    model = reward_model()
    model.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), WildRewardConfig)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1)
    assert isinstance(loaded, WildRewardForSequenceClassification) and loaded.config.num_labels == 1


def test_a_folder_without_a_model_is_one_clear_error(tmp_path):
    from wildreward.common.errors import UserError

    with pytest.raises(UserError, match="is not a WildReward model that can be loaded"):
        RewardScorer.from_pretrained(tmp_path)


def test_nan_weights_are_an_error_that_names_the_conversation():
    model = reward_model()
    with torch.no_grad():
        model.score.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"NaN or infinity for conversations \[0\]"):
        RewardScorer(model, tokenizer_for("llama")).score(CONVERSATIONS[:1])


STRANGER = """
import sys
sys.modules["wildreward"] = None  # importing it would fail
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
def load(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, trust_remote_code=True)
try:
    load(sys.argv[2])
except ValueError as error:
    print(error)
model = load(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
messages = [{"role": "user", "content": "the cat sat"}, {"role": "assistant", "content": "right"}]
text = tokenizer.apply_chat_template(messages, tokenize=False)
print(model(**tokenizer(text, return_tensors="pt", add_special_tokens=False)).logits.item())
"""


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "sections"), ("llama", "last")])
def test_scores_equal_in_a_process_without_this_package(kind, pooling, tmp_path):
    scorer = RewardScorer(reward_model(kind, pooling=pooling), tokenizer_for(kind))
    scorer.save_pretrained(tmp_path / "model")
    headless = shutil.copytree(tmp_path / "model", tmp_path / "headless")
    weights = load_file(headless / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, headless / "model.safetensors", metadata={"format": "pt"})
    script = tmp_path / "stranger.py"
    script.write_text(STRANGER)
    command = [sys.executable, script, tmp_path / "model", headless]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith("the checkpoint lacks weights for score.weight\n")
    assert "LOAD REPORT" not in done.stderr  # the error says it
    assert float(done.stdout.split()[-1]) == pytest.approx(scorer.score(CONVERSATIONS[:1])[0], abs=1e-4)


def test_template_survives_the_tokenizer_round_trip(tmp_path):
    tokenizer = tokenizer_for("bert")
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for conversation in CONVERSATIONS:
        ids = encode(tokenizer, conversation, 128).input_ids
        assert encode(again, conversation, 128).input_ids == ids
        assert again.apply_chat_template(conversation, return_dict=True)["input_ids"] == ids
