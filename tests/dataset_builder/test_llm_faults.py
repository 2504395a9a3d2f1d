"""A labeling server that is overloaded, broken, slow or unwilling: what is asked again, what is given up, what stops."""

import logging
import time

import pytest

from tests.dataset_builder.llm_rows import LEVEL_2, QUICK, ask, row_of, rows, wait_until
from tests.llm_stub import Reply, StubServer, chat, error, level_by_content
from wildreward.common.errors import UserError
from wildreward.common.llm.answers import DEADLINE, REJECTED, SERVER_ERROR
from wildreward.common.llm.client import RetryPolicy
from wildreward.dataset_builder.labelers import base
from wildreward.dataset_builder.labelers.llm import LlmLabeler

pytest.importorskip("openai")


# --- load ------------------------------------------------------------------------------------------------------------


def test_a_storm_of_429_slows_down_once_a_burst_and_loses_no_row():
    def behaviour(request):
        if request.number < 32 + 16:
            refusal = error(429, "Rate limit reached", "rate_limit_exceeded", retry_after="0.6")
            refusal.delay = 1.0  # so that all of a burst is sent before the first refusal comes back
            return refusal
        return Reply(chat('{"level": 4}'), delay=0.01)

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(200), concurrency=32)
        times = [request.at for request in stub.requests]
    assert len(answers) == 200 and all(answer.level == 4 for answer in answers.values())
    # 32 refusals halve the rate once, not 32 times: after the pause come 16, and after those the next pause.
    pauses = [number for number in range(1, len(times)) if times[number] - times[number - 1] > 0.5]
    assert pauses[:2] == [32, 48]
    assert sum(answer.attempts for answer in answers.values()) == 248


def test_retry_after_is_honoured():
    def behaviour(request):
        return error(503, "busy", retry_after_ms="600") if request.number == 0 else LEVEL_2

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(1))
        first, second = stub.requests
    assert answers["key0"].attempts == 2
    assert 0.6 <= second.at - first.at < 2


def test_a_wait_longer_than_our_patience_stops_with_the_servers_message():
    with StubServer(lambda request: error(429, "come back tomorrow", retry_after="86400")) as stub:
        with pytest.raises(UserError, match=r"asks to wait 86400 s \(HTTP 429: come back tomorrow\)"):
            ask(stub, rows(5))


# --- transient failures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["status 500", "reset", "cut before the head"])
def test_failures_are_retried_and_counted_per_row(fault):
    seen = {}

    def behaviour(request):
        seen[row_of(request)] = seen.get(row_of(request), 0) + 1
        if row_of(request) % 3 or seen[row_of(request)] > 2:
            return LEVEL_2
        if fault == "status 500":
            return error(500, "internal error")
        return Reply(chat('{"level": 1}') if fault == "reset" else b"", fault="reset")

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(30))
    assert {answer.level for answer in answers.values()} == {2}
    assert {key: answer.attempts for key, answer in answers.items()} == {
        f"key{n}": 1 if n % 3 else 3 for n in range(30)
    }


def test_a_row_the_server_always_fails_on_is_unlabelled_and_the_rest_goes_on():
    def behaviour(request):
        return error(500, "cannot") if row_of(request) == 7 else LEVEL_2

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(20))
    assert answers.pop("key7") == base.Answer("key7", None, reason=SERVER_ERROR, attempts=QUICK.max_failures)
    assert all(answer.level == 2 for answer in answers.values())


def test_unreadable_replies_show_that_the_server_works():
    """One failure long ago, then replies that nobody can read, then another failure: no outage of the whole time."""

    def behaviour(request):
        if request.number in (0, 30):
            return error(500, "hiccup")
        return Reply(chat("hm"), delay=0.05)

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(12), concurrency=1, retry_policy=RetryPolicy(stall_seconds=1, first_pause=0.01))
    assert {(answer.level, answer.reason) for answer in answers.values()} == {(None, "unparsable_answer")}


