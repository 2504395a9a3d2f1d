"""The `llm` labeler against a real server on a real socket: streaming, faults, negotiation, what it may never do."""

import gc
import itertools
import json
import logging
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.llm_stub import Reply, Request, StubServer, chat, error, level_by_content
from wildreward.dataset_builder.labelers import base
from wildreward.dataset_builder.labelers.asking import DEADLINE, REJECTED, SERVER_ERROR, Patience
from wildreward.dataset_builder.labelers.llm import LlmLabeler
from wildreward.errors import UserError

pytest.importorskip("openai")

QUICK = Patience(attempt_seconds=5, row_seconds=30, stall_seconds=10, first_pause=0.01, longest_pause=0.05)
LEVEL_2 = Reply(chat('{"level": 2}'))


def rows(count, task="feedback"):
    return [
        base.Request(f"key{n}", f"c{n}_turn0", task, (), f"question {n}", f"answer {n}", f"follow-up {n}")
        for n in range(count)
    ]


def ask(stub, requests, **options):
    options = {"model": "stub", "base_url": stub.url, "concurrency": 8, "patience": QUICK} | options
    with LlmLabeler(**options) as labeler:
        return {answer.key: answer for answer in labeler.label_many(requests)}


def row_of(request: Request) -> int:
    return int(request.prompt.split('"question ')[1].split('"')[0])


def wait_until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


# --- streaming -------------------------------------------------------------------------------------------------------


def test_every_request_gets_its_own_answer_and_tokens_are_counted():
    with StubServer(lambda request: Reply(chat(json.dumps({"level": row_of(request) % 5 + 1})))) as stub:
        answers = ask(stub, rows(60))
    assert {key: answer.level for key, answer in answers.items()} == {f"key{n}": n % 5 + 1 for n in range(60)}
    assert all(
        answer == base.Answer(answer.key, answer.level, None, "", None, 1, 100, 5) for answer in answers.values()
    )


def test_an_endless_iterator_is_pulled_only_as_there_is_room():
    pulled = itertools.count()

    def endless():
        for number in itertools.count():
            next(pulled)
            yield rows(number + 1)[-1] if number < 50 else rows(1)[0]

    with StubServer(lambda request: Reply(chat('{"level": 3}'), delay=0.02)) as stub:
        labeler = LlmLabeler("stub", stub.url, concurrency=4)
        answers = labeler.label_many(endless())
        taken = [next(answers) for _ in range(20)]
        count = next(pulled)
        assert len(taken) == 20 and count <= 20 + 4 + 2  # concurrency and a lead of two
        assert stub.peak_in_flight <= 4
        answers.close()
        wait_until(lambda: not stub.open_connections)
    assert not [thread for thread in threading.enumerate() if thread.name == "labeler"]


def test_answers_come_out_as_they_finish_not_in_order():
    slow_first = lambda request: Reply(chat('{"level": 3}'), delay=0.5 if row_of(request) == 0 else 0)  # noqa: E731
    with StubServer(slow_first) as stub:
        labeler = LlmLabeler("stub", stub.url, concurrency=4)
        assert [answer.key for answer in labeler.label_many(rows(10))][-1] == "key0"


def test_a_failing_source_leaves_nothing_running():
    def source():
        yield from rows(3)
        raise RuntimeError("the file is broken")

    with StubServer(lambda request: Reply(chat('{"level": 3}'), delay=0.2)) as stub:
        with pytest.raises(RuntimeError, match="the file is broken"):
            list(LlmLabeler("stub", stub.url, concurrency=2).label_many(source()))
        wait_until(lambda: not stub.open_connections)


def test_refusals_are_judged_without_showing_the_follow_up():
    with StubServer(lambda request: Reply(chat('{"verdict": "false_refusal"}'))) as stub:
        answers = ask(stub, rows(2, task="refusal"))
        assert "follow-up" not in stub.requests[0].prompt
    assert {(answer.level, answer.verdict) for answer in answers.values()} == {(None, "false_refusal")}


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
        patience = Patience(stall_seconds=1, first_pause=0.05, longest_pause=0.1)
        with pytest.raises(UserError, match="disk on fire" if server == "errors" else "connection failed") as caught:
            ask(stub, rows(50), base_url=url, patience=patience)
    assert "no request succeeded for 1 s" in str(caught.value) and "finished answers are kept" in str(caught.value)


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_hanging_attempt_ends_at_its_deadline_and_its_connection_is_closed(fault):
    def behaviour(request):
        return Reply(chat('{"level": 5}'), fault=fault) if request.number < 4 else LEVEL_2

    patience = Patience(attempt_seconds=0.5, first_pause=0.01, longest_pause=0.02)
    with StubServer(behaviour) as stub:
        start = time.monotonic()
        answers = ask(stub, rows(8), concurrency=4, patience=patience)
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

    patience = Patience(attempt_seconds=0.8, max_failures=10, first_pause=0.01, longest_pause=0.02)
    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(40), concurrency=32, patience=patience)
    assert all(answer.level == 2 for answer in answers.values())
    assert max(answer.attempts for answer in answers.values()) <= 4


