"""Whole builds: whatever goes wrong on the way, and what is refused before anything is done."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.dataset_builder.builds import OFF, build, command, rows_of, run
from tests.dataset_builder.chats import chat, write_chats
from wildreward.commands import execute
from wildreward.common.errors import UserError
from wildreward.common.files import FolderLock
from wildreward.dataset_builder.build import build_dataset

SAID = "my phone is 555-1234"


@pytest.mark.parametrize(("workers", "moments"), [("1", (2, 13)), ("2", (6, 16))])
def test_kill_minus_9_at_any_moment_and_run_again(tmp_path, workers, moments):
    log = write_chats(tmp_path / "log", 1200, users=200)
    build(log, tmp_path / "undisturbed", **OFF)
    output = tmp_path / "out"
    more = ("--num_workers", workers, "--test_fraction", "0.3")
    for files in moments:
        child = subprocess.Popen(
            command(log, output, *more), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        while sum(path.is_file() for path in output.rglob("*")) < files and child.poll() is None:
            time.sleep(0.002)
        assert child.poll() is None, "the build ended before it could be killed"
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        assert not (output / "build_report.json").exists()
    assert run(log, output, *more).returncode == 0
    assert rows_of(output) == rows_of(tmp_path / "undisturbed")
    assert not list(output.rglob("*.tmp"))


def test_a_second_run_on_the_same_folder_is_refused(log, tmp_path):
    with FolderLock(tmp_path / "out" / "work"), pytest.raises(UserError, match=r"another run is writing to .*out/work"):
        build(log, tmp_path / "out", **OFF)


def test_other_settings_in_the_same_folder_are_refused(log, tmp_path):
    report = build(log, tmp_path / "out", **OFF)
    assert build(log, tmp_path / "out", **OFF) == report
    with pytest.raises(
        UserError, match=r"was made with other settings \(max_words was 4096, now 100; seed was 0, now 1\)"
    ):
        build(log, tmp_path / "out", **OFF, seed=1, max_words=100)
    grown = tmp_path / "grown.jsonl"
    grown.write_text(log[0].read_text() + log[0].read_text()[:400])
    with pytest.raises(UserError, match=r"source was .*; source_bytes was"):
        build((grown, log[1]), tmp_path / "out", **OFF)


def test_a_source_that_changed_but_kept_its_size_is_refused(log, tmp_path):
    chats = tmp_path / "chats.jsonl"
    chats.write_text(log[0].read_text())
    build((chats, log[1]), tmp_path / "out", **OFF)
    chats.write_text(log[0].read_text().replace("gardens", "GARDENS"))
    with pytest.raises(UserError, match=r"other settings \(source_digest was '\w{32}', now '\w{32}'\)"):
        build((chats, log[1]), tmp_path / "out", **OFF)


def tree(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "name", ["README.md", "data/train-mine.parquet", "build_report.json", "work/notes.txt", "work", "figures/.a.tmp"]
)
def test_a_folder_with_other_files_is_refused_and_left_as_it_is(log, tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"out is not empty \(it holds .*\) and is not .* expected a new or an empty"):
        build(log, tmp_path / "out", **OFF)
    assert tree(tmp_path) == before


def test_what_a_refused_run_leaves_and_hidden_files_are_no_obstacle(log, tmp_path):
    with FolderLock(tmp_path / "out" / "work"):
        (tmp_path / "out" / ".gitkeep").touch()
    assert build(log, tmp_path / "out", limit=5, **OFF)["conversations"] == 5


def test_only_what_a_build_left_half_written_is_deleted(log, tmp_path):
    output = tmp_path / "out"
    build(log, output, limit=5, **OFF)
    ours = [".README.md.7.tmp", "data/.test-00000-of-00001.parquet.7.tmp"]
    ours += ["figures/.funnel.png.7.tmp", "work/.settings.json.7.tmp", "work/turns/.00000-00000.parquet.7.tmp"]
    ours += ["data/train-00000-of-00009.parquet"]
    theirs = [".mine.tmp", ".mine.7.tmp", "data/.mine.tmp", "data/train-mine.parquet", "notes/.train-00000.tmp"]
    theirs += ["notes/.README.md.7.tmp", "data/.train-1.tmp", "work/.mine.tmp"]
    for name in (*ours, *theirs):
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_text("x")
    (output / "build_report.json").unlink()
    build(log, output, limit=5, **OFF)
    assert [name for name in (*ours, *theirs) if (output / name).exists()] == theirs


@pytest.mark.parametrize("name", ["out", "deep/out", "."])
def test_an_output_inside_the_source_is_refused(tmp_path, name):
    log = write_chats(tmp_path / "log", 2)
    with pytest.raises(UserError, match=r"lies in the source folder .*choose one outside of it"):
        build_dataset(str(log[0].parent), log[0].parent / name, **OFF)
    assert sorted(path.name for path in log[0].parent.iterdir()) == ["chats.jsonl", "labels.jsonl"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"near_duplicates": -1.0}, "--near_duplicates is -1.0; expected from 0 to 1"),
        ({"near_duplicates": 7.0}, "--near_duplicates is 7.0; expected from 0 to 1"),
        ({"near_duplicates": float("nan")}, "--near_duplicates is nan; expected from 0 to 1"),
        ({"mining_window": -1}, "--mining_window is -1; expected at least 0"),
        ({"mining_threshold": float("nan")}, "--mining_threshold is nan; expected from -1 to 1"),
        ({"mining_threshold": -1.5}, "--mining_threshold is -1.5; expected from -1 to 1"),
        ({"limit": 0}, "--limit is 0; expected at least 1"),
        ({"limit": -3}, "--limit is -3; expected at least 1"),
        ({"max_words": 0}, "--max_words is 0; expected at least 1"),
        ({"test_fraction": 1.0}, "--test_fraction is 1.0; expected at least 0 and below 1"),
        ({"on_bad_input": "pass"}, "--on_bad_input is 'pass'; expected error or skip"),
        ({"num_workers": 0}, "--num_workers is 0; expected at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(log, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        build_dataset(str(log[0]), tmp_path / "out", **{**OFF, **settings})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--temperature=-1"], "--temperature is -1.0; expected at least 0"),
        (["--max_answer_tokens", "0"], "--max_answer_tokens is 0; expected at least 1"),
        (["--concurrency", "0"], "--concurrency is 0; expected at least 1"),
        (["--shown_tokens", "39"], "--shown_tokens is 39; expected at least 40"),
        (["--timeout", "0"], "--timeout is 0.0; expected more than 0 seconds"),
        (
            ["--price_prompt=-1", "--price_completion=-2"],
            r"--price_prompt is -1\.0; .*\. --price_completion is -2\.0; ",
        ),
    ],
)
def test_an_endpoints_options_out_of_range_are_refused(log, tmp_path, flags, message):
    words = ["--source", str(log[0]), "--output", str(tmp_path / "out"), "--mining_window", "0"]
    endpoint = ["--labeler", "llm", "--model", "m", "--base_url", "http://127.0.0.1:9/v1"]
    with pytest.raises(UserError, match=message):
        execute("build-dataset", [*words, *endpoint, *flags])
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc/mounts").exists() or os.geteuid() != 0, reason="needs a small file system")
def test_a_full_disk_ends_the_run_with_the_path_named(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("cannot mount a small file system")
    try:
        got = run(write_chats(tmp_path / "log", 3000, turns=6), disk / "out", "--num_workers", "1")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert got.returncode == 2 and "No space left on device" in got.stderr and str(disk) in got.stderr
    assert len(got.stderr.strip().splitlines()[-1]) < 400


def test_an_output_that_cannot_be_written_is_one_clear_line(log, tmp_path):
    (tmp_path / "file").write_text("x")
    got = run(log, tmp_path / "file" / "out", "--num_workers", "1")
    assert got.returncode == 2
    assert got.stderr.strip().splitlines()[-1].startswith(f"error: cannot write to {tmp_path}/file/out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n', "has the columns text; expected wildchat"),
        ('[{"id": "a", "conversations": [{"from": "human", "va', "holds no complete record"),
        ('{"messages": []}\n', r"holds no usable conversation \(records 1, rejected.empty_conversation 1\)"),
        ("", "is empty"),
        (
            "{}\r{}\r",
            r"no complete record \(.*the line at byte 0 is not JSON \(lines seem to end in CR alone; expected LF",
        ),
        ("[1]\n[2]\n", r"no complete record \(.*chats\.json begins with a int\)"),
    ],
)
def test_bad_sources_are_one_clear_line(tmp_path, content, message):
    path = tmp_path / ("chats.json" if content.startswith("[") else "chats.jsonl")
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        build_dataset(str(path), tmp_path / "out", **OFF)
    assert not (tmp_path / "out" / "data").exists()


@pytest.mark.parametrize(
    ("messages", "columns", "message"),
    [
        (
            [{"role": "user", "content": SAID}],
            {"role_key": "rolle"},
            r"\(records 6, rejected\.unknown_role 6\): its messages have the keys content, role, but not rolle \(--role_key\)",
        ),
        (
            [{"role": "user", "content": SAID}],
            {"content_key": "contents"},
            r"rejected\.empty_content 6\): its messages have the keys content, role, but not contents \(--content_key\)",
        ),
        (
            [{"wer": "user", "was": SAID}],
            {},
            r"the keys was, wer, but not role \(--role_key\) and content \(--content_key\)",
        ),
        (
            [{"role": SAID, "content": SAID}],
            {},
            r"roles are looked for under the key role \(--role_key\); expected one of user, human,",
        ),
        (
            f"user: {SAID}",
            {},
            r"not_a_record 6\): messages is a text of \d+ characters; expected a list .* \(--messages-column\)",
        ),
        ([SAID], {}, "messages holds a text of 20 characters; expected a list of objects with role and content"),
    ],
)
def test_messages_of_another_form_are_told_by_their_keys_and_never_their_text(tmp_path, messages, columns, message):
    path = tmp_path / "chats.jsonl"
    path.write_text(f"{json.dumps({'messages': messages})}\n" * 6)
    with pytest.raises(UserError, match=f"holds no usable conversation .*{message}") as caught:
        build_dataset(str(path), tmp_path / "out", **columns, **OFF)
    assert SAID not in str(caught.value)


def test_a_cut_off_log_stops_the_build_or_is_counted(tmp_path):
    rows = [{"id": f"{n}_0", "conversations": [{"from": "human" if m["role"] == "user" else "gpt", "value": m["content"]}
            for m in chat(n)[0]]} for n in range(30)]  # fmt: skip
    path = tmp_path / "chats.json"
    path.write_text(json.dumps(rows)[:-300])
    with pytest.raises(UserError, match=r"chats\.json is cut off in the middle of a record, after 29 complete ones"):
        build_dataset(str(path), tmp_path / "out", **OFF)
    report = build_dataset(str(path), tmp_path / "out", on_bad_input="skip", **OFF)
    assert report["records"] == 29 and report["input_lost"] == {"cut_off_records": 1}
