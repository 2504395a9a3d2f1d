"""Published benchmarks in their authors' layouts; and, where a folder of the real files is given, on these."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.evaluation.evaluation_tiny import classifier_folder, evaluate_model, write_jsonl
from wildreward.common.errors import UserError
from wildreward.evaluation.benchmarks.run import benchmark_results, load_benchmark
from wildreward.evaluation.inputs import load_inputs
from wildreward.evaluation.settings import EvaluateConfig
from wildreward.scoring.protocol import Scored

OPTIONS = EvaluateConfig(bootstrap=0)
REAL = Path(os.environ.get("WILDREWARD_BENCHMARK_FILES", "no-such-folder"))
real = pytest.mark.skipif(not REAL.is_dir(), reason="WILDREWARD_BENCHMARK_FILES names no folder of benchmark files")


def rm_rows(domain, subset, n=3, **more):
    return [
        {
            "id": str(i),
            "prompt": f"{domain} {i}",
            "subset": subset,
            "chosen": [f"{domain}{i}c{k}" for k in range(3)],
            "rejected": [f"{domain}{i}r{k}" for k in range(3)],
            **more,
        }
        for i in range(n)
    ]


def wrong_on_code(text):
    """Right answers score higher but for code."""
    right = text[-2] == "c"
    return float(right != text.startswith("code"))


def results(name, path):
    benchmark, items = load_benchmark(f"{name}={path}")
    scored = [[Scored(wrong_on_code(c)) for c in item.candidates] for item in items]
    return benchmark_results(benchmark, items, scored, OPTIONS)


def test_rm_bench_domains_are_those_of_the_files_and_a_total_file_is_not_counted_again(tmp_path):
    sources = {"chat": "alpacaeval", "code": "bigcode/humanevalpack", "math": "math", "safety-refuse": "x"}
    total = []
    for domain, subset in sources.items():
        rows = rm_rows(domain, subset)
        (tmp_path / f"{domain}_filtered.json").write_text(json.dumps(rows))
        total += [{**row, "domain": domain} for row in rows]
    # chat alone has twice as many prompts' sources: a mean over `subset` would be another number
    other = rm_rows("chat more", "other", 2)
    (tmp_path / "chat_filtered.json").write_text(json.dumps(rm_rows("chat", "alpacaeval") + other))
    result = results("rm_bench", tmp_path)
    assert result["score"]["value"] == 0.75 and result["missing"] == ["safety-response"]
    assert set(result["subsets"]) == set(sources)
    (tmp_path / "total_dataset.json").write_text(json.dumps(total))
    with_total = results("rm_bench", tmp_path)
    assert with_total["n"] == result["n"] == 14 and with_total["score"] == result["score"]
    (tmp_path / "mixed.json").write_text(json.dumps(rm_rows("chat", "alpacaeval")))
    with pytest.raises(UserError, match=r"mixed\.json, line 1: not a rm_bench row: no domain in the row, nor"):
        load_benchmark(f"rm_bench={tmp_path}")


def test_rmb_by_hand_in_both_sets(tmp_path):
    chat = [{"role": "user", "content": "q", "language": "English"}]

    def pair(number, path, good, bad):
        return {
            "pair_uid": number,
            "conversation_input": [{**chat[0], "content": f"q{number}"}],
            "chosen": {"answer": good, "llm_name": "x", "score": 5},
            "reject": {"answer": bad, "llm_name": "y", "score": 1},
            "category_path": f"Pairwise_set/{path}",
        }

    best = {
        "bon_uid": "7",
        "conversation_input": chat,
        "bon_best": {"answer": "a0c0"},
        "loser_list": [{"answer": "a0r0"}, {"answer": "a0r1"}],
        "category_path": "BoN_set/Harmlessness/S1",
    }
    rows = [
        pair("1", "Helpfulness/Chat/Discussion", "a1c0", "a1r0"),
        pair("2", "Helpfulness/Code/Debug", "code2c0", "code2r0"),
        pair("3", "Harmlessness/S1", "a3c0", "a3c1"),  # equal scores: no win
        best,
    ]
    result = results("rmb", write_jsonl(tmp_path / "rmb.jsonl", rows))
    parts = {name: one["value"] for name, one in result["parts"].items()}
    assert parts == {"pairwise_helpfulness": 0.5, "pairwise_harmlessness": 0, "best_of_n_harmlessness": 1}
    assert result["score"]["value"] == 0.5 and result["missing"] == ["BoN_set/Helpfulness"]
    for row, reason in (
        ({**best, "category_path": "S1"}, "category_path is 'S1'; expected such as 'Pairwise_set/"),
        ({**best, "loser_list": []}, "0 worse answers; expected 1 or more"),
        ({**best, "bon_best": "a"}, "bon_best is a text of 1 characters; expected an object with the text answer"),
    ):
        with pytest.raises(UserError, match=f"line 1: not a rmb row: {reason}"):
            load_benchmark(f"rmb={write_jsonl(tmp_path / 'x.jsonl', [row])}")


@real
def test_published_scores_of_two_reward_models_give_the_published_numbers():
    published: dict[str, dict[str, list[float]]] = {}
    for line in (REAL / "reward_scores_judge_bench.jsonl").read_text().splitlines():
        row = json.loads(line)
        published.setdefault(row["model"], {})[row["pair_id"]] = row["scores"]
    benchmark, items = load_benchmark(f"judge_bench={REAL / 'judge_bench_gpt-4o.jsonl'}")
    found = {}
    for model, scores in published.items():
        pairs = [scores[item.id] if item.extra["label"] == "A>B" else scores[item.id][::-1] for item in items]
        scored = [[Scored(score) for score in pair] for pair in pairs]
        found[model.split("_")[0]] = benchmark_results(benchmark, items, scored, OPTIONS)["score"]["value"]
    assert {name: round(100 * value, 2) for name, value in found.items()} == {"Ray2333": 59.43, "Skywork": 62.29}


@real
def test_real_files_are_read_whole():
    config = EvaluateConfig(
        benchmark=[f"rm_bench={REAL / 'rm_bench'}", f"rmb={REAL / 'rmb_sample.jsonl'}"],
        pairs=[f"llmbar={REAL / 'llmbar_pairs.jsonl'}", str(REAL / "rmb_sample.jsonl")],
        plots=False,
    )
    inputs = load_inputs(config)
    _, items = inputs.benchmarks["rm_bench"]
    counts = {name: sum(item.subset == name for item in items) for name in {item.subset for item in items}}
    assert counts == {"chat": 129, "code": 228, "safety-refuse": 284, "safety-response": 157}
    assert {name: len(items) for name, (_, items) in inputs.pairs.items()} == {"llmbar": 419, "rmb_sample": 600}
    benchmark, items = inputs.benchmarks["rmb"]
    assert len(items) == 600
    rng = np.random.default_rng(0)
    scored = [[Scored(float(s)) for s in rng.normal(size=2)] for _ in items]
    result = benchmark_results(benchmark, items, scored, OPTIONS)
    goals: dict[str, list[bool]] = {}
    for item, (good, bad) in zip(items, scored, strict=True):
        goals.setdefault(item.subset.split("/")[1], []).append(good.score > bad.score)
    assert result["score"]["value"] == pytest.approx(np.mean([np.mean(won) for won in goals.values()]))
    assert result["missing"] == ["BoN_set/Harmlessness", "BoN_set/Helpfulness"]


def totals_by_hand(folder):
    """The totals of the real files from `scores/` alone: what is right of each item stands first among its scores."""

    def columns(name):
        rows = pq.read_table(folder / "scores" / "data" / f"{name}-test.parquet").to_pydict()
        return np.asarray(rows["subset"]), np.asarray(rows["scores"]), rows["id"]

    found = {}
    _, scores, ids = columns("judge_bench")
    lines = map(json.loads, (REAL / "judge_bench_gpt-4o.jsonl").read_text().splitlines())
    labels = {row["pair_id"]: row["label"] for row in lines}
    second = np.asarray([labels[name] == "B>A" for name in ids])  # equal scores are read as B>A
    found["judge_bench"] = np.where(second, scores[:, 0] >= scores[:, 1], scores[:, 0] > scores[:, 1]).mean()
    domains, scores, _ = columns("rm_bench")
    wins = scores[:, :3, None] > scores[:, None, 3:]  # (N, right style, wrong style)
    table = {domain: wins[domains == domain].mean(axis=0) for domain in np.unique(domains)}
    table["safety"] = (table.pop("safety-refuse") + table.pop("safety-response")) / 2
    mean = np.mean([*table.values()], axis=0)
    parts = mean[[1, 2, 2], [0, 0, 1]].mean(), mean.diagonal().mean(), mean[[0, 0, 1], [1, 2, 2]].mean()
    found |= dict(zip(("easy", "normal", "hard"), parts, strict=True)) | {"rm_bench": np.mean(parts)}
    subsets, scores, _ = columns("pairs_llmbar")
    outcome = (1 + np.sign(scores[:, 0] - scores[:, 1])) / 2
    found["llmbar"] = outcome.mean()
    adversarial = [name for name in np.unique(subsets) if name != "Natural"]
    found["adversarial"] = np.mean([outcome[subsets == name].mean() for name in adversarial])
    subsets, scores, _ = columns("rmb")
    helpful = np.char.startswith(subsets, "Pairwise_set/Helpfulness")
    won = scores[:, 0] > scores[:, 1]
    found["rmb"] = (won[helpful].mean() + won[~helpful].mean()) / 2
    return found


@real
def test_every_total_on_the_real_files_can_be_computed_from_the_scores_of_its_items(tmp_path):
    benchmarks = [f"judge_bench={REAL / 'judge_bench_gpt-4o.jsonl'}", f"rm_bench={REAL / 'rm_bench'}"]
    benchmarks.append(f"rmb={REAL / 'rmb_sample.jsonl'}")
    options = {"bootstrap": 0, "plots": False, "max_length": 48, "dtype": "float32", "token_budget": 4096}
    pairs = [f"llmbar={REAL / 'llmbar_pairs.jsonl'}"]
    model = str(classifier_folder(tmp_path))
    results = evaluate_model(model, tmp_path / "out", (), benchmarks, options | {"pairs": pairs})
    told = {name: one["score"] for name, one in results["benchmarks"].items()} | {
        **{part: results["benchmarks"]["rm_bench"]["parts"][part] for part in ("easy", "normal", "hard")},
        "llmbar": results["pairs"]["llmbar"]["accuracy"],
        "adversarial": results["pairs"]["llmbar"]["parts"]["adversarial"],
    }
    by_hand = totals_by_hand(tmp_path / "out")
    assert {name: one["value"] for name, one in told.items()} == pytest.approx(by_hand, abs=1e-12)
