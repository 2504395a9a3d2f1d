"""A build whose labels are paid for, against a real server: what a kill costs, and what stops a run."""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from urllib.parse import parse_qs, quote, quote_plus

import pyarrow.parquet as pq
import pytest

from tests.dataset_builder.chats import write_chats
from tests.llm_stub import Reply, StubServer, error, level_by_content
from wildreward.common.errors import UserError
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.settings import BuildSettings

CONCURRENCY = 8
TURNS = 360


def slowly(request):
    reply = level_by_content(request)
    return Reply(reply.body, reply.status, reply.headers, delay=0.01)


def options(stub):
    return {"model": "stub", "base_url": stub.url, "concurrency": CONCURRENCY}


def command(stub, log, output):
    program = [sys.executable, "-m", "wildreward", "build-dataset", "--labeler", "llm", "--model", "stub"]
    program += ["--base_url", stub.url, "--concurrency", str(CONCURRENCY), "--mining_window", "0"]
    return [*program, "--source", str(log), "--output", str(output), "--num_workers", "1"]


def levels(output):
    return pq.read_table(output / "work" / "levels.parquet").to_pylist()


def test_kill_minus_9_costs_only_what_was_in_flight(tmp_path):
    log, _ = write_chats(tmp_path, 120)
    with StubServer(slowly) as stub:
        undisturbed = build_dataset(
            str(log), tmp_path / "undisturbed", labeler="llm", labeler_options=options(stub), mining_window=0
        )
        once = len(stub.requests)
        assert undisturbed["requests"] == once >= TURNS
        for asked in (60, 150, 240):
            child = subprocess.Popen(
                command(stub, log, tmp_path / "out"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            while len(stub.requests) < once + asked and child.poll() is None:
                time.sleep(0.002)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        subprocess.run(command(stub, log, tmp_path / "out"), check=True, capture_output=True)
        again = len(stub.requests) - once
    assert once < again <= once + 3 * (CONCURRENCY + 2)  # what was under way, and a lead of two
    # The server's own count; of what was about to be sent when the process was killed, it may not have heard.
    said = json.loads((tmp_path / "out" / "build_report.json").read_text())["requests"]
    assert again <= said <= again + 3 * CONCURRENCY
    assert levels(tmp_path / "out") == levels(tmp_path / "undisturbed")


def test_a_refused_key_stops_at_once_with_the_servers_message(tmp_path):
    log, _ = write_chats(tmp_path, 20)
    with StubServer(lambda request: error(401, "Incorrect API key provided")) as stub:
        with pytest.raises(UserError, match="Incorrect API key provided"):
            build_dataset(str(log), tmp_path / "out", labeler="llm", labeler_options=options(stub))
        assert len(stub.requests) <= CONCURRENCY
    assert not (tmp_path / "out" / "data").exists()


def test_a_wrong_layout_costs_no_request(tmp_path):
    (tmp_path / "chats.jsonl").write_text('{"text": "a"}\n')
    with StubServer() as stub:
        with pytest.raises(UserError, match="has the columns text; expected"):
            build_dataset(str(tmp_path / "chats.jsonl"), tmp_path / "out", labeler="llm", labeler_options=options(stub))
        assert stub.requests == []


def test_no_requests_at_once_are_refused(tmp_path):
    log, _ = write_chats(tmp_path, 2)
    with pytest.raises(UserError, match="--concurrency is 0; expected at least 1"):
        build_dataset(
            str(log),
            tmp_path / "out",
            labeler="llm",
            labeler_options={"model": "stub", "base_url": "http://127.0.0.1:9/v1", "concurrency": 0},
        )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mining_encoder": "nothing/at/all"}, "there is no file or folder 'nothing/at/all' here.*--mining-encoder"),
        ({"mining_max_tokens": 1}, "--mining_max_tokens is 1; expected at least 3"),
    ],
)
def test_a_wrong_encoder_costs_no_request_and_can_be_put_right(tmp_path, tiny_encoder, wrong, message):
    log, _ = write_chats(tmp_path, 20)
    right = {"labeler": "llm", "mining_encoder": tiny_encoder}
    with StubServer(level_by_content) as stub:
        right["labeler_options"] = options(stub)
        with pytest.raises(UserError, match=message):
            build_dataset(str(log), tmp_path / "out", **{**right, **wrong})
        assert stub.requests == []
        assert build_dataset(str(log), tmp_path / "out", **right)["labelled"] == 60


def test_what_is_published_holds_no_path_of_the_machine(tmp_path, tiny_encoder):
    log, _ = write_chats(tmp_path, 20)
    with StubServer(level_by_content) as stub:
        asked = {**options(stub), "model": "/srv/models/tiny-llama"}
        report = build_dataset(
            str(log), tmp_path / "out", labeler="llm", labeler_options=asked, mining_encoder=tiny_encoder
        )
        assert stub.requests[0].body["model"] == "/srv/models/tiny-llama"
    assert report["settings"]["labeler_version"].startswith("tiny-llama@")
    assert report["settings"]["source"] == log.name and report["settings"]["mining_encoder"] == Path(tiny_encoder).name
    for name in ("build_report.json", "README.md"):
        text = (tmp_path / "out" / name).read_text()
        assert not [word for word in ("/srv", str(tmp_path.parent)) if word in text]


