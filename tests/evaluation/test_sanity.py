"""`evaluate --sanity`: the real answer against broken ones, by kind; a model that prefers gibberish is said to."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.evaluation.evaluation_tiny import dataset_folder, evaluate_model, reward_model_folder, text, write_jsonl
from wildreward.commands import execute
from wildreward.common.contrast import KINDS
from wildreward.common.contrast_phrases import REFUSALS, UNSURE
from wildreward.common.errors import UserError
from wildreward.evaluation import sanity
from wildreward.evaluation.inputs import load_inputs
from wildreward.evaluation.report import markdown, sanity_table
from wildreward.evaluation.results import evaluate_scorer
from wildreward.evaluation.settings import EvaluateConfig
from wildreward.scoring.protocol import Scored

FAST = {"bootstrap": 50, "plots": False}


def feedback(n=30, users=10, label=None):
    rng = np.random.default_rng(0)
    return [
        {
            "id": f"c{k}_turn0",
            "conversation_id": f"c{k}",
            "user_id": f"secret-{k % users}",
            "language": "English",
            "history": [],
            "messages": [
                {"role": "user", "content": f"{text(rng)} number {k}"},
                {"role": "assistant", "content": text(rng, 20, 30)},
            ],
            "label": label or 1 + k % 4,
        }
        for k in range(n)
    ]


class ByRule:
    """A scorer that likes what a rule likes."""

    name, kind, revision, fingerprint, weights, num_levels, settings = "rule", "test", None, "rule", None, None, {}

    def __init__(self, rule):
        self.rule = rule

    def score(self, conversations):
        return [Scored(float(self.rule(chat[-1]["content"]))) for chat in conversations]


def results_of(rule, folder, table=None, **more):
    config = EvaluateConfig(dataset=[str(dataset_folder(folder, table or feedback()))], sanity=True, **FAST, **more)
    results = evaluate_scorer(ByRule(rule), folder / "out", load_inputs(config), config)
    return results["sanity"]["feedback"]


def test_shares_by_hand_of_a_model_that_likes_long_answers(tmp_path):
    found = results_of(len, tmp_path)
    assert found["n"] == 14  # of 30 those with label 3 or 4
    shares = {kind: one["value"] for kind, one in found["kinds"].items()}
    assert list(shares) == list(KINDS)
    assert (shares["empty"], shares["cut"], shares["repeated"]) == (1, 1, 0)
    assert shares["shuffled"] == 0.5  # of the same length
    assert all(one["n"] == 14 for one in found["kinds"].values())
    assert found["kinds"]["empty"]["low"] == pytest.approx(10 / (10 + 1.96**2), abs=1e-3)  # Wilson, 10 of 10 users


def test_a_model_that_prefers_gibberish_is_said_to():
    kinds = {
        "shuffled": {"n": 40, "value": 0.46, "low": 0.4, "high": 0.52},
        "empty": {"n": 40, "value": 0.9, "low": 0.8, "high": 1},
    }
    said = sanity_table("mine", {"n": 40, "kinds": kinds, "rule": "R."})
    assert "**This model prefers its own words shuffled to the answer.** R." in said
    assert "| its own words shuffled | 40 | 0.460 [0.400, 0.520] |" in said
    assert "prefers" not in sanity_table(
        "mine", {"n": 9, "kinds": {"shuffled": kinds["shuffled"] | {"n": 9}}, "rule": "R."}
    )
    kinds["shuffled"]["value"] = 0.5
    assert "prefers" not in sanity_table("mine", {"n": 40, "kinds": kinds, "rule": "R."})


def test_only_answers_that_users_liked_are_broken_and_only_with_phrases_kept_for_it(tmp_path):
    config = EvaluateConfig(dataset=[str(dataset_folder(tmp_path, feedback()))], sanity=True)
    (data,) = load_inputs(config).datasets.values()
    items = sanity.of_split(data, 4, 0, "mine")
    labels = dict(zip([group.id for group in data.groups], data.labels, strict=True))
    assert {labels[item.id] for item in items} == {3, 4}
    said = {item.candidates[1] for item in items if item.subset in ("unsure", "refusal")}
    kept, known = ({text for phrases in (UNSURE, REFUSALS) for text in phrases["English"][k]} for k in (1, 0))
    assert said <= kept and not said & known
    assert items == sanity.of_split(data, 4, 0, "mine")
    real = {group.id: group.completions[0] for group in data.groups}
    assert all(item.candidates[0] == real[item.id] != item.candidates[1] for item in items)
    of_two = sanity.of_split(data, 2, 0, "mine")  # of two levels the upper one
    assert {labels[item.id] for item in of_two} == {2, 3, 4}


def test_chosen_answers_of_pairs_are_broken_too(tmp_path):
    rng = np.random.default_rng(1)
    pairs = [
        {
            "prompt": f"{text(rng)} {k}",
            "chosen": text(rng, 20, 30),
            "rejected": "no",
            **({"tie": True} if k == 7 else {}),
        }
        for k in range(12)
    ]
    file = write_jsonl(tmp_path / "mine.jsonl", pairs)
    config = EvaluateConfig(pairs=[str(file)], sanity=True, **FAST)
    results = evaluate_scorer(ByRule(len), tmp_path / "out", load_inputs(config), config)
    found = results["sanity"]["mine (pairs)"]
    assert found["n"] == 11 and found["kinds"]["empty"]["value"] == 1
    rows = pq.read_table(tmp_path / "out" / "scores" / "data" / "sanity_mine_pairs-test.parquet").to_pylist()
    assert {row["scores"][0] for row in rows} == {float(len(pair["chosen"])) for pair in pairs if "tie" not in pair}


def test_a_sample_where_there_are_many(tmp_path):
    (data,) = load_inputs(EvaluateConfig(dataset=[str(dataset_folder(tmp_path, feedback()))])).datasets.values()
    everything, some = (sanity.of_split(data, 4, 0, "mine", most) for most in (500, 4))
    assert (len({item.id for item in everything}), len({item.id for item in some})) == (14, 4)
    assert all(item in everything for item in some)


def test_the_command_puts_it_on_the_card_and_publishes_no_users(tmp_path):

    model = reward_model_folder(tmp_path)
    dataset = dataset_folder(tmp_path, feedback(80, 40))
    where = ["--model", str(model), "--dataset", str(dataset)]
    execute("evaluate", [*where, "--sanity", "--bootstrap", "20", "--plots", "False"])
    results = json.loads((model / "results.json").read_text())
    table = sanity_table("feedback", results["sanity"]["feedback"])
    assert table in markdown(results) and table in (model / "README.md").read_text()
    page = (model / "report.html").read_text()
    assert "answers against broken ones" in page and "real against broken answers" in page
    scores = model / "scores"
    assert not any(b"secret" in path.read_bytes() for path in scores.rglob("*") if path.is_file())
    rows = pq.read_table(scores / "data" / "sanity_feedback-test.parquet").to_pylist()
    of_kind = [row for row in rows if row["subset"] == "cut"]
    share = np.mean([(1 + np.sign(row["scores"][0] - row["scores"][1])) / 2 for row in of_kind])
    assert results["sanity"]["feedback"]["kinds"]["cut"]["value"] == pytest.approx(share)
    # another evaluation of the same model keeps it
    evaluate_model(str(model), datasets=[dataset], options={"bootstrap": 20, "plots": False})
    assert json.loads((model / "results.json").read_text())["sanity"] == results["sanity"]


def test_nothing_to_break(tmp_path):
    with pytest.raises(UserError, match="feedback has no answer with a label from 3 on, and --sanity sets"):
        results_of(len, tmp_path, feedback(label=2))
    with pytest.raises(UserError, match="there are only benchmarks; give --dataset or --pairs"):
        EvaluateConfig(model="m", benchmark=["rm_bench"], sanity=True).check()
    (tied,) = load_inputs(
        EvaluateConfig(
            pairs=[
                str(write_jsonl(tmp_path / "t.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b", "tie": True}]))
            ]
        )
    ).pairs.values()
    with pytest.raises(UserError, match="the pairs are all ties"):
        sanity.of_pairs(tied[1], 0)
