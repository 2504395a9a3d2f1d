"""Replies that cannot be used, and servers that take less than others."""

import pytest

from tests.dataset_builder.llm_rows import LEVEL_2, ask, rows
from tests.llm_stub import Reply, StubServer, chat, error, level_by_content
from wildreward.common.errors import UserError
from wildreward.common.llm.client import RetryPolicy
from wildreward.dataset_builder.labelers.llm import LlmLabeler
from wildreward.dataset_builder.labelers.parsing import read_level

pytest.importorskip("openai")


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


@pytest.mark.parametrize("body", [b'{"choices": []}', b'{"choices": 3, "usage": 1}'])
def test_bodies_that_are_no_chat_completion_are_unusable(body):
    with StubServer(lambda request: Reply(body)) as stub:
        answer = ask(stub, rows(1))["key0"]
        assert all("response_format" in request.body for request in stub.requests[:2])  # nothing is known against it
    assert (answer.level, answer.reason, answer.attempts) == (None, "unparsable_answer", 3)


NO_REPLIES = [b"<html>bad gateway</html>", b"[]", b'"busy"', b'{"error": {"message": "upstream is down", "code": 502}}']


@pytest.mark.parametrize("body", NO_REPLIES)
def test_a_gateway_that_says_ok_over_a_failing_server_costs_no_row(body, caplog):
    """That is a failure of the server, not a reply of the model."""
    with StubServer(lambda request: Reply(body) if request.number < 40 else Reply(chat('{"level": 4}'))) as stub:
        answers = ask(stub, rows(30), retry_policy=RetryPolicy(first_pause=0.01, longest_pause=0.05))
        assert all("response_format" in request.body for request in stub.requests)
    assert [answer.level for answer in answers.values()] == [4] * 30
    assert "does not keep to response_format" not in caplog.text


@pytest.mark.parametrize("body", NO_REPLIES)
def test_a_gateway_that_never_gets_through_stops_the_run(body):
    with StubServer(lambda request: Reply(body)) as stub:
        policy = RetryPolicy(first_pause=0.01, longest_pause=0.05, stall_seconds=0.5)
        with pytest.raises(UserError, match=r"no request succeeded for .*HTTP 200, but the body .*run the same"):
            ask(stub, rows(3), retry_policy=policy)


def test_asking_again_changes_the_temperature_and_says_what_went_wrong():
    with StubServer(lambda request: Reply(chat("hm" if request.number == 0 else '{"level": 4}'))) as stub:
        answer = ask(stub, rows(1))["key0"]
        first, second = (request.body for request in stub.requests)
    assert (answer.level, answer.attempts, answer.prompt_tokens) == (4, 2, 200)
    assert (first["temperature"], second["temperature"]) == (0.0, 0.5)
    question, asked_again = (body["messages"][-1]["content"] for body in (first, second))
    assert asked_again.startswith(question) and "could not be read" in asked_again


def test_asking_again_shows_the_form_of_a_reply_by_example():
    with StubServer(lambda request: Reply(chat("hm" if request.number == 0 else '{"level": 4}'))) as stub:
        ask(stub, rows(1))
        first, second = (request.body["messages"] for request in stub.requests)
    assert [message["role"] for message in first] == ["system", "user"]
    assert [message["role"] for message in second] == ["system", *["user", "assistant"] * 3, "user"]
    shown = [read_level(message["content"]) for message in second if message["role"] == "assistant"]
    assert shown == [3, 2, 5]


def test_a_model_that_never_gives_a_usable_reply_stops_the_run():
    with StubServer(lambda request: Reply(chat("Sure! Let me help."))) as stub:
        policy = RetryPolicy(max_unusable_rows=20)
        with pytest.raises(UserError, match=r"20 rows in a row got no usable reply .*unparsable_answer"):
            ask(stub, rows(1000), retry_policy=policy)
        assert len(stub.requests) < 100


# --- what servers differ in ------------------------------------------------------------------------------------------


def forms_of(stub):
    """What kinds of structured output were asked for, in order, repeats left out."""
    kinds = [request.body.get("response_format", {}).get("type") for request in stub.requests]
    return [kind for kind, before in zip(kinds, [0, *kinds], strict=False) if kind != before]


