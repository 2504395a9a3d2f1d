"""Files of preference pairs, good and bad; which pairs a step takes; the command with pairs."""

import json
import logging

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import chat, save_backbone, tokenizer_for
from tests.training.reward_tiny import config, toy_dataset, toy_pairs, trainer
from wildreward.common.errors import UserError
from wildreward.modeling_wildreward.template import encode
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_batching import TokenBudget, TokenBudgetSampler, plan_step
from wildreward.training.reward_command import train_reward
from wildreward.training.reward_data import hold_out_users
from wildreward.training.reward_pairs import load_pairs, prepare_pairs

QUERY, GOOD, BAD = {"role": "user", "content": "why"}, chat("why", "an answer")[1:], chat("why", "wrong")[1:]
FORMS = {
    "texts": {"prompt": "why", "chosen": "an answer", "rejected": "wrong"},
    "messages": {"prompt": [QUERY], "chosen": GOOD, "rejected": BAD, "margin": None, "tie": None},
    "implicit": {"chosen": [QUERY, *GOOD], "rejected": [QUERY, *BAD]},
    "mixed": {"prompt": "why", "chosen": [QUERY, *GOOD], "rejected": "wrong"},
    "reasoning": {"prompt": "why", "chosen": "<think>the cat</think>an answer", "rejected": "wrong"},
}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_all_forms_in_one_file_are_tokenized_as_rows_are(tmp_path):
    tokenizer = tokenizer_for("llama")
    place = written(tmp_path / "pairs.jsonl", [*FORMS.values(), FORMS["texts"] | {"id": "last", "margin": 2}])
    pairs, left_out = prepare_pairs(load_pairs(place), tokenizer, 128)
    assert left_out == {} and len(pairs) == 6
    for name, answer in (("chosen", "an answer"), ("rejected", "wrong")):
        expected = encode(tokenizer, chat("why", answer), 128).input_ids
        assert pairs[f"{name}_ids"][:] == [expected] * 6 and pairs[f"{name}_length"][:] == [len(expected)] * 6
    assert pairs["margin"][:] == [0.0] * 5 + [2.0]
    assert len(set(pairs["group"][:])) == 1 and pairs["id"][0] == "pairs.jsonl, line 1" and pairs["id"][5] == "last"


def test_pairs_that_say_nothing_are_left_out_and_counted_one_line_a_reason(tmp_path, caplog):
    long = "cat " * 200
    rows = [
        FORMS["texts"],
        FORMS["texts"] | {"tie": True},
        {"prompt": "why", "chosen": "same", "rejected": "same "},
        {"prompt": long, "chosen": "an answer", "rejected": "wrong"},
        {"prompt": "why", "chosen": long, "rejected": "wrong"},
    ]
    with caplog.at_level(logging.WARNING):
        pairs, left_out = prepare_pairs(load_pairs(written(tmp_path / "p.jsonl", rows)), tokenizer_for("llama"), 128)
    assert [name.rpartition(" ")[2] for name in pairs["id"][:]] == ["1"]
    assert list(left_out.values()) == [1, 1, 2]
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "left out 1 pairs: tied" and "the same to the model" in told[1] and "--max-length" in told[2]
    with pytest.raises(UserError, match=r"^no pairs are left to use: 1: tied$"):
        prepare_pairs(load_pairs(written(tmp_path / "q.jsonl", rows[1:2])), tokenizer_for("llama"), 128)


def test_history_that_does_not_fit_on_one_side_goes_on_both(tmp_path):
    tokenizer, history = tokenizer_for("llama"), ["the cat sat", "on a mat", "a cat", "sat again"]
    row = {"prompt": chat("why", "", *history)[:-1], "chosen": "an answer " * 24, "rejected": "wrong"}
    pairs, left_out = prepare_pairs(load_pairs(written(tmp_path / "p.jsonl", [row])), tokenizer, 128)
    assert left_out == {} and encode(tokenizer, chat("why", "wrong", *history), 128).dropped_messages == 0
    dropped = encode(tokenizer, chat("why", row["chosen"], *history), 128).dropped_messages
    assert 0 < dropped < 4
    for side in ("chosen", "rejected"):
        alone = encode(tokenizer, chat("why", row[side], *history)[dropped:], 128)
        assert pairs[f"{side}_ids"][0] == alone.input_ids and alone.dropped_messages == 0


WRONG = [
    ({"prompt": "q", "rejected": "b"}, "chosen missing; expected prompt, chosen, rejected, found"),
    ({"chosen": "a", "rejected": "b"}, "prompt missing, and chosen is a text of 1 characters"),
    ({"prompt": "q", "chosen": 3, "rejected": "b"}, "chosen is 3; expected a list of messages"),
    ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": "much"}, "margin is a text of 4 characters"),
    ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": -1.5}, "margin is -1.5; expected a number, 0 or more"),
    ({"chosen": [QUERY, *GOOD], "rejected": chat("how", "b")}, "do not begin with the same message"),
]


@pytest.mark.parametrize(("row", "reason"), WRONG)
def test_a_malformed_pair_is_told_in_a_line_by_its_place(row, reason, tmp_path):
    place = written(tmp_path / "p.jsonl", [FORMS["texts"], row])
    with pytest.raises(UserError, match=rf"p\.jsonl, line 2: not a preference row: .*{reason}") as told:
        load_pairs(place)
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match=rf"pair row 0 cannot be used: .*{reason}"):
        prepare_pairs(Dataset.from_list([{"prompt": None, "chosen": None} | row]), tokenizer_for("llama"), 128)


