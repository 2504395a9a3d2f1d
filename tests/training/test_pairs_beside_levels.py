"""Preference pairs beside rows with levels: the joint loss, however the work is cut."""

import math

import pytest
import torch
from datasets import Dataset
from transformers import LlamaForSequenceClassification
from trl import RewardConfig, RewardTrainer

from tests.tiny import chat, reward_model, tokenizer_for
from tests.training.reward_tiny import losses, toy_dataset, toy_pairs, trainer, weights
from wildreward.modeling_wildreward.ordinal import ordinal_loss
from wildreward.modeling_wildreward.template import encode_batch, shared_prefix_length
from wildreward.training.reward_pairs import latent_score, pair_losses, pairs_won


def trained(folder, **settings):
    made = trainer(folder, pairs=toy_pairs(margin=0.5), **settings)
    made.train()
    return made


def logged(made, name):
    return [entry[name] for entry in made.state.log_history if name in entry]


def assert_same(one, other):
    assert losses(one) == pytest.approx(losses(other), abs=1e-5)
    for name in ("pair_loss", "pair_accuracy"):
        assert logged(one, name) == pytest.approx(logged(other, name), abs=1e-5)
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(other)[name], atol=2e-5, rtol=1e-3, msg=name)


def test_loss_and_accuracy_of_pairs_by_hand():
    chosen, rejected = latent_score(torch.tensor([[3.0, 1.0], [0.0, 0.0]])), torch.tensor([1.0, 0.0])
    assert chosen.tolist() == [2.0, 0.0]
    found = pair_losses(chosen, rejected, torch.tensor([1.0, 0.0]))
    assert found.tolist() == pytest.approx([math.log(2)] * 2)  # a margin of 1 that is just met, and a tie
    assert pair_losses(*torch.tensor([[2.0], [0.0], [0.5]])).tolist() == pytest.approx([math.log(1 + math.exp(-1.5))])
    assert pairs_won(chosen, rejected).tolist() == [1.0, 0.5]


