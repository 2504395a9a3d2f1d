"""The trainer against DPO worked out by hand on the same completions."""

import logging

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.training.dpo_tiny import (
    fixed_completion,
    fixed_trainer,
    make_policy,
    make_prompts,
    settings,
    share_of_a,
    weights_of,
)
from wildreward.common.errors import UserError
from wildreward.training import BestOfNDPOConfig, BestOfNDPOTrainer, RewardSourceError


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return make_policy(tmp_path_factory.mktemp("policy"))


def masks_some(prompts, completions, **kwargs):
    """Like `share_of_a`, but prompts of two words get equal rewards, so that their pairs are masked."""
    rewards = share_of_a(prompts, completions)
    return [0.5 if len(p[-1]["content"].split()) == 2 else r for p, r in zip(prompts, rewards, strict=True)]


def reference_step(policy, prompts, reward, per_prompt=4, beta=0.1, learning_rate=0.05, min_margin=0.0):
    """One SGD step of DPO on the mean over kept pairs, written out with plain logits; returns loss and weights."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    model, reference = (AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32) for _ in range(2))
    losses = []
    for prompt in prompts:
        ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
        completions = [fixed_completion(ids, i) for i in range(per_prompt)]
        texts = [[{"content": tokenizer.decode(c, skip_special_tokens=True)}] for c in completions]
        rewards = reward([prompt] * per_prompt, texts)
        best, worst = rewards.index(max(rewards)), rewards.index(min(rewards))
        if rewards[best] - rewards[worst] <= min_margin:
            continue
        ratios = []
        for index in (best, worst):
            row = torch.tensor([ids + completions[index]])
            logps = []
            for network in (model, reference):
                logits = network(row).logits[0, len(ids) - 1 : -1]
                logps.append(F.log_softmax(logits, -1)[range(len(completions[index])), completions[index]].sum())
            ratios.append(logps[0] - logps[1].detach())
        losses.append(-F.logsigmoid(beta * (ratios[0] - ratios[1])))
    loss = torch.stack(losses).mean()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= learning_rate * parameter.grad
    return loss.item(), weights_of(model), len(losses)


@pytest.mark.parametrize("reward", [share_of_a, masks_some])
def test_one_step_equals_dpo_by_hand_with_and_without_accumulation(policy, tmp_path, reward):
    prompts = make_prompts(8)
    loss, weights, kept = reference_step(policy, prompts["prompt"], reward)
    assert kept == (8 if reward is share_of_a else 5)
    for batch, accumulation in ((32, 1), (8, 4)):
        args = settings(tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
        trainer = fixed_trainer(policy, reward, args, prompts)
        trainer.train()
        torch.testing.assert_close(weights_of(trainer.model), weights, rtol=1e-5, atol=1e-6)
        logged = trainer.state.log_history[0]
        assert logged["loss"] == pytest.approx(loss, abs=1e-4)
        assert logged["pairs/masked"] == pytest.approx(1 - kept / 8)


def test_several_optimizer_steps_per_rollout_each_average_over_their_own_pairs(policy, tmp_path):
    """Two optimizer steps on one rollout: the sum of both updates moves by the two means, not by one over all."""
    prompts = make_prompts(4)
    args = settings(tmp_path, per_device_train_batch_size=8, steps_per_generation=2, max_steps=2, learning_rate=1e-3)
    trainer = fixed_trainer(policy, share_of_a, args, prompts)
    seen = []
    original = trainer._scale
    trainer._scale = lambda keep: seen.append(original(keep)) or seen[-1]
    trainer.train()
    assert seen == [0.5, 0.5]


def test_loss_equals_trl_online_dpo_at_two_completions(policy, tmp_path):
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    prompts = make_prompts(4)
    tokenizer = AutoTokenizer.from_pretrained(policy)
    ids = [
        tokenizer.apply_chat_template(p, add_generation_prompt=True, return_dict=True)["input_ids"]
        for p in prompts["prompt"]
    ]

    class Fixed(OnlineDPOTrainer):
        def _generate(self, model, prompts, images=None):
            rows = [
                (i, fixed_completion(i, k)) for k in range(2) for i in ids
            ]  # all first completions, then all second
            p, c = max(len(i) for i, _ in rows), max(len(c) for _, c in rows)
            left = torch.tensor([[0] * (p - len(i)) + i for i, _ in rows])
            right = torch.tensor([c_ + [0] * (c - len(c_)) for _, c_ in rows])
            return left, (left != 0).long(), right, (right != 0).long(), None

    theirs = Fixed(
        model=policy,
        ref_model=AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
        reward_funcs=share_of_a,
        args=OnlineDPOConfig(
            str(tmp_path / "theirs"),
            use_cpu=True,
            bf16=False,
            beta=0.1,
            temperature=1.0,
            max_new_tokens=6,
            report_to=[],
        ),
        train_dataset=prompts,
        processing_class=tokenizer,
    )
    with torch.no_grad():  # a step away from the reference, or every loss is log 2
        for parameter in theirs.model.parameters():
            parameter.mul_(1.05)
    moved = tmp_path / "moved"
    theirs.model.save_pretrained(moved)
    tokenizer.save_pretrained(moved)
    expected = theirs.training_step(theirs.model, {"prompt": list(prompts["prompt"])}).item()
    gradient = torch.cat([p.grad.flatten() for p in theirs.model.parameters()])

    ours = fixed_trainer(
        str(moved),
        share_of_a,
        settings(tmp_path / "ours", num_generations=2, learning_rate=1.0),
        prompts,
    )
    ours.ref_model.load_state_dict(AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32).state_dict())
    before = weights_of(ours.model)
    ours.train()
    assert ours.state.log_history[0]["pairs/masked"] == 0.0
    assert ours.state.log_history[0]["loss"] == pytest.approx(expected, abs=1e-4)
    torch.testing.assert_close(before - weights_of(ours.model), gradient, rtol=1e-4, atol=1e-5)


def test_all_masked_gives_zero_loss_and_unchanged_weights(policy, tmp_path):
    trainer = fixed_trainer(policy, lambda prompts, **_: [1.0] * len(prompts), settings(tmp_path), make_prompts(2))
    before = weights_of(trainer.model)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert (logged["loss"], logged["grad_norm"], logged["pairs/masked"]) == (0.0, 0.0, 1.0)
    torch.testing.assert_close(weights_of(trainer.model), before)


def test_only_chosen_and_rejected_are_trained(policy, tmp_path):
    """Rows with a gradient pass do not grow with the number of completions."""
    counted = {}
    for per_prompt in (2, 8):
        args = settings(tmp_path, num_generations=per_prompt, per_device_train_batch_size=2 * per_prompt)
        trainer = fixed_trainer(policy, share_of_a, args, make_prompts(2))
        rows = counted[per_prompt] = []
        original = trainer.completion_logps
        trainer.completion_logps = lambda m, ids, *a, rows=rows, f=original: rows.append(len(ids)) or f(m, ids, *a)
        trainer.train()
    assert sum(counted[2]) <= 4 and sum(counted[8]) == 4


def test_learns_and_logs_what_tells_about_it(policy, tmp_path):
    args = settings(
        tmp_path,
        max_steps=8,
        optim="adamw_torch",
        learning_rate=2e-2,
        eval_strategy="steps",
        eval_steps=8,
        num_generations_eval=2,
        per_device_train_batch_size=32,
    )
    trainer = BestOfNDPOTrainer(policy, share_of_a, args, make_prompts(16), eval_dataset=make_prompts(3))
    trainer.train()
    steps = [row for row in trainer.state.log_history if "loss" in row]
    rewards = [row["reward"] for row in steps]
    assert sum(rewards[-2:]) > sum(rewards[:2]) + 0.2
    names = (
        "reward reward_std reward_max reward_min reward/chosen reward/rejected reward/margin pairs/masked kl entropy"
    )
    names += " implicit_reward/accuracy implicit_reward/margin completions/chosen_length completions/rejected_length"
    names += " time/generation time/scoring time/selection time/reference time/training"
    assert set(names.split()) <= set(steps[-1])
    assert steps[0]["reward/margin"] == pytest.approx(steps[0]["reward/chosen"] - steps[0]["reward/rejected"])
    evaluated = [row for row in trainer.state.log_history if "eval_loss" in row]
    assert len(evaluated) == 1 and 0 <= evaluated[0]["eval_reward"] <= 1


def test_held_out_completions_with_their_rewards_and_the_divergence_from_the_reference_by_hand(policy, tmp_path):
    prompts, held_out = make_prompts(4), make_prompts(3)
    trainer = fixed_trainer(policy, share_of_a, settings(tmp_path, num_generations_eval=2), prompts)
    before = trainer.sample_held_out(held_out, 0)
    trainer.train()
    after = trainer.sample_held_out(held_out, 0)
    tokenizer = AutoTokenizer.from_pretrained(policy)
    reference = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    for index, prompt in enumerate(held_out["prompt"]):
        ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
        completions = [fixed_completion(ids, i) for i in range(2)]
        texts = [tokenizer.decode(completion, skip_special_tokens=True) for completion in completions]
        rewards, ratios = share_of_a([prompt] * 2, texts), []
        for completion in completions:
            row = torch.tensor([ids + completion])
            logits = [network(row).logits[0, len(ids) - 1 : -1] for network in (trainer.model, reference)]
            logps = [F.log_softmax(each, -1)[range(len(completion)), completion].sum().item() for each in logits]
            ratios.append(logps[0] - logps[1])
        for row in (before[index], after[index]):
            assert row["prompt_index"] == index
            assert [one["text"] for one in row["completions"]] == texts
            assert [one["length"] for one in row["completions"]] == [len(completion) for completion in completions]
            assert [one["reward"] for one in row["completions"]] == pytest.approx(rewards)
            assert row["reward"] == pytest.approx(sum(rewards) / 2)
        assert before[index]["kl"] == 0
        assert after[index]["kl"] == pytest.approx(sum(ratios) / 2, abs=1e-4) and abs(sum(ratios)) > 1e-3


def test_the_reward_function_sees_system_message_and_history(policy, tmp_path):
    prompt = [
        {"role": "system", "content": "a1"},
        {"role": "user", "content": "b1"},
        {"role": "assistant", "content": "c1"},
        {"role": "user", "content": "d1"},
    ]
    seen = []

    def reward(prompts, completions, **kwargs):
        seen.extend(prompts)
        return share_of_a(prompts, completions)

    fixed_trainer(policy, reward, settings(tmp_path), Dataset.from_dict({"prompt": [prompt] * 2})).train()
    assert seen == [prompt] * 8


def test_plain_text_prompts_weights_and_async_functions(policy, tmp_path):
    async def constant(prompts, **kwargs):
        return [10.0] * len(prompts)

    args = settings(tmp_path, reward_weights=[1.0, 0.5], log_completions=True, num_completions_to_print=1)
    trainer = fixed_trainer(policy, [share_of_a, constant], args, make_prompts(4, conversational=False))
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["reward"] == pytest.approx(logged["rewards/share_of_a/mean"] + 5.0)
    assert sorted(set(trainer._logs["extra"]["pair"])) == ["", "chosen", "rejected"]


def test_adapter_is_its_own_reference(policy, tmp_path):
    from peft import LoraConfig

    peft_config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    args = settings(tmp_path, max_steps=2, learning_rate=1.0)
    trainer = fixed_trainer(policy, share_of_a, args, make_prompts(4), peft_config=peft_config)
    trainer.train()
    assert trainer.ref_model is None
    first, second = trainer.state.log_history[:2]
    assert first["kl"] == pytest.approx(0.0, abs=1e-5) and second["kl"] != first["kl"]


def test_rewards_that_are_missing_stop_training(policy, tmp_path, caplog):
    def none(prompts, **kwargs):
        return [None] * len(prompts)

    def infinite(prompts, **kwargs):
        return [0.0] * (len(prompts) - 1) + [float("inf")]

    def unreachable(prompts, **kwargs):
        raise ConnectionRefusedError("nobody listens")

    def partly(prompts, completions, **kwargs):
        return [None, *share_of_a(prompts, completions)[1:]]

    for reward, message in ((none, "no reward for any of 8"), (infinite, "infinite reward"), (unreachable, "nobody")):
        with pytest.raises(RewardSourceError, match=message):
            fixed_trainer(policy, reward, settings(tmp_path), make_prompts(2)).train()
    with caplog.at_level(logging.WARNING):
        trainer = fixed_trainer(policy, partly, settings(tmp_path), make_prompts(2))
        trainer.train()
    assert trainer.state.log_history[0]["loss"] > 0
    assert not any("content" in record.getMessage() for record in caplog.records)


def test_rollouts_that_mix_prompts_are_refused(policy, tmp_path):
    trainer = fixed_trainer(policy, share_of_a, settings(tmp_path), make_prompts(4))
    rows = [{"prompt": p} for p in make_prompts(4)["prompt"]] * 4
    with pytest.raises(AssertionError, match="should be 4 completions of one prompt"):
        trainer.roll_out(rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_device_train_batch_size": 6}, "6; it counts completions and must be a multiple of the 4"),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 2}, "must be a multiple of gradient_accumulation"),
        ({"epsilon": 0.1}, "epsilon: no effect"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor: no effect"),
        ({"beta": 0.0}, "expected more than 0"),
        ({"min_margin": -1.0}, "min_margin is -1.0; expected at least 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, changes, message):
    with pytest.raises((ValueError, UserError), match=message):
        settings(tmp_path, **changes)


def test_defaults_are_those_of_the_method(tmp_path):
    config = BestOfNDPOConfig(str(tmp_path), use_cpu=True)
    assert (config.beta, config.learning_rate, config.num_generations, config.temperature) == (0.1, 5e-7, 8, 1.0)


def test_warns_of_what_would_go_wrong_silently_and_refuses_images(policy, tmp_path, caplog):
    args = settings(
        tmp_path,
        learning_rate=5e-7,
        model_init_kwargs={"dtype": "bfloat16"},
        save_strategy="steps",
        save_steps=3,
        steps_per_generation=2,
    )
    with caplog.at_level(logging.WARNING):
        fixed_trainer(policy, share_of_a, args, make_prompts(4))
    assert "updates of learning rate 5e-07 round to nothing" in caplog.text
    assert "save_steps=3 is not a multiple of the 2 steps" in caplog.text
    with pytest.raises(ValueError, match="drop the image columns"):
        fixed_trainer(policy, share_of_a, args, make_prompts(4).add_column("image", [None] * 4))
