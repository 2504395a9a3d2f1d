"""Own pairs: every form they come in gives the same items; accuracy by hand; what does not fit is told by its line."""

import gzip
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.evaluation.evaluation_tiny import (
    classifier_folder,
    compare_models,
    evaluate_model,
    policy_folder,
    reward_model_folder,
    text,
    write_jsonl,
)
from wildreward.common.errors import UserError
from wildreward.evaluation.benchmarks.preference import LLMBar, Preference
from wildreward.evaluation.benchmarks.run import preference_results
from wildreward.evaluation.inputs import load_inputs
from wildreward.evaluation.settings import EvaluateConfig
from wildreward.scoring.protocol import Scored

FAST = {"bootstrap": 0, "plots": False}


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


FORMS = {
    "texts": {"prompt": "q", "chosen": "good", "rejected": "bad"},
    "messages": {"prompt": [user("q")], "chosen": [assistant("good")], "rejected": [assistant("bad")]},
    "implicit prompt": {"chosen": [user("q"), assistant("good")], "rejected": [user("q"), assistant("bad")]},
    "prompt repeated": {
        "prompt": "q",
        "chosen": [user("q"), assistant("good")],
        "rejected": [user("q"), assistant("bad")],
    },
    "transcript": {
        "chosen": "\n\nHuman: q\n\nAssistant: good",
        "rejected": "\n\nHuman: q\n\nAssistant: bad",
    },
    "mixed": {"prompt": [user("q")], "chosen": "good", "rejected": [assistant("bad")], "subset": None, "margin": None},
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_give_the_same_pair(form):
    (item,) = Preference().parse(FORMS[form], "")
    assert item.prompt == [user("q")] and item.candidates == ["good", "bad"] and not item.leads


def test_conversations_that_part_early_are_scored_each_behind_its_own():
    first = [user("q"), assistant("a"), user("r"), assistant("good")]
    second = [user("q"), assistant("b"), user("s"), assistant("bad")]
    (item,) = Preference().parse({"chosen": first, "rejected": second}, "")
    assert [group.conversations for group in item.groups] == [[first], [second]] and item.prompt == [user("q")]


WRONG = [
    ({"prompt": "q", "rejected": "b"}, "chosen missing; expected prompt, chosen, rejected, found prompt, rejected"),
    (
        {"chosen": "a", "rejected": "b"},
        "prompt missing, and chosen is a text of 1 characters; expected a prompt, or whole",
    ),
    ({"prompt": "q", "chosen": 3, "rejected": "b"}, "chosen is 3; expected a list of messages"),
    ({"prompt": "q", "chosen": [user("x")], "rejected": "b"}, "does not begin with the prompt"),
    ({"prompt": [user("q"), assistant("x")], "chosen": "a", "rejected": "b"}, "expected the user's last"),
    (
        {"chosen": [user("q"), assistant("a")], "rejected": [user("r"), assistant("b")]},
        "do not begin with the same message",
    ),
    ({"prompt": "", "chosen": "a", "rejected": "b"}, "prompt is an empty text; expected a text"),
    ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": "much"}, "margin is a text of 4 characters"),
    ({"prompt": "q", "chosen": "a", "rejected": "b", "tie": 2}, "tie is 2; expected true or false"),
    ({"prompt": "q", "chosen": [], "rejected": "b"}, "chosen has no messages"),
]


@pytest.mark.parametrize(("row", "reason"), WRONG)
def test_a_row_that_does_not_fit_is_told_by_its_line(row, reason, tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", [FORMS["texts"], row])
    with pytest.raises(UserError, match=rf"p\.jsonl, line 2: not a preference row: .*{reason}"):
        load_inputs(EvaluateConfig(pairs=[str(path)], plots=False))


def test_files_of_every_kind_give_the_same_items(tmp_path):
    rows = [FORMS["texts"] | {"id": "1", "subset": "s"}, FORMS["texts"] | {"prompt": "r", "id": "2", "subset": "t"}]
    (tmp_path / "folder").mkdir()
    write_jsonl(tmp_path / "lines.jsonl", rows)
    write_jsonl(tmp_path / "folder" / "one.jsonl", rows[:1])
    write_jsonl(tmp_path / "folder" / "two.jsonl", rows[1:])
    (tmp_path / "list.json").write_text(json.dumps(rows))
    with gzip.open(tmp_path / "packed.jsonl.gz", "wt") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table.parquet")
    (tmp_path / "split" / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "split" / "data" / "test-0.parquet")
    pq.write_table(pa.Table.from_pylist(rows[:1]), tmp_path / "split" / "data" / "train-0.parquet")
    names = ["lines.jsonl", "list.json", "packed.jsonl.gz", "table.parquet", "folder", "split"]
    config = EvaluateConfig(pairs=[str(tmp_path / name) for name in names], plots=False)
    found = load_inputs(config).pairs
    assert list(found) == ["lines", "list", "packed", "table", "folder", "split"]
    assert all(items == found["lines"][1] for _, items in found.values())
    cut = (tmp_path / "packed.jsonl.gz").read_bytes()[:-12]
    (tmp_path / "cut.jsonl.gz").write_bytes(cut)
    with pytest.raises(UserError, match=r"cut\.jsonl\.gz cannot be read"):
        load_inputs(EvaluateConfig(pairs=[str(tmp_path / "cut.jsonl.gz")], plots=False))


def test_accuracy_margins_ties_and_subsets_by_hand():
    rows = [
        ({"prompt": "p0", "chosen": "a", "rejected": "b", "subset": "x", "margin": 1}, (2, 1)),
        ({"prompt": "p1", "chosen": "a", "rejected": "b", "subset": "x", "margin": 1}, (1, 2)),
        ({"prompt": "p2", "chosen": "a", "rejected": "b", "subset": "y", "margin": 3}, (2, 1)),
        ({"prompt": "p2", "chosen": "c", "rejected": "b", "subset": "y", "margin": 3}, (1, 1)),
        ({"prompt": "p3", "chosen": "c", "rejected": "b", "subset": "y", "tie": True}, (5, 1)),
    ]
    benchmark = Preference()
    items = [benchmark.parse({**row, "id": str(n)}, "")[0] for n, (row, _) in enumerate(rows)]
    scored = [[Scored(float(s)) for s in scores] for _, scores in rows]
    result = preference_results(benchmark, items, scored, EvaluateConfig(bootstrap=50))
    assert result["n"] == 4 and result["n_ties"] == 1 and result["prompts"] == 3
    assert result["accuracy"]["value"] == 2.5 / 4
    assert {name: s["value"] for name, s in result["subsets"].items()} == {"x": 0.5, "y": 0.75}
    assert [(one["low"], one["n"], one["accuracy"]) for one in result["by_margin"]] == [(1, 2, 0.5), (3, 2, 0.75)]
    assert result["ties"]["reason"] == "4 decided and 1 tied; needs 10 of each"


def test_llmbar_in_the_authors_layout_and_as_pairs():
    own = {"input": "q", "output_1": "bad", "output_2": "good", "label": 2}
    (item,) = LLMBar().parse(own, "Natural")
    assert item.candidates == ["good", "bad"]
    means = LLMBar().parts({"Natural": 1.0, "Adversarial/Neighbor": 0.5, "Adversarial/Manual": 0.0})
    assert means == {"adversarial": 0.25}
    with pytest.raises(ValueError, match="subset is ''; expected one of Natural, Adversarial/Neighbor"):
        LLMBar().parse(own, "")


def many_pairs(path, n=30):
    rng = np.random.default_rng(0)
    rows = [{"id": str(i), "prompt": text(rng), "chosen": text(rng), "rejected": text(rng)} for i in range(n)]
    return write_jsonl(path, [row | {"subset": "ab"[i % 2]} for i, row in enumerate(rows)])


def test_totals_follow_from_the_items_scores_whatever_order_and_batch(tmp_path):
    from datasets import load_dataset

    from wildreward.model_card.validate import validate_folder

    model, path = str(reward_model_folder(tmp_path)), many_pairs(tmp_path / "p.jsonl")
    rm = [
        {"id": str(i), "prompt": f"why {i}", "chosen": ["a", "b it", f"is {i}"], "rejected": ["two", "bad", "x"]}
        for i in range(4)
    ]
    for domain in ("chat", "code", "math", "safety-refuse", "safety-response"):
        (tmp_path / "rm").mkdir(exist_ok=True)
        rows = [{**row, "prompt": f"{domain} {row['prompt']}"} for row in rm]
        (tmp_path / "rm" / f"{domain}_filtered.json").write_text(json.dumps(rows))
    given = {"benchmarks": [f"rm_bench={tmp_path / 'rm'}"], "options": {"bootstrap": 20}}
    found = evaluate_model(model, tmp_path / "out", pairs=[str(path)], **given)
    folder = tmp_path / "out" / "scores"

    rows = load_dataset(str(folder), "pairs_p", split="test").to_list()
    s = np.array([row["scores"] for row in rows])
    assert ((1 + np.sign(s[:, 0] - s[:, 1])) / 2).mean() == pytest.approx(found["pairs"]["p"]["accuracy"]["value"])
    rows = load_dataset(str(folder), "rm_bench", split="test").to_list()
    means = {}
    for row in rows:
        won = np.array(row["scores"])[:3, None] > np.array(row["scores"])[3:]
        parts = [won[np.tril_indices(3, -1)].mean(), won.diagonal().mean(), won[np.triu_indices(3, 1)].mean()]
        means.setdefault(row["subset"], []).append(parts)
    of = {name: np.mean(parts, axis=0) for name, parts in means.items()}
    of["safety"] = (of.pop("safety-refuse") + of.pop("safety-response")) / 2
    assert np.mean(list(of.values())) == pytest.approx(found["benchmarks"]["rm_bench"]["score"]["value"])
    assert found["benchmarks"]["rm_bench"]["missing"] == []
    assert set(validate_folder(folder).files) == {
        "README.md",
        "data/pairs_p-test.parquet",
        "data/rm_bench-test.parquet",
    }

    lines = path.read_text().splitlines()
    path.write_text("\n".join(reversed(lines)) + "\n")
    other = evaluate_model(model, tmp_path / "turned", pairs=[str(path)], options=FAST, chunk_size=3, token_budget=100)
    for key in ("n", "length_bias"):
        assert other["pairs"]["p"][key] == pytest.approx(found["pairs"]["p"][key])
    assert other["pairs"]["p"]["accuracy"]["value"] == found["pairs"]["p"]["accuracy"]["value"]
    assert other["pairs"]["p"]["calibration"]["ece"] == pytest.approx(
        found["pairs"]["p"]["calibration"]["ece"], abs=1e-6
    )
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and "Most wrong on p (pairs)" in page and "<h4>20. " in page


def test_what_a_chat_says_is_text_on_the_page(tmp_path):
    rows = [{"prompt": "<script>alert(1)</script>", "chosen": f"</div>{i}", "rejected": f"bad {i}"} for i in range(6)]
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    evaluate_model(str(classifier_folder(tmp_path)), tmp_path / "out", pairs=[str(path)], options=FAST)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page and "</div>1" not in page and "&lt;script&gt;" in page


def test_only_addresses_become_links_on_the_page(tmp_path):
    names = ["[x](javascript:alert(1))", "<b>[y](https://a.b/?q=1&r)</b>"]
    rows = [{"prompt": f"q{i}", "chosen": "good", "rejected": "bad", "subset": names[i % 2]} for i in range(4)]
    row = {"id": "1", "prompt": "q", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": "chat"}
    files = [write_jsonl(tmp_path / f"{name}.jsonl", given) for name, given in (("p", rows), ("rm", [row]))]
    benchmarks = [f"rm_bench={files[1]}"]
    evaluate_model(
        str(classifier_folder(tmp_path)), tmp_path / "out", (), benchmarks, options=FAST, pairs=[str(files[0])]
    )
    page = (tmp_path / "out" / "report.html").read_text()
    assert '<a href="https://arxiv.org/abs/2602.08829">arXiv 2602.08829</a>' in page
    assert "<b>" not in page and 'href="javascript' not in page and page.count("<a ") == 1


def test_three_models_are_compared_in_pairs(tmp_path):
    path = many_pairs(tmp_path / "p.jsonl")
    models = []
    for seed in range(2):
        (tmp_path / str(seed)).mkdir()
        models.append(str(classifier_folder(tmp_path / str(seed), seed=seed)))
    models.append(str(reward_model_folder(tmp_path)))
    results = compare_models(models, tmp_path / "out", options={"bootstrap": 30, "plots": False}, pairs=[str(path)])
    found = results["comparison"]["differences"]["p pairs"]
    assert list(found) == ["a-b", "a-c", "b-c"]
    values = {letter: results["models"][letter]["pairs"]["p"]["accuracy"]["value"] for letter in "abc"}
    for pair, difference in found.items():
        assert difference["difference"] == pytest.approx(values[pair[0]] - values[pair[2]])
    table = (tmp_path / "out" / "results.md").read_text()
    assert "| measure | A | B | C |" in table and "| p pairs | B − C |" in table


def test_a_policy_with_its_reference_is_an_implicit_reward(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from wildreward.scoring import load_scorer

    policy, reference = policy_folder(tmp_path, seed=0), policy_folder(tmp_path, seed=1)
    scorer = load_scorer(str(policy), reference=str(reference), beta=0.5, dtype="float32")
    chats = [
        [user("why is it"), assistant(answer)] for answer in ("good", "the answer is not right please", "bad code")
    ]
    tok = AutoTokenizer.from_pretrained(policy)
    networks = [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (policy, reference)]
    for chat, one in zip(chats, scorer.score(chats), strict=True):
        before = tok(f"user : {chat[0]['content']} assistant : ", add_special_tokens=False)["input_ids"]
        answer = tok(f"{chat[1]['content']} ", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logs = [m(input_ids=torch.tensor([before + answer])).logits[0].log_softmax(-1) for m in networks]
        sums = [sum(log[len(before) + i - 1, token].item() for i, token in enumerate(answer)) for log in logs]
        assert one.score == pytest.approx(0.5 * (sums[0] - sums[1]), abs=1e-4)
    assert scorer.settings["reference"] == "policy1" and scorer.kind == "implicit"
    other = load_scorer(str(policy), reference=str(policy), dtype="float32")
    assert [one.score for one in other.score(chats)] == [0, 0, 0] and other.fingerprint != scorer.fingerprint
    with pytest.raises(UserError, match=r"is a language model; expected a reward model, or, .* --reference"):
        load_scorer(str(policy))


FROM_THE_HUB = """
import sys
from huggingface_hub import HfApi
from datasets import load_dataset
from wildreward.evaluation import EvaluateConfig, evaluate_model
from wildreward.model_card.upload import push

model, pairs, output = sys.argv[1:]
HfApi().create_repo("ScalerLab/prefs", repo_type="dataset")
HfApi().upload_file(path_or_fileobj=pairs, path_in_repo="test.jsonl", repo_id="ScalerLab/prefs", repo_type="dataset")
given = {"pairs": ["ScalerLab/prefs"], "bootstrap": 0, "plots": False}
evaluate_model(EvaluateConfig(model=model, output=output, **given))
push(f"{output}/scores", "ScalerLab/scores")
assert load_dataset("ScalerLab/scores", "pairs_ScalerLab_prefs", split="test").num_rows == 30
"""


def test_pairs_from_the_hub_and_their_scores_to_it(tmp_path):
    from tests.hub_double import HubDouble
    from wildreward.model_card.eval_results import result_entries

    model, path = classifier_folder(tmp_path), many_pairs(tmp_path / "p.jsonl")
    with HubDouble(user="ScalerLab") as hub:
        command = [sys.executable, "-c", FROM_THE_HUB, str(model), str(path), str(tmp_path / "out")]
        environment = {**os.environ, **hub.env(tmp_path / "home")}
        subprocess.run(command, env=environment, check=True)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    (origin,) = results["pairs"]["ScalerLab/prefs"]["read_from"]
    assert origin["repo"] == "ScalerLab/prefs" and len(origin["revision"]) >= 40
    (entry,) = result_entries(results)
    assert entry["dataset"]["id"] == "ScalerLab/prefs"
    assert entry["value"] == pytest.approx(100 * results["pairs"]["ScalerLab/prefs"]["accuracy"]["value"], abs=0.01)


CHILD = """
import sys
from wildreward.cli import run
try:
    run(sys.argv[1:])
except SystemExit as end:
    assert end.code == 2
    heavy = {"torch", "transformers", "matplotlib", "scipy.stats", "datasets"} & set(sys.modules)
    assert not heavy, heavy
"""


@pytest.mark.parametrize(
    ("option", "name", "content", "told"),
    [
        ("--pairs", "a.jsonl", b'{"prompt": "q"}\n', "line 1: not a preference row"),
        ("--pairs", "a.json", b'[{"prompt": "q"}\n', "line 2: the list is cut off|line 1: not a preference row"),
        ("--pairs", "a.jsonl", b"\n", "a.jsonl holds no preference items$"),
        ("--pairs", "a.parquet", b"PAR1 cut", "is not a readable parquet file"),
        ("--pairs", "a.jsonl.gz", b"not packed", "cannot be read"),
        ("--dataset", "a.jsonl", b'{"a": 1}\n', "lacks the columns"),
        ("--benchmark", "rm_bench=a.json", b'[{"id": "1", "prompt": "q", "subset": "alpacaeval"}]', "no domain"),
    ],
)
def test_malformed_files_are_refused_in_one_line_before_anything_heavy(option, name, content, told, tmp_path):
    import re

    (tmp_path / name.rpartition("=")[2]).write_bytes(content)
    command = ["evaluate", "--model", "nowhere", option, name, "--output", "out"]
    done = subprocess.run([sys.executable, "-c", CHILD, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1 and re.search(told, done.stderr)
