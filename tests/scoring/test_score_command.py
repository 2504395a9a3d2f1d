"""`score`: the scores of the library, one a line; bad lines named, good ones scored; kill -9 costs nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from transformers import AutoTokenizer

from tests.evaluation.evaluation_tiny import classifier_folder, reward_model_folder
from tests.evaluation.test_evaluation_store import Server
from wildreward import RewardScorer
from wildreward.common.errors import UserError
from wildreward.scoring.score_command import ScoreConfig, main, score_rows
from wildreward.scoring.scorer import NotFinite


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(reward_model_folder(tmp_path_factory.mktemp("model")))


def chat(number: int) -> list[dict]:
    words = "the list is not good code " * (1 + number % 5)
    return [{"role": "user", "content": f"why {number}"}, {"role": "assistant", "content": words.strip()}]


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def score_file(model, source, output, **options):
    return score_rows(ScoreConfig(model=model, input=str(source), output=str(output), **options))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scores_are_those_of_the_library_in_the_order_of_the_lines(model, tmp_path, capsys):
    chats = [chat(number) for number in range(10)]
    source = write(tmp_path / "in.jsonl", [{"id": f"c{n}", "messages": c, "more": 1} for n, c in enumerate(chats)])
    main(ScoreConfig(model=model, input=str(source), output=str(tmp_path / "out.jsonl"), chunk_size=3))
    rows, scorer = read(tmp_path / "out.jsonl"), RewardScorer.from_pretrained(model)
    assert [(row["line"], row["id"]) for row in rows] == [(n + 1, f"c{n}") for n in range(10)]
    assert [row["score"] for row in rows] == pytest.approx(scorer.score(chats), abs=1e-5)
    probabilities = torch.tensor([row["level_probs"] for row in rows])
    assert torch.allclose(probabilities, torch.tensor(scorer.level_probs(chats)), atol=1e-5)
    assert "10 rows scored" in capsys.readouterr().out
    assert not (tmp_path / "out.jsonl.work").exists()


def test_a_line_that_cannot_be_scored_is_told_and_the_others_are_scored(model, tmp_path):
    secret = "my secret words"
    lines = [
        {"messages": chat(1)},
        "",
        "{broken",
        [1],
        {"id": 7, "messages": None},
        {"id": "user last", "messages": [{"role": "user", "content": secret}]},
        {"messages": [{"role": "pope", "content": secret}, {"role": "assistant", "content": "x"}]},
        {"messages": [{"role": "user", "content": [secret]}, {"role": "assistant", "content": "x"}]},
        {"id": "surrogate", "messages": [{"role": "user", "content": "\ud800"}, {"role": "assistant", "content": "x"}]},
        {"id": 9, "messages": chat(2)},
    ]
    counts = score_file(model, write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl")
    rows = read(tmp_path / "out.jsonl")
    assert counts == {"scored": 3, "error": 6}
    assert [row["line"] for row in rows] == [1, 3, 4, 5, 6, 7, 8, 9, 10]  # a blank line is none
    assert [row.get("id") for row in rows] == [None, None, None, 7, "user last", None, None, "surrogate", 9]
    errors = {row["line"]: row["error"] for row in rows if "error" in row}
    assert set(errors) == {3, 4, 5, 6, 7, 8}
    assert "not valid JSON" in errors[3] and "a list of 1" in errors[4] and "expected a list of messages" in errors[5]
    assert "does not end with the assistant's answer" in errors[6] and "unknown role" in errors[7]
    assert secret not in (tmp_path / "out.jsonl").read_text()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_conversation_that_the_model_refuses_does_not_spoil_its_neighbours(size, model, tmp_path, monkeypatch):
    forward = RewardScorer.predict_ids

    def poisoned(self, ids):
        if any(len(row) > 60 for row in ids):
            raise NotFinite("the reward model gives NaN or infinity for conversations [1]")
        return forward(self, ids)

    monkeypatch.setattr(RewardScorer, "predict_ids", poisoned)
    long = [{"role": "user", "content": "why"}, {"role": "assistant", "content": "good code " * 60}]
    source = write(tmp_path / "in.jsonl", [{"messages": c} for c in (chat(0), long, chat(2))])
    assert score_file(model, source, tmp_path / "out.jsonl", chunk_size=size) == {"scored": 2, "error": 1}
    assert read(tmp_path / "out.jsonl")[1] == {"line": 2, "error": "the model gives no finite score"}


def test_what_a_classifiers_template_refuses_is_an_error_of_its_line(tmp_path):
    folder = classifier_folder(tmp_path / "classifier")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}"
    tokenizer.chat_template = refusal + "{% for m in messages %}{{ m.content }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    surrogate = [{"role": "user", "content": "\ud83d"}, *chat(1)]
    refused = [{"role": "system", "content": "x"}, *chat(1)]
    source = write(tmp_path / "in.jsonl", [{"messages": chat(0)}, {"messages": refused}, {"messages": surrogate}])
    assert score_file(str(folder), source, tmp_path / "out.jsonl") == {"scored": 2, "error": 1}
    assert "no system messages" in read(tmp_path / "out.jsonl")[1]["error"]
    with pytest.raises(UserError, match=r"--max_length is 0"):
        score_file(str(folder), tmp_path / "in.jsonl", tmp_path / "more.jsonl", max_length=0)


def test_a_server_that_refuses_leaves_nothing_in_the_way(model, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"messages": chat(1)}])

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_error(404)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match="404"):
            score_file(f"http://127.0.0.1:{server.server_port}/typo", source, tmp_path / "out.jsonl")
        server.shutdown()
    assert score_file(model, source, tmp_path / "out.jsonl") == {"scored": 1, "error": 0}


def test_what_others_put_into_the_work_folder_stays(model, tmp_path):
    (tmp_path / "out.jsonl.work").mkdir()
    (tmp_path / "out.jsonl.work" / "thesis.txt").write_text("precious")
    source = write(tmp_path / "in.jsonl", [{"id": {"a": 1.5}, "messages": chat(1)}])
    score_file(model, source, tmp_path / "out.jsonl")
    assert os.listdir(tmp_path / "out.jsonl.work") == ["thesis.txt"]
    assert read(tmp_path / "out.jsonl")[0]["id"] == {"a": 1.5}


def test_damaged_work_is_named(model, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"messages": chat(1)}])
    (tmp_path / "out.jsonl.work").mkdir()
    (tmp_path / "out.jsonl.work" / "scores.jsonl").write_text('{"line": 1,\n')
    with pytest.raises(UserError, match=r"scores.jsonl holds a line that is no score; delete .*out.jsonl.work"):
        score_file(model, source, tmp_path / "out.jsonl")


def test_a_damaged_model_stops_the_run(model, tmp_path):
    scorer = RewardScorer.from_pretrained(model)
    with torch.no_grad():
        for weight in scorer.model.parameters():
            weight.fill_(float("nan"))
    scorer.save_pretrained(tmp_path / "damaged")
    source = write(tmp_path / "in.jsonl", [{"messages": chat(number)} for number in range(4)])
    with pytest.raises(UserError, match="NaN or infinity"):
        score_file(str(tmp_path / "damaged"), source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_killed_and_rerun_asks_nothing_twice_and_ends_in_the_same_file(tmp_path):
    source = write(tmp_path / "in.jsonl", [{"id": n, "messages": chat(n)} for n in range(40)])

    def command(url, output):
        flags = ["--model", url, "--input", str(source), "--output", str(output), "--chunk_size", "4"]
        return [sys.executable, "-m", "wildreward", "score", *flags]

    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with Server(hold_after=5) as server:
        child = subprocess.Popen(
            command(server.url, tmp_path / "out.jsonl"), env=environment, stderr=subprocess.DEVNULL
        )
        assert server.holding.wait(250)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert [len(chunk) for chunk in read(tmp_path / "out.jsonl.work" / "scores.jsonl")] == [4] * 5
        with open(tmp_path / "out.jsonl.work" / "scores.jsonl", "a") as half:
            half.write('[{"line": 21, "score": 1.0}, {"line": 22, "sco')
        server.hold_after = None
        subprocess.run(
            command(server.url, tmp_path / "out.jsonl"), env=environment, check=True, stderr=subprocess.DEVNULL
        )
        assert len(server.answered) == len(set(server.answered)) == 40
        score_file(server.url, source, tmp_path / "other.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == (tmp_path / "other.jsonl").read_text()


def test_refusals_come_before_the_work(model, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"messages": chat(1)}])
    with pytest.raises(UserError, match=r"nowhere.jsonl does not exist; expected a conversations file or folder"):
        score_file(model, tmp_path / "nowhere.jsonl", tmp_path / "out.jsonl")
    with pytest.raises(UserError, match=r"--chunk_size is 0; expected at least 1"):
        score_file(model, source, tmp_path / "out.jsonl", chunk_size=0)
    with pytest.raises(UserError, match=r"exists already; choose another --output"):
        score_file(model, source, source)
    with pytest.raises(
        UserError, match=r"bad.jsonl has the columns text; expected messages, or prompt with completion"
    ):
        score_file(model, write(tmp_path / "bad.jsonl", ["", {"text": "x"}]), tmp_path / "out.jsonl")
    with pytest.raises(
        UserError, match=r"bad.jsonl, line 2: messages is None; expected a list of .*; none of the first 1"
    ):
        score_file(model, write(tmp_path / "bad.jsonl", ["", {"messages": None}]), tmp_path / "out.jsonl")
    with pytest.raises(UserError, match=r"empty.jsonl is empty; expected rows"):
        score_file(model, write(tmp_path / "empty.jsonl", []), tmp_path / "out.jsonl")
    score_file(model, source, tmp_path / "out.jsonl")  # what was refused left nothing in the way


def test_half_done_work_of_another_input_is_not_gone_on_with(model, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"messages": chat(n)} for n in range(8)])
    with Server(hold_after=1) as server:
        server.hold_after = 1
        flags = ["--model", server.url, "--input", str(source), "--output", str(tmp_path / "out.jsonl")]
        child = subprocess.Popen(
            [sys.executable, "-m", "wildreward", "score", *flags, "--chunk_size", "2"], stderr=subprocess.DEVNULL
        )
        assert server.holding.wait(250)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        server.hold_after = None
        write(source, [{"messages": chat(n)} for n in range(3, 8)])
        with pytest.raises(UserError, match=r"made with other settings \(input_sha256 was"):
            score_file(server.url, source, tmp_path / "out.jsonl")
