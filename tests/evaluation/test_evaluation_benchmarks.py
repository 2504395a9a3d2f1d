"""Benchmarks: real row formats, published rules on given score tables, malformed files refused with the line."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.evaluation.evaluation_tiny import write_jsonl
from wildreward.common.errors import UserError
from wildreward.common.rows import read_rows
from wildreward.evaluation.benchmarks.rm_bench import rm_bench_accuracy
from wildreward.evaluation.benchmarks.run import BENCHMARKS, benchmark_results, load_benchmark
from wildreward.evaluation.best_of_n import best_of_k_curve
from wildreward.evaluation.settings import EvaluateConfig
from wildreward.scoring.protocol import Scored

OPTIONS = EvaluateConfig(bootstrap=20)

RM = {
    "id": "42",
    "prompt": "What is entanglement?",
    "chosen": ["short right", "long right", "**long** right"],
    "rejected": ["short wrong", "long wrong", "**long** wrong"],
    "domain": "chat",
}
REWARD = {
    "prompt": "p",
    "chosen": "good",
    "chosen_model": "x",
    "rejected": "bad",
    "rejected_model": "y",
    "subset": "hep-go",
    "id": 7,
}
REWARD_2 = {
    "id": "12",
    "prompt": "p",
    "chosen": ["good"],
    "rejected": ["b1", "b2", "b3"],
    "num_correct": 1,
    "num_incorrect": 3,
    "total_completions": 4,
    "models": ["m"],
    "subset": "Math",
    "additional_metadata": {},
}
JUDGE = {
    "pair_id": "81ec57f2",
    "original_id": "10646",
    "source": "mmlu-pro-computer science",
    "question": "Consider a channel",
    "response_model": "gpt-4o-2024-05-13",
    "response_A": "wrong",
    "response_B": "right",
    "label": "B>A",
}
HUMAN = {
    "question_id": "q1",
    "model_a": "a",
    "model_b": "b",
    "winner": "model_b",
    "prompt": "p",
    "response_1": "r1",
    "response_2": "r2",
    "language": "English",
}


def correctness(question="q1", verdicts=(True, False, False, True), pairs=((0, 1), (2, 3)), **extra):
    row = {
        "question_id": question,
        "prompt": "p",
        "scores": list(verdicts),
        "sampled_conflict_pairs": [list(p) for p in pairs],
    }
    return {**row, **{f"response_{i + 1}": f"{question} r{i}" for i in range(len(verdicts))}, **extra}


def results(name, path, table):
    """Results with scores looked up by candidate text."""
    benchmark, items = load_benchmark(f"{name}={path}")
    scored = [[Scored(float(table[c])) for c in item.candidates] for item in items]
    return benchmark_results(benchmark, items, scored, OPTIONS)


def published_rm_bench(chosen, rejected):
    """The rule as its authors describe it, one comparison at a time."""
    wins = np.zeros((3, 3))
    for right, wrong in zip(chosen, rejected, strict=True):
        for i in range(3):
            for j in range(3):
                wins[i, j] += right[i] > wrong[j]
    wins /= len(chosen)
    return {
        "easy": (wins[1, 0] + wins[2, 0] + wins[2, 1]) / 3,
        "normal": (wins[0, 0] + wins[1, 1] + wins[2, 2]) / 3,
        "hard": (wins[0, 1] + wins[0, 2] + wins[1, 2]) / 3,
    }


def test_rm_bench_rule_on_given_score_tables():
    # The better-styled answer always wins: easy 1, hard 0; same style ties, and a tie is not a win.
    assert rm_bench_accuracy([[1, 2, 3]], [[1, 2, 3]]) == {"easy": 1.0, "normal": 0.0, "hard": 0.0}
    assert rm_bench_accuracy([[4, 4, 4]], [[1, 2, 3]]) == {"easy": 1.0, "normal": 1.0, "hard": 1.0}
    rng = np.random.default_rng(0)
    chosen, rejected = rng.integers(0, 5, (40, 3)), rng.integers(0, 4, (40, 3))
    assert rm_bench_accuracy(chosen, rejected) == pytest.approx(published_rm_bench(chosen, rejected))
    with pytest.raises(ValueError, match="expected both"):
        rm_bench_accuracy([[1, 2]], [[1, 2]])
    with pytest.raises(ValueError, match="NaN"):
        rm_bench_accuracy([[1, 2, float("nan")]], [[1, 2, 3]])


def test_rm_bench_is_the_mean_over_domains_with_safety_as_one(tmp_path):
    def row(domain, number, better):
        names = [f"{domain}{number}{side}{style}" for side in "cr" for style in range(3)]
        return {**RM, "id": f"{domain}{number}", "domain": domain, "chosen": names[:3], "rejected": names[3:]}, better

    rows = [
        row("chat", 0, True),
        row("chat", 1, True),
        row("code", 0, True),
        row("safety-refuse", 0, True),
        row("safety-response", 0, False),
    ]
    table = {c: float(better) for r, better in rows for c in r["chosen"]}
    table |= {c: 0.5 for r, _ in rows for c in r["rejected"]}
    path = tmp_path / "total_dataset.json"
    path.write_text(json.dumps([r for r, _ in rows], indent=2))
    result = results("rm_bench", path, table)
    assert result["score"]["value"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert result["parts"]["hard"]["value"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert result["subsets"]["safety-response"]["value"] == 0 and result["subsets"]["chat"]["n"] == 2
    assert result["n"] == 5 and result["candidates"] == 30 and result["pairs"]["n"] == 45


def test_reward_bench_sections_are_weighted_by_published_counts(tmp_path):
    rows = [
        {**REWARD, "subset": "hep-go", "chosen": "c1", "rejected": "r1"},
        {**REWARD, "subset": "math-prm", "chosen": "c2", "rejected": "r2"},
        {**REWARD, "subset": "alpacaeval-easy", "chosen": "c3", "rejected": "r3"},
        {**REWARD, "subset": "alpacaeval-easy", "chosen": "c4", "rejected": "r4"},
        {**REWARD, "subset": "mt-bench-easy", "chosen": "c5", "rejected": "r5"},
    ]
    table = {"c1": 1, "r1": 0, "c2": 0, "r2": 1, "c3": 1, "r3": 0, "c4": 0, "r4": 0, "c5": 1, "r5": 0}
    result = results("reward_bench", write_jsonl(tmp_path / "filtered.jsonl", rows), table)
    reasoning = 164 * 1 / (164 + 984)
    chat = (100 * 0.5 + 28 * 1) / 128  # the tie is not a win
    assert result["parts"]["Reasoning"]["value"] == pytest.approx(reasoning)
    assert result["parts"]["Chat"]["value"] == pytest.approx(chat)
    assert result["score"]["value"] == pytest.approx((reasoning + chat) / 2)


def reference_ties(reference, tied):
    """Published Ties score of {prompt: (right scores, wrong scores)}."""

    def stats(prompts):
        return {k: (min(r) > max(w), max(r) - min(r), min(r) - max(w)) for k, (r, w) in prompts.items()}

    ref, tie = stats(reference), stats(tied)
    both = sorted(set(ref) & set(tie))
    spread = np.array([tie[k][1] for k in both])
    own = np.array([tie[k][2] for k in both])
    other = np.array([ref[k][2] for k in both])
    return (
        0.3 * np.mean([s[0] for s in tie.values()])
        + 0.3 * np.mean([s[0] for s in ref.values()])
        + 0.2 * np.mean(own > spread)
        + 0.2 * np.mean(np.minimum(own, other) > spread)
        + 0.01 * np.mean(np.tanh(np.minimum(own, other) / spread - 1))
    )


def test_reward_bench_2_credits_and_ties(tmp_path):
    reference = {0: ([3.0], [1.0, 0.5]), 1: ([1.0], [2.0, 0.0])}
    tied = {0: ([3.0, 2.5, 2.8], [1.0, 0.0]), 1: ([2.0, 1.0], [0.9, 0.2])}
    rows, table = [], {}
    for kind, prompts in (("ref", reference), ("tied", tied)):
        for number, sides in prompts.items():
            texts = [[f"{kind}{number}{side}{i}" for i in range(len(s))] for side, s in zip("rw", sides, strict=True)]
            table |= {t: s for ts, ss in zip(texts, sides, strict=True) for t, s in zip(ts, ss, strict=True)}
            rows.append(
                {
                    **REWARD_2,
                    "id": f"{kind}:{number}",
                    "subset": "Ties",
                    "chosen": texts[0],
                    "rejected": texts[1],
                    "num_correct": len(texts[0]),
                }
            )
    rows += [
        {**REWARD_2, "id": "1", "chosen": ["m1"], "rejected": ["m2", "m3", "m4"]},
        {**REWARD_2, "id": "2", "chosen": ["n1"], "rejected": ["n2", "n3", "n4"]},
    ]
    table |= {"m1": 2, "m2": 2, "m3": 1, "m4": 0, "n1": 3, "n2": 0, "n3": 0, "n4": 0}
    result = results("reward_bench_2", write_jsonl(tmp_path / "test.jsonl", rows), table)
    expected = reference_ties(reference, tied)
    assert result["subsets"]["Ties"]["value"] == pytest.approx(expected)
    assert result["subsets"]["Math"]["value"] == pytest.approx((0.5 + 1) / 2)
    assert result["score"]["value"] == pytest.approx((expected + 0.75) / 2)


def test_judge_bench_counts_pairs_and_reads_equal_scores_as_b(tmp_path):
    rows = [
        JUDGE,
        {**JUDGE, "pair_id": "2", "source": "livecodebench", "response_A": "x", "response_B": "y", "label": "A>B"},
        {**JUDGE, "pair_id": "3", "source": "livecodebench", "response_A": "x2", "response_B": "y2", "label": "B>A"},
    ]
    table = {"right": 1, "wrong": 0, "x": 1, "y": 1, "x2": 1, "y2": 1}
    result = results("judge_bench", write_jsonl(tmp_path / "gpt.jsonl", rows), table)
    assert result["score"]["value"] == pytest.approx(2 / 3)
    assert result["subsets"]["coding"]["value"] == 0.5 and result["subsets"]["knowledge"]["value"] == 1.0


def test_ppe_human_sets_ties_aside(tmp_path):
    rows = [
        HUMAN,
        {**HUMAN, "question_id": "q2", "winner": "tie (bothbad)"},
        {**HUMAN, "question_id": "q3", "winner": "model_a", "response_1": "s1", "response_2": "s2"},
    ]
    path = tmp_path / "test.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    result = results("ppe_human", path, {"r1": 0, "r2": 1, "s1": 1, "s2": 1})
    assert result["n"] == 2 and result["score"]["value"] == 0.75


def test_ppe_correctness_from_a_folder_of_files(tmp_path):
    write_jsonl(
        tmp_path / "PPE-MATH-Best-of-K.jsonl", [correctness("a", model_name="x"), correctness("a", model_name="y")]
    )
    write_jsonl(tmp_path / "gpqa.jsonl", [correctness("b", pairs=[(0, 1)])])
    # a: answers 0 and 3 are right; 0 beats 1, 3 ties with 2. b: 0 loses to 1.
    table = {"a r0": 3, "a r1": 0, "a r2": 2, "a r3": 2, "b r0": 0, "b r1": 1, "b r2": 0, "b r3": 0}
    result = results("ppe_correctness", tmp_path, table)
    assert result["subsets"]["math"]["value"] == 0.75 and result["subsets"]["gpqa"]["value"] == 0.0
    assert result["score"]["value"] == pytest.approx(0.375)
    assert result["parts"]["best_of_k_last"]["value"] == pytest.approx(0.5)  # math: the right r0; gpqa: the wrong r1


def test_best_of_k_equals_enumeration():
    from itertools import combinations

    rng = np.random.default_rng(1)
    scores, quality = rng.integers(0, 4, 7).astype(float), rng.random(7)
    curve = best_of_k_curve(scores, quality)
    for k in range(1, 8):
        picks = [
            np.mean([quality[i] for i in subset if scores[i] == max(scores[j] for j in subset)])
            for subset in combinations(range(7), k)
        ]
        assert curve[k - 1] == pytest.approx(np.mean(picks))


BROKEN = [
    ("rm_bench", {**RM, "chosen": ["one", "two"]}, "chosen has 2 texts; expected 3"),
    ("rm_bench", {k: v for k, v in RM.items() if k != "domain"}, "no domain in the row, nor in the file's name"),
    ("rm_bench", {**RM, "prompt": 5}, "prompt is 5; expected a text"),
    ("reward_bench", {**REWARD, "subset": "hep-cobol"}, "subset is 'hep-cobol'; expected one of the 23"),
    ("reward_bench", {**REWARD, "rejected": None}, "rejected is None; expected a text"),
    ("reward_bench_2", {**REWARD_2, "num_correct": 2}, "num_correct is 2 but there are 1 chosen"),
    ("reward_bench_2", {**REWARD_2, "subset": "Ties"}, "expected ref:<n> or tied:<n>"),
    ("judge_bench", {**JUDGE, "label": "A=B"}, "label is 'A=B'; expected 'A>B' or 'B>A'"),
    ("judge_bench", {**JUDGE, "source": "arena"}, "source is 'arena'"),
    ("ppe_human", {**HUMAN, "winner": "a"}, "winner is 'a'; expected one of model_a"),
    ("ppe_correctness", correctness(pairs=[(0, 9)], subset="math"), r"holds \[0, 9\]; expected two positions below 4"),
    ("ppe_correctness", {**correctness(subset="math"), "response_3": None}, "response_3 is None"),
    (
        "ppe_correctness",
        {**correctness(subset="math"), "sampled_conflict_pairs": [5]},
        "holds 5; expected two positions",
    ),
    (
        "reward_bench_2",
        {**REWARD_2, "subset": "math"},
        "subset is 'math'; expected one of Factuality, Precise IF, Math",
    ),
    ("reward_bench_2", {**REWARD_2, "chosen": [""]}, "chosen holds an empty text"),
    ("rm_bench", {**RM, "chosen": ["", "", ""]}, "chosen holds an empty text; expected an answer in each"),
    ("rm_bench", {**RM, "prompt": []}, "prompt has messages of nobody; expected the user's last"),
    (
        "rm_bench",
        {**RM, "prompt": [{"role": "tool", "content": None}]},
        r"prompt, message 1 is an object with role \(text\), content \(None\); expected role and content, both text",
    ),
    (
        "rm_bench",
        {**RM, "prompt": [{"role": "alien", "content": "x"}]},
        "prompt, message 1 has an unknown role; expected user, assistant, system or tool",
    ),
    (
        "rm_bench",
        {**RM, "prompt": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
        "prompt has messages of user, assistant; expected the user's last",
    ),
]


@pytest.mark.parametrize(("name", "row", "reason"), BROKEN)
def test_malformed_rows_are_refused_with_file_and_line(tmp_path, name, row, reason):
    good = {
        "rm_bench": RM,
        "reward_bench": REWARD,
        "reward_bench_2": REWARD_2,
        "judge_bench": JUDGE,
        "ppe_human": HUMAN,
    }
    first = good.get(name) or correctness(subset="math")
    path = write_jsonl(tmp_path / "items.jsonl", [first, row])
    with pytest.raises(UserError, match=rf"items\.jsonl, line 2: not a {name} row: .*{reason}"):
        load_benchmark(f"{name}={path}")


def test_broken_json_is_refused_with_file_and_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(RM) + "\n" + json.dumps(RM) + '\n{"id": "3", "prompt": oops}\n')
    with pytest.raises(UserError, match=r"x\.jsonl, line 3: not valid JSON"):
        load_benchmark(f"rm_bench={path}")
    path = tmp_path / "x.json"
    text = json.dumps([RM, RM], indent=1)
    path.write_text(text[:-30])
    with pytest.raises(UserError, match=r"x\.json, line \d+: not valid JSON"):
        load_benchmark(f"rm_bench={path}")
    path.write_text(json.dumps([RM, {**RM, "chosen": []}], indent=1))
    with pytest.raises(UserError, match=rf"line {text.splitlines().index(' {', 3) + 1}: not a rm_bench row"):
        load_benchmark(f"rm_bench={path}")
    path.write_text("[" + json.dumps(RM) + ",\n")
    with pytest.raises(UserError, match="line 2: the list is cut off"):
        load_benchmark(f"rm_bench={path}")
    path.write_text(json.dumps(RM) + '\n{"a": ' + "[" * 5000 + "]" * 5000 + "}")
    with pytest.raises(UserError, match=r"line 2: not valid JSON .*recursion"):
        load_benchmark(f"rm_bench={path}")
    path.write_bytes(b'{"id": 1}\n\xff\xfe')
    with pytest.raises(UserError, match="line 2: not UTF-8"):
        load_benchmark(f"rm_bench={path}")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(UserError, match=r"cut\.parquet is not a readable parquet file"):
        load_benchmark(f"ppe_human={tmp_path / 'cut.parquet'}")


def test_odd_but_legitimate_rows_are_read(tmp_path):
    chat = [{"role": "system", "content": ""}, {"role": "human", "content": "q"}]
    rows = {
        "rm_bench": {**RM, "prompt": chat, "rejected": ["", "b", "c"], "domain": "Safety_Refuse"},
        "reward_bench": {**REWARD, "rejected": ""},
        "ppe_human": {**HUMAN, "response_1": ""},
        "ppe_correctness": {**correctness(subset="MMLU-Pro"), "response_2": ""},
    }
    found = {}
    for name, row in rows.items():
        _, found[name] = load_benchmark(f"{name}={write_jsonl(tmp_path / f'{name}.jsonl', [row])}")
    assert all("" in item.candidates for (item,) in found.values())
    assert found["rm_bench"][0].prompt == [{"role": "system", "content": ""}, {"role": "user", "content": "q"}]
    assert found["ppe_correctness"][0].subset == "mmlu_pro" and found["rm_bench"][0].subset == "safety-refuse"


def test_errors_do_not_repeat_what_was_said(tmp_path):
    said = "my phone is 555-1234"
    for row in (
        {**RM, "prompt": [{"role": "user", "content": said}, {"role": said, "content": "x"}]},
        {**RM, "prompt": [{"role": "user", "content": [said]}]},
        {**RM, "chosen": said},
        {**RM, "prompt": {"text": said}},
        [said],
    ):
        with pytest.raises(UserError, match="line 1: ") as caught:
            load_benchmark(f"rm_bench={write_jsonl(tmp_path / 'x.jsonl', [row])}")
        assert said not in str(caught.value)


def test_names_and_places(tmp_path):
    assert set(BENCHMARKS) == {
        "reward_bench",
        "reward_bench_2",
        "rm_bench",
        "ppe_human",
        "ppe_correctness",
        "judge_bench",
        "rmb",
    }
    with pytest.raises(UserError, match="unknown benchmark 'mmlu'; expected one of reward_bench"):
        load_benchmark("mmlu")
    with pytest.raises(UserError, match="does not exist"):
        load_benchmark(f"rm-bench={tmp_path / 'nothing.json'}")
    path = tmp_path / "list.json"
    path.write_text("[]")
    with pytest.raises(UserError, match="holds no rm_bench items"):
        load_benchmark(f"rm_bench={path}")


def test_json_reader_gives_rows_and_lines_of_both_layouts(tmp_path):
    listed, lined = tmp_path / "a.json", tmp_path / "a.jsonl"
    listed.write_text('[\n {"a": 1},\n {"a": "x\\n[]{},"}\n]\n')
    lined.write_text('{"a": 1}\n\n{"a": "x\\n[]{},"}\n')
    marked = tmp_path / "marked.jsonl"
    marked.write_text(lined.read_text(), encoding="utf-8-sig")
    for path, places in ((listed, [2, 3]), (lined, [1, 3]), (marked, [1, 3])):
        found = list(read_rows(path))
        assert [row for _, row in found] == [{"a": 1}, {"a": "x\n[]{},"}]
        assert [int(where.rsplit(" ", 1)[1]) for where, _ in found] == places