NO_ADDRESS = (
    r"--base-url is not the address of a server \(it is not repeated, .* expected one such as http://host:8000/v1"
)


@pytest.mark.parametrize("labeler", ["llm", "transformers"])
@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "https://someone:secret@host/v1",
            "--base-url holds a user name or password; put the key into the environment",
        ),
        ("localhost:8000/v1?key=secret", NO_ADDRESS),
        ("someone:secret@host/v1", NO_ADDRESS),
        ("ftp://host/secret", NO_ADDRESS),
        ("http://[::1/secret", NO_ADDRESS),
        ("http://host:99999/secret", NO_ADDRESS),
        ("http://:8000/secret", NO_ADDRESS),
        ("http://host/secret\x00", NO_ADDRESS),
        ("http://ho st/secret", NO_ADDRESS),
        ("http://host..name/secret", NO_ADDRESS),
    ],
)
def test_an_address_is_checked_first_and_holds_no_password(tmp_path, labeler, address, message):
    log, _ = write_chats(tmp_path, 20)
    asked = {"model": "stub", "base_url": address}
    with pytest.raises(UserError, match=message) as caught:
        build_dataset(str(log), tmp_path / "out", labeler=labeler, labeler_options=asked, mining_window=0)
    assert "secret" not in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("variable", "key", "message"),
    [
        (
            "OPENAI_API_KEY",
            "sk-secret\nsecond line",
            r"line break, .* \(character 10 of 21\), which no HTTP header can hold",
        ),
        ("OPENAI_API_KEY", "sk-secret–é", r"environment variable OPENAI_API_KEY has .* \(character 10 of 11\)"),
        ("MY_KEY", "\x1bsk-secret", r"environment variable MY_KEY has .* \(character 1 of 10\)"),
        ("sk-secret", "", "--api-key-env is not the name of an environment variable .* such as OPENAI_API_KEY"),
    ],
)
def test_a_key_that_no_header_can_hold_is_refused_before_anything_is_asked(
    tmp_path, monkeypatch, variable, key, message
):
    log, _ = write_chats(tmp_path, 2)
    if key:
        monkeypatch.setenv(variable, key)
    with StubServer() as stub:
        asked = {**options(stub), "api_key_env": variable}
        with pytest.raises(UserError, match=message) as caught:
            build_dataset(str(log), tmp_path / "out", labeler="llm", labeler_options=asked, mining_window=0)
        assert stub.requests == []
    assert "secret" not in str(caught.value) and not (tmp_path / "out").exists()


ADDRESS_KEYS = ("path-key-1234", "query+key/5678")


def talkative(request):
    """Repeats the address it was asked at, as many servers do, in answers that are tried again, adapted to, or final."""
    told = f"no luck at {request.path}, nor with {ADDRESS_KEYS[1]}"
    if request.number < 3:
        return error((500, 429, 400)[request.number], told + (" temperature" if request.number == 2 else ""))
    return level_by_content(request) if request.number < 12 else error(403, told)


def test_keys_in_the_address_reach_the_server_and_nothing_else(tmp_path, caplog):
    caplog.set_level("DEBUG")
    log, _ = write_chats(tmp_path, 20)
    with StubServer(talkative) as stub:
        query = f"api-version=2&key={quote(ADDRESS_KEYS[1], safe='')}"
        asked = {**options(stub), "base_url": f"{stub.url}/{ADDRESS_KEYS[0]}?{query}", "concurrency": 1}
        where = stub.url.removesuffix("/v1")

        def again():
            return build_dataset(str(log), tmp_path / "out", labeler="llm", labeler_options=asked, mining_window=0)

        with pytest.raises(UserError, match=rf"the server at {where} answered HTTP 403: no luck at \*\*\*") as caught:
            again()
        stub.behaviour = level_by_content
        assert again()["labelled"] == 60
        path, _, sent = stub.requests[0].path.partition("?")
    assert path == f"/v1/{ADDRESS_KEYS[0]}/chat/completions"
    assert parse_qs(sent) == {"api-version": ["2"], "key": [ADDRESS_KEYS[1]]}
    files = [file.read_bytes().decode("latin-1") for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert "no luck" in caplog.text and len(files) > 10
    secrets = (*ADDRESS_KEYS, *map(quote_plus, ADDRESS_KEYS))
    trace = "".join(traceback.format_exception(caught.value))
    assert not [key for key in secrets for text in (trace, caplog.text, *files) if key in text]


def test_the_help_says_what_an_address_does_for_each_labeler():
    described = BuildSettings.__dataclass_fields__["base_url"].metadata["help"]
    assert "--labeler llm" in described and "--labeler transformers" in described