def test_files_without_pairs_are_told_in_a_line(tmp_path):
    (tmp_path / "cut.json").write_text('[{"prompt": "q"')
    (tmp_path / "empty.jsonl").write_text("")
    told = {"cut.json": "line 1: not valid JSON", "empty.jsonl": "holds no pairs", "none.jsonl": "does not exist"}
    told |= {"nowhere": "cannot load split 'train'"}
    for name, reason in told.items():
        with pytest.raises(UserError, match=reason) as error:
            load_pairs(str(tmp_path / name))
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="the pairs have the columns answer; expected `chosen` and `rejected`"):
        prepare_pairs(Dataset.from_list([{"answer": "a"}]), tokenizer_for("llama"), 128)


def test_too_few_pairs_to_hold_some_out_are_told_as_pairs_of_prompts(tmp_path):
    rows = [FORMS["texts"], *[FORMS["texts"] | {"tie": True}] * 2]
    pairs, left_out = prepare_pairs(load_pairs(written(tmp_path / "p.jsonl", rows)), tokenizer_for("llama"), 128)
    told = r"^of 1 pairs, 0 are held out \(share 1e-09, at most 9 pairs, seed 0\); "
    with pytest.raises(UserError, match=told + "use more prompts, or change one of these"):
        hold_out_users(pairs, 1e-9, 0, 9)
    with pytest.raises(UserError, match=told + "before that, most were left out, 2 pairs: tied$"):
        hold_out_users(pairs, 1e-9, 0, 9, left_out)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)), min_size=1, max_size=30),
    st.integers(1, 400),
    st.integers(1, 4),
    st.booleans(),
)
def test_a_pair_stays_in_one_pass_within_the_budget(lengths, tokens, world_size, packed):
    ranks = plan_step(lengths, TokenBudget(tokens, packed, 16), world_size)
    assert len({len(micro_batches) for micro_batches in ranks}) == 1
    flat = [units for micro_batches in ranks for units in micro_batches]
    assert sorted(unit for units in flat for unit in units) == list(range(len(lengths)))
    for units in flat:
        rows = [size for unit in units for size in lengths[unit] if size]
        assert (sum(rows) if packed else len(rows) * max(rows, default=0)) <= tokens or len(units) == 1


def test_every_pair_comes_once_an_epoch_in_equal_shares_for_any_number_of_processes():
    rng = np.random.default_rng(0)
    rows, pairs = rng.integers(5, 200, 101), rng.integers(5, 200, (23, 2))

    def steps(world_size, epoch=0):
        given = {"pair_lengths": pairs, "world_size": world_size, "seed": 3}
        samplers = [TokenBudgetSampler(rows, 16, TokenBudget(512), rank=rank, **given) for rank in range(world_size)]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        return [
            sorted(unit for part in parts for units in part for unit in units) for parts in zip(*samplers, strict=True)
        ]

    assert steps(1) == steps(2) == steps(3) and len(steps(1)) == 7
    assert sorted(unit for step in steps(1) for unit in step) == list(range(124))
    shares = [sum(unit > 100 for unit in step) for step in steps(1)]
    assert sum(shares) == 23 and set(shares) == {3, 4}
    assert [unit for step in steps(1) for unit in step] != [unit for step in steps(1, epoch=1) for unit in step]
    without = TokenBudgetSampler(rows, 16, TokenBudget(512), seed=3)
    assert [sorted(unit for units in step for unit in units) for step in without] == [
        [unit for unit in step if unit <= 100] for step in steps(1)
    ]  # pairs do not change the order of the rows


def test_a_stream_takes_all_pairs_once_in_its_steps(tmp_path):
    made = trainer(tmp_path, rows=toy_dataset().to_iterable_dataset(), pairs=toy_pairs(20), max_steps=8)
    made.train()
    steps = [next(iterator) for iterator in [iter(made.train_dataset)] for _ in range(8)]
    taken = [[row["id"] for part in step for row in part if "margin" in row][::2] for step in steps]
    assert sorted(name for step in taken for name in step) == sorted(made.train_pairs["id"][:])
    assert {len(step) for step in taken} == {2, 3}
    assert sum("pair_loss" in entry for entry in made.state.log_history) == 8


def test_the_command_trains_on_pairs_and_holds_some_prompts_out(tmp_path, monkeypatch):
    toy_dataset(96).to_parquet(tmp_path / "rows.parquet")
    toy_pairs(80).to_json(tmp_path / "pairs.jsonl")
    save_backbone("bert", tmp_path / "base")
    arguments = TrainRewardArguments(
        dataset=str(tmp_path / "rows.parquet"),
        base_model=str(tmp_path / "base"),
        pairs=str(tmp_path / "pairs.jsonl"),
        validation_share=0.25,
    )
    more = {"num_train_epochs": 2, "eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 8, "save_steps": 8}
    summary = train_reward(arguments, config(tmp_path / "out", **more))
    counts = summary["pairs"]
    assert counts["train"] + counts["validation"] == 80 and 0 < counts["validation"] < 40 and not counts["left_out"]
    assert summary["arguments"]["pairs"] == "pairs.jsonl" and summary["arguments"]["pair_weight"] == 1.0
    assert {"pair_loss", "pair_accuracy"} <= summary["validation"].keys()
    assert {"pair_loss", "pair_accuracy"} <= summary["log"][0].keys()
    assert (
        len(summary["temperatures"]) == 3
        and str(tmp_path) not in (tmp_path / "out" / "training_summary.json").read_text()
    )
    toy_pairs(80, seed=1).to_json(tmp_path / "pairs.jsonl")
    with pytest.raises(UserError, match="pairs_digest was"):
        train_reward(arguments, config(tmp_path / "out", **more))
