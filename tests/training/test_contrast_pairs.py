"""Contrast pairs of a feedback dataset: liked answers only, in TRL's preference format, whatever the rows' order."""

import pytest
from datasets import Dataset

from tests.tiny import save_backbone
from tests.training.reward_tiny import toy_dataset, toy_rows
from wildreward.commands import parse
from wildreward.common.contrast import KINDS
from wildreward.common.errors import UserError
from wildreward.training.contrast import contrast_pairs
from wildreward.training.reward_command import CONFIGS, train_reward
from wildreward.training.reward_data import place_of

TOPICS = ("apples", "pears", "rivers", "engines", "poems", "cats")


def rows(n=24, **more):
    chats = []
    for k in range(n):
        topic, label = TOPICS[k % len(TOPICS)], 1 + k % 4
        history = [{"role": "user", "content": f"Hello {k}"}, {"role": "assistant", "content": "Hello!"}]
        question = {"role": "user", "content": f"What do you know about {topic} of sort {k}?"}
        answer = (
            f"Of {topic} I know {k} things. The first is that they are many, and the second that they are well liked."
        )
        chats.append(
            {
                "id": f"c{k}_turn0",
                "user_id": f"u{k}",
                "language": "English",
                "history": history if k % 2 else [],
                "messages": [question, {"role": "assistant", "content": answer}],
                "label": label,
                "label_source": "cue",
                **more,
            }
        )
    return chats


def listed(pairs):
    return sorted(pairs.to_list(), key=lambda row: row["id"])


def test_pairs_are_of_liked_answers_against_broken_ones():
    data = rows()
    pairs = contrast_pairs(Dataset.from_list(data), share=len(KINDS))
    assert pairs.column_names == ["id", "prompt", "chosen", "rejected", "kind"]
    liked = {row["id"]: row for row in data if row["label"] >= 3}
    assert {name.partition("/")[0] for name in pairs["id"]} == set(liked) and len(liked) == 12
    assert set(pairs["kind"]) == set(KINDS)
    for pair in pairs:
        name, _, kind = pair["id"].partition("/")
        row = liked[name]
        assert pair["prompt"] == [*row["history"], row["messages"][0]] and kind == pair["kind"]
        assert pair["chosen"] == row["messages"][1:] != pair["rejected"]
        assert [message["role"] for message in pair["rejected"]] == ["assistant"]
    answers = {row["messages"][1]["content"] for row in data}
    taken = [pair["rejected"][0]["content"] for pair in pairs if pair["kind"] == "other_answer"]
    assert len(taken) == 12 and set(taken) <= answers


def test_pairs_do_not_depend_on_the_order_of_the_rows():
    data = Dataset.from_list(rows())
    once = contrast_pairs(data, share=2, seed=3)
    assert listed(once) == listed(contrast_pairs(data.shuffle(seed=1), share=2, seed=3))
    assert len(once) == 24 and listed(once) != listed(contrast_pairs(data, share=2, seed=4))


def test_liked_is_the_upper_half_of_the_levels():
    data = Dataset.from_list(rows())
    assert len(contrast_pairs(data, ("empty",), 1, num_levels=4)) == 12
    assert len(contrast_pairs(data, ("empty",), 1, num_levels=2)) == 18  # labels 2 and up
    assert len(contrast_pairs(Dataset.from_list(rows(label=None)), ("empty",), 1)) == 0


def test_no_refusal_beside_a_refusal_that_was_right():
    judged = contrast_pairs(Dataset.from_list(rows(label_source="refusal")), share=len(KINDS))
    assert set(judged["kind"]) == set(KINDS) - {"unsure", "refusal"}


def test_reasoning_is_left_out_as_in_training():
    data = rows(4)
    data[2]["messages"][1]["content"] = "<think>hard</think>" + data[2]["messages"][1]["content"]
    stripped, kept = (
        contrast_pairs(Dataset.from_list(data), ("empty",), 1, keep_reasoning=keep)[0]["chosen"][0]["content"]
        for keep in (False, True)
    )
    assert "hard" not in stripped and "hard" in kept


def test_rows_without_messages_are_refused_by_what_they_have():
    data = Dataset.from_list([{"text": "Q A", "label": 4}])
    with pytest.raises(UserError, match="made of `messages`, and the dataset has the columns label, text; use rows"):
        contrast_pairs(data)


# ---- the command


def command(folder, *more):
    flags = ["--dataset", f"{folder}/rows.parquet", "--base-model", f"{folder}/base", "--output-dir", f"{folder}/out"]
    flags += ["--validation-share", "0.25", "--learning-rate", "3e-3", "--num-train-epochs", "4", "--use-cpu", "True"]
    flags += [
        "--per-device-train-batch-size",
        "8",
        "--disable-tqdm",
        "True",
        "--bf16",
        "False",
        "--eval-steps",
        "0.5",
        "--save-steps",
        "0.5",
    ]
    return train_reward(*parse("train-reward", CONFIGS, [*flags, "--logging-steps", "0.25", *more]))


@pytest.fixture
def folder(tmp_path):
    toy_dataset(96).to_parquet(tmp_path / "rows.parquet")
    save_backbone("bert", tmp_path / "base")
    return tmp_path


def test_the_command_trains_on_pairs_of_train_users_and_evaluates_on_those_of_others(folder):
    summary = command(folder, "--contrast-share", "1", "--contrast-kinds", "empty", "shuffled")
    liked = [row for row in toy_rows(96) if row["label"] >= 3]
    held_out = [row for row in liked if place_of(f"user:{row['user_id']}", 42) < 0.25]
    assert 0 < len(held_out) < len(liked)
    assert summary["pairs"]["validation"] == len(held_out)
    assert summary["pairs"]["train"] == len(liked) - len(held_out)
    assert summary["arguments"]["contrast_share"] == 1 and summary["arguments"]["contrast_kinds"] == [
        "empty",
        "shuffled",
    ]
    losses = [entry["pair_loss"] for entry in summary["log"] if "pair_loss" in entry]
    assert losses[-1] < losses[0] and "pair_accuracy" in summary["validation"]


def test_no_pairs_unless_asked_for(folder):
    summary = command(folder, "--max-steps", "2")
    assert summary["pairs"] is None and not any("pair_loss" in entry for entry in summary["log"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--contrast-kinds", "rude"], "contrast_kinds holds rude; expected of other_answer, shuffled"),
        (["--contrast-share", "-1"], "contrast_share is -1"),
        (["--pair-weight", "0.1"], "pair_weight has no effect without pairs"),
        (["--contrast-kinds", "empty"], "contrast_kinds has no effect without contrast pairs"),
        (["--contrast-share", "1", "--streaming", "True"], "contrast pairs take answers from the whole dataset"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(tmp_path, flags, said):
    with pytest.raises(UserError, match=said):
        command(tmp_path, *flags)


def test_a_dataset_without_liked_answers_gives_no_pairs_and_that_is_said(folder):
    toy_dataset(96).map(lambda row: {"label": 1 + row["label"] % 2}).to_parquet(folder / "rows.parquet")
    with pytest.raises(
        UserError, match="the train rows give no contrast pair; expected answers with a label in the upper"
    ):
        command(folder, "--contrast-share", "1", "--num-levels", "4", "--max-steps", "1")
