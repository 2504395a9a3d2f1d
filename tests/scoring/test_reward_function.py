"""Reward functions against real sockets and a real (tiny) reward model."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from wildreward.common.errors import UserError
from wildreward.scoring import load_scorer
from wildreward.scoring.protocol import Scored
from wildreward.scoring.reward_text import render_reward_text
from wildreward.training import RewardFunction, RewardSourceError

CHAT = [{"role": "user", "content": "What is 2 + 2?"}]
ANSWERS = [[{"role": "assistant", "content": text}] for text in ("4", "It is four.", "I do not know")]


@pytest.fixture
def server():
    """A server that plays a script: each entry is (status, headers, body or function of the request), the last repeats."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            httpd.requests.append((request, dict(self.headers)))
            status, headers, body = httpd.script.pop(0) if len(httpd.script) > 1 else httpd.script[0]
            if body is None:
                return self.connection.close()  # reset
            data = body(request) if callable(body) else body
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            return self.wfile.write(data)

        def log_message(self, *args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.requests, httpd.script = [], [(200, {}, lengths)]
    httpd.address = f"http://127.0.0.1:{httpd.server_port}"
    httpd.url = f"{httpd.address}/get_reward"
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def lengths(request):
    if "query" in request:
        return json.dumps({"rewards": [len(row) / 100 for row in request["query"]]}).encode()
    scores = [len(m[-1]["content"]) / 100 for m in request["messages"]]
    return json.dumps({"scores": scores, "level_probs": [[0.25] * 4] * len(scores)}).encode()


def test_asks_with_texts_or_messages(server):
    texts = RewardFunction(server.url)(prompts=[CHAT] * 3, completions=ANSWERS, completion_ids=[[1]] * 3)
    query = server.requests[0][0]["query"]
    assert query == [render_reward_text(CHAT + answer) for answer in ANSWERS]
    assert query[0].endswith("<query>\nWhat is 2 + 2?\n<response>\n4")
    assert texts == [len(text) / 100 for text in query]
    assert RewardFunction(f"{server.address}/score")(prompts=[CHAT], completions=[ANSWERS[0]]) == [0.01]
    assert server.requests[-1][0] == {"messages": [CHAT + ANSWERS[0]]}
    scored = load_scorer(f"{server.address}/score").score([CHAT + ANSWERS[0]])
    assert scored == [Scored(0.01, (0.25, 0.25, 0.25, 0.25))]


def test_batches_keep_their_order(server):
    reward = RewardFunction(f"{server.address}/score", batch_size=2, concurrency=3)
    answers = ["x" * n for n in range(1, 12)]
    assert reward(prompts=["q"] * 11, completions=answers) == [n / 100 for n in range(1, 12)]
    assert len(server.requests) == 6


def test_retries_what_may_pass_and_honours_retry_after(server):
    server.script[:0] = [(503, {}, b"busy"), (429, {"Retry-After": "0.3"}, b""), (200, {}, None), (200, {}, b'{"rew')]
    started = time.monotonic()
    assert RewardFunction(server.url, deadline=20)(prompts=["q"], completions=["a"]) is not None
    assert len(server.requests) == 5 and time.monotonic() - started > 0.3


def test_a_retry_after_of_nothing_does_not_hammer(server):
    server.script[:] = [(503, {"Retry-After": "0.0001"}, b"busy")]
    with pytest.raises(RewardSourceError, match="gave no rewards"):
        RewardFunction(server.url, deadline=1)(prompts=["q"], completions=["a"])
    assert 1 < len(server.requests) < 15


def test_gives_up_at_the_deadline(server):
    server.script[:] = [(500, {}, b"broken")]
    gave_up = r"gave no rewards in \d attempts and [01] s \(HTTP 500 broken\)"
    with pytest.raises(RewardSourceError, match=gave_up):
        RewardFunction(server.url, deadline=1.0)(prompts=["q"], completions=["a"])


def test_a_hanging_server_is_given_up():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        reward = RewardFunction(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2, deadline=0.5)
        with pytest.raises(RewardSourceError, match="gave no rewards"):
            reward(prompts=["q"], completions=["a"])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_refusals_are_not_retried(server, status):
    server.script[:] = [(status, {}, b"no such model")]
    with pytest.raises(RewardSourceError, match=f"refused the request: HTTP {status} no such model"):
        RewardFunction(server.url)(prompts=["q"], completions=["a"])
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b'{"rewards": [1.0, 2.0]}', "answered 2 rewards; expected .* with 1 numbers"),
        (b'{"error": "overloaded"}', "overloaded"),
        (b'{"rewards": ["high"]}', "high"),
        (b'{"rewards": [true]}', "True"),
        (b'{"rewards": [NaN]}', "returned nan for completion 0"),
        (b'{"rewards": [1e999]}', "returned inf"),
    ],
)
def test_wrong_answers_are_errors_never_a_constant(server, answer, message):
    server.script[:] = [(200, {}, answer)]
    with pytest.raises(RewardSourceError, match=message):
        RewardFunction(server.url)(prompts=["q"], completions=["a"])


