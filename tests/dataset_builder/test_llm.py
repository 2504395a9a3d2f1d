"""The `llm` labeler against a real server on a real socket: what goes in, what comes out, what a killed process loses."""

import gc
import itertools
import json
import signal
import subprocess
import sys
import threading

import pytest

from tests.dataset_builder.llm_rows import LEVEL_2, ask, row_of, rows, wait_until
from tests.llm_stub import Reply, StubServer, chat, level_by_content
from wildreward.dataset_builder.labelers import base
from wildreward.dataset_builder.labelers.llm import LlmLabeler

pytest.importorskip("openai")


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
    assert not [thread for thread in threading.enumerate() if thread.name == "asker"]


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


def test_no_sockets_are_leaked(recwarn):
    gc.collect()  # what tests before this one have left
    recwarn.clear()
    with StubServer(lambda request: LEVEL_2) as stub:
        for _ in range(3):
            ask(stub, rows(20))
        wait_until(lambda: not stub.open_connections)
    gc.collect()
    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]


CHILD = """
import os, sys
from tests.dataset_builder.llm_rows import rows
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