def test_the_deadline_of_a_row_counts_all_its_attempts():
    def behaviour(request):
        return Reply(fault="hang") if row_of(request) == 0 else Reply(chat('{"level": 2}'), delay=0.05)

    patience = Patience(attempt_seconds=0.4, row_seconds=0.7, max_failures=100, first_pause=0.01, longest_pause=0.02)
    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(100), concurrency=4, patience=patience)
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


def test_a_server_that_refuses_every_request_stops_the_run():
    with StubServer(lambda request: error(400, "this is an embedding model")) as stub:
        with pytest.raises(UserError, match="refuses every request: this is an embedding model"):
            ask(stub, rows(100))
        assert len(stub.requests) < 30


def test_a_server_that_begins_to_refuse_everything_stops_the_run():
    with StubServer(lambda request: LEVEL_2 if request.number < 50 else error(400, "no such adapter")) as stub:
        with pytest.raises(UserError, match="refuses every request: no such adapter"):
            ask(stub, rows(200), patience=Patience(max_unusable_rows=30))


def test_one_refused_row_is_unlabelled():
    def behaviour(request):
        return error(400, "maximum context length is 10 tokens") if row_of(request) == 3 else LEVEL_2

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(10))
    assert answers.pop("key3") == base.Answer("key3", None, reason=REJECTED, attempts=1)
    assert all(answer.level == 2 for answer in answers.values())


def test_openai_itself_needs_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="no API key in the environment variable OPENAI_API_KEY"):
        LlmLabeler("gpt-4.1-mini")


def test_extra_body_must_be_an_object(monkeypatch):
    for text in ("{", "[1]"):
        with pytest.raises(UserError, match="--extra-body is"):
            LlmLabeler("m", "http://localhost/v1", extra_body=text)


# --- replies that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "finish_reason", "reason"),
    [
        ("", "stop", "empty_answer"),
        (None, "stop", "empty_answer"),
        ('{"level": 1}', "length", "truncated_answer"),
        ("I would rather not say", "stop", "unparsable_answer"),
        ('{"level": 7}', "stop", "level_out_of_range"),
        ('{"level": 0}', "stop", "level_out_of_range"),
        ('{"level": 1} or {"level": 5}', "stop", "unparsable_answer"),
        ('{"level": 1}', "content_filter", "labeler_declined"),
    ],
)
def test_unusable_replies_are_asked_again_and_then_unlabelled_with_a_reason(content, finish_reason, reason):
    with StubServer(lambda request: Reply(chat(content, finish_reason))) as stub:
        answers = ask(stub, rows(2))
    expected = {"level": None, "reason": reason, "attempts": 3, "prompt_tokens": 300, "completion_tokens": 15}
    for answer in answers.values():
        assert {name: getattr(answer, name) for name in expected} == expected


@pytest.mark.parametrize(
    "body", [b"<html>proxy login</html>", b'{"choices": []}', b"[]", b'{"choices": 3, "usage": 1}']
)
def test_bodies_that_are_no_chat_completion_are_unusable(body):
    with StubServer(lambda request: Reply(body)) as stub:
        answer = ask(stub, rows(1))["key0"]
    assert (answer.level, answer.reason, answer.attempts) == (None, "unparsable_answer", 3)


def test_asking_again_changes_the_temperature_and_says_what_went_wrong():
    with StubServer(lambda request: Reply(chat("hm" if request.number == 0 else '{"level": 4}'))) as stub:
        answer = ask(stub, rows(1))["key0"]
        first, second = (request.body for request in stub.requests)
    assert (answer.level, answer.attempts, answer.prompt_tokens) == (4, 2, 200)
    assert (first["temperature"], second["temperature"]) == (0.0, 0.5)
    assert second["messages"][1]["content"].startswith(first["messages"][1]["content"])
    assert "could not be read" in second["messages"][1]["content"]


