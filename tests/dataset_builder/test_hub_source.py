"""A source on the Hub, streamed from a server that speaks the Hub's API."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset_builder.chats import chat, write_chats
from tests.hub_double import Fault, HubDouble
from wildreward.common.errors import UserError
from wildreward.dataset_builder.build import build_dataset

# A process of its own, for the Hub's address is read at import; one for all steps, for imports take most of the time.
DRIVER = """
import contextlib, io, json, sys
from huggingface_hub import HfApi
from wildreward.commands import execute
from wildreward.common.errors import UserError
from wildreward.packages import minilm_folder

api = HfApi()
api.create_repo("user/chats", repo_type="dataset")
for line in sys.stdin:
    step, *arguments = json.loads(line)
    failure = ""
    if step == "upload":
        api.upload_folder(folder_path=arguments[0], repo_id="user/chats", repo_type="dataset")
    else:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                execute("build-dataset", ["--classifier-base", minilm_folder(), "--mining_window", "0", "--num_workers", "1", *arguments])
        except UserError as error:
            failure = str(error)
    print(json.dumps(failure), flush=True)
"""


class Elsewhere:
    """Uploads and builds in a process that knows no Hub but the double."""

    def __init__(self, hub, home):
        environment = {**os.environ, **hub.env(home), "HF_TOKEN": hub.token}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", DRIVER], env=environment, text=True, **pipes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        assert self.process.wait(60) == 0
        self.process.stdout.close()

    def upload(self, folder):
        assert self._do("upload", str(folder)) == ""

    def build(self, source, output, *arguments):
        """The error's text, "" when there is none."""
        return self._do("build", "--source", str(source), "--output", str(output), *arguments)

    def _do(self, *step):
        print(json.dumps(step), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


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


def write_repository(repository, **options):
    """20 conversations in two parquet files, and the folder they are in."""
    folder = repository / "data"
    folder.mkdir(parents=True)
    for place in range(2):
        rows = list(wildchat_rows(range(place * 10, place * 10 + 10)))
        pq.write_table(pa.Table.from_pylist(rows), folder / f"train-0000{place}-of-00002.parquet", **options)
    return folder


def settings_of(output):
    return json.loads((output / "build_report.json").read_text())["settings"]


def test_a_wildchat_repository_is_streamed_like_a_folder(tmp_path):
    folder = write_repository(tmp_path / "repo")
    with HubDouble() as hub, Elsewhere(hub, tmp_path / "home") as elsewhere:
        elsewhere.upload(tmp_path / "repo")
        assert elsewhere.build("user/chats", tmp_path / "hub") == ""
        assert elsewhere.build(folder, tmp_path / "local") == ""
        missing = elsewhere.build("user/nothing", tmp_path / "missing")
        commit = hub.repo("user/chats", "datasets").find("main").sha
    levels = [pq.ParquetFile(tmp_path / name / "work" / "levels.parquet").read() for name in ("hub", "local")]
    assert levels[0].equals(levels[1]) and len(levels[0]) == 60
    settings = settings_of(tmp_path / "hub")
    assert settings["layout"] == "wildchat" and settings["source_bytes"] is None and settings["revision"] == commit
    assert settings_of(tmp_path / "local")["revision"] is None
    assert "could not be opened as a Hub dataset" in missing
    assert not (tmp_path / "missing").exists()


def test_a_revision_can_be_pinned_and_a_moved_branch_is_noticed(tmp_path):
    (tmp_path / "repo").mkdir()

    def ids(output):
        return {row["id"].split("_")[0] for row in pq.read_table(output / "work" / "levels.parquet").to_pylist()}

    with HubDouble() as hub, Elsewhere(hub, tmp_path / "home") as elsewhere:
        commits = []
        for numbers in (range(3), range(3, 8)):
            rows = "".join(json.dumps(row) + "\n" for row in wildchat_rows(numbers))
            (tmp_path / "repo" / "train.jsonl").write_text(rows)
            elsewhere.upload(tmp_path / "repo")
            repo = hub.repo("user/chats", "datasets")
            commits.append(repo.find("main").sha)
            if len(commits) == 1:
                repo.refs["v1"] = commits[0]
                assert elsewhere.build("user/chats", tmp_path / "early") == ""
        for revision, output in (("v1", "tag"), (commits[0], "commit"), ("main", "main")):
            assert elsewhere.build("user/chats", tmp_path / output, "--revision", revision) == ""
        # The folder made from what main was before: refused as main is now, at home with the commit it was made from.
        moved = elsewhere.build("user/chats", tmp_path / "early")
        assert elsewhere.build("user/chats", tmp_path / "early", "--revision", commits[0]) == ""
        unknown = elsewhere.build("user/chats", tmp_path / "none", "--revision", "v9")
    made_from = [settings_of(tmp_path / name)["revision"] for name in ("tag", "commit", "main", "early")]
    assert made_from == [commits[0], commits[0], commits[1], commits[0]]
    assert ids(tmp_path / "tag") == ids(tmp_path / "commit") == ids(tmp_path / "early") == {"h0", "h1", "h2"}
    assert ids(tmp_path / "main") == {f"h{number}" for number in range(3, 8)}
    assert f"revision was '{commits[0]}', now '{commits[1]}'" in moved
    assert unknown == "the Hub dataset user/chats has no revision v9; expected a commit, a branch or a tag"
    assert not (tmp_path / "none").exists()


def test_a_broken_file_of_a_repository_is_an_error_or_counted(tmp_path):
    folder = write_repository(tmp_path / "repo", compression="zstd")
    broken = bytearray((folder / "train-00001-of-00002.parquet").read_bytes())
    broken[100:1500] = bytes(1400)
    (folder / "train-00001-of-00002.parquet").write_bytes(broken)
    with HubDouble() as hub, Elsewhere(hub, tmp_path / "home") as elsewhere:
        elsewhere.upload(tmp_path / "repo")
        refused = elsewhere.build("user/chats", tmp_path / "out")
        assert elsewhere.build("user/chats", tmp_path / "out", "--on_bad_input", "skip") == ""
    assert refused.startswith("shard 1 of the Hub dataset user/chats cannot be read to its end (")
    assert "pass --on-bad-input skip" in refused
    report = json.loads((tmp_path / "out" / "build_report.json").read_text())
    assert report["conversations"] == 10 and report["input_lost"] == {"unreadable_rows": 1}


def test_a_source_that_goes_away_keeps_what_was_read(tmp_path):
    write_repository(tmp_path / "repo")
    with HubDouble() as hub, Elsewhere(hub, tmp_path / "home") as elsewhere:
        elsewhere.upload(tmp_path / "repo")
        assert elsewhere.build("user/chats", tmp_path / "undisturbed") == ""
        before = len(hub.requests)
        assert elsewhere.build("user/chats", tmp_path / "again") == ""
        asked = sum("/resolve/" in path for _, path in hub.requests[before:])
        hub.faults.append(Fault("resolve", nth=asked, action=403, times=50))
        lost = elsewhere.build("user/chats", tmp_path / "out", "--on_bad_input", "skip")
        kept = sorted(path.name for path in (tmp_path / "out" / "work" / "conversations").iterdir())
        hub.faults.clear()
        assert elsewhere.build("user/chats", tmp_path / "out", "--on_bad_input", "skip") == ""
    assert lost.startswith("shard 1 of the Hub dataset user/chats cannot be read to its end (")
    assert lost.endswith("; run the same command again: what was read is kept")
    assert kept == ["00000-00000.parquet", "00000.json", "places"]
    levels = [pq.read_table(tmp_path / name / "work" / "levels.parquet") for name in ("undisturbed", "out")]
    assert levels[0].equals(levels[1])


def test_files_have_no_revision(tmp_path):
    log, _ = write_chats(tmp_path, 2)
    with pytest.raises(
        UserError, match=r"--revision v1 names a version of a Hub dataset, but .*chats.jsonl is on this"
    ):
        build_dataset(str(log), tmp_path / "out", revision="v1")
    assert not (tmp_path / "out").exists()
