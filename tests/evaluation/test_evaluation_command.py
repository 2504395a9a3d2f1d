"""The evaluate command end to end on tiny models: results.json, figures, comparison, errors; and labeler evaluation."""

import json
import re
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.evaluation.evaluation_tiny import (
    classifier_folder,
    dataset_folder,
    evaluate_model,
    reward_model_folder,
    rows,
    write_jsonl,
)
from wildreward.common.errors import UserError
from wildreward.evaluation import bootstrap as B
from wildreward.evaluation import labelers as L
from wildreward.evaluation.command import main
from wildreward.evaluation.labeler_command import EvaluateLabelerConfig
from wildreward.evaluation.labeler_command import main as labeler_main
from wildreward.evaluation.pairs import make_pairs, pair_weights, sample_pairs
from wildreward.evaluation.settings import EvaluateConfig, JudgeConfig
from wildreward.evaluation.wildfb import evaluate_split, held_out
from wildreward.model_card import write_model_card


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return reward_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return dataset_folder(tmp_path_factory.mktemp("data"))


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_evaluate_writes_results_figures_and_table(model, dataset, tmp_path, capsys):
    main(EvaluateConfig(model=str(model), dataset=[str(dataset)], output=str(tmp_path), bootstrap=50), JudgeConfig())
    text = (tmp_path / "results.json").read_text()
    results = json.loads(text)
    result = results["datasets"]["feedback"]
    for name in ("mae", "rmse", "accuracy", "within_one_accuracy", "qwk", "spearman", "kendall_tau_b", "roc_auc"):
        assert set(result[name]) == {"value", "low", "high"}
        if name == "qwk":  # the scores round to one level, so that it is 0 on every resample
            assert result[name] == {"value": 0.0, "low": None, "high": None}
            continue
        assert result[name]["low"] <= result[name]["value"] <= result[name]["high"], name
    assert result["n"] == 40 and result["users"] == 12 and sum(result["labels"].values()) == 40
    assert result["n_positive"] + result["n_negative"] == 40
    assert sum(result["calibration"]["bins"]["count"]) == 40
    assert result["pairs"]["accuracy_same_conversation"] is not None
    pairs = result["pairs"]  # a user's pairs are those of a conversation and those across a user's conversations
    assert pairs["n_same_user"] > pairs["n_same_conversation"] > 0
    weighted = pairs["n_same_user"] * pairs["accuracy_same_user"]
    weighted += (pairs["n"] - pairs["n_same_user"]) * pairs["accuracy_across_users"]
    assert weighted / pairs["n"] == pytest.approx(pairs["accuracy"]["value"])
    assert sum(one["n"] for one in pairs["by_score_margin"]) == pairs["n"]
    assert "| accuracy on pairs of the same user |" in (tmp_path / "results.md").read_text()
    assert set(result["languages"]) == {"English", "Chinese"}
    assert results["settings"]["seed"] == 0 and results["versions"]["torch"]
    assert str(tmp_path) not in text and str(dataset) not in text and str(model.parent) not in text
    for figure in ("score_by_label", "reliability", "accuracy_by_margin"):
        width, height = png_size(tmp_path / "figures" / f"{figure}.png")
        assert width > 600 and height > 400
    assert "| ROC-AUC, 20 positive and 20 negative rows |" in (tmp_path / "results.md").read_text()
    assert "ROC-AUC" in capsys.readouterr().out


def test_results_match_metrics_of_the_scores_and_repeat_exactly(model, dataset, tmp_path):
    from sklearn.metrics import roc_auc_score

    from wildreward.scoring.scorer import RewardScorer

    options = {"bootstrap": 20, "plots": False}
    first = evaluate_model(str(model), tmp_path / "a", [str(dataset)], options=options)
    second = evaluate_model(str(model), tmp_path / "b", [str(dataset)], options=options)
    assert first == second
    table = rows()
    scores = RewardScorer.from_pretrained(model).score([[*r["history"], *r["messages"]] for r in table])
    labels = np.array([r["label"] for r in table])
    assert first["datasets"]["feedback"]["mae"]["value"] == pytest.approx(abs(labels - scores).mean(), abs=1e-5)
    assert first["datasets"]["feedback"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(labels >= 3, scores))


