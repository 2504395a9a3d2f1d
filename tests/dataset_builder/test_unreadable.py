"""What cannot be read as a file, in a source or for an option: one line, or counted; and never a wait without end."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset_builder.builds import OFF
from tests.dataset_builder.chats import chat, write_chats
from wildreward.common.errors import UserError
from wildreward.dataset_builder.build import build_dataset
from wildreward.dataset_builder.labelers.file import FileLabeler
from wildreward.dataset_builder.sources.files import InputErrors
from wildreward.dataset_builder.sources.readers import find_slices, read_slice

SKIP = "; pass --on-bad-input skip to use what can be read and count the loss"


def dangling(path):
    path.symlink_to(path.parent / "nowhere")


def circular(path):
    path.symlink_to(path.name)


def bound(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def like_spark(path):
    """Its text output: a folder called like a file, whose parts have no ending."""
    path.mkdir()
    (path / "part-00000").write_text("{}")


UNREADABLE = [
    (dangling, "is a link that leads nowhere (No such file or directory)"),
    (circular, "is a link that leads nowhere (Too many levels of symbolic links)"),
    (os.mkfifo, "is a pipe, not a file"),
    (bound, "is a socket, not a file"),
    (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    (like_spark, "is a folder, not a file"),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a log of ten chats: a socket's name is short."""
    log, labels = write_chats(tmp_path / "log", 10)
    labels.unlink()
    monkeypatch.chdir(log.parent)
    return tmp_path


@pytest.mark.parametrize("name", ["b.jsonl", "b.json", "b.parquet"])
@pytest.mark.parametrize(("make", "why"), UNREADABLE)
def test_what_is_no_file_in_a_folder_is_one_line_or_counted(here, make, why, name):
    make(Path(name))
    with pytest.raises(UserError) as caught:
        find_slices(".", InputErrors())
    assert str(caught.value) == f"{name} {why}{SKIP}"
    losses = InputErrors(skip=True)
    assert [piece.path for piece in find_slices(".", losses)] == ["chats.jsonl"]
    assert losses.counts == {"unreadable_file": 1}


def test_a_build_counts_what_is_no_file(here):
    for number, (make, _) in enumerate(UNREADABLE):
        make(Path(f"{number}.jsonl"))
    report = build_dataset(".", here / "out", on_bad_input="skip", **OFF)
    assert report["conversations"] == 10 and report["input_lost"] == {"unreadable_file": len(UNREADABLE)}


@pytest.mark.parametrize(("make", "why"), UNREADABLE[:5])
def test_what_is_no_file_is_one_line_as_the_source_and_as_labels(tmp_path, monkeypatch, make, why):
    monkeypatch.chdir(tmp_path)
    make(Path("b.jsonl"))
    with pytest.raises(UserError) as caught:
        build_dataset("b.jsonl", "out", **OFF)
    assert str(caught.value) == f"b.jsonl {why}{SKIP}"
    with pytest.raises(UserError) as caught:
        build_dataset("b.jsonl", "out", on_bad_input="skip", **OFF)
    assert str(caught.value) == f"b.jsonl holds nothing that can be read (b.jsonl {why})"
    with pytest.raises(UserError) as caught:
        FileLabeler("b.jsonl")
    assert str(caught.value) == (
        f"the labels file b.jsonl {why}; expected a JSONL or parquet file with the columns id and level"
    )
    assert not os.path.exists("out")


def test_a_folder_as_labels_and_a_name_that_is_too_long(tmp_path):
    with pytest.raises(UserError, match=f"the labels file {tmp_path} is a folder, not a file"):
        FileLabeler(tmp_path)
    with pytest.raises(UserError, match="x does not exist; expected a file, a folder or a Hub dataset id"):
        build_dataset("x" * 5000, tmp_path / "out", **OFF)


