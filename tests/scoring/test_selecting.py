"""What --select keeps, by hand; pairs are those that online DPO makes of the same scores."""

import random

import pytest
import torch

from wildreward.common.errors import UserError
from wildreward.scoring.score_input import column_types
from wildreward.scoring.selecting import EQUAL, SMALL_MARGIN, TOO_FEW, TOO_LOW, UNSCORED, Rule, read_rule, select
from wildreward.training.pairs import preference_rows

ROW = {"id": 7, "prompt": "q", "completions": ["a", "b", "a", "c"], "more": 1}


def said(text):
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("rule", "scores", "found"),
    [
        ("best", [1.0, 3.0, 3.0, 2.0], [{"id": 7, "prompt": "q", "completion": "b", "score": 3.0}]),
        ("best", [None, None, 0.0, -1.0], [{"id": 7, "prompt": "q", "completion": "a", "score": 0.0}]),
        ("best", None, UNSCORED),
        ("pairs", [1.0, 3.0, 0.5, 2.0], ("b", "a", 3.0, 0.5)),
        ("pairs", [1.0, 0.5, 3.0, 2.0], ("a", "b", 3.0, 0.5)),
        ("pairs", [3.0, None, 0.5, 2.0], ("a", "c", 3.0, 2.0)),  # its own text is not what it is set against
        ("pairs", [3.0, None, 0.5, None], TOO_FEW),
        ("pairs", [None, 1.0, None, None], TOO_FEW),
        ("pairs", [2.0, 2.0, 2.0, 2.0], EQUAL),
        ("pairs", [2.0, 1.75, 1.5, 1.51], SMALL_MARGIN),
        ("pairs", [2.0, 1.5, 1.75, 1.75], ("a", "b", 2.0, 1.5)),  # a margin of exactly as much is enough
        ("above=2", [2.0, None, 1.9, 3.0], [("a", 2.0), ("c", 3.0)]),
        ("above=-1", [-1.5, -2.0, -3.0, None], TOO_LOW),
    ],
)
def test_of_several_answers(rule, scores, found):
    rule = read_rule(rule, 0.5 if rule == "pairs" else 0.0)
    kept = select(rule, ROW, {"row": 1} | ({"score": scores} if scores else {"error": "no list"}))
    if isinstance(found, tuple):
        names = ("chosen", "rejected", "score_chosen", "score_rejected")
        found = [{"id": 7, "prompt": "q"} | dict(zip(names, found, strict=True))]
    elif isinstance(found[0], tuple):
        found = [{"id": 7, "prompt": "q", "completion": text, "score": score} for text, score in found]
    assert kept == found


def test_of_one_answer():
    row = {"messages": ["…"], "more": 1}
    scored = {"score": 2.0, "level_probs": [0.5, 0.5]}
    whole = [row | scored | {"error": None}]
    assert select(read_rule("above=2"), row, {"line": 1} | scored) == whole == select(read_rule(None), row, scored)
    assert select(read_rule("above=2.1"), row, scored) == TOO_LOW
    assert select(read_rule("above=2"), row, {"error": "no"}) == UNSCORED
    assert select(read_rule(None), row, {"error": "no"}) == [row | {"score": None, "level_probs": None, "error": "no"}]


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_pairs_are_those_of_online_dpo(margin):
    random.seed(0)
    for _ in range(300):
        texts = [random.choice("abc") for _ in range(4)]
        scores = [random.choice([None, 0.0, 0.5, 1.0, 2.0]) for _ in range(4)]
        if all(score is None for score in scores):
            continue  # such a row has an error
        answers = [said(text) for text in texts]
        kept = select(Rule("pairs", margin=margin), {"prompt": "q", "completions": answers}, {"score": scores})
        rewards = torch.tensor([[float("nan") if score is None else score for score in scores]])
        expected = preference_rows(["q"], [answers], rewards, margin)
        assert (kept if isinstance(kept, list) else []) == expected


@pytest.mark.parametrize(
    ("select", "margin", "told"),
    [
        ("worst", 0.0, "--select is 'worst'; expected best, pairs or above=S"),
        ("above", 0.0, "--select is 'above'; expected best"),
        ("above=nan", 0.0, "--select is 'above=nan'"),
        ("best=2", 0.0, "--select is 'best=2'"),
        ("best", 0.5, r"--margin is 0\.5; expected it with --select pairs only"),
    ],
)
def test_rules_that_are_none(select, margin, told):
    with pytest.raises(UserError, match=told):
        read_rule(select, margin)


def test_types_of_columns_take_every_value(monkeypatch):
    rows = [
        {"a": 1, "m": [{"role": "user"}], "mixed": "x", "odd": "x", "none": None, "empty": {}, "big": 1},
        {"a": 2, "m": [{"role": "user", "name": None}], "mixed": ["x"], "odd": "\ud800", "late": True, "big": 2**70},
        {"a": 0.5, "m": [{"role": "user", "name": "n"}]},
    ]
    expected = {
        "a": "double", "mixed": "extension<arrow.json>",
        "odd": "extension<arrow.json>", "none": "null", "empty": "extension<arrow.json>", "big": "extension<arrow.json>",
        "late": "bool",
    }  # fmt: skip
    for size in (1, 2, 3):  # however they are cut
        monkeypatch.setattr("wildreward.scoring.score_input.TYPED_ROWS", size)
        kinds = column_types(iter(rows))
        message = kinds.pop("m").value_type
        assert {field.name: str(field.type) for field in message} == {
            "role": "string",
            "name": "string",
        }  # in any order
        assert {name: str(kind) for name, kind in kinds.items()} == expected
