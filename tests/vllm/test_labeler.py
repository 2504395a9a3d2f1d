"""`build-dataset --labeler llm` with vLLM's OpenAI server, as a user starts both."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from benchmarks.engines import vllm_server
from tests.dataset_builder.chats import write_chats
from wildreward import packages

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]


def test_labels_come_as_the_schema_says_with_their_probabilities(tmp_path):
    log, _ = write_chats(tmp_path, 6, turns=1)
    output = tmp_path / "out"
    with vllm_server(packages.smollm2_folder(), tmp_path / "vllm.log", "--max-model-len", "4096") as url:
        command = [sys.executable, "-m", "wildreward", "build-dataset", "--source", str(log), "--output", str(output)]
        command += [
            "--labeler",
            "llm",
            "--base-url",
            f"{url}/v1",
            "--model",
            "m",
            "--concurrency",
            "4",
            "--mining-window",
            "0",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((output / "build_report.json").read_text())
    assert (report["labelled"], report["unlabelled"], report["requests"] >= 6) == (6, {}, True)
    rows = pq.read_table(output / "work" / "levels.parquet").to_pylist()
    assert all(row["level"] in range(1, 6) and 0 < row["confidence"] <= 1 for row in rows)
    told = done.stdout + done.stderr
    assert "response_format" not in told and "logprobs" not in told  # neither was refused
