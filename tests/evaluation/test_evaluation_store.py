"""Scores are kept: nothing is scored twice, not after kill -9 either, and what cannot be a score is refused."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from tests.evaluation.evaluation_tiny import classifier_folder, evaluate_model, reward_model_folder, text, write_jsonl
from wildreward.common.errors import UserError
from wildreward.evaluation.store import Group, ScoreStore, candidate_key, score_groups
from wildreward.scoring.protocol import Scored

USER = [{"role": "user", "content": "question"}]


class Lengths:
    """A scorer that counts what it is asked; the score is the length of the answer."""

    name, kind, fingerprint = "lengths", "test", "f00"

    def __init__(self, bad=None):
        self.asked, self.bad = [], bad

    def score(self, conversations):
        answers = [messages[-1]["content"] for messages in conversations]
        self.asked += answers
        return [Scored(float("nan") if c == self.bad else float(len(c)), (0.5, 0.5)) for c in answers]


def test_each_candidate_is_scored_once(tmp_path):
    groups = [
        Group("1", USER, ["a", "bb", "a"]),
        Group("2", USER, ["bb", "ccc"]),
        Group("3", [{"role": "user", "content": "x"}], ["a"]),
    ]
    scorer = Lengths()
    first = score_groups(groups, scorer, ScoreStore(tmp_path, scorer), chunk_size=2)
    assert [[s.score for s in group] for group in first] == [[1, 2, 1], [2, 3], [1]]
    assert sorted(scorer.asked) == ["a", "a", "bb", "ccc"]  # "a" is asked under two prompts
    again = Lengths()
    assert score_groups(groups, again, ScoreStore(tmp_path, again)) == first
    assert again.asked == []


def test_key_depends_on_roles_and_contents_only():
    key = candidate_key(USER, "a")
    assert candidate_key([{**USER[0], "time": 1}], "a") == key
    assert candidate_key(USER, "b") != key and candidate_key([{"role": "system", "content": "question"}], "a") != key
    assert candidate_key(USER, "\ud800 lone") != key  # invalid unicode is data


def test_half_written_last_line_is_dropped_and_a_broken_one_refused(tmp_path):
    scorer = Lengths()
    store = ScoreStore(tmp_path, scorer)
    store.add([("k1", Scored(1.0)), ("k2", Scored(2.0))])
    with open(store.path, "a") as handle:
        handle.write('{"key": "k3", "sco')
    again = ScoreStore(tmp_path, scorer)
    assert sorted(again.scores) == ["k1", "k2"] and again.scores["k1"].level_probs is None
    again.add([("k3", Scored(3.0))])
    assert sorted(ScoreStore(tmp_path, scorer).scores) == ["k1", "k2", "k3"]
    store.path.write_text("nonsense\n")
    with pytest.raises(UserError, match=r"f00\.jsonl, line 1: not a stored score"):
        ScoreStore(tmp_path, scorer)


def test_nan_score_names_the_item_and_keeps_the_rest(tmp_path):
    scorer = Lengths(bad="zz")
    groups = [Group("first", USER, ["ccc"]), Group("item-7", USER, ["y", "zz"])]
    with pytest.raises(
        UserError, match=r"lengths scored candidate 2 of item 'item-7' as nan; expected a finite number"
    ):
        score_groups(groups, scorer, ScoreStore(tmp_path, scorer), chunk_size=1)
    assert list(ScoreStore(tmp_path, scorer).scores) == [candidate_key(USER, "ccc")]


class Server:
    """A reward server on a real socket. `hold_after` requests it stops answering, until `release`."""

    def __init__(self, hold_after=None, null_for=None):
        self.answered, self.requests = [], 0
        self.hold_after, self.null_for = hold_after, null_for
        self.holding = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
                outer.requests += 1
                if outer.hold_after is not None and outer.requests > outer.hold_after:
                    outer.holding.set()
                    time.sleep(60)
                    return
                outer.answered += texts
                rewards = [None if outer.null_for and outer.null_for in t else round(hash_of(t), 6) for t in texts]
                body = json.dumps({"rewards": rewards}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/get_reward"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


def hash_of(value):
    import hashlib

    return int(hashlib.sha256(value.encode()).hexdigest()[:8], 16) / 2**31


def rm_bench_file(path, n=12):
    import numpy as np

    rng = np.random.default_rng(0)
    domains = ["chat", "code", "math", "safety-refuse", "safety-response"]
    rows = [
        {
            "id": str(i),
            "prompt": text(rng),
            "chosen": [text(rng) + f" c{i}{k}" for k in range(3)],
            "rejected": [text(rng) + f" r{i}{k}" for k in range(3)],
            "domain": domains[i % 5],
        }
        for i in range(n)
    ]
    return write_jsonl(path, rows)


def command(url, file, output, *more):
    arguments = ["--model", url, "--benchmark", f"rm_bench={file}", "--output", str(output), "--chunk_size", "6"]
    return [sys.executable, "-m", "wildreward", "evaluate", *arguments, "--bootstrap", "50", "--plots", "false", *more]


def test_benchmark_killed_and_rerun_scores_no_candidate_twice(tmp_path):
    file = rm_bench_file(tmp_path / "total_dataset.jsonl")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with Server(hold_after=5) as server:
        child = subprocess.Popen(
            command(server.url, file, tmp_path / "out"), env=environment, stderr=subprocess.DEVNULL
        )
        assert server.holding.wait(250)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert len(server.answered) == 30  # five chunks of six
        server.hold_after = None
        again = command(server.url, file, tmp_path / "out")
        rerun = subprocess.run(again, env=environment, check=True, capture_output=True)
        assert len(server.answered) == len(set(server.answered)) == 72
        # An undisturbed run, in this process: the same settings as the command's.
        options = {"bootstrap": 50, "plots": False, "chunk_size": 6}
        evaluate_model(server.url, tmp_path / "other", benchmarks=[f"rm_bench={file}"], options=options)
    first, second = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("out", "other"))
    assert first == second
    table = (tmp_path / "out" / "results.md").read_text()
    assert table == (tmp_path / "other" / "results.md").read_text() and table in rerun.stdout.decode()


def test_rerun_and_new_metric_ask_nothing_and_a_missing_reward_is_an_error(tmp_path):
    file = rm_bench_file(tmp_path / "rm.jsonl", 4)
    with Server() as server:
        options = {"bootstrap": 10, "plots": False}
        first = evaluate_model(server.url, tmp_path / "out", benchmarks=[f"rm_bench={file}"], options=options)
        assert len(server.answered) == 24
        more = evaluate_model(
            server.url,
            tmp_path / "out",
            benchmarks=[f"rm_bench={file}"],
            options={"bootstrap": 20, "bins": 5, "plots": False},
        )
        assert len(server.answered) == 24
        assert more["benchmarks"]["rm_bench"]["score"]["value"] == first["benchmarks"]["rm_bench"]["score"]["value"]
        server.null_for = "c01"
        with pytest.raises(UserError, match="scored candidate 2 of item '0' as nan"):
            evaluate_model(server.url, tmp_path / "new", benchmarks=[f"rm_bench={file}"], options=options)


def test_local_scorers_equal_scoring_one_by_one(tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from wildreward.scoring import load_scorer
    from wildreward.scoring.scorer import RewardScorer

    prompt = [{"role": "user", "content": "how is the code"}]
    groups = [
        Group("1", prompt, ["it is good", "bad", "the answer is not right please " * 5]),
        Group("2", USER, ["a b"]),
    ]
    folder = reward_model_folder(tmp_path)
    ours = load_scorer(str(folder), dtype="float32")
    plain = RewardScorer.from_pretrained(folder)
    conversations = [messages for group in groups for messages in group.conversations]
    for messages, one in zip(conversations, ours.score(conversations), strict=True):
        assert one.score == pytest.approx(plain.score([messages])[0], abs=1e-5)
        assert one.level_probs == pytest.approx(plain.level_probs([messages])[0].tolist(), abs=1e-5)
    assert ours.kind == "wildreward" and ours.name == "reward-model"

    folder = classifier_folder(tmp_path)
    classifier = load_scorer(str(folder), dtype="float32")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for messages, one in zip(conversations, classifier.score(conversations), strict=True):
        ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            assert one.score == pytest.approx(model(**ids).logits[0, 0].item(), abs=1e-5)
        assert one.level_probs is None


def padded_classifier(folder, *, config_pad, tokenizer_pad, template_end):
    """A classifier whose model and tokenizer disagree about the padding token, or have none."""
    from tests.evaluation.evaluation_tiny import tokenizer

    folder = classifier_folder(folder)
    tok = tokenizer()
    tok.pad_token = tokenizer_pad
    tok.chat_template = "{% for m in messages %}{{ m.role }} : {{ m.content }} " + template_end + "{% endfor %}"
    tok.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": config_pad}))
    return folder, tok


def test_a_classifier_without_a_limit_of_its_own_keeps_to_the_one_asked_for(tmp_path):
    from transformers import BloomConfig, BloomForSequenceClassification

    from wildreward.scoring import load_scorer

    folder = classifier_folder(tmp_path)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    config = BloomConfig(vocab_size=size, hidden_size=16, n_layer=1, n_head=2, num_labels=1, pad_token_id=0)
    BloomForSequenceClassification(config).save_pretrained(folder)
    assert load_scorer(str(folder), max_length=77).max_length == 77


@pytest.mark.parametrize("template_end", ["</s> ", ""])
@pytest.mark.parametrize(
    ("config_pad", "tokenizer_pad"), [(None, None), (None, "</s>"), (0, None), (0, "</s>"), (3, "<pad>"), (-1, "<pad>")]
)
def test_classifier_is_read_at_its_own_last_token_whatever_the_padding(
    config_pad, tokenizer_pad, template_end, tmp_path
):
    import torch
    from transformers import AutoModelForSequenceClassification

    from wildreward.scoring import load_scorer

    folder, tok = padded_classifier(
        tmp_path, config_pad=config_pad, tokenizer_pad=tokenizer_pad, template_end=template_end
    )
    answers = ["good", "it is not right", "thanks please a list of python answers"]
    conversations = Group("1", USER, answers).conversations
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    plain = []
    for messages in conversations:
        text = tok.apply_chat_template(messages, tokenize=False)
        ids = torch.tensor([tok(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            plain.append(model(input_ids=ids).logits[0, 0].item())
    assert max(plain) - min(plain) > 1e-3
    scorer = load_scorer(str(folder), dtype="float32")
    together = [scored.score for scored in scorer.score(conversations)]
    alone = [scorer.score([messages])[0].score for messages in conversations]
    assert together == pytest.approx(plain, abs=1e-5) and alone == pytest.approx(plain, abs=1e-5)


def test_a_classifier_says_when_an_answer_itself_is_cut(tmp_path, caplog):
    from wildreward.scoring import load_scorer

    long_prompt = [{"role": "user", "content": "why " * 100}]
    scorer = load_scorer(str(classifier_folder(tmp_path)), dtype="float32", max_length=32)
    scorer.score(Group("1", long_prompt, ["it is good", "not right"]).conversations)
    assert "exceed" not in caplog.text  # the prompt made room
    scorer.score(Group("1", long_prompt, ["good " * 40, "it is bad", "bad " * 50]).conversations)
    assert "2 of 3 answers exceed 32 tokens: their beginning was left out before scoring" in caplog.text


def test_options_that_do_not_fit_the_model_are_said_to_be_passed_over(tmp_path, caplog):
    from wildreward.scoring import load_scorer

    folder = str(classifier_folder(tmp_path))
    load_scorer(folder)
    load_scorer("http://host:1/get_reward", served_model=folder)
    assert "passed over" not in caplog.text
    load_scorer(folder, revision="v1", served_model=folder)
    assert "--revision is passed over for classifier: only a model from the Hub has revisions" in caplog.text
    assert "--served-model is passed over for classifier: it is for URLs" in caplog.text
    caplog.clear()
    load_scorer("http://host:1/get_reward", revision="v1")
    assert "--revision is passed over for host:1" in caplog.text


def test_fingerprint_follows_the_weights(tmp_path):
    from wildreward.scoring.local import folder_fingerprint

    folder = classifier_folder(tmp_path)
    before = folder_fingerprint(folder)
    (folder / "results.json").write_text("{}")
    assert folder_fingerprint(folder) == before
    classifier_folder(tmp_path, seed=1)
    assert folder_fingerprint(folder) != before


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.layers.0.mlp.up_proj.weight", None, r"lacks weights for model\.layers\.0\.mlp\.up_proj\.weight"),
        ("v_head.weight", torch.ones(1), r"has weights the model does not have: v_head\.weight"),
        ("score.weight", torch.ones(2, 7), r"has score\.weight of shape \(2, 7\) instead of \(1, 32\)"),
    ],
)
def test_a_classifier_whose_weights_do_not_fit_is_refused(name, value, message, tmp_path):
    from safetensors.torch import load_file, save_file

    from wildreward.scoring import load_scorer

    folder = classifier_folder(tmp_path)
    weights = load_file(folder / "model.safetensors") | {name: value}
    kept = {key: weight for key, weight in weights.items() if weight is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"^{folder} is not a classifier that can be loaded: the checkpoint {message}"):
        load_scorer(str(folder))


def test_what_is_not_a_reward_model_is_refused(tmp_path):
    from transformers import LlamaModel

    from wildreward.scoring import load_scorer

    with pytest.raises(UserError, match="with 3 labels; expected a WildReward model or a classifier with one label"):
        load_scorer(str(classifier_folder(tmp_path, labels=3)))
    with pytest.raises(UserError, match="nothing-here is not a model folder, Hub id or URL"):
        load_scorer(str(tmp_path / "nothing-here"))
    folder = classifier_folder(tmp_path)
    LlamaModel.from_pretrained(folder).save_pretrained(folder)  # the score layer goes
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_labels": 1, "id2label": {"0": "x"}}))
    with pytest.raises(UserError, match=r"lacks weights for score\.weight; it is not a trained reward model"):
        load_scorer(str(folder))
