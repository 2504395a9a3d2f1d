"""`score` over data: every format, what --select keeps as a dataset, kill -9 and the same bytes, and refusals before a model."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset, DatasetDict, load_dataset
from transformers import AutoTokenizer

from tests.evaluation.evaluation_tiny import WORDS, classifier_folder, policy_folder, reward_model_folder, write_jsonl
from wildreward import RewardScorer
from wildreward.common.errors import UserError
from wildreward.scoring.score_command import ScoreConfig, score_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(reward_model_folder(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """Its template refuses an answer that says `wrong`."""
    folder = classifier_folder(tmp_path_factory.mktemp("classifier"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    refusal = "{% if messages[-1].content == 'wrong' %}{{ raise_exception('not this') }}{% endif %}"
    tokenizer.chat_template = refusal + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    return str(folder)


def text(seed, most=8):
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, most)))


def user(said):
    return [{"role": "user", "content": said}]


def answer(said):
    return [{"role": "assistant", "content": said}]


def group(number, count=3, messages=True):
    prompt, answers = text(f"p{number}"), [text(f"a{number} {i}") for i in range(count)]
    if messages:
        return {"id": f"g{number}", "prompt": user(prompt), "completions": [answer(one) for one in answers]}
    return {"id": f"g{number}", "prompt": prompt, "completions": answers}


def score(model, source, output, **options):
    return score_rows(ScoreConfig(model=model, input=str(source), output=str(output), **options))


def read(folder, tmp_path, split="train"):
    return load_dataset(str(folder), split=split, cache_dir=str(tmp_path / "cache")).to_list()


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def expected(model, rows):
    scorer = RewardScorer.from_pretrained(model)
    return [
        scorer.score_candidates(
            row["prompt"] if isinstance(row["prompt"], list) else user(row["prompt"]), row["completions"]
        )
        for row in rows
    ]


@pytest.mark.parametrize("messages", [True, False])
def test_every_format_gives_the_same_rows_with_their_scores(messages, model, tmp_path):
    rows = [group(number, 1 + number % 3, messages) for number in range(9)]
    table = pa.Table.from_pylist(rows)
    write_jsonl(tmp_path / "lines.jsonl", rows)
    (tmp_path / "list.json").write_text(json.dumps(rows, indent=1))
    with gzip.open(tmp_path / "packed.jsonl.gz", "wt") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)
    pq.write_table(table, tmp_path / "table.parquet")
    for folder, parts in (("folder", "train"), ("loose", "part")):
        home = tmp_path / folder / ("data" if folder == "folder" else "")
        home.mkdir(parents=True)
        pq.write_table(table[:4], home / f"{parts}-00000-of-00002.parquet")
        pq.write_table(table[4:], home / f"{parts}-00001-of-00002.parquet")
    pq.write_table(table[:1], tmp_path / "folder" / "data" / "test-00000-of-00001.parquet")
    Dataset(table).save_to_disk(tmp_path / "saved", num_shards=2)
    DatasetDict(train=Dataset(table), test=Dataset(table[:2])).save_to_disk(tmp_path / "splits")
    scores = expected(model, rows)
    for name in ("lines.jsonl", "list.json", "packed.jsonl.gz", "table.parquet", "folder", "loose", "saved", "splits"):
        assert score(model, tmp_path / name, tmp_path / f"{name}.out") == {"scored": 9, "error": 0}
        found = read(tmp_path / f"{name}.out", tmp_path)
        assert [{key: row[key] for key in ("id", "prompt", "completions")} for row in found] == rows, name
        assert [row["score"] for row in found] == [pytest.approx(one, abs=1e-5) for one in scores], name
        probs = [sum((k + 1) * p for k, p in enumerate(one)) for row in found for one in row["level_probs"]]
        assert probs == pytest.approx([one for row in scores for one in row], abs=1e-5)
        assert {row["error"] for row in found} == {None}
    assert len(list((tmp_path / "splits.out" / "data").iterdir())) == 1
    assert score(model, tmp_path / "splits", tmp_path / "tested", split="test")["scored"] == 2
    assert len(read(tmp_path / "tested", tmp_path, "test")) == 2


FROM_THE_HUB = """
import sys
from huggingface_hub import HfApi
from datasets import load_dataset
from wildreward.commands import execute
from wildreward.model_card.upload import push

