"""vLLM, SGLang and TEI in front of real (tiny) classifiers: servers that answer in their documented forms, and nothing else."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, LlamaForSequenceClassification

from tests.tiny import SHAPE, encoder_tokenizer, reward_model, tokenizer_for
from wildreward import RewardScorer
from wildreward.common.errors import UserError
from wildreward.modeling_wildreward.template import install_template
from wildreward.scoring import RewardFunction, RewardSourceError, load_scorer

CHATS = [
    [{"role": "user", "content": f"the cat {n}"}, {"role": "assistant", "content": "sat on a mat " * (1 + 3 * n)}]
    for n in range(7)
]
CHATS[2] = [{"role": "system", "content": "be brief"}, *CHATS[1], *CHATS[2]]
CHATS[5] = [*CHATS[4], *CHATS[6], *CHATS[5]]  # longer than the model reads
TEMPERATURES = [1.3, 0.7, 1.1]


def exported(folder, head):
    """A reward model's scorer, and a folder with the same model in an export's form."""
    model, tokenizer = reward_model("llama", head=head), tokenizer_for("llama")
    model.config.temperatures = TEMPERATURES
    scalar = head == "coral"
    labels = {0: "reward"} if scalar else {k: f"P(level > {k + 1})" for k in range(3)}
    config = type(model.config.text_config).from_dict({**model.config.text_config.to_dict(), "id2label": labels})
    config.wildreward_form = "scalar" if scalar else "thresholds"
    config.wildreward_thresholds = model.score.biases().tolist()
    config.wildreward_temperatures = TEMPERATURES if scalar else [1.0] * 3
    plain = LlamaForSequenceClassification(config)
    plain.model.load_state_dict(model.model.state_dict())
    weight = model.score.weight.detach()
    plain.score.weight = torch.nn.Parameter(weight if scalar else weight / torch.tensor(TEMPERATURES)[:, None])
    plain.save_pretrained(folder)
    saved = tokenizer_for("llama")
    saved.model_max_length = model.config.max_length
    saved.save_pretrained(folder)
    return RewardScorer(model, tokenizer)


class Engine:
    """Answers like one of the engines with a classifier's logits, and like it refuses what it does not know."""

    def __init__(self, kind, folder, tokenizer):
        self.kind, self.tokenizer = kind, tokenizer
        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def logits(self, rows):
        return [self.model(input_ids=torch.tensor([ids])).logits[0].tolist() for ids in rows]

    @torch.no_grad()
    def answer(self, path, body):
        """Status and body of the answer to a request."""
        ids = body.get({"vllm": "input", "sglang": "input_ids"}.get(self.kind, "inputs"))
        if path not in {"vllm": ("/classify", "/pooling"), "sglang": ("/classify",)}.get(self.kind, ("/predict",)):
            return 404, {"detail": "Not Found"}
        if not ids:
            return 400, {"error": {"message": f"{self.kind}: no input", "type": "BadRequestError", "code": 400}}
        if self.kind == "sglang":
            return 200, [{"embedding": row, "meta_info": {"prompt_tokens": 1}} for row in self.logits(ids)]
        if self.kind == "tei":
            assert body["raw_scores"] is True
            rows = self.logits(self.tokenizer([text for (text,) in ids])["input_ids"])
            named = [[{"score": s, "label": self.model.config.id2label[k]} for k, s in enumerate(r)] for r in rows]
            return 200, [sorted(row, key=lambda one: -one["score"]) for row in named]
        assert body["use_activation"] is False
        rows = enumerate(self.logits(ids))
        if path == "/pooling":
            data = [{"index": i, "object": "pooling", "data": row} for i, row in rows]
        else:
            data = [{"index": i, "label": None, "probs": row, "num_classes": len(row)} for i, row in rows]
        return 200, {
            "id": "x-1",
            "object": "list",
            "created": 1,
            "model": "m",
            "data": data,
            "usage": {"total_tokens": 9},
        }


