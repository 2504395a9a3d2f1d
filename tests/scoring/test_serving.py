"""The scoring server on a real socket: the library's scores, and what happens to requests that ask too much or wrongly."""

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.tiny import reward_model, tokenizer_for
from wildreward import RewardScorer
from wildreward.common.errors import UserError
from wildreward.scoring import RewardFunction, RewardSourceError
from wildreward.scoring.limited_template import limit_template
from wildreward.scoring.serve_command import ServeConfig, main
from wildreward.scoring.server.app import make_app
from wildreward.scoring.server.connections import make_server
from wildreward.scoring.server.limits import Limits

SECRET = "my mother is ill"


def chat(number, words=3):
    answer = "the cat sat on a mat " * words + str(number)
    return [{"role": "user", "content": f"right {number}"}, {"role": "assistant", "content": answer}]


CHATS = [chat(number, 1 + number % 4) for number in range(9)]
CHATS[3] = [{"role": "system", "content": "be <query> brief"}, *chat(1), *CHATS[3]]


def fresh_scorer(kind="llama"):
    return RewardScorer(reward_model(kind), tokenizer_for(kind))


class Served:
    """An app behind uvicorn in a thread of this process."""

    def __init__(self, scorer, limits=None, token=None):
        limits = limits or Limits()
        self.server = make_server(make_app(scorer, "tiny", limits, token), limits)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *exception):
        self.server.should_exit = True
        self.thread.join()

    def ask(self, path, body=None, headers=None):
        """Status, answer and headers of one request; POST where there is a body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", path, data, headers or {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text[:1] in b"{[" else text, answer.headers


@pytest.fixture(scope="module")
def served():
    with Served(fresh_scorer(), Limits(max_body=100_000, max_conversations=20, max_waiting=64)) as running:
        yield running


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_scores_are_those_of_the_library(kind):
    expected = fresh_scorer(kind)
    with Served(fresh_scorer(kind)) as server:
        status, answer, _ = server.ask("/score", {"messages": CHATS})
        assert status == 200
        assert answer["scores"] == pytest.approx(expected.score(CHATS), abs=1e-5)
        assert [sum(row) for row in answer["level_probs"]] == pytest.approx([1.0] * len(CHATS), abs=1e-4)
        # bert's own template writes a section's mark in another way
        plain = [c for c in CHATS if "<query>" not in json.dumps(c)]
        for path, chats in (("get_reward", plain), ("score", CHATS)):
            remote = RewardFunction(f"{server.url}/{path}", batch_size=2).score
            assert remote(chats) == pytest.approx(expected.score(chats), abs=1e-5)


def test_many_at_once_get_each_their_own_scores(served):
    expected = fresh_scorer().score(CHATS)
    with ThreadPoolExecutor(8) as pool:
        asked = [number % len(CHATS) for number in range(40)]
        answers = list(pool.map(lambda number: served.ask("/score", {"messages": [CHATS[number]]}), asked))
    assert [status for status, _, _ in answers] == [200] * 40
    found = [answer["scores"][0] for _, answer, _ in answers]
    assert found == pytest.approx([expected[number] for number in asked], abs=1e-5)


def test_health(served):
    status, answer, _ = served.ask("/health")
    assert (status, answer) == (200, {"status": "ok", "model": "tiny", "waiting": 0, "levels": 4})


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/score", b"{broken " + SECRET.encode(), 422, "not JSON"),
        ("/score", [CHATS[0]], 422, "a list of 1; expected an object"),
        ("/score", {"messages": SECRET}, 422, "expected one list: messages"),
        ("/score", {"query": [SECRET]}, 422, "expected one list: messages"),
        ("/get_reward", {}, 422, "expected one list: query or messages"),
        ("/get_reward", {"query": [SECRET]}, 422, "query 0: the text is not a reward model's input"),
        (
            "/get_reward",
            {"query": [f"User: {SECRET}\n<response>\nfoo"]},
            422,
            "query 0: the text is not a reward model's",
        ),
        ("/score", {"messages": [[{"\ud800": 1}]]}, 422, "messages 0, message 1 is an object"),
        ("/get_reward", {"query": [3]}, 422, "query 0 is 3; expected text"),
        (
            "/score",
            {"messages": [CHATS[0], [{"role": "user", "content": SECRET}]]},
            422,
            "messages 1 does not end with",
        ),
        (
            "/score",
            {"messages": [[*CHATS[0], {"role": "assistant", "content": "x", "tool_calls": [{"function": {}}]}]]},
            422,
            "messages 0 does not end with the assistant's answer",
        ),
        ("/score", {"messages": [[{"role": "user", "content": None}]]}, 422, "expected role and content, both text"),
        ("/score", {"messages": [CHATS[0]] * 21}, 413, "21 conversations; send at most 20 at once"),
        ("/score", b"[" * 50_000, 422, "not JSON"),
        ("/score", b" " * 200_000, 413, "larger than 100000 bytes"),
    ],
)
def test_what_cannot_be_scored_is_said_without_repeating_it(served, path, body, status, words):
    got, answer, _ = served.ask(path, body)
    assert got == status and words in answer["error"]
    assert SECRET not in json.dumps(answer)
    assert served.ask("/score", {"messages": [CHATS[0]]})[0] == 200  # and healthy requests go on


def test_a_text_with_the_tokenizers_own_marks_around_it_is_scored_without_them(tmp_path):
    for kind in ("llama", "bert"):
        fresh_scorer(kind).tokenizer.save_pretrained(tmp_path / kind)
        with Served(fresh_scorer(kind)) as server:
            own = RewardFunction(f"{server.url}/get_reward", served_model=str(tmp_path / kind)).score
            assert own(CHATS[:3]) == pytest.approx(fresh_scorer(kind).score(CHATS[:3]), abs=1e-5)


def test_a_request_that_could_never_wait_is_too_large():
    with Served(fresh_scorer(), Limits(max_waiting=3)) as server:
        status, answer, _ = server.ask("/score", {"messages": CHATS[:4]})
        assert (status, answer) == (413, {"error": "4 conversations; send at most 3 at once"})


def test_nothing_in_nothing_out(served):
    assert served.ask("/score", {"messages": []})[:2] == (200, {"scores": [], "level_probs": []})
    assert served.ask("/nowhere")[0] == 404 and served.ask("/score")[0] == 405


def test_without_the_token_nothing(monkeypatch):
    with Served(fresh_scorer(), token="s3cret") as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer é"}):
            status, answer, got = server.ask("/score", {"messages": CHATS}, headers)
            assert status == 401 and got["WWW-Authenticate"] == "Bearer" and "s3cret" not in json.dumps(answer)
        with pytest.raises(RewardSourceError, match="401"):
            RewardFunction(f"{server.url}/get_reward").score(CHATS[:1])
        monkeypatch.setenv("WILDREWARD_REWARD_TOKEN", "s3cret")
        assert len(RewardFunction(f"{server.url}/get_reward").score(CHATS[:1])) == 1


class Slow(RewardScorer):
    """Computes when it is let."""

    def __init__(self):
        super().__init__(reward_model("llama"), tokenizer_for("llama"))
        self.computing, self.let = threading.Event(), threading.Event()

    def predict_ids(self, ids):
        self.computing.set()
        assert self.let.wait(60)
        return super().predict_ids(ids)


def test_overload_is_said_at_once_and_what_waits_is_scored():
    scorer = Slow()
    with Served(scorer, Limits(max_waiting=4)) as server, ThreadPoolExecutor(4) as pool:
        first = pool.submit(server.ask, "/score", {"messages": CHATS[:1]})
        assert scorer.computing.wait(60)
        second = pool.submit(server.ask, "/score", {"messages": CHATS[:4]})
        while server.ask("/health")[1]["waiting"] < 4:  # answers although the model computes
            time.sleep(0.01)
        status, answer, headers = server.ask("/score", {"messages": CHATS[:1]})
        assert status == 429 and headers["Retry-After"] == "1"
        assert answer["error"] == "4 conversations wait, of at most 4; try again later"
        third = pool.submit(
            RewardFunction(f"{server.url}/get_reward", deadline=60).score, CHATS[:2]
        )  # waits, and asks again
        time.sleep(0.2)
        scorer.let.set()
        assert first.result()[0] == second.result()[0] == 200
        assert third.result() == pytest.approx(fresh_scorer().score(CHATS[:2]), abs=1e-5)


def test_a_server_told_to_stop_says_so_to_whoever_waits_and_ends(capsys):
    scorer, passes = Slow(), []
    judge = scorer.predict_ids
    scorer.predict_ids = lambda ids: passes.append(len(ids)) or judge(ids)
    with Served(scorer) as server, ThreadPoolExecutor(4) as pool:
        server.server.config.timeout_graceful_shutdown = 0.1
        first = pool.submit(server.ask, "/score", {"messages": CHATS[:1]})
        assert scorer.computing.wait(60)
        others = [pool.submit(server.ask, "/score", {"messages": CHATS[:4]}) for _ in range(2)]
        while server.ask("/health")[1]["waiting"] < 8:
            time.sleep(0.01)
        server.server.should_exit = True
        answers = [answer.result() for answer in (first, *others)]
        scorer.let.set()
    assert [status for status, _, _ in answers] == [503] * 3 and passes == [1]
    assert all(answer == {"error": "the server stops; ask again later"} for _, answer, _ in answers)
    assert "Traceback" not in capsys.readouterr().err


def test_what_a_client_that_left_had_asked_is_not_computed():
    scorer = Slow()
    passes = []
    judge = scorer.predict_ids
    scorer.predict_ids = lambda ids: passes.append(len(ids)) or judge(ids)
    with Served(scorer) as server, ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.ask, "/score", {"messages": CHATS[:1]})
        assert scorer.computing.wait(60)
        leaving = http.client.HTTPConnection("127.0.0.1", server.port)
        leaving.request("POST", "/score", json.dumps({"messages": CHATS[:7]}))
        broken = http.client.HTTPConnection("127.0.0.1", server.port)
        broken.putrequest("POST", "/score")
        broken.putheader("Content-Length", "1000")
        broken.endheaders(b"{")
        while server.ask("/health")[1]["waiting"] < 7:
            time.sleep(0.01)
        leaving.close(), broken.close()
        time.sleep(0.3)
        scorer.let.set()
        assert first.result()[0] == 200 and server.ask("/score", {"messages": CHATS[:2]})[0] == 200
        assert server.ask("/health")[1]["waiting"] == 0
    assert passes == [1, 2]


def test_many_empty_messages_are_dropped_before_they_are_rendered(monkeypatch):
    nothing, rendered = [{"role": "user", "content": ""}], []
    scorer = fresh_scorer()
    render = scorer.tokenizer.apply_chat_template
    monkeypatch.setattr(
        scorer.tokenizer, "apply_chat_template", lambda chats, **more: rendered.append(chats) or render(chats, **more)
    )
    with Served(scorer) as server:
        rendered.clear()
        status, answer, _ = server.ask("/score", {"messages": [nothing * 9_000 + CHATS[0]]})
    assert status == 200 and answer["scores"] == pytest.approx(
        fresh_scorer().score([nothing * 50 + CHATS[0]]), abs=1e-5
    )
    assert len(rendered[0][0]) <= scorer.model.config.max_length + 2


def test_a_model_that_fails_on_one_request_serves_the_others():
    class Failing(Slow):
        def predict_ids(self, ids):
            found = super().predict_ids(ids)
            if any(len(row) > 100 for row in ids):
                raise RuntimeError("CUDA out of memory")
            return found

    scorer = Failing()
    with Served(scorer) as server, ThreadPoolExecutor(4) as pool:
        first = pool.submit(server.ask, "/score", {"messages": CHATS[:1]})
        assert scorer.computing.wait(60)
        asked = [CHATS[:2], [chat(1, 60)], CHATS[4:6]]
        answers = [pool.submit(server.ask, "/score", {"messages": chats}) for chats in asked]
        while server.ask("/health")[1]["waiting"] < 5:
            time.sleep(0.01)
        scorer.let.set()
        assert first.result()[0] == 200
        assert [answer.result()[0] for answer in answers] == [200, 500, 200]
        assert answers[1].result()[1] == {"error": "CUDA out of memory"}
        assert server.ask("/score", {"messages": CHATS[:2]})[0] == 200


@pytest.mark.parametrize(("flags", "words"), [({"port": 70000}, "at most 65535"), ({"max_waiting": 0}, "at least 1")])
def test_flags_out_of_range(flags, words):
    with pytest.raises(UserError, match=words):
        main(ServeConfig(model="x", **flags))


def test_an_address_that_is_taken_is_said_before_the_model_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(UserError, match=r"cannot listen on 127\.0\.0\.1, port .*: Address already in use"):
            main(ServeConfig(model="no-such-model", port=taken.getsockname()[1]))


@pytest.mark.parametrize("limits", [Limits(upload_seconds=0.2), Limits(stall_seconds=0.2)])
def test_an_upload_that_never_ends_is_given_up(limits):
    with Served(fresh_scorer(), limits) as server:
        slow = http.client.HTTPConnection("127.0.0.1", server.port)
        slow.putrequest("POST", "/score")
        slow.putheader("Content-Length", "1000")
        slow.endheaders(b"{")
        assert slow.getresponse().status == 408


def test_a_model_with_another_template_serves_messages_and_tells_that_it_cannot_read_texts():
    scorer = fresh_scorer()
    scorer.tokenizer.chat_template = (
        "{% for m in messages %}{{ raise_exception('no tools') if m.role == 'tool' }}{{ m.content }}\n{% endfor %}"
    )
    limit_template(scorer.tokenizer, "tiny")
    with Served(scorer) as running:
        status, answer, _ = running.ask("/score", {"messages": CHATS[:2]})
        assert status == 200 and answer["scores"] == pytest.approx(scorer.score(CHATS[:2]), abs=1e-5)
        refused = [*CHATS[0][:1], {"role": "tool", "content": "4"}, *CHATS[0][1:]]
        status, answer, _ = running.ask("/score", {"messages": [CHATS[0], refused]})
        assert (status, answer["error"]) == (422, "messages 1: the chat template cannot render it: no tools")
        assert running.ask("/get_reward", {"query": ["the cat"]})[0] == 422