model, first, second, output = sys.argv[1:]
api = HfApi()
api.create_repo("user/answers", repo_type="dataset")
for path in (first, second):
    commit = api.upload_file(path_or_fileobj=path, path_in_repo="test.jsonl", repo_id="user/answers", repo_type="dataset")
    revision = revision if path == second else commit.oid
given = ["--model", model, "--input", "user/answers", "--split", "test", "--select", "best"]
execute("score", [*given, "--output", output + "/new"])
execute("score", [*given, "--output", output + "/old", "--dataset-revision", revision])
push(output + "/old", "user/best")
assert load_dataset("user/best", split="test").num_rows == 2
print("REVISION", revision)
"""


def test_a_split_and_a_revision_from_the_hub_and_the_result_to_it(model, tmp_path):
    from tests.hub_double import HubDouble

    rows = [group(number) for number in range(5)]
    paths = [write_jsonl(tmp_path / "first.jsonl", rows[:2]), write_jsonl(tmp_path / "second.jsonl", rows)]
    with HubDouble(user="user") as hub:
        command = [sys.executable, "-c", FROM_THE_HUB, model, *map(str, paths), str(tmp_path)]
        environment = {**os.environ, **hub.env(tmp_path / "home")}
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    revision = done.stdout.split("REVISION ")[1].strip()
    assert len(read(tmp_path / "new", tmp_path, "test")) == 5
    card = (tmp_path / "old" / "README.md").read_text()
    assert f"| input revision | {revision} |" in card and "| selected rows | 2 |" in card


def test_what_is_selected_follows_from_the_scores(model, tmp_path):
    rows = [group(number, 4) for number in range(12)]
    rows[3]["completions"] = [answer("the same")] * 4
    rows[5]["completions"] = None
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    scores = [row["completions"] and one for row, one in zip(rows, expected_of(model, rows), strict=True)]
    flat = sorted(one for row in scores if row for one in row)
    margin = sorted(max(row) - min(row) for row in scores if row)[5]
    least = (flat[20] + flat[21]) / 2

    counts = score(model, tmp_path / "in.parquet", tmp_path / "best", select="best")
    assert counts == {"scored": 11, "error": 1, "selected": 11}
    best = [(row["id"], row["completions"][one.index(max(one))]) for row, one in zip(rows, scores, strict=True) if one]
    found = read(tmp_path / "best", tmp_path)
    assert [(row["id"], row["completion"]) for row in found] == best and found[0]["prompt"] == rows[0]["prompt"]
    assert [row["score"] for row in found] == pytest.approx([max(one) for one in scores if one], abs=1e-5)

    score(model, tmp_path / "in.parquet", tmp_path / "above", select=f"above={least}")
    found = read(tmp_path / "above", tmp_path)
    assert [row["score"] for row in found] == pytest.approx(
        [one for row in scores if row for one in row if one >= least], abs=1e-5
    )
    assert set(found[0]) == {"id", "prompt", "completion", "score"} and len(found) == len(flat) - 21

    score(model, tmp_path / "in.parquet", tmp_path / "pairs", select="pairs", margin=margin - 1e-4)
    pairs = read(tmp_path / "pairs", tmp_path)
    kept = [n for n, one in enumerate(scores) if one and max(one) - min(one) >= margin - 1e-4]
    assert 5 not in kept and 3 not in kept and len(kept) == 6
    assert [row["chosen"] for row in pairs] == [rows[n]["completions"][scores[n].index(max(scores[n]))] for n in kept]
    assert [row["rejected"] for row in pairs] == [rows[n]["completions"][scores[n].index(min(scores[n]))] for n in kept]
    assert [row["score_chosen"] - row["score_rejected"] for row in pairs] == pytest.approx(
        [max(scores[n]) - min(scores[n]) for n in kept], abs=1e-5
    )
    card = (tmp_path / "pairs" / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["configs"][0]["data_files"][0]["path"] == "data/train-*.parquet"
    for told in ("| model | reward-model |", "| input | in.parquet |", "| scored rows | 11 |", "| selected rows | 6 |"):
        assert told in card
    assert "| rows without a score | 1 |" in card and f"the scores by at least {margin - 1e-4:g}" in card


def expected_of(model, rows):
    return expected(model, [row | {"completions": row["completions"] or ["none"]} for row in rows])


def test_lines_are_written_where_lines_are_asked_for(model, tmp_path):
    rows = [group(number, 3, messages=False) for number in range(4)]
    rows[1]["completions"] = [answer("a list"), answer("among texts")]  # as lines, columns may hold anything
    source = write_jsonl(tmp_path / "in.jsonl", [rows[0], rows[1], rows[2], {"id": 9}, rows[3]])
    assert score(model, source, tmp_path / "scores.jsonl") == {"scored": 4, "error": 1}
    found = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [row["line"] for row in found] == [1, 2, 3, 4, 5]
    assert found[3] == {"line": 4, "id": 9, "error": "prompt is None; expected a text"}
    scores = expected(model, rows)
    assert [row["score"] for row in found if "score" in row] == [pytest.approx(one, abs=1e-5) for one in scores]
    score(model, source, tmp_path / "best.jsonl", select="best")
    best = [json.loads(line) for line in (tmp_path / "best.jsonl").read_text().splitlines()]
    assert [row["completion"] for row in best] == [
        row["completions"][one.index(max(one))] for row, one in zip(rows, scores, strict=True)
    ]


def test_a_row_without_a_score_says_why_and_its_columns_stay(classifier, tmp_path):
    rows = [
        {"prompt": "q", "completion": "good", "tags": ["a"], "meta": {"n": 1}},
        {"prompt": "q", "completion": "wrong", "tags": "b", "meta": {}},
        {"prompt": [], "completion": "good", "meta": {"m": "x"}},
        {"prompt": user("q"), "completion": answer("good"), "tags": None, "more": "\ud800"},
    ]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    assert score(classifier, source, tmp_path / "out") == {"scored": 2, "error": 2}
    found = read(tmp_path / "out", tmp_path)
    names = ("prompt", "completion", "tags")
    assert [{name: row[name] for name in names} for row in found] == [
        {name: row.get(name) for name in names} for row in rows
    ]
    (shard,) = (tmp_path / "out" / "data").iterdir()
    assert pq.read_table(shard)["more"].to_pylist() == [None, None, None, '"\\ud800"']
    assert [row["meta"] for row in found] == [{"n": 1, "m": None}, {"n": None, "m": None}, {"n": None, "m": "x"}, None]
    assert found[0]["score"] == pytest.approx(found[3]["score"], abs=1e-6)
    assert [row["score"] for row in found[1:3]] == [None, None] and "not this" in found[1]["error"]
    assert found[2]["error"].startswith("prompt has messages of nobody") and found[3]["error"] is None
    assert {row["level_probs"] for row in found} == {None}  # a classifier has none


def test_an_answer_that_the_model_refuses_is_not_selected_and_spoils_no_other(classifier, tmp_path):
    rows = [{"prompt": "q", "completions": ["good", "wrong", "bad code"]}, {"prompt": "q", "completions": ["wrong"]}]
    Dataset.from_list(rows).to_parquet(tmp_path / "in.parquet")
    assert score(classifier, tmp_path / "in.parquet", tmp_path / "all") == {"scored": 1, "error": 1}
    first, second = read(tmp_path / "all", tmp_path)
    assert first["score"][1] is None and None not in (first["score"][0], first["score"][2])
    assert first["error"].startswith("completion 2: ") and "not this" in first["error"]
    assert second["score"] is None and second["error"].startswith("completion 1: ")
    assert score(classifier, tmp_path / "in.parquet", tmp_path / "pairs", select="pairs")["selected"] == 1
    (pair,) = read(tmp_path / "pairs", tmp_path)
    assert {pair["chosen"], pair["rejected"]} == {"good", "bad code"}


def test_columns_of_every_type_come_through(model, tmp_path):
    messages = pa.array([[*user("q"), *answer(text(n))] for n in range(3)])
    columns = {
        "messages": messages,
        "at": pa.array([1, 2, None], pa.timestamp("ns")),
        "picture": pa.array([b"\x89PNG", None, b""], pa.binary()),
        "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
        "half": pa.array([0.5, None, 2.0], pa.float32()),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    score(model, tmp_path / "in.parquet", tmp_path / "out")
    assert [row["picture"] for row in read(tmp_path / "out", tmp_path)] == [b"\x89PNG", None, b""]
    (shard,) = (tmp_path / "out" / "data").iterdir()
    assert pq.read_table(shard).select(list(columns)).equals(pq.read_table(tmp_path / "in.parquet"))
    pq.write_table(pa.table(columns | {"map": pa.nulls(3, pa.map_(pa.string(), pa.int8()))}), tmp_path / "map.parquet")
    with pytest.raises(UserError, match=r"the input's columns cannot be a dataset \(.*map.*\); choose a \.jsonl file"):
        score(model, tmp_path / "map.parquet", tmp_path / "of-map")
    with pytest.raises(
        UserError, match=r"a column holds a (Timestamp|datetime), which JSON does not have; choose a folder"
    ):
        score(model, tmp_path / "in.parquet", tmp_path / "out.jsonl", select="above=0")


def test_what_datasets_keeps_as_json_is_read_and_written_as_such(model, tmp_path):
    parts = [{"type": "text", "text": "why"}]
    rows = [
        {"messages": [*user("why"), *answer("good")], "x": 1},
        {"messages": [*user(parts), *answer("good")], "x": "s"},
    ]
    mixed = load_dataset(
        "json", data_files=str(write_jsonl(tmp_path / "in.jsonl", rows)), cache_dir=str(tmp_path / "c")
    )
    mixed["train"].to_parquet(tmp_path / "in.parquet")
    assert "json" in str(pq.read_schema(tmp_path / "in.parquet").field("messages").type)
    for name in ("in.parquet", "in.jsonl"):
        score(model, tmp_path / name, tmp_path / f"{name}.out")
        found = read(tmp_path / f"{name}.out", tmp_path)
        assert [{"messages": row["messages"], "x": row["x"]} for row in found] == rows
        assert found[0]["score"] == found[1]["score"]  # parts are read as the text that they hold


def test_scores_depend_neither_on_the_order_of_rows_nor_on_the_batches(model, tmp_path):
    rows = [group(number, 1 + number % 4) for number in range(40)]
    scores = {}
    for name, seed, options in (("one", 1, {"chunk_size": 1}), ("many", 2, {}), ("tight", 3, {"token_budget": 64})):
        shuffled = random.Random(seed).sample(rows, len(rows))
        pq.write_table(pa.Table.from_pylist(shuffled), tmp_path / f"{name}.parquet", row_group_size=7)
        score(model, tmp_path / f"{name}.parquet", tmp_path / name, **options)
        found = read(tmp_path / name, tmp_path)
        assert [row["id"] for row in found] == [row["id"] for row in shuffled]
        scores[name] = {row["id"]: row["score"] for row in found}
    for row in rows:
        assert scores["one"][row["id"]] == pytest.approx(scores["many"][row["id"]], abs=1e-5)
        assert scores["one"][row["id"]] == pytest.approx(scores["tight"][row["id"]], abs=1e-5)


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_killed_and_run_again_it_ends_in_the_same_bytes(count, model, tmp_path, monkeypatch):
    rows = [group(number, 2 + number % 3) for number in range(count)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet", row_group_size=90)
    given = {"model": model, "input": str(tmp_path / "in.parquet"), "chunk_size": 16, "select": "best"}
    flags = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    ledger = tmp_path / "out.work" / "scores.jsonl"
    command = [sys.executable, "-m", "wildreward", "score", *flags, "--output", str(tmp_path / "out")]
    child = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stderr=subprocess.DEVNULL)
    while child.poll() is None and not (ledger.exists() and ledger.read_bytes().count(b"\n") >= 5):
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and not (tmp_path / "out").exists()
    chunks = ledger.read_bytes().splitlines(keepends=True)
    assert len(chunks) >= 5 and sum(len(json.loads(line)) for line in chunks if line.endswith(b"\n")) < count
    ledger.write_bytes(b"".join(chunks)[:-30])  # as a kill within a write leaves it
    (tmp_path / "out.work" / "output" / "data").mkdir(parents=True)  # and a kill while the shards are written
    (tmp_path / "out.work" / "output" / "data" / "00000").write_bytes(b"half")

    monkeypatch.setattr("wildreward.scoring.score_output.SHARD_BYTES", 10_000)
    counts = score_rows(ScoreConfig(output=str(tmp_path / "out"), **given))
    assert counts == score_rows(ScoreConfig(output=str(tmp_path / "whole"), **given))
    assert counts == {"scored": count, "error": 0, "selected": count}
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    shards = sorted(path.name for path in (tmp_path / "out" / "data").iterdir())
    assert (len(shards) > 1) == (count > 256) and shards[0] == f"train-00000-of-{len(shards):05d}.parquet"
    assert [row["id"] for row in read(tmp_path / "out", tmp_path)] == [row["id"] for row in rows]
    assert not (tmp_path / "out.work").exists()


def test_another_margin_needs_no_new_scores(tmp_path):
    from tests.evaluation.test_evaluation_store import Server

    source = write_jsonl(tmp_path / "in.jsonl", [group(number) for number in range(6)])
    with Server() as server:
        with pytest.raises(
            UserError, match=r"no row is selected of 6 \(6 with a smaller margin\); the scores are kept in"
        ):
            score(server.url, source, tmp_path / "out", select="pairs", margin=100.0)
        assert len(server.answered) == 18
        assert score(server.url, source, tmp_path / "out", select="pairs")["selected"] == 6
        assert len(server.answered) == 18


def test_dpo_trains_on_the_pairs(model, tmp_path):
    from trl import DPOConfig, DPOTrainer

    pq.write_table(pa.Table.from_pylist([group(number) for number in range(8)]), tmp_path / "in.parquet")
    score(model, tmp_path / "in.parquet", tmp_path / "pairs", select="pairs")
    pairs = load_dataset(str(tmp_path / "pairs"), split="train", cache_dir=str(tmp_path / "cache"))
    policy = str(policy_folder(tmp_path))
    args = DPOConfig(str(tmp_path / "dpo"), max_steps=1, use_cpu=True, bf16=False, report_to=[], disable_tqdm=True)
    trainer = DPOTrainer(policy, args=args, train_dataset=pairs, processing_class=AutoTokenizer.from_pretrained(policy))
    assert trainer.train().training_loss == pytest.approx(0.6931, abs=1e-3)


def test_files_of_a_folder_with_other_columns_are_told_apart(model, tmp_path):
    for name, completions in (("a", ["x"]), ("b", [answer("x")])):
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(
            pa.Table.from_pylist([{"prompt": "q", "completions": completions}]), tmp_path / "in" / f"{name}.parquet"
        )
    with pytest.raises(
        UserError, match=r"the files of .*/in hold different columns \(.*completions.*; score them one by"
    ):
        score(model, tmp_path / "in", tmp_path / "out")
    score(model, tmp_path / "in", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["file"], row["row"]) for row in rows] == [("a.parquet", 1), ("b.parquet", 1)]
    assert rows[0]["score"] == pytest.approx(rows[1]["score"], abs=1e-6)
