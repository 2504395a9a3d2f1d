"""What each tab says, without a browser."""

import json
import logging
import re
import shutil
import socket
import subprocess
import sys
from html import unescape

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.conftest import in_hub_cache
from tests.demo.runs import HOSTILE, ROWS, TELLTALES, instances, write_dataset
from tests.reward_process import RewardProcess
from tests.tiny import backbone_config, decoder_tokenizer
from wildreward import RewardScorer, preference_probability
from wildreward.common.errors import UserError
from wildreward.demo import feedback_tab, markup, policy_tab, quality_tab, try_tab
from wildreward.demo.app import build_app
from wildreward.demo.feedback_tab import ANY, FILTERS, Feedback
from wildreward.demo.settings import DemoConfig
from wildreward.scoring.load import load_scorer

NAMES = list(FILTERS)


@pytest.fixture(scope="module")
def scorer(run):
    return load_scorer(str(run / "reward-model"))


@pytest.fixture(scope="module")
def data(run):
    return Feedback(str(run / "dataset"))


def tabs(app):
    return [c["props"]["label"] for c in app.get_config_file()["components"] if c["type"] == "tabitem"]


def words(html):
    """The text of a page, as a reader sees it."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def ids(data, search="", **chosen):
    return [data.row(int(k))["id"] for k in data.select(search, **chosen)]


def is_error(html, *said):
    assert html.count("<p") == 1 and 'role="alert"' in html and "\n" not in html
    assert all(one in words(html) for one in said), words(html)
    return True


# ---- what there is to show


def test_a_tab_for_each_thing_that_is_there(run, tmp_path):
    def shown(**options):
        return tabs(build_app(DemoConfig(**{name: str(value) for name, value in options.items()})))

    assert shown(run=run) == ["Try it", "Feedback", "Quality", "Policy"]
    assert shown(dataset=run / "dataset") == ["Feedback"]
    assert shown(model=run / "reward-model") == ["Try it", "Quality"]
    assert shown(policy=run / "policy") == ["Policy"]
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / "plain").mkdir(exist_ok=True)
        (tmp_path / "plain" / name).write_bytes((run / "reward-model" / name).read_bytes())
    assert shown(model=tmp_path / "plain", dataset=run / "dataset") == ["Try it", "Feedback"]


def test_a_model_of_the_hub_comes_with_its_results_and_a_server_without(run, tmp_path):
    snapshot = tmp_path / "models--you--rm" / "snapshots" / ("a" * 40)
    shutil.copytree(run / "reward-model", snapshot, ignore=shutil.ignore_patterns("work"))
    assert tabs(build_app(DemoConfig(model=in_hub_cache(str(snapshot))))) == ["Try it", "Quality"]
    assert tabs(build_app(DemoConfig(model="http://127.0.0.1:9/score"))) == ["Try it"]


def test_what_cannot_be_shown_is_said_in_one_line(run, tmp_path):
    for options, said in (
        ({}, "nothing to show; give --run, --model, --dataset or --policy"),
        ({"run": str(tmp_path)}, "holds none of reward-model/, dataset/, policy/"),
        ({"dataset": str(run / "policy")}, "is no dataset that can be opened"),
        ({"policy": str(run / "dataset")}, "has no dpo_results.json"),
        ({"model": str(run / "dataset")}, "not a model folder, Hub id or URL"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            build_app(DemoConfig(**options))


def test_the_command_refuses_a_port_that_is_taken_before_it_loads_anything(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ["demo", "--model", str(run / "dataset"), "--port", str(taken.getsockname()[1])]
        done = subprocess.run([sys.executable, "-m", "wildreward", *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot listen on 127.0.0.1, port ") and done.stderr.count("\n") == 1


def test_without_gradio_the_extra_is_named():
    code = "import sys; sys.modules['gradio'] = None\nfrom wildreward.cli import run; run(['demo', '--dataset', 'x'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: demo needs gradio; pip install 'wildreward[demo]'\n")


# ---- Try it


def test_scores_and_preferences_are_the_models(run, scorer):
    answers = ["the cat", "a mat sat", "", "right answer"]
    html = try_tab.shown(scorer, "please", *answers)
    prompt, given = [{"role": "user", "content": "please"}], [answer for answer in answers if answer]
    conversations = [[*prompt, {"role": "assistant", "content": text}] for text in given]
    plain = RewardScorer.from_pretrained(run / "reward-model")
    scores, probs = plain.score(conversations), torch.from_numpy(plain.level_probs(conversations))
    assert re.findall(r'wr-score">([\d.]+)<', html) == [f"{score:.2f}" for score in scores]
    found = {pair: int(p) for pair, p in re.findall(r"P\((\w better than \w)\) (\d+)%", words(html))}
    chance = {(a, b): preference_probability(probs[a], probs[b]).item() for a in range(3) for b in range(3)}
    assert found == {
        "A better than B": round(100 * chance[0, 1]),
        "A better than D": round(100 * chance[0, 2]),
        "B better than D": round(100 * chance[1, 2]),
    }
    best = "ABD"[int(np.argmax(scores))]
    assert re.search(rf"Answer {best}</h3><span class=\"wr-chip wr-best\">", html) and html.count("wr-best") == 1
    percents = [float(p) for p in re.findall(r'wr-fill wr-l\d" style="width:([\d.]+)%"', html)[:4]]
    assert percents == pytest.approx([100 * p for p in probs[0].tolist()], abs=0.051)


def test_a_model_without_levels_compares_as_bradley_terry(tmp_path):
    torch.manual_seed(0)
    config = backbone_config("llama")
    config.num_labels = 1
    network = AutoModelForSequenceClassification.from_config(config)
    torch.nn.init.normal_(network.score.weight, std=1.0)
    network.save_pretrained(tmp_path)
    tokenizer = decoder_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    scorer = load_scorer(str(tmp_path))
    html = try_tab.shown(scorer, "please", "the cat", "a mat", "", "")
    a, b = (
        one.score
        for one in scorer.score(
            [
                [{"role": "user", "content": "please"}, {"role": "assistant", "content": text}]
                for text in ("the cat", "a mat")
            ]
        )
    )
    assert f"P(A better than B) {round(100 / (1 + np.exp(b - a)))}%" in words(html)
    assert "wr-bars" not in html and "Bradley-Terry" in html


def test_a_reward_servers_answer_and_its_failure():
    server = RewardProcess()
    scorer = load_scorer(server.url, deadline=1.0)
    try:
        html = try_tab.shown(scorer, "hello", "a b c", "c", "", "")
        assert re.findall(r'wr-score">([\d.]+)<', html) == ["0.67", "0.00"]
        assert "P(A better than B) 50%" in words(html)
    finally:
        server.child.kill()
    assert is_error(try_tab.shown(scorer, "hello", "a", "", "", ""), "127.0.0.1")


def test_what_was_cut_off_is_told(scorer):
    def told(prompt, answer):
        return re.findall(r"<summary>(.*?) \(", try_tab.shown(scorer, prompt, answer, "", "", ""))[0]

    assert told("please", "the cat") == "Nothing cut off"
    assert told("please", "the cat sat " * 60) == "Cut off: the middle of the answer"
    assert told("the cat sat " * 60, "right") == "Cut off: the middle of the question"
    talk = "".join(f"User: the cat {k} {'sat ' * 10}\nAssistant: mat\n" for k in range(8)) + "User: please"
    count = int(re.fullmatch(r"Cut off: the oldest (\d+) earlier messages", told(talk, "right"))[1])
    assert 1 < count < 16
    html = try_tab.shown(scorer, talk, "right", "", "", "")
    read = html[html.index("wr-read") :]
    assert "the cat 0" not in read and "the cat 7" in read  # what stands there is what the model read


def test_a_conversation_is_read_as_people_write_it():
    turns = [("user", "hi"), ("assistant", "hello\nthere"), ("user", "2 + 2?")]
    expected = [{"role": role, "content": text} for role, text in turns]
    assert try_tab.read_prompt("User: hi\nassistant:  hello\nthere\nUSER: 2 + 2?") == expected
    assert try_tab.read_prompt(json.dumps(expected)) == expected
    assert try_tab.read_prompt(" what is\nUser: in a config? ") == [
        {"role": "user", "content": "what is\nUser: in a config?"}
    ]
    with_system = try_tab.read_prompt("System: be brief\nUser: hi")
    assert with_system[0] == {"role": "system", "content": "be brief"}


def test_wrong_input_is_told_in_one_line(scorer):
    long = "x" * (try_tab.MOST_CHARACTERS + 1)
    assert is_error(try_tab.shown(scorer, "", "a", "", "", ""), "does not end with a user's question")
    assert is_error(
        try_tab.shown(scorer, "User: a\nAssistant: b", "a", "", "", ""), "does not end with a user's question"
    )
    assert is_error(try_tab.shown(scorer, "please", "", " ", "", ""), "no answer to score")
    assert is_error(
        try_tab.shown(scorer, long, "a", "", "", ""), "the conversation has 20,001 characters", "at most 20,000"
    )
    assert is_error(try_tab.shown(scorer, "please", "", long, "", ""), "answer B has 20,001 characters")
    assert is_error(try_tab.shown(scorer, '[{"role": "user"', "a", "", "", ""), "begins like JSON")
    assert is_error(try_tab.shown(scorer, '[{"role": "robot", "content": "x"}]', "a", "", "", ""), "unknown role")


# ---- Feedback


def test_filters_and_search_select_what_they_say(data):
    rows = instances()

    def expected(keep):
        return sorted(row["id"] for row in rows if keep(row))

    assert sorted(ids(data)) == expected(lambda row: True)
    assert sorted(ids(data, label=2)) == expected(lambda row: row["label"] == 2)
    assert sorted(ids(data, label_source="mined", language="German")) == ["c3_turn1"]
    assert sorted(ids(data, split="train")) == [f"c{k}_turn1" for k in range(4)]
    assert sorted(ids(data, "tHANKS 6")) == ["c6_turn1"]  # the follow-up
    assert sorted(ids(data, "question 1")) == sorted(f"c{k}_turn1" for k in (1, *range(10, 20)))  # the messages
    assert sorted(ids(data, "zebra 7")) == ["c7_turn1"]  # the history
    assert ids(data, "$.*") == []  # no pattern, but text
    assert data.choices["label"] == [1, 2, 3, 4] and data.choices["split"] == ["test", "train"]


def test_rows_go_round_and_the_follow_up_stands_beside_the_answer(data):
    anything = [ANY] * 4
    html, at = feedback_tab.shown(data, NAMES, 0, "", *anything)
    assert at == 0 and "1 of 48 rows" in html
    assert feedback_tab.shown(data, NAMES, -1, "", *anything)[1] == ROWS - 1
    assert feedback_tab.shown(data, NAMES, ROWS, "", *anything)[1] == 0
    html, _ = feedback_tab.shown(data, NAMES, 0, "", 1, ANY, "English", ANY)
    beside = html[html.index("wr-beside") :]
    assert "Assistant the cat sat on mat 4" in words(beside)
    assert 'wr-feedback wr-l1"' in beside and "What the user said next wrong again 4" in words(beside)
    assert "rejection" in words(html) and "explicit" in words(html)


def test_random_complaints_and_praise_are_of_the_selection(data):
    anything = [ANY] * 4
    found = {
        kind: {feedback_tab.random_row(data, NAMES, labels, 0, "", *anything)[1] for _ in range(1000)}
        for kind, labels in (("complaint", feedback_tab.COMPLAINTS), ("praise", feedback_tab.PRAISE))
    }
    positions = data.select("", **dict.fromkeys(NAMES, ANY))
    labels = {kind: {data.row(int(positions[at]))["label"] for at in places} for kind, places in found.items()}
    assert labels == {"complaint": {1, 2}, "praise": {3, 4}}
    assert len(found["complaint"]) == ROWS / 2  # all of them come
    html, at = feedback_tab.random_row(data, NAMES, feedback_tab.PRAISE, 3, "", 1, ANY, ANY, ANY)
    assert at == 3 and is_error(html, "no selected row is at a level of positive engagement or satisfaction")
    assert is_error(feedback_tab.shown(data, NAMES, 0, "nothing says this", *anything)[0], "no row has all of this")
    assert is_error(feedback_tab.shown(data, NAMES, 0, "x" * 201, *anything)[0], "201 characters", "at most 200")


def test_a_dataset_of_another_kind_is_told_by_its_columns(tmp_path):
    write_dataset(tmp_path / "d")
    import pyarrow.parquet as pq

    for path in (tmp_path / "d" / "data").iterdir():
        pq.write_table(pq.read_table(path).drop_columns(["user_feedback"]), path)
    with pytest.raises(
        UserError, match=r"^d, split (train|test), has no column user_feedback; expected a dataset as build"
    ):
        Feedback(str(tmp_path / "d"))


# ---- Quality and Policy


def pages(build):
    """The HTML that a tab begins with."""
    import gradio as gr

    with gr.Blocks() as app:
        build()
    return "".join(
        str(one["props"].get("value") or "") for one in app.get_config_file()["components"] if one["type"] == "html"
    )


def test_quality_shows_the_numbers_of_results_json(run):
    html = pages(quality_tab.opened(str(run / "reward-model")))
    results = json.loads((run / "reward-model" / "results.json").read_text())["datasets"]["dataset"]
    assert f"ROC-AUC {results['roc_auc']['value']:.3f}" in words(html)
    assert f"Mean absolute error {results['mae']['value']:.3f}" in words(html)
    assert html.count('src="data:image/png;base64,') == len(results["figures"]) > 0
    wrong = json.loads((run / "reward-model" / "work" / "wrong" / "dataset.json").read_text())
    assert [float(gap) for gap in re.findall(r"the worse answer is ([\d.]+) ahead", html)] == pytest.approx(
        [pair["answers"][1]["score"] - pair["answers"][0]["score"] for pair in wrong], abs=0.0051
    )


def test_policy_shows_prompts_in_the_order_that_is_asked_for(run):
    rows = policy_tab.read_rows(run / "policy" / "held_out.jsonl")

    def order(by):
        return re.findall(r"User prompt (\d)", words(policy_tab.shown(rows, 0, by)[0]))

    assert [order(by) for by in policy_tab.ORDERS] == [["0", "1", "2"], ["0", "2", "1"], ["1", "2", "0"]]
    html, page = policy_tab.shown(rows, -1, policy_tab.ORDERS[1])
    assert page == 0 and "1 to 3 of 3 prompts" in html
    assert re.findall(r"reward ([+-][\d.]+)", html) == ["+0.50", "+0.00", "-0.25"]
    assert "Before · reward 2.00 · 8 tokens" in html and "After · reward 2.50 · 8 tokens" in html
    _, at = policy_tab.shown(rows * 4, 3, policy_tab.ORDERS[0])
    assert at == 0 and policy_tab.shown(rows * 4, 2, policy_tab.ORDERS[0])[0].count("<article") == 2


def test_a_policy_without_completions_shows_its_numbers_and_says_so(run, tmp_path):
    (tmp_path / "dpo_results.json").write_text((run / "policy" / "dpo_results.json").read_text())
    html = words(pages(policy_tab.opened(str(tmp_path))))
    assert "Reward 2.000 → 2.083 difference 0.083" in html and "kept no completions" in html
    (tmp_path / "held_out.jsonl").write_text('{"prompt": [], "before"')
    with pytest.raises(UserError, match=r"held_out\.jsonl is damaged"):
        policy_tab.opened(str(tmp_path))


# ---- chats are data


def test_nothing_that_a_chat_says_is_markup(run, scorer, data):
    row = next(at for at in range(ROWS) if data.row(at)["id"] == "c11_turn1")
    rows = policy_tab.read_rows(run / "policy" / "held_out.jsonl")
    shown = {
        "try": try_tab.shown(scorer, HOSTILE, HOSTILE, "the cat", "", ""),
        "error": markup.error(HOSTILE),
        "row": feedback_tab.shown(data, NAMES, row, "", *[ANY] * 4)[0],
        "policy": policy_tab.shown(rows, 0, policy_tab.ORDERS[0])[0],
        "wrong": quality_tab._wrong(
            HOSTILE, [{"prompt": [], "answers": [{"before": [], "answer": HOSTILE, "score": 1.0, "label": 1}] * 2}]
        ),
    }
    for name, html in shown.items():
        assert not [sign for sign in TELLTALES if sign in html], name
        assert "&lt;" in html, name


def test_no_word_of_a_chat_is_logged(scorer, data, caplog, capfd):
    secret = "Xylophonist"
    with caplog.at_level(logging.DEBUG):
        try_tab.shown(scorer, secret, f"{secret} sat " * 60, "", "", "")
        try_tab.shown(scorer, secret, "", "", "", "")
        feedback_tab.shown(data, NAMES, 0, secret, *[ANY] * 4)
    out, err = capfd.readouterr()
    assert secret not in caplog.text + out + err
