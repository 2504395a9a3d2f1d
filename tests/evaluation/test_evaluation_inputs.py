"""What an evaluation is asked for is checked before a model is opened, and its results are kept apart and together."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

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
from tests.hub_double import HubDouble
from wildreward.common.errors import UserError

NO_MODEL = "./no/such/model"  # whoever gets as far as opening it fails with another error
FAST = {"bootstrap": 0, "plots": False}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(reward_model_folder(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return str(dataset_folder(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def judge_bench(tmp_path_factory):
    row = {
        "pair_id": "1",
        "source": "mmlu-pro-math",
        "question": "why",
        "response_A": "good answer",
        "response_B": "bad",
        "label": "A>B",
    }
    return f"judge_bench={write_jsonl(tmp_path_factory.mktemp('bench') / 'pairs.jsonl', [row])}"


def test_what_is_asked_for_is_checked_before_a_model_is_opened(dataset, judge_bench, tmp_path):
    wrong = [
        ([dataset], [judge_bench, "mmlu"], "unknown benchmark 'mmlu'; expected one of reward_bench"),
        ([dataset], [judge_bench, "rm_bench=nowhere.json"], r"nowhere\.json does not exist"),
        ([dataset, str(tmp_path)], [judge_bench], r"has no data/test-\*\.parquet"),
    ]
    for datasets, benchmarks, message in wrong:
        with pytest.raises(UserError, match=message):
            evaluate_model(NO_MODEL, tmp_path / "out", datasets, benchmarks, FAST)


def test_a_single_file_is_read_whole(model, dataset, tmp_path):
    whole = evaluate_model(model, tmp_path / "folder", [dataset], options=FAST)["datasets"]["feedback"]
    table = rows()
    del table[0]["history"]  # it has none: a line may lack what others have
    pq.write_table(pa.Table.from_pylist(rows()), tmp_path / "rows.parquet")
    files = [str(write_jsonl(tmp_path / "rows.jsonl", table)), str(tmp_path / "rows.parquet")]
    found = evaluate_model(model, tmp_path / "files", files, options=FAST)["datasets"]
    digest = hashlib.sha256(Path(files[1]).read_bytes()).hexdigest()
    assert found["rows.parquet"]["read_from"] == [{"file": "rows.parquet", "sha256": digest}]
    for result in found.values():
        assert result["split"] == "all" and result["n"] == whole["n"] and result["mae"] == whole["mae"]


def test_a_file_that_cannot_be_read_is_told_before_a_model_is_opened(judge_bench, tmp_path):
    for name, text, message in (
        ("a.csv", "x", r"a\.csv is a \.csv file; expected one of \.json, \.jsonl, \.parquet"),
        ("a.jsonl", "", r"a\.jsonl is empty; there is nothing to evaluate on"),
        ("a.jsonl", '{"label": 1}\nx', r"a\.jsonl, line 2: not valid JSON"),
        ("a.jsonl", '{"label": 1}', r"a\.jsonl lacks the columns history, messages; expected history, messages, label"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=message):
            evaluate_model(NO_MODEL, tmp_path / "out", [str(tmp_path / name)], [judge_bench], FAST)
    for name, message in (
        ("runs/nope.jsonl", r"^runs/nope\.jsonl does not exist; expected a dataset file or folder"),
        (
            "./runs/nope",
            r"cannot load split 'test' .*: there is no file or folder '\./runs/nope' here, and as an id on",
        ),
    ):
        with pytest.raises(UserError, match=message):
            evaluate_model(NO_MODEL, tmp_path / "out", [name], [judge_bench], FAST)


def test_numbers_out_of_range_are_told_at_once_before_a_model_is_opened(dataset, tmp_path):
    from tests.evaluation.evaluation_tiny import compare_models

    wrong = {"limit": 0, "seed": -1, "bootstrap": -5, "bins": 0, "chunk_size": 0}
    for run in (
        lambda: evaluate_model(NO_MODEL, tmp_path, [dataset], options=wrong, token_budget=0, max_length=-1),
        lambda: compare_models([NO_MODEL] * 2, tmp_path, [dataset], options=wrong, token_budget=0, max_length=-1),
    ):
        with pytest.raises(UserError) as caught:
            run()
        told = str(caught.value).split(". ")
        assert told[0] == "--limit is 0; expected at least 1" and told[2] == "--bootstrap is -5; expected at least 0"
        assert [part.split()[0] for part in told[3:]] == ["--bins", "--chunk_size", "--token_budget", "--max_length"]
    with pytest.raises(UserError, match=r"--limit is -1; expected at least 1$"):
        evaluate_model(NO_MODEL, tmp_path, [dataset], options={"limit": -1})


def test_truncated_weights_are_a_user_error(model, judge_bench, tmp_path):
    for folder in (Path(model), classifier_folder(tmp_path)):
        broken = tmp_path / f"broken-{folder.name}"
        shutil.copytree(folder, broken)
        os.truncate(broken / "model.safetensors", 1000)
        damaged = (
            rf"{broken}/model\.safetensors is damaged or cut off \(.*deserializing header.*\); get or write it anew"
        )
        with pytest.raises(UserError, match=damaged):
            evaluate_model(str(broken), tmp_path / "out", benchmarks=[judge_bench], options=FAST)
    with pytest.raises(UserError, match=r"the tokenizer of \./no/such/tokenizer cannot be loaded"):
        evaluate_model(
            "http://127.0.0.1:1/",
            tmp_path / "out",
            benchmarks=[judge_bench],
            options=FAST,
            served_model="./no/such/tokenizer",
        )


def test_a_row_that_does_not_fit_is_named_without_what_it_says(tmp_path):
    said = "my phone is 555-1234"
    good = rows(1)[0]
    for wrong, message in (
        (
            {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": None}]},
            r"messages, message 2 is an object with .*role \(text\).*; expected role and content",
        ),
        ({"messages": [{"role": said, "content": said}]}, "messages, message 1 has an unknown role"),
        ({"history": said}, "history is a text of 20 characters; expected a list of messages"),
        ({"label": said}, "label is a text of 20 characters; expected a whole level"),
    ):
        folder = dataset_folder(tmp_path, [{**good, **wrong}])
        with pytest.raises(UserError, match=f"c0_turn0: {message}") as caught:
            evaluate_model(NO_MODEL, tmp_path / "out", [str(folder)], options=FAST)
        assert said not in str(caught.value)


def test_missing_matplotlib_is_told_before_a_model_is_opened(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"wildreward\[plots\]'?, or pass --plots false"):
        evaluate_model(NO_MODEL, tmp_path, [dataset])
    with pytest.raises(UserError, match="is not a model folder"):
        evaluate_model(NO_MODEL, tmp_path, [dataset], options=FAST)


def test_results_are_on_disk_before_figures_are_drawn(model, dataset, tmp_path):
    (tmp_path / "figures" / "score_by_label.png").mkdir(parents=True)  # in the way
    with pytest.raises(UserError, match=r"cannot write .*score_by_label\.png"):
        evaluate_model(model, tmp_path, [dataset], options={"bootstrap": 0})
    assert json.loads((tmp_path / "results.json").read_text())["datasets"]["feedback"]["n"] == 40
    assert "### feedback" in (tmp_path / "results.md").read_text()


def test_two_of_one_name_are_refused(dataset, judge_bench, tmp_path):
    other = str(dataset_folder(tmp_path))
    with pytest.raises(UserError, match=r"would both be reported as feedback; .* different --output folders"):
        evaluate_model(NO_MODEL, tmp_path / "out", [dataset, other], [], FAST)
    with pytest.raises(UserError, match="would both be reported as judge_bench"):
        evaluate_model(NO_MODEL, tmp_path / "out", [], [judge_bench, judge_bench], FAST)


def test_several_datasets_have_figures_of_their_own(model, dataset, tmp_path):
    def figures():
        return {path.name: path.read_bytes() for path in (tmp_path / "out" / "figures").iterdir()}

    other = dataset_folder(tmp_path, rows(20, seed=1)).rename(tmp_path / "other")
    evaluate_model(model, tmp_path / "out", [dataset], options={"bootstrap": 0})
    alone = figures()
    kinds = {"score_by_label.png", "reliability.png", "accuracy_by_margin.png"}
    assert set(alone) == kinds
    results = evaluate_model(model, tmp_path / "out", [dataset, str(other)], options={"bootstrap": 0})
    assert {name: result["n"] for name, result in results["datasets"].items()} == {"feedback": 40, "other": 20}
    both = figures()
    assert set(both) == kinds | {f"{name}_{kind}" for name in ("feedback", "other") for kind in kinds}
    assert all(both[kind] == both[f"feedback_{kind}"] == alone[kind] != both[f"other_{kind}"] for kind in kinds)


def test_a_later_evaluation_keeps_the_entries_of_the_same_model_and_settings(model, dataset, judge_bench, tmp_path):
    first = evaluate_model(model, tmp_path, [dataset], options=FAST)
    both = evaluate_model(model, tmp_path, benchmarks=[judge_bench], options=FAST)
    assert both["datasets"] == first["datasets"] and list(both["benchmarks"]) == ["judge_bench"]
    assert json.loads((tmp_path / "results.json").read_text()) == both
    table = (tmp_path / "results.md").read_text()
    assert "### feedback" in table and "### judge_bench" in table
    again = dataset_folder(tmp_path / "again", rows(20))
    assert evaluate_model(model, tmp_path, [str(again)], options=FAST)["datasets"]["feedback"]["n"] == 20
    seeded = evaluate_model(
        model, tmp_path, benchmarks=[judge_bench], options={"seed": 1, "bootstrap": 0, "plots": False}
    )
    assert seeded["datasets"] == {}
    other_model = str(reward_model_folder(tmp_path / "more", seed=1))
    evaluate_model(model, tmp_path, [dataset], options=FAST)
    assert evaluate_model(other_model, tmp_path, benchmarks=[judge_bench], options=FAST)["datasets"] == {}


def test_results_of_another_command_are_replaced(model, dataset, tmp_path):
    ours = {"format": "wildreward-results/1"}
    for other in ([1], {"format": "other/1", "model": "m"}, {**ours, "comparison": {}}, {**ours, "model": {}}):
        (tmp_path / "results.json").write_text(json.dumps(other))
        assert list(evaluate_model(model, tmp_path, [dataset], options=FAST)["datasets"]) == ["feedback"]


def test_positive_labels_follow_the_levels_of_the_model(tmp_path):
    from sklearn.metrics import roc_auc_score

    from wildreward.scoring.scorer import RewardScorer

    six = reward_model_folder(tmp_path, num_levels=6)
    table = [{**row, "label": 1 + i % 6} for i, row in enumerate(rows())]
    dataset = dataset_folder(tmp_path, table)
    results = evaluate_model(str(six), tmp_path / "out", [str(dataset)], options={"bootstrap": 0})
    assert results["settings"]["positive_labels_from"] == 4
    result = results["datasets"]["feedback"]
    scorer = RewardScorer.from_pretrained(six)
    conversations = [[*row["history"], *row["messages"]] for row in table]
    positive = np.array([row["label"] >= 4 for row in table])
    assert result["n_positive"] == positive.sum() and set(result["labels"]) == set("123456")
    assert result["roc_auc"]["value"] == pytest.approx(roc_auc_score(positive, scorer.score(conversations)))
    stated = scorer.level_probs(conversations)[:, 3:].sum(axis=1)
    assert result["calibration"]["brier"] == pytest.approx(((stated - positive) ** 2).mean(), abs=1e-6)


def test_a_label_above_the_models_levels_is_refused_before_scoring(dataset, tmp_path):
    two = str(reward_model_folder(tmp_path, num_levels=2))
    with pytest.raises(
        UserError, match=r"feedback, c\d+_turn\d: label is \d, the model has 2 levels; expected .* 1 to 2"
    ):
        evaluate_model(two, tmp_path / "out", [dataset], options=FAST)
    assert not list((tmp_path / "out").rglob("*.jsonl"))


def test_models_of_different_levels_are_not_compared_on_labels(model, dataset, judge_bench, tmp_path):
    from tests.evaluation.evaluation_tiny import compare_models

    six = str(reward_model_folder(tmp_path, num_levels=6))
    with pytest.raises(UserError, match=r"has 4 levels and .* has 6 levels, so the same labels mean different things"):
        compare_models([model, six], tmp_path / "out", [dataset], options=FAST)
    assert not list((tmp_path / "out").rglob("*.jsonl"))
    compare_models([model, six], tmp_path / "out", benchmarks=[judge_bench], options=FAST)


def test_results_name_what_the_numbers_depend_on(model, dataset, judge_bench, tmp_path):
    results = evaluate_model(model, tmp_path / "out", [dataset], [judge_bench], FAST)
    assert results["settings"]["dtype"] == "float32" and results["settings"]["max_length"] == 512
    assert results["model"]["revision"] is None
    file = next(Path(dataset).glob("data/*.parquet"))
    (origin,) = results["datasets"]["feedback"]["read_from"]
    assert origin == {"file": f"data/{file.name}", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    (origin,) = results["benchmarks"]["judge_bench"]["read_from"]
    assert origin["file"] == "pairs.jsonl" and len(origin["sha256"]) == 64
    half = evaluate_model(model, tmp_path / "half", [dataset], options=FAST, dtype="bfloat16")
    assert half["settings"]["dtype"] == "bfloat16"
    short = classifier_folder(tmp_path)
    results = evaluate_model(str(short), tmp_path / "bt", [dataset], options=FAST, max_length=100)
    assert results["settings"]["max_length"] == 100


FROM_THE_HUB = """
import sys
from huggingface_hub import HfApi
from wildreward.evaluation import EvaluateConfig, evaluate_model

