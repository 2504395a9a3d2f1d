"""What a handful of rows can show, and what is withheld: hand-made scores around the least number of rows a class."""

import json

import numpy as np
import pytest
import torch

from tests.evaluation.evaluation_tiny import rows
from wildreward.evaluation.benchmarks.judge_bench import JudgeBench
from wildreward.evaluation.benchmarks.run import benchmark_results
from wildreward.evaluation.bootstrap import Estimate, bootstrap, interval, paired_bootstrap, wilson_interval
from wildreward.evaluation.compare import _differences
from wildreward.evaluation.inputs import Inputs
from wildreward.evaluation.labelers import Label, agreement
from wildreward.evaluation.report import comparison_table, dataset_table
from wildreward.evaluation.settings import EvaluateConfig
from wildreward.evaluation.wildfb import evaluate_split, held_out
from wildreward.scoring.protocol import Scored
from wildreward.training.reward_metrics import reward_metrics, standard_error

NOTHING = {"value": None, "low": None, "high": None}


def split(positives, negatives):
    """So many rows of label 4 and of label 1, each of a user of its own."""
    n = positives + negatives
    labels = [4] * positives + [1] * negatives
    return held_out(
        [{**row, "label": label, "user_id": str(i)} for i, (row, label) in enumerate(zip(rows(n), labels, strict=True))]
    )


def perfect(data):
    """Scores 3.7 for positive and 1.3 for negative rows, with the level probabilities that give them."""
    return [
        Scored(3.7, (0.1, 0.0, 0.0, 0.9)) if label >= 3 else Scored(1.3, (0.9, 0.0, 0.0, 0.1)) for label in data.labels
    ]


def evaluated(positives, negatives):
    data = split(positives, negatives)
    return {"split": "test", **evaluate_split(data, perfect(data), 4, EvaluateConfig(bootstrap=200))[0]}


@pytest.mark.parametrize("positives", [1, 9])
def test_too_few_positives_give_no_number_but_the_reason(positives):
    result = evaluated(positives, 30 - positives)
    reason = f"{positives} positive and {30 - positives} negative; needs 10 of each"
    assert result["roc_auc"] == NOTHING | {"reason": reason}
    assert result["calibration"] == dict.fromkeys(("ece", "ece_equal_mass", "bins", "brier", "nll")) | {
        "reason": reason
    }
    pairs = result["pairs"]
    reason = f"{positives} better and {30 - positives} worse; needs 10 of each"
    assert pairs["n"] == positives * (30 - positives) and pairs["reason"] == pairs["accuracy"]["reason"] == reason
    assert pairs["accuracy"] == NOTHING | {"reason": reason}
    assert pairs["ece"] is pairs["brier"] is pairs["nll"] is pairs["coverage"] is pairs["bins"] is None
    assert result["length_bias"]["accuracy_better_shorter"] is None
    assert (result["n_positive"], result["n_negative"]) == (positives, 30 - positives)
    json.dumps(result, allow_nan=False)


def test_no_positive_and_no_negative():
    for positives, negatives in ((0, 30), (30, 0)):
        result = evaluated(positives, negatives)
        assert result["roc_auc"]["reason"] == f"{positives} positive and {negatives} negative; needs 10 of each"
        assert result["calibration"]["ece"] is None and "pairs" not in result


def test_ten_of_each_give_a_number_that_is_not_certain():
    result = evaluated(10, 20)
    auc, pairs = result["roc_auc"], result["pairs"]
    assert auc["value"] == pairs["accuracy"]["value"] == 1.0 and "reason" not in auc | pairs | result["calibration"]
    assert auc["low"] == pairs["accuracy"]["low"] == pytest.approx(10 / (10 + 1.96**2), abs=1e-4)  # of ten users
    assert auc["high"] == 1.0
    assert result["calibration"]["ece"] == pytest.approx(0.1)
    assert result["accuracy"] == {"value": 1.0, "low": pytest.approx(30 / (30 + 1.96**2), abs=1e-4), "high": 1.0}
    assert result["qwk"] == {"value": 1.0, "low": None, "high": None}  # no share: no interval rather than [1, 1]
    assert result["languages"]["English"]["n_positive"] < 10 and result["languages"]["English"]["roc_auc"] is None


def test_the_table_shows_classes_and_reasons_and_no_perfect_interval():
    table = dataset_table("x", evaluated(1, 29))
    reason = "– (1 positive and 29 negative; needs 10 of each)"
    assert f"| ROC-AUC, 1 positive and 29 negative rows | {reason} |" in table
    assert f"| ECE of P(positive), 1 positive and 29 negative rows | {reason} |" in table
    assert "| accuracy on 29 pairs across prompts | – (1 better and 29 worse; needs 10 of each) |" in table
    table += dataset_table("y", evaluated(10, 20))
    assert "| ROC-AUC, 10 positive and 20 negative rows | 1.000 [0.722, 1.000] |" in table
    assert "[1.000, 1.000]" not in table and "[0.000, 0.000]" not in table


