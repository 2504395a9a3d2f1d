"""A source on the Hub, streamed from a server that speaks the Hub's API."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

from tests.dataset_builder.chats import chat
from tests.hub_double import HubDouble

UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("user/chats", repo_type="dataset")
api.upload_folder(folder_path=sys.argv[1], repo_id="user/chats", repo_type="dataset")
"""


def wildchat_rows(numbers):
    for number in numbers:
        messages = [{**message, "language": "English", "hashed_ip": f"ip{number % 5}"} for message in chat(number)[0]]
        yield {
            "conversation_hash": f"h{number}",
            "model": "gpt-4",
            "language": "English",
            "hashed_ip": f"ip{number % 5}",
            "conversation": messages,
            "toxic": False,
        }


def test_a_wildchat_repository_is_streamed_like_a_folder(tmp_path):
    folder = tmp_path / "repo" / "data"
    folder.mkdir(parents=True)
    for place in range(2):
        rows = list(wildchat_rows(range(place * 10, place * 10 + 10)))
        pq.write_table(pa.Table.from_pylist(rows), folder / f"train-0000{place}-of-00002.parquet")
    program = [sys.executable, "-m", "wildreward", "build-dataset", "--mining_window", "0", "--num_workers", "1"]
    with HubDouble() as hub:
        environment = {**os.environ, **hub.env(tmp_path / "home"), "HF_TOKEN": hub.token}
        subprocess.run([sys.executable, "-c", UPLOAD, str(tmp_path / "repo")], env=environment, check=True)
        for source, output in (("user/chats", "hub"), (str(folder), "local")):
            command = [*program, "--source", source, "--output", str(tmp_path / output)]
            got = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
            assert got.returncode == 0, got.stderr
        missing = [*program, "--source", "user/nothing", "--output", str(tmp_path / "missing")]
        got = subprocess.run(missing, env=environment, capture_output=True, text=True, timeout=200)
    levels = [pq.ParquetFile(tmp_path / name / "work" / "levels.parquet").read() for name in ("hub", "local")]
    assert levels[0].equals(levels[1]) and len(levels[0]) == 60
    settings = json.loads((tmp_path / "hub" / "build_report.json").read_text())["settings"]
    assert settings["layout"] == "wildchat" and settings["source_bytes"] is None
    assert got.returncode == 2 and "could not be opened as a Hub dataset" in got.stderr.splitlines()[-1]
    assert not (tmp_path / "missing").exists()
