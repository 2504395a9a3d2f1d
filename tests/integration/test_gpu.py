"""On an NVIDIA GPU: the same scores and the same training as on the CPU. Run with `pytest -m gpu`."""

import pytest
import torch

from tests.tiny import chat, reward_model, save_backbone, tokenizer_for
from tests.training.dpo_tiny import curve, make_policy, make_prompts, settings, share_of_a
from tests.training.reward_tiny import losses, toy_dataset, trainer, weights
from wildreward import RewardScorer
from wildreward.training import BestOfNDPOTrainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"),
]
FAMILIES = ["bert", "modernbert", "llama", "qwen3", "gemma3"]
CONVERSATIONS = [
    chat("the cat sat on a mat", "that was right"),
    chat("again please", "wrong " * 40, "the cat", "sat"),
    chat("an answer", "the user thanked " * 9),
]


@pytest.mark.parametrize("kind", FAMILIES)
def test_scores_are_those_of_the_cpu(kind):
    model, tokenizer = reward_model(kind), tokenizer_for(kind)
    expected = RewardScorer(model, tokenizer).score(CONVERSATIONS)
    prompt, completions = CONVERSATIONS[1][:-1], ["right", "wrong again " * 6, "the cat sat on a mat"]
    groups = RewardScorer(model, tokenizer).score_candidates(prompt, completions)
    on_gpu = RewardScorer(model.to("cuda"), tokenizer)
    assert on_gpu.score(CONVERSATIONS) == pytest.approx(expected, abs=1e-4)
    assert on_gpu.score_candidates(prompt, completions) == pytest.approx(groups, abs=1e-4)
    one_by_one = [on_gpu.score([conversation])[0] for conversation in CONVERSATIONS]
    assert one_by_one == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_training_follows_the_cpu(kind, tmp_path):
    curves = {}
    for name, changes in {
        "cpu": {},
        "gpu": {"use_cpu": False},
        "bf16": {"use_cpu": False, "bf16": True},
    }.items():
        made = trainer(tmp_path / name, kind, eval_rows=toy_dataset(16, 1), **changes)
        made.train()
        assert made.args.device.type == ("cpu" if name == "cpu" else "cuda")
        curves[name] = [*losses(made), made.evaluate()["eval_loss"]]
    assert curves["gpu"] == pytest.approx(curves["cpu"], abs=1e-3)
    assert curves["bf16"] == pytest.approx(curves["cpu"], abs=0.05)
    assert max(curves["cpu"]) - min(curves["cpu"]) > 0.05, "nothing was learned that could differ"


@pytest.mark.parametrize("kind", FAMILIES)
def test_compiled_layers_train_like_the_others(kind, tmp_path, request):
    if kind in ("qwen3", "gemma3") and torch.__version__ < "2.13":
        reason = "seen with torch 2.11 on an H100: other losses, with queries normalised over heads of 8 in float32"
        request.applymarker(pytest.mark.xfail(reason=reason))
    plain = trainer(tmp_path / "plain", kind, use_cpu=False)
    compiled = trainer(tmp_path / "compiled", kind, use_cpu=False, torch_compile=True, tf32=False)
    plain.train()
    compiled.train()
    assert losses(compiled) == pytest.approx(losses(plain), abs=1e-3)


def test_packed_rows_train_like_padded_ones(tmp_path):
    padded = trainer(tmp_path / "padded", "llama", use_cpu=False, padding_free="off")
    packed = trainer(tmp_path / "packed", "llama", use_cpu=False, padding_free="on")
    padded.train()
    packed.train()
    assert losses(packed) == pytest.approx(losses(padded), abs=1e-4)


def test_a_resumed_run_ends_like_an_undisturbed_one(tmp_path):
    settings = {"use_cpu": False, "bf16": True, "save_strategy": "steps", "save_steps": 3}
    whole = trainer(tmp_path / "whole", "llama", **settings)
    whole.train()
    resumed = trainer(tmp_path / "again", "llama", **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert losses(resumed)[-3:] == pytest.approx(losses(whole)[-3:], abs=1e-3)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], value, atol=1e-3, rtol=1e-3, msg=name)


def test_train_reward_writes_a_model_that_scores_on_both(tmp_path):
    from wildreward.commands import execute

    save_backbone("llama", tmp_path / "backbone")
    toy_dataset(96).to_parquet(tmp_path / "rows.parquet")
    arguments = ["--dataset", "rows.parquet", "--base-model", "backbone", "--output-dir", "model"]
    arguments = [str(tmp_path / word) if word in ("rows.parquet", "backbone", "model") else word for word in arguments]
    execute("train-reward", [*arguments, "--max-length", "128", "--per-device-train-batch-size", "8"])
    on_cpu = RewardScorer.from_pretrained(tmp_path / "model", device_map="cpu").score(CONVERSATIONS)
    on_gpu = RewardScorer.from_pretrained(tmp_path / "model", device_map="cuda").score(CONVERSATIONS)
    assert on_gpu == pytest.approx(on_cpu, abs=1e-4)


@pytest.mark.parametrize("bf16", [False, True])
def test_online_dpo_steps_and_learns(tmp_path, bf16):
    policy = make_policy(tmp_path / "policy")
    args = settings(tmp_path / "run", use_cpu=False, bf16=bf16, max_steps=20, learning_rate=0.01, optim="adamw_torch")
    made = BestOfNDPOTrainer(model=policy, reward_funcs=share_of_a, args=args, train_dataset=make_prompts(8))
    made.train()
    rewards = [row[1] for row in curve(made, "reward")]
    assert sum(rewards[-5:]) > sum(rewards[:5])


def test_the_encoder_of_the_mining_gives_the_vectors_of_the_cpu(tmp_path):
    from wildreward.dataset_builder.embedding import Embedder

    save_backbone("bert", tmp_path)
    texts = ["the cat sat on a mat", "that was right " * 20, "wrong"]
    expected = torch.from_numpy(Embedder(str(tmp_path), device="cpu").encode(texts))
    found = torch.from_numpy(Embedder(str(tmp_path), device="cuda").encode(texts))
    assert float((expected * found).sum(1).min()) > 0.999


def test_every_pooling_takes_padding_on_either_side():
    ids = torch.arange(5, 13, device="cuda")[None]
    for pooling in ("last", "mean", "cls", "sections"):
        model = reward_model("qwen3", pooling=pooling).to("cuda")
        model.config.response_mark = [8, 9]
        with torch.no_grad():
            alone = model(input_ids=ids).logits
            pad, one = torch.zeros(1, 3, dtype=torch.long, device="cuda"), torch.ones_like(ids)
            right = model(input_ids=torch.cat([ids, pad], 1), attention_mask=torch.cat([one, pad], 1)).logits
            left = model(input_ids=torch.cat([pad, ids], 1), attention_mask=torch.cat([pad, one], 1)).logits
        torch.testing.assert_close(right, alone, atol=1e-4, rtol=0)
        torch.testing.assert_close(left, alone, atol=1e-4, rtol=0)