@pytest.mark.parametrize("head", ["coral", "corn", "independent"])
def test_the_gradient_is_that_of_both_means(tmp_path, head):
    """One step on 8 rows and 3 pairs, in passes of a unit each, against the loss written out."""
    made = trainer(
        tmp_path,
        model=reward_model("llama", head),
        rows=toy_dataset(8),
        pairs=toy_pairs(3, margin=0.25),
        tokens_per_device=1,
        pair_weight=0.7,
    )
    (step,) = made.get_train_dataloader()
    assert len(step["micro_batches"]) == 11 and int((step["labels"] > 0).sum()) == 8
    made.create_optimizer()
    found = made.training_step(made.model, step, made._get_num_items_in_batch([step], made.args.device))
    gradients = {name: weight.grad.clone() for name, weight in made.model.named_parameters()}

    made.model.zero_grad()
    of_rows, of_pairs = [], []
    for row in made.train_dataset:
        logits = made.model(input_ids=torch.tensor([row["input_ids"]])).threshold_logits
        of_rows.append(ordinal_loss(logits, torch.tensor([row["label"]]), head))
    for pair in made.train_pairs:
        good, bad = (
            made.model(input_ids=torch.tensor([pair[side]])).threshold_logits.mean()
            for side in ("chosen_ids", "rejected_ids")
        )
        of_pairs.append(torch.log(1 + torch.exp(-(good - bad - 0.25))))
    expected = torch.stack(of_rows).mean() + 0.7 * torch.stack(of_pairs).mean()
    expected.backward()
    assert float(found) == pytest.approx(expected.item(), abs=1e-6)
    for name, weight in made.model.named_parameters():
        torch.testing.assert_close(gradients[name], weight.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_however_a_step_is_cut_it_is_the_same(tmp_path):
    whole = trained(tmp_path / "a", tokens_per_device=100_000, pass_overhead=100_000)
    assert_same(whole, trained(tmp_path / "b", tokens_per_device=1))
    assert_same(whole, trained(tmp_path / "c", padding_free="on"))
    assert_same(whole, trained(tmp_path / "d", per_device_train_batch_size=4, gradient_accumulation_steps=2))


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
def test_packed_pairs_share_their_prompt_where_a_mask_can_say_so(tmp_path, kind):
    """Gemma's layers look back a few tokens only, whatever a mask says, so its pairs are laid out in full."""
    made = trainer(tmp_path, kind, rows=toy_dataset(8), pairs=toy_pairs(4), padding_free="on")
    (step,) = made.get_train_dataloader()
    (batch,) = step["micro_batches"]
    pairs = toy_pairs(4)
    rows = [chat(pair["prompt"], pair[side]) for pair in pairs for side in ("chosen", "rejected")]
    whole = encode_batch(tokenizer_for(kind), rows, 128)
    shared = [shared_prefix_length([whole[n].input_ids, whole[n + 1].input_ids]) for n in range(0, 8, 2)]
    assert min(shared) > 20
    tokens = sum(made.train_dataset["length"]) + sum(len(row.input_ids) for row in whole)
    assert batch["input_ids"].shape[1] == tokens - (0 if kind == "gemma3" else sum(shared))
    with torch.no_grad():
        found = made.model(**made._inputs(batch) | {"labels": None}).threshold_logits
    for place, name in zip(batch["chosen"].tolist(), [batch["ids"][n] for n in batch["chosen"]], strict=True):
        number = 2 * int(name.split()[1])
        for side in (0, 1):
            ids = torch.tensor([whole[number + side].input_ids])
            with torch.no_grad():
                expected = made.model(input_ids=ids).threshold_logits[0]
            torch.testing.assert_close(found[place + side], expected, atol=1e-5, rtol=1e-4)


def test_pairs_alone_give_the_loss_and_the_weights_of_trls_trainer(tmp_path):
    """A head of two levels without a bias is a sequence classifier's; TRL's steps are in the order that ours take."""
    tokenizer, ours = tokenizer_for("llama"), reward_model("llama", "independent", num_levels=2)
    classifier = LlamaForSequenceClassification(ours.config.text_config)
    classifier.config.num_labels, classifier.config.pad_token_id = 1, tokenizer.pad_token_id
    classifier.model.load_state_dict(ours.model.state_dict())
    classifier.score = torch.nn.Linear(ours.score.weight.shape[1], 1, bias=False)
    classifier.score.load_state_dict({"weight": ours.score.weight.detach().clone()})
    pairs = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "margin": 0.5,
            **{side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")},
        }
        for row in toy_pairs(16)
    ]
    made = trainer(
        tmp_path / "ours", model=ours, rows=[], pairs=Dataset.from_list(pairs), per_device_train_batch_size=4
    )
    order = [unit for step in made.get_train_dataloader().batch_sampler for units in step for unit in units]
    settings = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "weight_decay": 0.01, "warmup_steps": 0}
    settings |= {"lr_scheduler_type": "linear", "num_train_epochs": 1, "logging_steps": 1, "max_grad_norm": 1.0}
    settings |= {"bf16": False, "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "report_to": []}

    class InOrder(RewardTrainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    theirs = InOrder(
        model=classifier,
        args=RewardConfig(str(tmp_path / "theirs"), gradient_checkpointing=False, **settings),
        train_dataset=Dataset.from_list([pairs[place] for place in order]),
        processing_class=tokenizer,
    )
    made.train()
    theirs.train()
    assert losses(made) == pytest.approx(logged(theirs, "loss"), abs=1e-5) and len(losses(made)) == 4
    assert logged(made, "pair_accuracy") == pytest.approx(logged(theirs, "accuracy"))
    torch.testing.assert_close(ours.score.weight, classifier.score.weight, atol=2e-5, rtol=1e-3)
    for name, value in classifier.model.state_dict().items():
        torch.testing.assert_close(ours.model.state_dict()[name], value, atol=2e-5, rtol=1e-3, msg=name)


def test_a_model_learns_to_order_pairs_that_the_levels_say_nothing_of(tmp_path):
    """Held-out pairs of prompts it has not seen; the rows have levels by chance."""
    rows = toy_dataset(64).map(lambda row, place: {"label": 1 + place % 4}, with_indices=True)
    made = trainer(
        tmp_path,
        rows=rows,
        pairs=toy_pairs(80),
        eval_rows=toy_dataset(24, seed=1),
        eval_pairs=toy_pairs(40, seed=2),
        num_train_epochs=3,
    )
    before, after = made.evaluate(), made.train() and made.evaluate()
    assert after["eval_pair_accuracy"] > 0.95 > before["eval_pair_accuracy"]
    logits = made.predict(made.eval_dataset).predictions
    assert logits.shape == (24, 3)  # of rows alone
    pairs = [
        [
            made.model(input_ids=torch.tensor([pair[side]])).threshold_logits.mean().item()
            for side in ("chosen_ids", "rejected_ids")
        ]
        for pair in made.eval_pairs
    ]
    won = [good > bad for good, bad in pairs]
    loss = [math.log(1 + math.exp(bad - good)) for good, bad in pairs]
    assert after["eval_pair_accuracy"] == pytest.approx(sum(won) / 40)
    assert after["eval_pair_loss"] == pytest.approx(sum(loss) / 40, abs=1e-4)
    of_levels = ordinal_loss(torch.from_numpy(logits), torch.tensor(made.eval_dataset["label"][:]), "coral")
    assert after["eval_loss"] == pytest.approx(of_levels.item() + after["eval_pair_loss"], abs=1e-4)
    made.calibrate()
    without = trainer(tmp_path / "w", model=made.model, eval_rows=toy_dataset(24, seed=1))
    temperatures = made.reward_config.temperatures
    without.calibrate()
    assert without.reward_config.temperatures == pytest.approx(temperatures, abs=1e-4)  # fitted on levels alone