def test_null_and_empty_completions_are_unscorable(server):
    server.script[:] = [(200, {}, b'{"rewards": [null, 0.5]}')]
    assert RewardFunction(server.url)(prompts=["q"] * 3, completions=["a", "  ", "b"]) == [None, None, 0.5]


def test_token_comes_from_the_environment_and_stays_out_of_errors(server, monkeypatch):
    monkeypatch.setenv("WILDREWARD_REWARD_TOKEN", "s3cret")
    server.script[:] = [(403, {}, b"no")]
    with pytest.raises(RewardSourceError) as caught:
        RewardFunction(server.url)(prompts=["q"], completions=["a"])
    assert server.requests[0][1]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://bob:s3cret@127.0.0.1:9/get_reward", "HTTPS://s3cret@127.0.0.1"])
def test_an_address_with_a_password_is_refused_without_repeating_it(address, tmp_path, caplog):
    from tests.evaluation.evaluation_tiny import compare_models, evaluate_model

    benchmark = tmp_path / "judge.jsonl"
    pair = {"pair_id": "1", "source": "mmlu-pro", "question": "q", "response_A": "a", "response_B": "b"}
    benchmark.write_text(json.dumps(pair | {"label": "A>B"}) + "\n")
    given = {"benchmarks": [f"judge_bench={benchmark}"]}
    for use in (
        lambda: RewardFunction(address),
        lambda: evaluate_model(address, tmp_path / "out", **given),
        lambda: compare_models([address, "no-such-model"], tmp_path / "both", **given),
    ):
        with pytest.raises(
            UserError, match=r"server 127\.0\.0\.1\S* holds a user name .* WILDREWARD_REWARD_TOKEN"
        ) as told:
            use()
        assert "s3cret" not in str(told.value)
    with pytest.raises(UserError, match="is not a folder") as told:
        evaluate_model(address, **given)
    assert "s3cret" not in str(told.value) + caplog.text


def test_a_model_folder_scores_as_the_scorer_does(tmp_path):
    from tests.tiny import decoder_tokenizer, reward_model
    from wildreward.scoring.scorer import RewardScorer

    scorer = RewardScorer(reward_model("llama"), decoder_tokenizer())
    scorer.save_pretrained(tmp_path / "rm")
    reward = RewardFunction(str(tmp_path / "rm"))
    history = [{"role": "system", "content": "Be brief."}, *CHAT, *ANSWERS[1], {"role": "user", "content": "again"}]
    prompts = [history] * 3 + [CHAT] * 3
    rewards = reward(prompts=prompts, completions=ANSWERS * 2, completion_ids=None, trainer_state=None)
    expected = RewardScorer.from_pretrained(tmp_path / "rm").score(
        [p + a for p, a in zip(prompts, ANSWERS * 2, strict=True)]
    )
    assert rewards == pytest.approx(expected, abs=1e-4)
    assert reward.__name__ == "rm"


def test_a_function_of_conversations_and_its_name():
    def brevity(conversations):
        return [-len(c[-1]["content"]) for c in conversations]

    reward = RewardFunction(brevity)
    assert reward(prompts=["q"], completions=["abc"]) == [-3.0] and reward.__name__ == "brevity"
    with pytest.raises(RewardSourceError, match="returned 0 rewards for 1"):
        RewardFunction(lambda conversations: [])(prompts=["q"], completions=["a"])