def test_a_model_that_never_gives_a_usable_reply_stops_the_run():
    with StubServer(lambda request: Reply(chat("Sure! Let me help."))) as stub:
        patience = Patience(max_unusable_rows=20)
        with pytest.raises(UserError, match=r"20 rows in a row got no usable reply .*unparsable_answer"):
            ask(stub, rows(1000), patience=patience)
        assert len(stub.requests) < 100


# --- what servers differ in ------------------------------------------------------------------------------------------


def test_structured_output_is_asked_for_and_given_up_once_where_refused(caplog):
    def behaviour(request):
        if "response_format" in request.body:
            return error(400, "Unknown parameter: 'response_format'.")
        return Reply(chat('The level is:\n```json\n{"level": 2}\n```'))

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(40), concurrency=4)
        refused = [request for request in stub.requests if "response_format" in request.body]
        assert refused[0].body["response_format"]["json_schema"]["schema"]["properties"]["level"]["enum"] == [
            1,
            2,
            3,
            4,
            5,
        ]
        assert len(refused) <= 4 and len(stub.requests) == 40 + len(refused)
    assert all(answer.level == 2 for answer in answers.values())
    assert caplog.text.count("does not take response_format") == 1


def test_a_reasoning_model_that_takes_almost_nothing():
    def behaviour(request):
        for name in ("temperature", "logprobs", "max_tokens", "response_format"):
            if name in request.body:
                return error(400, f"Unsupported parameter: '{name}' is not supported with this model.")
        assert request.body["max_completion_tokens"] == 1024
        return Reply(chat('<think>It says {"level": 1}? No.</think>{"level": 5}'))

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(6), concurrency=2)
    assert {answer.level for answer in answers.values()} == {5}


def test_confidence_is_the_levels_share_of_the_probability():
    top = [{"token": "2", "logprob": -0.5108}, {"token": "3", "logprob": -1.6094}, {"token": " the", "logprob": -1.6}]
    logprobs = [{"token": '{"level":', "logprob": 0.0, "top_logprobs": []}]
    logprobs += [{"token": "2", "logprob": -0.5108, "top_logprobs": top}, {"token": "}", "logprob": 0.0}]
    with StubServer(lambda request: Reply(chat('{"level":2}', logprobs=logprobs))) as stub:
        answer = ask(stub, rows(1))["key0"]
    assert answer.confidence == pytest.approx(0.6 / 0.8, abs=1e-3)


def test_extra_body_reaches_the_server_and_belongs_to_the_version():
    with StubServer(lambda request: LEVEL_2) as stub:
        ask(stub, rows(1), extra_body='{"reasoning_effort": "low", "max_tokens": 99}')
        assert (stub.requests[0].body["reasoning_effort"], stub.requests[0].body["max_tokens"]) == ("low", 99)
        versions = {
            LlmLabeler(model, stub.url, temperature=temperature, extra_body=extra).version
            for model in ("a", "b")
            for temperature in (0.0, 0.5)
            for extra in ("", '{"seed": 1}')
        }
        assert len(versions) == 8
        assert LlmLabeler("a", stub.url).version == LlmLabeler("a", "http://elsewhere/v1", concurrency=3).version


def test_the_same_rows_get_the_same_prompts_and_levels_again():
    with StubServer(level_by_content) as stub:
        first, second = ask(stub, rows(30)), ask(stub, rows(30), concurrency=3)
    assert first == second


def test_no_sockets_are_leaked(recwarn):
    with StubServer(lambda request: LEVEL_2) as stub:
        for _ in range(3):
            ask(stub, rows(20))
        wait_until(lambda: not stub.open_connections)
    gc.collect()
    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]


CHILD = """
import os, sys
from tests.dataset_builder.test_llm import rows
from wildreward.dataset_builder.labelers.llm import LlmLabeler
out = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for answer in LlmLabeler("stub", sys.argv[1], concurrency=8).label_many(rows(100_000)):
    os.write(out, f"{answer.key} {answer.level}\\n".encode())
"""


def test_a_killed_process_loses_at_most_what_was_under_way(tmp_path):
    out = tmp_path / "answers"
    with StubServer(level_by_content) as stub:
        child = subprocess.Popen([sys.executable, "-c", CHILD, stub.url, str(out)])
        try:
            wait_until(lambda: len(stub.requests) > 200, seconds=60)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        wait_until(lambda: not stub.open_connections)
        kept = out.read_text().splitlines()
        assert len(set(kept)) == len(kept) >= len(stub.requests) - 8 - 2  # concurrency and a lead of two