def test_structured_output_is_asked_for_and_given_up_once_where_refused(caplog):
    def behaviour(request):
        if "response_format" in request.body:
            return error(400, "Unknown parameter: 'response_format'.")
        return Reply(chat('The level is:\n```json\n{"level": 2}\n```'))

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(40), concurrency=4)
        refused = [request for request in stub.requests if "response_format" in request.body]
        schema = refused[0].body["response_format"]["json_schema"]["schema"]
        assert schema["properties"]["level"]["enum"] == [1, 2, 3, 4, 5]
        assert len(refused) <= 4 and len(stub.requests) == 40 + len(refused)
    assert all(answer.level == 2 for answer in answers.values())
    assert caplog.text.count("does not take response_format") == 1


def test_a_server_that_knows_no_schemas_is_asked_for_plain_json():
    def behaviour(request):
        if request.body["response_format"]["type"] == "json_schema":
            return error(400, "This response_format type is unavailable now")
        return LEVEL_2

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(20), concurrency=1)
        assert forms_of(stub) == ["json_schema", "json_object"] and len(stub.requests) == 21
    assert all(answer.level == 2 for answer in answers.values())


def test_a_server_that_takes_structured_output_and_does_not_heed_it_is_asked_without(caplog):
    def behaviour(request):
        return Reply(chat("Let me see." if request.number == 0 else '```json\n{"level": 2}\n```'))

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(20), concurrency=1)
        assert forms_of(stub) == ["json_schema", None] and len(stub.requests) == 21
    assert all(answer.level == 2 for answer in answers.values())
    assert caplog.text.count("does not keep to response_format") == 1


def test_json_without_a_level_does_not_show_that_structured_output_is_ignored():
    with StubServer(lambda request: Reply(chat('{"grade": 1}' if request.number == 0 else '{"level": 2}'))) as stub:
        ask(stub, rows(20), concurrency=1)
        assert forms_of(stub) == ["json_schema"]


def test_the_last_try_goes_without_structured_output():
    """Some models, held to a form they do not want, write white space until they are cut off."""

    def behaviour(request):
        return Reply(chat(" " * 50, "length")) if "response_format" in request.body else LEVEL_2

    with StubServer(behaviour) as stub:
        answers = ask(stub, rows(3))
    assert {(answer.level, answer.attempts) for answer in answers.values()} == {(2, 3)}


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning_content": '{"level": 4}'},
        {"content": "", "reasoning": ' {"level": 4}\n'},
        {"content": 'Maybe {"level": 2}?</think>{"level": 4}'},
        {"content": "It is praise.</think>\n\n4"},
        {"content": [{"type": "text", "text": '{"level":'}, {"type": "text", "text": " 4}"}]},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "2?"}]},
                {"type": "text", "text": "4"},
            ]
        },
        {"content": None, "reasoning": 'Perhaps {"level": 2}.</think>\n{"level": 4}'},
        {"content": '[THINK]{"level": 2}?[/THINK]{"level": 4}', "reasoning_content": ""},
        {"content": 'analysisThey like it. {"level": 2}?assistantfinal{"level": 4}'},
        {
            "content": '<|channel|>analysis<|message|>{"level": 2}?<|end|><|start|>assistant<|channel|>final<|message|>4',
        },
    ],
)
def test_a_level_is_found_where_servers_put_it(message):
    reply = {"choices": [{"message": message, "finish_reason": "stop"}]}
    with StubServer(lambda request: Reply(reply)) as stub:
        assert (ask(stub, rows(1))["key0"].level, len(stub.requests)) == (4, 1)


def test_a_level_that_was_only_thought_of_is_no_answer():
    message = {"content": None, "reasoning_content": 'Perhaps {"level": 2}, but then'}
    with StubServer(lambda request: Reply({"choices": [{"message": message, "finish_reason": "stop"}]})) as stub:
        answer = ask(stub, rows(1))["key0"]
    assert (answer.level, answer.reason) == (None, "empty_answer")


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