def test_is_a_reward_function_for_trl(tmp_path):
    from trl import GRPOConfig, GRPOTrainer

    from tests.training.dpo_tiny import make_policy, make_prompts

    def brevity(conversations):
        assert all([m["role"] for m in c] == ["user", "assistant"] for c in conversations)
        return [-len(c[-1]["content"]) for c in conversations]

    args = GRPOConfig(
        str(tmp_path),
        use_cpu=True,
        bf16=False,
        num_generations=2,
        per_device_train_batch_size=4,
        max_completion_length=4,
        max_steps=1,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(make_policy(tmp_path / "policy"), RewardFunction(brevity), args, make_prompts(2))
    trainer.train()
    assert trainer.state.log_history[0]["rewards/brevity/mean"] < 0


def test_a_refusal_is_told_without_the_chat_that_the_server_echoes(server):
    detail = [{"msg": "Field required", "input": {"query": ["a private word"]}}]
    server.script[:] = [(422, {}, json.dumps({"detail": detail}).encode())]
    with pytest.raises(RewardSourceError, match=r"refused the request: HTTP 422 Field required$"):
        RewardFunction(server.url)(prompts=["q"], completions=["a"])


CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "the sky"}}}
LOOKS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
SAW = {"role": "tool", "name": "look", "content": "it is blue"}
BLUE = {"role": "assistant", "content": "Blue."}


@pytest.mark.parametrize(
    "unscorable",
    {
        "ends with a tool's result": [LOOKS, SAW],
        "cut in its tool loop": [LOOKS, SAW, LOOKS],
        "calls with words": [{**LOOKS, "content": "I look once more."}],
        "no message": [],
        "an empty answer": [{"role": "assistant", "content": "  "}],
        "no content": [{"role": "assistant", "content": None}],
        "an answer without text": [{"role": "assistant", "content": [{"type": "image", "image": "x.png"}]}],
    }.items(),
    ids=lambda case: case[0],
)
def test_what_ends_without_an_answer_in_words_has_no_reward_and_the_others_have_theirs(unscorable, tmp_path):
    from tests.tiny import reward_model, tokenizer_for
    from wildreward.scoring.scorer import RewardScorer

    scorer = RewardScorer(reward_model("llama"), tokenizer_for("llama"))
    scorer.save_pretrained(tmp_path)
    completions = [[LOOKS, SAW, BLUE], unscorable[1], [BLUE]]
    rewards = RewardFunction(str(tmp_path))(prompts=[CHAT] * 3, completions=completions)
    looked, plain = scorer.score([CHAT + completions[0], CHAT + completions[2]])
    assert rewards == [pytest.approx(looked, abs=1e-5), None, pytest.approx(plain, abs=1e-5)]


def test_a_model_goes_to_the_accelerator_where_there_is_one_and_of_several_processes_each_to_its_own(
    monkeypatch, tmp_path
):
    import torch
    from transformers import PreTrainedModel

    from tests.tiny import reward_model, tokenizer_for
    from wildreward.scoring.scorer import RewardScorer

    RewardScorer(reward_model("llama"), tokenizer_for("llama")).save_pretrained(tmp_path)
    places, load = [], PreTrainedModel.from_pretrained.__func__

    def on_the_cpu(cls, *args, device_map=None, **kwargs):
        places.append(device_map)
        return load(cls, *args, **kwargs)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(on_the_cpu))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    RewardFunction(str(tmp_path))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    for kind, rank in (("cuda", None), ("mps", None), ("xpu", "2"), ("cuda", "3")):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda kind=kind: torch.device(kind))
        if rank:
            monkeypatch.setenv("LOCAL_RANK", rank)
        RewardFunction(str(tmp_path))
    RewardFunction(str(tmp_path), device_map="cpu")
    assert places == ["cpu", "auto", {"": "mps:0"}, {"": "xpu:2"}, {"": "cuda:3"}, "cpu"]
