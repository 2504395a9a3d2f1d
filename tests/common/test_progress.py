"""Progress on a terminal and elsewhere: nothing is written on a bar's line."""

import logging
import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from tests.dataset_builder.chats import chat, write_chats, write_jsonl
from wildreward.common import progress as progress_module
from wildreward.common.progress import progress

WARNING = "no conversation says who its user is"


def building(folder, stderr):
    """Build from a log that names no user."""
    chats, labels = write_chats(folder, 5)
    nameless = [{"id": f"chat{number}", "messages": chat(number)[0]} for number in range(5)]
    command = [sys.executable, "-m", "wildreward", "build-dataset", "--source", str(write_jsonl(chats, nameless))]
    command += ["--labeler", "file", "--labels", str(labels), "--output", str(folder / "out"), "--mining-window", "0"]
    plain = {
        name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"
    }  # commands run here may set it
    return subprocess.Popen(command, stderr=stderr, stdout=subprocess.DEVNULL, env=plain)


def test_on_a_terminal_a_warning_has_its_own_line(tmp_path):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    process = building(tmp_path, theirs)
    os.close(theirs)
    told = b""
    while True:
        try:
            told += os.read(ours, 4096)
        except OSError:  # closed at the other end
            break
    process.wait()
    os.close(ours)
    shown = re.split("[\r\n]+", told.decode())
    assert any("shard/s" in line for line in shown), "a bar is there"
    assert any(line.startswith(WARNING) for line in shown)


def test_without_a_terminal_a_line_is_logged_now_and_then(caplog, monkeypatch):
    monkeypatch.setattr(progress_module, "EVERY", 0.0)
    with caplog.at_level(logging.INFO), progress("label", 2, unit="turn") as bar:
        bar.update()
        bar.set_postfix_str("cost 0.10", refresh=False)
        bar.update()
    told = [re.sub(r"\d\d:\d\d", "T", record.getMessage()) for record in caplog.records]
    assert told[-1] == "label: 2 of 2 turns, T, T to go, cost 0.10"


@pytest.mark.parametrize("total", [None, 5])
def test_short_work_is_not_told_of(caplog, total):
    with caplog.at_level(logging.INFO), progress("read", total, unit="shard") as bar:
        bar.update()
    assert not caplog.records