def test_the_card_is_written_for_a_wildreward_model_in_its_own_folder_only(dataset, tmp_path):
    given = {"dataset": [str(dataset)], "bootstrap": 0, "plots": False}
    classifier = classifier_folder(tmp_path)
    card = "---\nlicense: llama3.1\n---\n# A model of another group\n"
    (classifier / "README.md").write_text(card)
    main(EvaluateConfig(model=str(classifier), **given), JudgeConfig())
    assert (classifier / "README.md").read_text() == card and (classifier / "results.json").exists()
    ours = reward_model_folder(tmp_path)
    main(EvaluateConfig(model=str(ours), output=str(classifier), **given), JudgeConfig())
    assert (classifier / "README.md").read_text() == card and not (ours / "README.md").exists()
    main(EvaluateConfig(model=str(ours), **given), JudgeConfig())
    assert "ROC-AUC" in (ours / "README.md").read_text()
    reward_model_folder(tmp_path, seed=1)
    again = write_model_card(ours, log=False).read_text()
    assert "These weights were not evaluated" in again and "ROC-AUC" not in again


def test_the_card_shows_the_figures_of_the_present_results_only(dataset, tmp_path):
    pairs = [
        {"pair_id": str(i), "source": "mmlu-pro-x", "question": f"why {i}", "response_A": "good", "response_B": "bad"}
        for i in range(10)
    ]
    file = write_jsonl(tmp_path / "judge.jsonl", [pair | {"label": "A>B"} for pair in pairs])
    model = str(reward_model_folder(tmp_path))
    card = tmp_path / "reward-model" / "README.md"

    def shown():
        return set(re.findall(r"]\(figures/(.*?)\)", card.read_text()))

    main(EvaluateConfig(model=model, dataset=[str(dataset)], bootstrap=0), JudgeConfig())
    assert shown() == {"score_by_label.png", "reliability.png", "accuracy_by_margin.png"}
    main(EvaluateConfig(model=model, benchmark=[f"judge_bench={file}"], bootstrap=0, seed=1), JudgeConfig())
    assert shown() == {"judge_bench_reliability.png", "judge_bench_accuracy_by_margin.png"}
    assert {path.name for path in (card.parent / "figures").iterdir()} > shown()


def test_classifier_gets_rank_measures_only(dataset, tmp_path):
    folder = classifier_folder(tmp_path)
    results = evaluate_model(str(folder), tmp_path / "out", [str(dataset)], options={"bootstrap": 10})
    result = results["datasets"]["feedback"]
    assert "mae" not in result and "calibration" not in result
    assert result["roc_auc"]["value"] is not None and result["pairs"]["nll"] > 0


def test_compare_is_paired(model, dataset, tmp_path):
    from tests.evaluation.evaluation_tiny import compare_models

    (tmp_path / "other").mkdir()
    other = reward_model_folder(tmp_path / "other", seed=1)
    options = {"bootstrap": 40, "plots": False}
    results = compare_models([str(model), str(other)], tmp_path / "out", [str(dataset)], options=options)
    difference = results["comparison"]["differences"]["feedback roc_auc"]["a-b"]
    a, b = (results["models"][k]["datasets"]["feedback"]["roc_auc"]["value"] for k in "ab")
    assert difference["difference"] == pytest.approx(a - b) and 0 < difference["p_value"] <= 1
    assert difference["low"] <= difference["difference"] <= difference["high"]
    assert "A − B" in (tmp_path / "out" / "results.md").read_text()
    same = compare_models([str(model), str(model)], tmp_path / "same", [str(dataset)], options=options)
    difference = same["comparison"]["differences"]["feedback mae"]["a-b"]
    assert difference["difference"] == difference["low"] == difference["high"] == 0 and difference["p_value"] == 1


