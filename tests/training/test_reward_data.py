"""From rows to features: formats, what is refused or left out, the split by user, weights, collation."""

import json
import math

import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import tokenizer_for
from tests.training.reward_tiny import toy_dataset, toy_rows
from wildreward.common.errors import UserError
from wildreward.modeling_wildreward import positive_from
from wildreward.modeling_wildreward.template import encode, frame_of, install_template
from wildreward.training.reward_batching import RewardCollator, sample_weights, threshold_weights
from wildreward.training.reward_data import (
    hold_out_users,
    load_rows,
    owners,
    place_of,
    prepare_rows,
)

TOKENIZER = tokenizer_for("llama")


def prepared(rows, max_length=128):
    return prepare_rows(Dataset.from_list(rows), TOKENIZER, max_length, num_levels=4)[0]


def test_history_and_messages_are_one_conversation():
    row = toy_rows(2)[1]
    feature = prepared([row])[0]
    assert feature["input_ids"] == encode(TOKENIZER, row["history"] + row["messages"], 128).input_ids
    assert feature["length"] == len(feature["input_ids"])
    assert (feature["id"], feature["group"], feature["label"]) == ("c0_turn1", "user:u0", row["label"])
    assert feature["confidence"] == pytest.approx(row["label_confidence"])


def test_whole_conversations_and_rendered_texts_work_too():
    row = toy_rows(2)[1]
    whole = prepared([{"messages": row["history"] + row["messages"], "label": 2}])[0]
    assert whole["input_ids"] == prepared([row])[0]["input_ids"]
    long = prepared([{"text": "the cat sat " * 200, "label": 2}], max_length=32)[0]
    expected = [*TOKENIZER("the cat sat " * 200)["input_ids"], TOKENIZER.eos_token_id]
    assert long["input_ids"][-5:] == expected[-5:] and long["length"] == 32


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_rendered_texts_get_the_ids_that_the_model_is_asked_about(kind):
    """With and without the special tokens that the template writes around an input."""
    tokenizer = install_template(tokenizer_for(kind))
    row = toy_rows(2)[1]
    whole = prepare_rows(Dataset.from_list([row]), tokenizer, 128, 4)[0][0]["input_ids"]
    rendered = tokenizer.apply_chat_template(row["history"] + row["messages"], tokenize=False)
    start, end = frame_of(tokenizer)
    for text in (rendered, rendered.removeprefix(start).removesuffix(end)):
        assert (
            prepare_rows(Dataset.from_list([{"text": text, "label": 2}]), tokenizer, 128, 4)[0][0]["input_ids"] == whole
        )


def test_a_rendered_text_whose_response_is_cut_is_left_out_like_any_other():
    row = toy_rows(1)[0]
    row["messages"][1]["content"] = "wrong " * 300
    text = TOKENIZER.apply_chat_template(row["messages"], tokenize=False)
    short = "cat " * 300 + text[-200:]
    rows = Dataset.from_list(
        [{"id": name, "text": text, "label": 2} for name, text in (("long", text), ("short", short))]
    )
    kept, left_out = prepare_rows(rows, TOKENIZER, 64, 4)
    assert kept["id"][:] == ["short"] and left_out == {"response longer than max_length": 1}


def test_a_group_that_is_too_large_to_hold_out_is_passed_over():
    rows = toy_rows(200)
    for number, row in enumerate(rows):
        row["user_id"] = "whale" if number < 100 else f"u{number}"
    features = prepared(rows)
    for seed in range(20):
        _, held = hold_out_users(features, 0.5, seed=seed, most=40)
        assert 30 < len(held) <= 40 and "user:whale" not in held["group"][:]


def test_without_a_user_the_beginning_of_the_chat_is_the_group():
    """A log of requests: each holds the chat so far, under an id of its own, behind the time of the request."""
    said = ["hi", "hello", "make me a poem", "roses", "no, longer", "roses are", "thanks"]
    chat = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)]
    system = {"role": "system", "content": "it is noon"}

    def row(turn, chat=chat, **more):
        head, tail = chat[: 2 * turn], chat[2 * turn : 2 * turn + 2]
        end = chat[2 * turn + 2]["content"]
        ids = {"id": f"request{turn}_turn{turn}", "conversation_id": f"request{turn}"}
        return (
            {
                "user_id": None,
                "history": head,
                "messages": tail,
                "user_feedback": {"role": "user", "content": end},
                "label": 2,
            }
            | ids
            | more
        )

    rows = [row(0), row(1), row(2, history=[system, *chat[:4]])]
    other = row(1, chat=[*chat[:2], {"role": "user", "content": "make me a song"}, *chat[3:]])
    groups = owners(Dataset.from_list([*rows, other, row(0, user_id="u1")]))
    assert groups == prepared([*rows, other, row(0, user_id="u1")])["group"][:]
    assert groups[0] == groups[1] == groups[2] != groups[3] and groups[0].startswith("opening:")
    assert groups[4] == "user:u1"


