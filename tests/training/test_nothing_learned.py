"""Runs in which nothing can be learned, or nothing was: an error that names the cause, never a success."""

import json
from collections import Counter

import pytest
import torch
from datasets import Dataset
from transformers import TrainerControl, TrainerState

from tests.tiny import decoder_tokenizer, reward_model, save_backbone
from tests.training.dpo_tiny import fixed_trainer, make_policy, make_prompts, settings, share_of_a
from tests.training.reward_tiny import config, toy_dataset, toy_rows, trainer
from wildreward.cli import run
from wildreward.common.errors import UserError
from wildreward.scoring.scorer import RewardScorer
from wildreward.training import BestOfNDPOConfig
from wildreward.training.dpo_report import PairCounts
from wildreward.training.pairs import Masked, masked_because, select_pairs
from wildreward.training.resume import NonFiniteLoss
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_command import train_reward

NAN = float("nan")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    make_policy(folder / "policy")
    save_backbone("bert", folder / "base")
    RewardScorer(reward_model("llama"), decoder_tokenizer()).save_pretrained(folder / "rm")
    rows = [
        {"messages": [*messages, {"role": "assistant", "content": "c1"}]} for messages in make_prompts(12)["prompt"]
    ]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def train_dpo(inputs, folder, *more):
    """The command as a user runs it: its exit status."""
    flags = f"--model {inputs}/policy --reward-model {inputs}/rm --dataset {inputs}/chats.jsonl --output-dir {folder}"
    flags += " --num-generations 4 --per-device-train-batch-size 8 --held-out-prompts 2 --max-steps 2 --bf16 False"
    flags += " --num-generations-eval 2 --report-to none --use-cpu True --disable-tqdm True --learning-rate 1e-2"
    with pytest.raises(SystemExit) as ended:
        run(["train-dpo", *flags.split(), *more])
    return ended.value.code


CUT_OFF = ("--max-completion-length", "4", "--generation-kwargs", '{"min_new_tokens": 4}')
MARGIN = ("--max-completion-length", "6", "--choose-truncated", "True", "--min-margin", "1000")


@pytest.mark.parametrize(
    ("more", "reason", "remedy"),
    [
        (CUT_OFF, Masked.CUT_OFF, "raise --max-completion-length (now 4), or set --choose-truncated True"),
        (MARGIN, Masked.SMALL_MARGIN, "lower --min-margin (now 1000.0)"),
    ],
)
def test_a_policy_that_no_pair_was_trained_on_is_no_success(inputs, tmp_path, capsys, caplog, more, reason, remedy):
    assert train_dpo(inputs, tmp_path / "out", *more) == 2
    said = f"4 of 4 prompts gave no pair to train on (4: {reason}); {remedy}"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line == f"error: nothing was learned: {said}; then start again in another --output-dir"
    warnings = [record.getMessage() for record in caplog.records if "gave no pair" in record.getMessage()]
    assert warnings == [said.replace("4 of 4", "2 of 2").replace("(4:", "(2:")]  # after the first step, once
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not names & {"dpo_results.json", "README.md", "model.safetensors"}
    assert train_dpo(inputs, tmp_path / "out", *more) == 2  # the last checkpoint knows it, too
    assert line in capsys.readouterr().err


def test_no_pair_at_all_is_no_dataset_of_pairs(inputs, tmp_path, capsys):
    pairs = ("--pairs-only", "True", "--held-out-prompts", "0", *MARGIN)
    assert train_dpo(inputs, tmp_path / "out", *pairs) == 2
    said = "error: no pairs were written: 12 of 12 prompts gave no pair to train on (11: rewards that differ by less"
    assert said in capsys.readouterr().err


def test_why_a_prompt_gives_no_pair():
    """Worked by hand, one prompt a row: rewards, which completions may be chosen, texts, the reason at margin 1."""
    rows = [
        ([3.0, 1.0, 2.0], [1, 1, 1], [0, 1, 2], None),
        ([3.0, NAN, NAN], [1, 1, 1], [0, 1, 2], Masked.UNSCORED),
        ([NAN, NAN, NAN], [1, 1, 1], [0, 1, 2], Masked.UNSCORED),
        ([3.0, 1.0, 2.0], [0, 0, 0], [0, 1, 2], Masked.CUT_OFF),
        ([3.0, 1.0, NAN], [0, 0, 1], [0, 1, 2], Masked.CUT_OFF),  # the only one that may be chosen has no reward
        ([3.0, 1.0, 2.0], [0, 1, 0], [0, 1, 2], Masked.CUT_OFF),  # the only one that may be chosen is the worst
        ([3.0, 1.0, 2.0], [1, 1, 1], [0, 0, 0], Masked.SAME_TEXT),
        ([3.0, 3.0, NAN], [1, 1, 1], [0, 1, 2], Masked.EQUAL),
        ([2.5, 2.0, 2.5], [1, 1, 1], [0, 1, 2], Masked.SMALL_MARGIN),
    ]
    columns = [torch.tensor([row[index] for row in rows]) for index in range(3)]
    what = {"choosable": columns[1].bool(), "text_ids": columns[2]}
    selected = select_pairs(columns[0], 1.0, **what)
    assert masked_because(columns[0], selected, **what) == [row[3] for row in rows]