def test_errors_say_what_to_do(model, dataset, tmp_path):
    with pytest.raises(UserError, match="nothing to evaluate on; give --dataset DIR_OR_ID or --benchmark"):
        evaluate_model(str(model), tmp_path)
    with pytest.raises(UserError, match="give one of --model MODEL, --compare A B and --judge MODEL"):
        main(EvaluateConfig(), JudgeConfig())
    with pytest.raises(UserError, match=r"has no data/dev-\*\.parquet"):
        evaluate_model(str(model), tmp_path, [str(dataset)], options={"split": "dev"})
    with pytest.raises(UserError, match="is not a folder, so results cannot be written into it; give --output"):
        evaluate_model("http://127.0.0.1:1/", None, [str(dataset)])
    bare = dataset_folder(tmp_path, [{"text": "x", "label": 1}])
    with pytest.raises(
        UserError, match="lacks the columns history, messages; expected history, messages, label, found text"
    ):
        evaluate_model(str(model), tmp_path, [str(bare)])
    bare = dataset_folder(tmp_path, [{**rows(1)[0], "label": 0}])
    with pytest.raises(UserError, match="c0_turn0: label is 0; expected a whole level from 1"):
        evaluate_model(str(model), tmp_path, [str(bare)])


def test_figures_without_matplotlib_name_the_extra(monkeypatch):
    import sys

    from wildreward.evaluation.plots import new_figure

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'wildreward\[plots\]'"):
        new_figure()


def test_resampling_draws_whole_clusters_and_widens_intervals():
    clusters = [f"u{i // 10}" for i in range(200)]
    for drawn in B.resamples(clusters, 20, 0):
        assert drawn.size == 200
        counts = np.bincount(drawn, minlength=200).reshape(20, 10)
        assert (counts == counts[:, :1]).all()
    values = np.repeat(np.random.default_rng(0).normal(size=20), 10)
    statistic = {"mean": lambda chosen: float(values[chosen].mean())}
    by_user = B.bootstrap(statistic, clusters, 500)["mean"]
    by_row = B.bootstrap(statistic, list(range(200)), 500)["mean"]
    assert by_user.high - by_user.low > 2 * (by_row.high - by_row.low)
    assert B.bootstrap({"x": lambda chosen: float("nan")}, clusters, 10)["x"] == B.Estimate(None, None, None)


def test_pairs_are_of_different_labels_better_first():
    labels = np.array([1, 2, 2, 4])
    better, worse = sample_pairs(labels, 100, 0)
    assert sorted(zip(better, worse, strict=True)) == [(1, 0), (2, 0), (3, 0), (3, 1), (3, 2)]
    many = np.random.default_rng(0).integers(1, 5, 2000)
    better, worse = sample_pairs(many, 500, 0)
    assert better.size == 500 and (many[better] > many[worse]).all()
    assert len(set(zip(better.tolist(), worse.tolist(), strict=True))) == 500
    pairs = make_pairs(np.array([1.0, 2.0, 3.0, 4.0]), None, labels, 100, 0)
    weights = pair_weights(pairs, ["a", "a", "b", "c"], 50, 0)
    assert weights.shape == (50, 5) and np.allclose(weights.mean(), 1, atol=0.5)


def test_one_class_and_constant_scores_give_null_not_nan():
    from wildreward.scoring.protocol import Scored

    table = [{**row, "label": 4} for row in rows(6)]
    result, curves = evaluate_split(
        held_out(table), [Scored(2.0, (0.25, 0.25, 0.25, 0.25))] * 6, None, EvaluateConfig(bootstrap=5)
    )
    assert result["roc_auc"]["value"] is None and result["spearman"]["value"] is None
    assert "pairs" not in result and len(curves.pairs) == 0
    json.dumps(result, allow_nan=False)