@contextmanager
def serving(answer):
    """A server on a port of its own for a function of path and body; yields its address and the requests so far."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append(body)
            status, found = answer(self.path, body)
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    requests = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("head", ["coral", "independent"])
def test_an_export_behind_any_engine_or_opened_here_gives_the_reward_models_scores(head, tmp_path):
    scorer = exported(tmp_path, head)
    expected, levels = scorer.score(CHATS), scorer.level_probs(CHATS).tolist()
    assert max(expected) - min(expected) > 0.05
    found = {"here": load_scorer(str(tmp_path), dtype="float32").score(CHATS)}
    for kind, path in (("vllm", "classify"), ("vllm", "pooling"), ("sglang", "classify"), ("tei", "predict")):
        with serving(Engine(kind, tmp_path, scorer.tokenizer).answer) as (url, requests):
            remote = load_scorer(f"{url}/{path}", served_model=str(tmp_path), batch_size=3, concurrency=1)
            assert remote.num_levels == 4
            found[kind, path] = remote.score(CHATS)
            assert len(requests) == (4 if kind == "sglang" else 3)  # what it takes is found out once
    for way, scored in found.items():
        assert [one.score for one in scored] == pytest.approx(expected, abs=1e-5), way
        for one, probs in zip(scored, levels, strict=True):
            assert one.level_probs == pytest.approx(probs, abs=1e-5), way


def bradley_terry(folder):
    """An encoder with one label, whose tokenizer puts its marks around texts itself, as TEI serves them."""
    torch.manual_seed(0)
    config = BertConfig(**SHAPE, max_position_embeddings=128, pad_token_id=0, num_labels=1)
    model = AutoModelForSequenceClassification.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    install_template(encoder_tokenizer()).save_pretrained(folder)


def test_a_bradley_terry_encoder_behind_tei_reads_what_it_reads_here(tmp_path):
    bradley_terry(tmp_path)
    here = [one.score for one in load_scorer(str(tmp_path), dtype="float32").score(CHATS)]
    assert max(here) - min(here) > 1e-3  # of what is cut, the start token stays
    with serving(Engine("tei", tmp_path, encoder_tokenizer()).answer) as (url, _):
        reward = RewardFunction(f"{url}/predict", served_model=str(tmp_path))
        assert reward.score(CHATS) == pytest.approx(here, abs=1e-5)


def test_a_path_that_two_engines_share_is_refused_by_both_in_one_message(tmp_path):
    exported(tmp_path, "coral")
    with serving(lambda path, body: (422, {"detail": f"only {len(body)} keys"})) as (url, requests):
        with pytest.raises(
            RewardSourceError,
            match=r"HTTP 422 only 3 keys \(asked as vLLM\).*HTTP 422 only 1 keys \(asked as SGLang\)$",
        ):
            RewardFunction(f"{url}/classify", served_model=str(tmp_path)).score(CHATS[:1])
        assert len(requests) == 2


@pytest.mark.parametrize(
    ("path", "answer", "message"),
    [
        (
            "classify",
            {"data": [{"probs": [0.1, 0.2, 0.3]}]},
            "answered 3 numbers .* expected 1, the labels of rm: another",
        ),
        ("classify", {"data": [{"probs": []}]}, "returned a list of 0 for completion 0"),
        ("classify", {"data": [{"probs": None}]}, "returned None for completion 0"),
        (
            "classify",
            {"object": "list"},
            r'answered an object with object \(text\); expected \{"data": .* of vLLM for 1',
        ),
        ("pooling", {"data": [{"data": "AAAA"}]}, "returned 'AAAA' for completion 0"),
        ("pooling", {"data": [{"data": []}]}, 'answered an object with data .list.; expected {"data"'),
        ("predict", [{"score": 0.5, "label": "x"}], "answered a list of 1; expected .* of TEI for 1 conversations"),
        ("predict", [[{"score": None, "label": "x"}]], "returned None for completion 0"),
        ("score", {"scores": [2.5]}, r"answered an object with scores \(list\); expected .* of wildreward serve"),
    ],
)
def test_an_answer_that_cannot_be_read_is_told(path, answer, message, tmp_path):
    exported(tmp_path / "rm", "coral")
    served = None if path == "score" else str(tmp_path / "rm")
    with serving(lambda *_: (200, answer)) as (url, _), pytest.raises(RewardSourceError, match=message):
        RewardFunction(f"{url}/{path}", served_model=served).score(CHATS[:1])


def test_of_a_class_with_a_row_a_token_the_last_one_counts(tmp_path):
    bradley_terry(tmp_path)
    with serving(lambda *_: (200, {"data": [{"data": [[0.1], [0.2], [-0.75]]}]})) as (url, _):
        assert RewardFunction(f"{url}/pooling", served_model=str(tmp_path)).score(CHATS[:1]) == [-0.75]


def test_what_cannot_be_asked_is_said_before_anything_is_sent(tmp_path):
    exported(tmp_path / "rm", "coral")
    with pytest.raises(UserError, match=r"host:1 is asked as vLLM, .* --served-model FOLDER_OR_ID"):
        load_scorer("http://host:1/classify")
    with pytest.raises(UserError, match=r"host:1 is asked at /v1/classify, .* expected its /classify"):
        load_scorer("http://host:1/v1/classify", served_model=str(tmp_path / "rm"))
    config = json.loads((tmp_path / "rm" / "config.json").read_text())
    for changes, message in (
        ({"wildreward_thresholds": [0.1, 0.2, 0.3]}, r"thresholds \[0.1, 0.2, 0.3\] .* falling thresholds"),
        ({"wildreward_temperatures": [1.0, 0.0, 1.0]}, "temperatures above 0; export the model again"),
        ({"wildreward_form": "other"}, "wildreward_form 'other'"),
        (
            {"wildreward_form": None, "id2label": {"0": "a", "1": "b"}},
            "with 2 labels; expected a WildReward model or a",
        ),
    ):
        (tmp_path / "rm" / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(UserError, match=message):
            load_scorer("http://host:1/classify", served_model=str(tmp_path / "rm"))


def test_a_whole_wildreward_model_is_not_what_an_engine_serves(tmp_path):
    scorer = RewardScorer(reward_model("llama"), tokenizer_for("llama"))
    scorer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is a WildReward model, which no engine serves; .*`wildreward export`"):
        load_scorer("http://host:1/classify", served_model=str(tmp_path))