def test_without_what_came_next_the_conversation_is_the_group_else_the_first_question_and_answer():
    chat = [{"role": role, "content": text} for role, text in (("user", "hi"), ("assistant", "hello"))]
    later = {"history": chat, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    rows = [{"history": [], "messages": chat, "label": 2}, {**later, "label": 2}]
    assert len(set(owners(Dataset.from_list(rows)))) == 1
    named = [row | {"conversation_id": "c7"} for row in rows]
    assert set(owners(Dataset.from_list(named))) == {"conversation:c7"}
    # the last turn of a chat, rated: nothing came next, and it belongs to the turns before it
    said = [
        {**named[0], "user_feedback": {"role": "user", "content": "a"}},
        {**named[1], "user_feedback": {"role": "user", "content": ""}},
    ]
    assert len(set(owners(Dataset.from_list(said)))) == 1


def test_a_column_that_happens_to_be_called_group_decides_nothing():
    rows = Dataset.from_list([row | {"group": f"arm{place % 2}"} for place, row in enumerate(toy_rows(80))])
    train, held = hold_out_users(rows, 0.3, seed=0)
    assert len(train) and len(held) and not set(train["user_id"]) & set(held["user_id"])
    assert train.column_names == rows.column_names


def test_rendered_texts_belong_to_their_conversation_else_to_themselves():
    rows = [{"text": "a", "label": 2, "id": "c0_turn3"}, {"text": "b", "label": 2, "id": "c0_turn1"}]
    assert set(owners(Dataset.from_list(rows))) == {"conversation:c0"}
    assert owners(Dataset.from_list([{"text": "a", "label": 2}] * 2)) == ["conversation:row 0", "conversation:row 1"]


def test_long_history_goes_but_a_cut_response_leaves_the_row_out():
    long_history, long_response, no_label = toy_rows(3)
    long_history["history"] = [{"role": "user", "content": "again " * 300}, {"role": "assistant", "content": "sat"}]
    long_response["messages"][1]["content"] = "wrong " * 300
    no_label["label"] = None
    rows = Dataset.from_list([long_history, long_response, no_label])
    kept, left_out = prepare_rows(rows, TOKENIZER, 128, 4)
    assert kept["id"][:] == [long_history["id"]] and kept["length"][0] <= 128
    assert left_out == {"no label": 1, "response longer than max_length": 1}
    kept, left_out = prepare_rows(rows, TOKENIZER, 128, 4, keep_cut_responses=True)
    assert len(kept) == 2 and left_out == {"no label": 1}


@pytest.mark.parametrize("label", [0, 5, 2.5, -1])
def test_labels_outside_the_levels_are_refused_by_row(label):
    rows = toy_rows(3)
    rows[1]["label"] = label
    with pytest.raises(
        UserError, match=r"row c0_turn1 of the dataset has label .*; expected a whole number from 1 to 4"
    ):
        prepared([{**row, "label": float(row["label"])} for row in rows])


def test_a_conversation_without_a_response_is_refused_by_row():
    rows = toy_rows(3)
    rows[2]["messages"] = rows[2]["messages"][:1]
    with pytest.raises(UserError, match=r"row c1_turn0 of the dataset cannot be used: .*expected 'assistant'"):
        prepared(rows)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"messages": "secret"}, "found a text of 6 characters where a list of messages"),
        (
            {"messages": [{"said": "secret", "speaker": "human"}]},
            "message 1 is an object with said (text), speaker (text); expected role and content",
        ),
        ({"messages": [{"role": "user", "content": None}, {"role": "assistant", "content": "secret"}]}, "no content"),
        ({"messages": [{"role": "user", "content": "secret"}, {"role": "assistant", "content": None}]}, "no content"),
        ({"label_confidence": "high"}, "label_confidence of a text of 4 characters; expected a number"),
        ({"label_confidence": math.nan}, "label_confidence of nan; expected a number"),
    ],
)
def test_rows_that_cannot_be_read_are_named_without_their_text(change, found):
    with pytest.raises(UserError, match="row c0_turn0 of the dataset") as error:
        prepared([toy_rows(1)[0] | change])
    assert found in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize("text", [None, "", "  "])
def test_a_text_that_says_nothing_is_refused_by_row(text):
    with pytest.raises(UserError, match="row r1 of the dataset cannot be used: expected a text to read"):
        prepared([{"id": "r0", "text": "a", "label": 1}, {"id": "r1", "text": text, "label": 1}])


@pytest.mark.parametrize("lines", ["", '{"id": "a", "label": 1, "text": "x"}\n{broken\n'])
def test_a_file_that_is_empty_or_broken_is_a_clear_error(tmp_path, lines):
    path = tmp_path / "rows.jsonl"
    path.write_text(lines)
    with pytest.raises(UserError, match=r"cannot load split 'train' of .*rows\.jsonl.* \(.+\); expected a folder"):
        load_rows(str(path), "train")


def test_missing_columns_are_listed_with_those_found():
    with pytest.raises(UserError, match=r"the dataset has the columns prompt, score; expected `label` together with"):
        prepared([{"prompt": "a", "score": 1}])


def test_unknown_datasets_are_a_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"cannot load split 'train' of .*missing.*expected a folder written by"):
        load_rows(str(tmp_path / "missing"), "train")