def labels_of(levels, confidence=None):
    return [
        {"id": f"c{i}_turn0", "level": level} | ({} if confidence is None else {"confidence": confidence[i]})
        for i, level in enumerate(levels)
    ]


def test_labeler_agreement_by_hand_and_against_sklearn(tmp_path, capsys):
    from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

    gold, said = [1, 2, 2, 3, 3, 3, 4, 5, 4, 3], [2, 2, 3, 3, 3, 4, 4, 5, None, 3]
    gold_file = write_jsonl(tmp_path / "gold.jsonl", labels_of(gold))
    labels_file = tmp_path / "levels.parquet"
    pq.write_table(pa.Table.from_pylist(labels_of(said, [0.9] * 10)), labels_file)
    labeler_main(EvaluateLabelerConfig(str(gold_file), str(labels_file), str(tmp_path / "out"), bootstrap=20))
    result = json.loads((tmp_path / "out" / "labeler_results.json").read_text())
    assert result["n"] == 10 and result["labelled"] == 9
    assert result["accuracy"]["value"] == pytest.approx(0.6)
    assert result["polarity"]["negative"]["precision"]["value"] == 1.0  # both that were called negative are
    assert result["polarity"]["negative"]["recall"]["value"] == pytest.approx(2 / 3)
    assert result["polarity"]["positive"]["recall"]["value"] == pytest.approx(2 / 3)  # the unlabelled one is missed
    assert result["polarity"]["positive"]["precision"]["value"] == pytest.approx(2 / 3)
    kept = [i for i, level in enumerate(said) if level]
    theirs = cohen_kappa_score([gold[i] for i in kept], [said[i] for i in kept])
    assert result["kappa"]["value"] == pytest.approx(theirs)
    precision, recall, f1, _ = precision_recall_fscore_support(
        gold, [level or 0 for level in said], labels=[1, 2, 3, 4, 5], zero_division=np.nan
    )
    for k in range(1, 6):
        part = result["levels"][str(k)]
        for name, value in (("precision", precision), ("recall", recall), ("f1", f1)):
            ours = part[name]["value"]
            assert ours is None if np.isnan(value[k - 1]) else ours == pytest.approx(value[k - 1])
    assert result["confidence"]["ece"] == pytest.approx(0.9 - 6 / 9)
    assert png_size(tmp_path / "out" / "confusion.png")[0] > 500
    assert "| **negative** | 3 | 2 | 1.000" in capsys.readouterr().out


def test_labeler_files_are_checked(tmp_path):
    bad = [
        ([{"id": "a", "level": 6}], "line 1: level is 6; expected 1 to 5"),
        ([{"id": "a", "level": 1}, {"id": "a", "level": 1}], "line 2: id 'a' occurs twice"),
        ([{"level": 1}], "line 1: id is None"),
        ([{"id": "a", "level": 2, "confidence": 2}], "confidence is 2; expected 0 to 1"),
        ([{"id": "a", "level": "my phone"}], "level is a text of 8 characters; expected 1 to 5"),
    ]
    for items, message in bad:
        with pytest.raises(UserError, match=message):
            L.read_labels(write_jsonl(tmp_path / "x.jsonl", items))
    (tmp_path / "x.jsonl").write_text(json.dumps({"id": "a", "level": 2}), encoding="utf-8-sig")
    assert L.read_labels(tmp_path / "x.jsonl") == {"a": L.Label(2, None)}
    with pytest.raises(UserError, match=r"--bootstrap is -1; expected at least 0\. --seed is -1"):
        labeler_main(EvaluateLabelerConfig("gold", "labels", bootstrap=-1, seed=-1))
    with pytest.raises(
        UserError, match=r"^nope does not exist; expected a labels file or folder \(\.json, \.jsonl, \.par"
    ):
        L.read_labels("nope")
    with pytest.raises(UserError, match="no id in common"):
        L.agreement({"a": L.Label(1, None)}, {"b": L.Label(1, None)})