def test_no_row_is_given_up_in_an_outage():
    up_again = time.monotonic() + 1.5
    with StubServer(lambda request: error(502, "bad gateway") if time.monotonic() < up_again else LEVEL_2) as stub:
        answers = ask(stub, rows(20))
    assert all(answer.level == 2 for answer in answers.values())
    assert max(answer.attempts for answer in answers.values()) > QUICK.max_failures


@pytest.mark.parametrize("server", ["errors", "gone"])
def test_a_server_that_never_answers_well_stops_the_run(server):
    with StubServer(lambda request: error(500, "disk on fire")) as stub:
        url = stub.url if server == "errors" else "http://127.0.0.1:9/v1"
        policy = RetryPolicy(stall_seconds=1, first_pause=0.05, longest_pause=0.1)
        with pytest.raises(UserError, match="disk on fire" if server == "errors" else "connection failed") as caught:
            ask(stub, rows(50), base_url=url, retry_policy=policy)
    assert "no request succeeded for 1 s" in str(caught.value) and "finished answers are kept" in str(caught.value)


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_hanging_attempt_ends_at_its_deadline_and_its_connection_is_closed(fault):
    def behaviour(request):
        return Reply(chat('{"level": 5}'), fault=fault) if request.number < 4 else LEVEL_2

    policy = RetryPolicy(attempt_seconds=0.5, first_pause=0.01, longest_pause=0.02)
    with StubServer(behaviour) as stub:
        start = time.monotonic()
        answers = ask(stub, rows(8), concurrency=4, retry_policy=policy)
        assert time.monotonic() - start < 20
        wait_until(lambda: not stub.open_connections)
    assert all(answer.level == 2 for answer in answers.values())
    assert sum(answer.attempts for answer in answers.values()) == 12


def test_a_server_that_is_too_slow_for_so_many_at_once_is_asked_less():
    """It works on one request at a time, like `transformers serve` on a CPU, 40 ms each: 32 at once take 1.3 s."""
    free_at = 0.0

    def behaviour(request):
        nonlocal free_at
        free_at = max(free_at, time.monotonic()) + 0.04
        return Reply(chat('{"level": 2}'), delay=free_at - time.monotonic())

    policy = RetryPolicy(attempt_seconds=0.8, max_failures=10, first_pause=0.01, longest_pause=0.02)
    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(40), concurrency=32, retry_policy=policy)
    assert all(answer.level == 2 for answer in answers.values())
    assert max(answer.attempts for answer in answers.values()) <= 4


def test_the_deadline_of_a_row_counts_all_its_attempts():
    def behaviour(request):
        return Reply(fault="hang") if row_of(request) == 0 else Reply(chat('{"level": 2}'), delay=0.05)

    policy = RetryPolicy(attempt_seconds=0.4, row_seconds=0.7, max_failures=100, first_pause=0.01, longest_pause=0.02)
    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(100), concurrency=4, retry_policy=policy)
    assert answers["key0"].level is None and answers["key0"].reason == DEADLINE
    assert 2 <= answers["key0"].attempts <= 3