def upload(folder, name, kind):
    HfApi().create_repo(name, repo_type=kind, exist_ok=True)
    HfApi().upload_folder(folder_path=folder, repo_id=name, repo_type=kind)

output, model, other, dataset, bench = sys.argv[1:]
upload(dataset, "ScalerLab/feedback", "dataset")
upload(bench, "ScalerLab/JudgeBench", "dataset")
for number, folder in enumerate((model, other)):
    upload(folder, "ScalerLab/rm", "model")
    given = {"dataset": ["ScalerLab/feedback"], "benchmark": ["judge_bench"], "bootstrap": 0, "plots": False}
    evaluate_model(EvaluateConfig(model="ScalerLab/rm", output=f"{output}{number}", **given))
"""


def test_results_name_the_commits_of_what_came_from_the_hub(model, dataset, judge_bench, tmp_path):
    (tmp_path / "bench" / "data").mkdir(parents=True)
    pairs = [json.loads(line) for line in Path(judge_bench.partition("=")[2]).read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(pairs), tmp_path / "bench" / "data" / "gpt-00000-of-00001.parquet")
    folders = [model, reward_model_folder(tmp_path, seed=1), dataset, tmp_path / "bench"]
    with HubDouble(user="ScalerLab") as hub:
        environment = {**os.environ, **hub.env(tmp_path / "home")}
        command = [sys.executable, "-c", FROM_THE_HUB, tmp_path / "out", *folders]
        subprocess.run([str(part) for part in command], env=environment, check=True)
        repos = (("rm", "models"), ("feedback", "datasets"), ("JudgeBench", "datasets"))
        commits = [hub.repo(f"ScalerLab/{name}", kind).find("main").sha for name, kind in repos]
    first, second = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("out0", "out1"))
    # A model that moved on under its name is another model.
    assert first["model"]["revision"] != second["model"]["revision"] == commits[0]
    assert first["model"]["fingerprint"] != second["model"]["fingerprint"]
    entries = second["datasets"]["ScalerLab/feedback"], second["benchmarks"]["judge_bench"]
    assert entries[0]["read_from"] == [{"repo": "ScalerLab/feedback", "revision": commits[1]}]
    assert entries[1]["read_from"] == [{"repo": "ScalerLab/JudgeBench", "revision": commits[2]}]