def test_preparation_is_done_once(tmp_path):
    toy_dataset(20).to_parquet(tmp_path / "rows.parquet")

    def load():
        files = {"train": str(tmp_path / "rows.parquet")}
        return load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))

    first, _ = prepare_rows(load(), TOKENIZER, 64, 4)
    stamp = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("cache-*.arrow")}
    again, _ = prepare_rows(load(), tokenizer_for("llama"), 64, 4)
    assert stamp and {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("cache-*.arrow")} == stamp
    assert again[:] == first[:]
    other, _ = prepare_rows(load(), TOKENIZER, 32, 4, keep_cut_responses=True)
    assert max(other["length"][:]) <= 32 and other._fingerprint != first._fingerprint
    assert prepare_rows(first, TOKENIZER, 64, 4)[0] is first


def test_several_processes_prepare_the_same_features():
    alone, _ = prepare_rows(toy_dataset(10), TOKENIZER, 128, 4)
    assert prepare_rows(toy_dataset(10), TOKENIZER, 128, 4, num_proc=2)[0][:] == alone[:]


def test_a_user_is_on_one_side_only_and_the_split_is_stable():
    features = prepared(toy_rows(80))
    train, held = hold_out_users(features, 0.3, seed=1)
    assert len(train) + len(held) == 80 and 0 < len(held) < 60
    assert not set(train["group"][:]) & set(held["group"][:])
    assert hold_out_users(features, 0.3, seed=1)[1]["id"][:] == held["id"][:]
    assert hold_out_users(features, 0.3, seed=2)[1]["id"][:] != held["id"][:]
    few = prepared(toy_rows(80)[:40])
    assert set(hold_out_users(few, 0.3, seed=1)[1]["id"][:]) <= set(held["id"][:])  # other users decide nothing
    capped = hold_out_users(features, 0.9, seed=1, most=12)[1]
    assert 0 < len(capped) <= 12


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20), st.integers(0, 2**31))
def test_places_are_in_the_unit_interval(group, seed):
    assert 0 <= place_of(group, seed) < 1


def test_weights_have_a_mean_of_one():
    labels = [1, 2, 2, 2, 2, 4, 4, 4, 4, 4]
    balanced = sample_weights(labels, [1.0] * 10, 4, "balanced")
    assert balanced.mean() == pytest.approx(1.0)
    assert balanced[0] == pytest.approx(4 * balanced[1]) and balanced[0] == pytest.approx(5 * balanced[5])
    root = sample_weights(labels, [1.0] * 10, 4, "sqrt")
    assert root[0] == pytest.approx(2 * root[1])
    trust = sample_weights([1, 1], [0.2, 0.6], 4, use_confidence=True)
    assert trust == pytest.approx([0.5, 1.5])


def test_importance_of_thresholds_by_hand():
    # above 1: 9 of 10, above 2: 5, above 3: 5 -> larger sides 9, 5, 5
    weights = threshold_weights([1, 2, 2, 2, 2, 4, 4, 4, 4, 4], 4, "importance")
    roots = np.sqrt([9, 5, 5])
    assert weights == pytest.approx((roots * 3 / roots.sum()).tolist())
    assert threshold_weights([1, 2], 4, "none") is None


def features(*lengths):
    return [{"input_ids": list(range(1, n + 1)), "label": 2, "weight": 0.5, "id": f"r{n}", "row": n} for n in lengths]


def test_padded_and_packed_batches_by_hand():
    padded = RewardCollator(pad_token_id=0)([features(3, 1)])["micro_batches"][0]
    assert padded["input_ids"].tolist() == [[1, 2, 3], [1, 0, 0]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert padded["sample_weights"].tolist() == [0.5, 0.5] and padded["ids"] == ["r3", "r1"]
    packed = RewardCollator(pad_token_id=0, packed=True)([features(3, 1)])["micro_batches"][0]
    assert packed["input_ids"].tolist() == [[1, 2, 3, 1]]
    assert packed["position_ids"].tolist() == [[0, 1, 2, 0]]
    assert packed["cu_seq_lens_q"].tolist() == [0, 3, 4] and packed["cu_seq_lens_q"].dtype == torch.int32


def test_a_process_without_rows_gets_a_row_that_does_not_count():
    batch = RewardCollator(pad_token_id=0)([[], features(2)])
    assert batch["labels"].tolist() == [2]
    assert batch["micro_batches"][0]["sample_weights"].tolist() == [0.0]


def test_json_lines_and_slices_load(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in toy_rows(4)))
    assert len(load_rows(str(path), "train")) == 4
    assert len(load_rows(str(path), "train[:3]")) == 3
    for split in ("test", "validation[:10]", "training"):
        with pytest.raises(UserError, match="single file, whose rows are the split 'train'; there is no split"):
            load_rows(str(path), split)


@pytest.mark.parametrize(("levels", "first"), [(2, 2), (3, 2), (4, 3), (5, 3)])
def test_the_upper_half_of_the_levels_is_positive(levels, first):
    assert positive_from(levels) == first