# --- what stops at once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "invalid_api_key", "Incorrect API key provided: sk-very-secret."),
        (403, None, "This key may not use the model."),
        (404, "model_not_found", "The model `stub` does not exist."),
        (429, "insufficient_quota", "You exceeded your current quota."),
    ],
)
def test_hopeless_answers_stop_at_once_with_the_servers_message(status, code, message, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    caplog.set_level(logging.DEBUG)
    with StubServer(lambda request: error(status, message, code)) as stub:
        with pytest.raises(UserError) as caught:
            ask(stub, rows(100), concurrency=4)
        wait_until(lambda: not stub.open_connections)
        assert len(stub.requests) <= 4  # what was under way; nothing again
        assert stub.requests[0].headers["authorization"] == "Bearer sk-very-secret"
    assert message.replace("sk-very-secret", "***") in str(caught.value)
    assert "sk-very-secret" not in str(caught.value) + caplog.text
    assert "question 0" not in caplog.text  # nor any chat text


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_takes_the_chats_to_another_server(status):
    with StubServer(level_by_content) as other:
        elsewhere = Reply(b"", status=status, headers={"Location": f"{other.url}/chat/completions"})
        with StubServer(lambda request: elsewhere) as stub, pytest.raises(UserError, match=rf"answered HTTP {status}"):
            ask(stub, rows(4), concurrency=2)
        assert not other.requests


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"choices": ' + b"7" * 5_000 + b"}"])
def test_an_answer_that_no_parser_takes_is_a_failed_attempt(body):
    with StubServer(lambda request: Reply(body) if not request.number else level_by_content(request)) as stub:
        answers = ask(stub, rows(2), concurrency=1)
    assert all(answer.level for answer in answers.values()) and len(stub.requests) == 3


def test_a_server_that_refuses_every_request_stops_the_run():
    with StubServer(lambda request: error(400, "this is an embedding model")) as stub:
        with pytest.raises(UserError, match="refuses every request: this is an embedding model"):
            ask(stub, rows(100))
        assert len(stub.requests) < 30


def test_a_server_that_begins_to_refuse_everything_stops_the_run():
    with StubServer(lambda request: LEVEL_2 if request.number < 50 else error(400, "no such adapter")) as stub:
        with pytest.raises(UserError, match="refuses every request: no such adapter"):
            ask(stub, rows(200), retry_policy=RetryPolicy(max_unusable_rows=30))


def test_one_refused_row_is_unlabelled():
    def behaviour(request):
        return error(400, "cannot be moderated") if row_of(request) == 3 else LEVEL_2

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(10))
    assert answers.pop("key3") == base.Answer("key3", None, reason=REJECTED, attempts=1)
    assert all(answer.level == 2 for answer in answers.values())


def test_a_row_longer_than_the_models_context_is_shown_shorter():
    longest = 7_000

    def behaviour(request):
        if len(request.prompt) <= longest:
            return LEVEL_2
        return error(400, "This model's maximum context length is 2048 tokens. 'max_tokens' is too large: 1024.")

    long = base.Request("long", "c_turn0", "feedback", (), '"question 99"', "x " * 5_000, "follow-up")
    with StubServer(behaviour) as stub:
        answers = ask(stub, [*rows(3), long], concurrency=1)
        assert len(stub.requests[-1].prompt) > longest / 2 and "max_tokens" in stub.requests[-1].body
    assert {key: answer.attempts for key, answer in answers.items()} == {"key0": 1, "key1": 1, "key2": 1, "long": 2}
    assert all(answer.level == 2 for answer in answers.values())


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "prompt longer than the context"),
        (400, "the request exceeds the available context size, try increasing it"),
        (422, "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000"),
        (413, "Payload refused"),
        (400, "输入超出上限"),  # nothing that is known: a row that is not short is shown shorter anyway
        (500, "context shift is disabled: the prompt exceeds the context"),
        (200, "maximum model length exceeded"),
    ],
)
def test_no_long_row_is_lost_whatever_a_server_says_of_its_length(status, message):
    """From the first row on, and on as many as would end a run that loses them."""

    def behaviour(request):
        return LEVEL_2 if len(request.prompt) <= 6_500 else error(status, message)

    long = [
        base.Request(f"long{number}", "c_turn0", "feedback", (), f"question {number}", "x " * 9_000, "follow-up " * 900)
        for number in range(9)
    ]
    with StubServer(behaviour) as stub:
        answers = ask(stub, [*long, *rows(1)], concurrency=2)
    assert {answer.level for answer in answers.values()} == {2}
    assert max(answer.attempts for answer in answers.values()) <= 5 and answers["key0"].attempts == 1


def test_openai_itself_needs_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="no API key in the environment variable OPENAI_API_KEY"):
        LlmLabeler("gpt-4.1-mini")


def test_extra_body_must_be_an_object(monkeypatch):
    for text in ("{", "[1]"):
        with pytest.raises(UserError, match="--extra-body is"):
            LlmLabeler("m", "http://localhost/v1", extra_body=text)