def test_the_card_and_the_closing_table_say_why_there_is_no_number(tmp_path):
    from wildreward.common.tables import estimate_text as shown
    from wildreward.model_card.eval_results import result_entries
    from wildreward.model_card.model_card import render_results

    few, enough = evaluated(1, 29), evaluated(10, 20)
    results = {"model": {"name": "m"}, "datasets": {"user/few": few, "user/chats": enough}}
    assert "29 negative rows | – (1 positive and 29 negative; needs 10 of each) |" in render_results(results)
    for name, result in results["datasets"].items():
        result["read_from"] = [{"repo": name}]
    entries = [e for e in result_entries(results) if e["dataset"]["task_id"] == "roc_auc"]
    assert [(e["dataset"]["id"], e["value"]) for e in entries] == [("user/chats", 1.0)]
    assert entries[0]["notes"].startswith(
        "split test, 30 instances, 10 positive and 20 negative rows, 95% interval [0.72"
    )
    assert shown(few["roc_auc"]) == "– (1 positive and 29 negative; needs 10 of each)"
    assert shown(enough["roc_auc"]) == "1.000 [0.722, 1.000]"


@pytest.mark.parametrize(("n", "low"), [(5, 0.5655), (20, 0.8389)])
def test_all_pairs_right_is_no_certainty(n, low):
    benchmark = JudgeBench()
    row = {"source": "mmlu-pro-x", "response_A": "good", "response_B": "bad", "label": "A>B"}
    items = [item for i in range(n) for item in benchmark.parse(row | {"pair_id": str(i), "question": f"q{i}"}, "")]
    result = benchmark_results(benchmark, items, [[Scored(2.0), Scored(1.0)]] * n, EvaluateConfig(bootstrap=100))
    expected = {"value": 1.0, "low": pytest.approx(low, abs=1e-4), "high": 1.0}
    assert result["score"] == expected and result["subsets"] == {"knowledge": {"n": n, **expected}}
    assert (result["pairs"]["ece"] is None) == (n < 10)
    assert result["pairs"].get("reason") == ("5 better and 5 worse; needs 10 of each" if n < 10 else None)


def test_wilson_and_the_rule_of_intervals():
    from scipy.stats import binomtest

    for right, n in ((0, 5), (5, 5), (3, 7), (20, 20)):
        found = binomtest(right, n).proportion_ci(method="wilson")
        assert wilson_interval(right / n, n, 0.95) == pytest.approx((found.low, found.high))
    assert interval([0.1, 0.2, 0.3], 0.5) == pytest.approx((0.15, 0.25))  # varies: percentiles, whatever it is of
    assert interval([0.1, 0.2, 0.3], 0.5, share_of=3) == pytest.approx((0.15, 0.25))
    assert interval([2.5, 2.5, 2.5], 0.95) == interval([], 0.95, share_of=3) == (None, None)
    one_user = bootstrap({"share": lambda chosen: 0.6}, ["u"] * 5, 20, share_of={"share": 1})["share"]
    assert one_user.value == 0.6 and one_user.low < 0.15 and one_user.high > 0.9
    assert bootstrap({"mean": lambda chosen: 2.5}, range(3), 20)["mean"] == Estimate(2.5, None, None)


def test_a_comparison_of_what_does_not_vary_has_no_interval():
    right = np.array([[1.0] * 5, [0.0] * 5, [1.0, 1, 0, 0, 1]])
    found = paired_bootstrap(lambda chosen, which: right[which][chosen].mean(), range(5), 200)
    assert (found.difference, found.low, found.high, found.p_value) == (1.0, None, None, None)
    same = paired_bootstrap(lambda chosen, which: right[2][chosen].mean(), range(5), 200)
    assert (same.difference, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_comparison_withholds_the_roc_auc_of_one_positive():
    data = split(1, 29)
    scores = [{"datasets": {"x": perfect(data)}, "benchmarks": {}}] * 2
    found = _differences(scores, Inputs({"x": data}, {}, {}), EvaluateConfig(bootstrap=20), 3)
    assert found["x roc_auc"]["a"] is None and found["x mae"]["a"] == pytest.approx(0.3)
    table = comparison_table(
        {"models": {"a": "a", "b": "b"}, "differences": {name: {"a-b": one} for name, one in found.items()}}
    )
    assert "| x roc_auc | A − B | – (1 positive and 29 negative; needs 10 of each) | – |" in table
    assert "| x roc_auc | – | – |" in table


def test_a_labelers_two_right_turns_are_no_certainty():
    gold = {f"c{i}_turn0": Label(1 if i < 2 else 3, None) for i in range(12)}
    found = agreement(gold, gold, 100)["levels"]["1"]
    assert found["precision"] == found["recall"] == {"value": 1.0, "low": pytest.approx(0.3424, abs=1e-4), "high": 1.0}


@pytest.mark.parametrize(("positives", "measured"), [(1, False), (9, False), (10, True)])
def test_metrics_while_training_leave_out_what_too_few_rows_cannot_show(positives, measured):
    labels = torch.tensor([4] * positives + [1] * 20)
    logits = torch.where(labels[:, None] > 1, 2.0, -2.0).expand(-1, 3)
    found = reward_metrics(logits, labels, "coral")
    assert ("roc_auc" in found) == ("ece" in found) == measured and {
        "mae",
        "qwk",
        "accuracy",
        "spearman",
    } <= found.keys()
    noisy = logits + torch.linspace(-3, 3, len(labels))[:, None]
    assert standard_error("roc_auc", noisy, labels, "coral") > 0  # of resamples with fewer, too