def test_folders_of_parts_called_like_a_file_are_read(tmp_path):
    rows = [{"id": f"c{number}", "messages": chat(number)[0]} for number in range(4)]
    for name in ("a.jsonl", "b.parquet"):
        (tmp_path / "log" / name).mkdir(parents=True)
    (tmp_path / "log/a.jsonl/part-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    pq.write_table(pa.Table.from_pylist(rows[2:]), tmp_path / "log/b.parquet/part-0.parquet")
    assert build_dataset(str(tmp_path / "log"), tmp_path / "out", **OFF)["conversations"] == 4


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
@pytest.mark.parametrize("became", ["nothing", "a folder", "shorter"])
def test_a_file_that_is_gone_or_another_when_its_turn_comes_is_one_line_or_counted(tmp_path, name, became):
    path, rows = tmp_path / name, [{"id": f"c{number}", "messages": chat(number)[0]} for number in range(4)]
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if name == "a.json" else "".join(json.dumps(row) + "\n" for row in rows))
    (piece,) = find_slices(str(path), InputErrors())
    if became == "shorter":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.unlink()
    if became == "a folder":
        path.mkdir()
    with pytest.raises(
        UserError, match=rf"a\.\w+.* (cannot be read|is not JSON|has become shorter|is cut off).*{SKIP}$"
    ) as caught:
        list(read_slice(piece, ["messages"], InputErrors()))
    assert "\n" not in str(caught.value)
    losses = InputErrors(skip=True)
    assert len(list(read_slice(piece, ["messages"], losses))) == (
        3 if became == "shorter" and name != "a.parquet" else 0
    )
    assert losses.counts.total() == (2 if became == "shorter" and name == "a.jsonl" else 1)  # the line and the end


def test_a_folder_that_cannot_be_listed_is_one_line_or_counted(tmp_path):
    """Its path is longer than the system takes, which even root cannot list."""
    log, _ = write_chats(tmp_path / "log", 4)
    (log.parent / "labels.jsonl").unlink()
    deep = os.open(log.parent, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=deep)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    with pytest.raises(UserError, match=rf"ddd cannot be read \(File name too long\){SKIP}$"):
        find_slices(str(log.parent), InputErrors())
    losses = InputErrors(skip=True)
    assert len(find_slices(str(log.parent), losses)) == 1 and losses.counts == {"unreadable_folder": 1}
    subprocess.run(["rm", "-r", str(log.parent)], check=True)  # what Python cannot


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_a_file_without_permission_is_one_line_or_counted():
    program = """
import os, sys, tempfile
from pathlib import Path
from wildreward.dataset_builder.labelers.file import FileLabeler
from wildreward.dataset_builder.sources.files import InputErrors
from wildreward.dataset_builder.sources.readers import find_slices
from wildreward.common.errors import UserError
folder = Path(tempfile.mkdtemp())
(folder / "closed").mkdir(mode=0)
for name in "ab":
    (folder / f"{name}.jsonl").write_text('{"messages": []}')
(folder / "b.jsonl").chmod(0)
folder.chmod(0o755)
os.setuid(65534)
try:
    FileLabeler(folder / "b.jsonl")
except UserError as error:
    print(error)
losses = InputErrors(skip=True)
print(len(find_slices(str(folder), losses)), dict(losses.counts), folder)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    told, counted = done.stdout.splitlines()
    assert "b.jsonl cannot be read (Permission denied); expected a JSONL or parquet file" in told, done.stderr
    assert counted.startswith("1 {'unreadable_folder': 1, 'unreadable_file': 1} ")
    shutil.rmtree(counted.split()[-1])


def test_labels_in_a_damaged_parquet_file_are_one_line(tmp_path):
    pq.write_table(pa.table({"id": ["a" * 9000], "level": [1]}), tmp_path / "l.parquet", compression="none")
    data = tmp_path.joinpath("l.parquet").read_bytes()
    for damaged in (data[:50] + b"\xff" * 200 + data[250:], b"\xff" * 40 + data[40:], data[:-9]):
        (tmp_path / "l.parquet").write_bytes(damaged)
        with pytest.raises(UserError, match=r"l\.parquet is not a complete parquet file \(.*\)$"):
            FileLabeler(tmp_path / "l.parquet")
