"""What an evaluation is asked for is checked before a model is opened, and its results are kept apart and together."""

import json
import sys

import pytest
from evaluation_tiny import dataset_folder, reward_model_folder, write_jsonl

from wildreward.errors import UserError
from wildreward.evaluation.command import Options, evaluate_model

NO_MODEL = "./no/such/model"  # whoever gets as far as opening it fails with another error
FAST = Options(bootstrap=0, plots=False)


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
        evaluate_model(model, tmp_path, [dataset], options=Options(bootstrap=0))
    assert json.loads((tmp_path / "results.json").read_text())["datasets"]["feedback"]["n"] == 40
    assert "### feedback" in (tmp_path / "results.md").read_text()
