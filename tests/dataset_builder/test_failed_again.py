"""Questions that a labeling server failed on: too many end the run, a few are reported, and both can be asked again."""

import hashlib
import json

import pyarrow.parquet as pq
import pytest

from tests.dataset_builder.chats import write_chats
from tests.dataset_builder.llm_rows import QUICK
from tests.llm_stub import Reply, StubServer, chat, error, level_by_content
from wildreward.common.errors import UserError
from wildreward.dataset_builder import shards
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.command import main, summary
from wildreward.dataset_builder.settings import BuildSettings

TURNS = 90
TRIES = QUICK.max_failures


def unlucky(request):
    """About one follow-up in eight, by its text."""
    question = request.body["messages"][-1]["content"].encode()
    return hashlib.sha256(question).digest()[1] % 8 == 0


def partly_broken(request):
    return error(500, "cannot do this one") if unlucky(request) else level_by_content(request)


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_ROWS", 8)  # several parts, of which some have no failure
    return str(write_chats(tmp_path, TURNS // 3)[0])


def build(log, output, stub, **arguments):
    options = {"model": "stub", "base_url": stub.url, "concurrency": 8, "retry_policy": QUICK}
    return build_dataset(log, output, labeler="llm", labeler_options=options, mining_window=0, **arguments)


def rows_of(output):
    tables = {path.name: pq.read_table(path).to_pylist() for path in sorted((output / "data").iterdir())}
    return {**tables, "levels": pq.read_table(output / "work" / "levels.parquet").to_pylist()}


@pytest.fixture
def undisturbed(log, tmp_path):
    with StubServer(level_by_content) as stub:
        build(log, tmp_path / "undisturbed", stub)
    return rows_of(tmp_path / "undisturbed")


def failing_questions(stub):
    return {request.body["messages"][-1]["content"] for request in stub.requests if unlucky(request)}


def test_too_many_failures_end_the_run_and_the_next_asks_only_those(log, tmp_path, undisturbed):
    out = tmp_path / "out"
    with StubServer(partly_broken) as stub:
        with pytest.raises(UserError) as caught:
            build(log, out, stub)
        failed = failing_questions(stub)
        assert len(stub.requests) == TURNS - len(failed) + len(failed) * TRIES and len(failed) > 5
        assert str(caught.value) == (
            f"{len(failed)} of {TURNS} questions got no answer (server_error {len(failed)}), more than --max_failed 0.01 "
            "allows; check the server, then run the same command again: only these are asked again"
        )
        assert not (out / "data").exists() and not (out / "build_report.json").exists()
        before = len(stub.requests)
        stub.behaviour = level_by_content
        report = build(log, out, stub)
        assert {request.body["messages"][-1]["content"] for request in stub.requests[before:]} >= failed
        assert len(stub.requests) - before == len(failed)
        before = len(stub.requests)
        assert report["requests"] == before  # all runs together, failures too
        assert build(log, out, stub) == report and len(stub.requests) == before
    assert rows_of(out) == undisturbed and report["unlabelled"] == {}


def test_a_few_failures_are_reported_and_can_be_asked_again(log, tmp_path, undisturbed, capsys):
    out = tmp_path / "out"
    with StubServer(partly_broken) as stub:
        report = build(log, out, stub, max_failed=0.5)
        failed = failing_questions(stub)
        assert report["unlabelled"] == {"server_error": len(failed)} and report["kept"] > 0
        said = summary(report, str(out))
        assert f"unlabelled: server_error {len(failed)}" in said
        assert f"the endpoint failed on {len(failed)} questions; --ask_failed_again asks them again" in said
        before = len(stub.requests)
        assert build(log, out, stub, max_failed=0.5) == report  # complete: left alone
        assert len(stub.requests) == before
        stub.behaviour = level_by_content
        command = {"source": log, "output": str(out), "labeler": "llm", "model": "stub", "base_url": stub.url}
        main(BuildSettings(**command, mining_window=0, num_workers=1, ask_failed_again=True))
        assert "the endpoint failed" not in capsys.readouterr().out
        assert len(stub.requests) - before == len(failed)
        before = len(stub.requests)
        assert build(log, out, stub, ask_failed_again=True)["unlabelled"] == {}  # nothing is left to ask
        assert len(stub.requests) == before
    assert rows_of(out) == undisturbed


def test_a_failing_judge_is_asked_again_too(tmp_path):
    texts = ("Please do the special thing for me now", "I'm sorry, but I can't help with that.", "That is useless, no!")
    roles = ("user", "assistant", "user")
    rows = [
        {"messages": [{"role": r, "content": f"{t} {n}"} for r, t in zip(roles, texts, strict=True)]} for n in range(4)
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    broken = True

    def behaviour(request):
        if '{"verdict": V}' not in request.body["messages"][0]["content"]:
            return Reply(chat('{"level": 1}'))
        if broken and " 2" in request.body["messages"][-1]["content"]:
            return error(503, "overloaded")
        return Reply(chat('{"verdict": "justified_refusal"}'))

    with StubServer(behaviour) as stub:
        with pytest.raises(UserError, match=r"1 of 4 questions got no answer \(server_error 1\)"):
            build(str(tmp_path / "chats.jsonl"), tmp_path / "out", stub, near_duplicates=0)
        asked = len(stub.requests)
        broken = False
        report = build(str(tmp_path / "chats.jsonl"), tmp_path / "out", stub, near_duplicates=0)
        assert len(stub.requests) == asked + 1
    assert report["refusals"] == {"justified_refusal": 4} and report["levels"]["1"] == 4


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_share_is_between_0_and_1(log, tmp_path, value):
    with (
        StubServer(level_by_content) as stub,
        pytest.raises(UserError, match=f"--max_failed is {value}; expected from 0 to 1"),
    ):
        build(log, tmp_path / "out", stub, max_failed=value)