@pytest.mark.parametrize(
    ("rollouts", "warned_at"),
    [
        ([2, 2, 2, 2], None),  # of four prompts, how many are masked: half of them is not most
        ([4, 0, 0], 0),  # at once where nothing was kept yet
        ([3, 3, 3, 3], 2),  # three rollouts, so that one is no chance
        ([0, 0, 4, 4], 3),
        ([0, 0, 0, 4, 2, 0, 2], None),
    ],
)
def test_a_warning_comes_once_as_soon_as_most_pairs_are_masked(tmp_path, caplog, rollouts, warned_at):
    counts, args, seen = PairCounts(), settings(tmp_path), []
    for number, masked in enumerate(rollouts):
        counts.add([Masked.EQUAL] * masked + [None] * (4 - masked), args)
        seen += [number] * (len(caplog.records) - len(seen))
    assert seen == ([] if warned_at is None else [warned_at])
    assert counts.kept + counts.masked.total() == 4 * len(rollouts)


def test_counts_go_on_after_a_resume_and_survive_json():
    before = PairCounts(3, {Masked.EQUAL: 2})
    state = TrainerState(stateful_callbacks=json.loads(json.dumps({"PairCounts": before.state()})))
    after = PairCounts()
    after.on_train_begin(None, state, TrainerControl())
    assert (after.kept, after.masked) == (3, Counter({Masked.EQUAL: 2}))


def test_a_loss_that_is_not_finite_is_one_line(inputs, tmp_path):
    made = fixed_trainer(str(inputs / "policy"), share_of_a, settings(tmp_path), make_prompts(2))
    with torch.no_grad():
        next(made.model.parameters()).fill_(NAN)
    with pytest.raises(NonFiniteLoss, match="the loss is not finite at step 0; checkpoints saved so far are intact"):
        made.train()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("max_steps", 0, "at least 1"), ("learning_rate", 0.0, "more than 0"), ("num_train_epochs", 0.0, "more than 0")],
)
def test_numbers_that_train_no_policy_are_refused(tmp_path, name, value, expected):
    with pytest.raises(UserError, match=rf"--{name} is {value}; expected {expected}"):
        BestOfNDPOConfig(str(tmp_path), use_cpu=True, **{name: value})


def reward_arguments(inputs, tmp_path, rows, **named):
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    return TrainRewardArguments(
        dataset=str(tmp_path / "rows.parquet"), base_model=str(inputs / "base"), validation_share=0.25, **named
    )


def test_one_label_only_is_refused_before_training(inputs, tmp_path):
    rows = [row | {"label": 3} for row in toy_rows(64)]
    with pytest.raises(
        UserError, match=r"all \d\d rows to train on have label 3, .* at least two of the labels 1 to 4"
    ):
        train_reward(reward_arguments(inputs, tmp_path, rows), config(tmp_path / "out"))
    assert not (tmp_path / "out" / "work" / "settings.json").exists()
    rows = [row | {"label": 1 + 2 * (number % 8 < 4)} for number, row in enumerate(rows)]
    assert train_reward(reward_arguments(inputs, tmp_path, rows), config(tmp_path / "out", max_steps=1))["steps"] == 1


def test_a_single_step_of_warm_up_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"the only step would be made with learning rate 0, .*; set --warmup-steps 0"):
        trainer(tmp_path, rows=toy_dataset(8), warmup_steps=0.05).train()
    made = trainer(tmp_path, rows=toy_dataset(16), warmup_steps=0.05)  # two steps, the second at the full rate
    made.train()
    assert made.state.global_step == 2


def test_rows_that_are_too_long_are_what_is_missing_not_users(inputs, tmp_path, caplog):
    """Adapters or not: with so short inputs most responses do not fit, and few users are left to split."""
    rows = toy_rows(64)
    for row in rows[2:]:
        row["messages"][1]["content"] = "wrong " * 200
    settings = config(tmp_path / "out", max_length=128)
    with pytest.raises(UserError) as caught:
        train_reward(reward_arguments(inputs, tmp_path, rows, lora_rank=2), settings)
    said = "62 rows: response longer than max_length (raise --max-length, or set --keep-cut-responses True)"
    assert str(caught.value) == (
        f"of 2 rows, 2 are held out (share 0.25, at most 2000 rows, seed 0); before that, most were left out, {said}"
    )
    assert f"left out {said}" in caplog.text
    with pytest.raises(UserError, match=r"no rows are left to use: left out 62 rows: .*raise --max-length"):
        train_reward(reward_arguments(inputs, tmp_path, rows[2:]), settings)
