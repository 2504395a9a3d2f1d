"""Files survive crashes, full disks and second runs; settings of a folder cannot change silently."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from wildreward.errors import UserError
from wildreward.files import FolderLock, atomic_path, make_folder, read_json, write_json
from wildreward.settings import check_settings, reopen_settings


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with (
        pytest.raises(UserError, match=r"cannot write .*a\.json: No space left on device"),
        atomic_path(path) as temporary,
    ):
        temporary.write_text("half of the n")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_nan_is_not_written(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*file/folder: Not a directory"):
        make_folder(tmp_path / "file" / "folder")


def test_unreadable_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"b\.json does not exist"):
        read_json(tmp_path / "b.json")


HOLDER = """
import sys, time
from wildreward.files import FolderLock
with FolderLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_run_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another run is writing to"), FolderLock(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with FolderLock(tmp_path):
        pass


def test_processes_of_one_run_share_a_folder_that_others_may_not_have(tmp_path):
    with FolderLock(tmp_path, shared=True), FolderLock(tmp_path, shared=True):
        with pytest.raises(UserError, match="another run is writing to"), FolderLock(tmp_path):
            pass
    with FolderLock(tmp_path), pytest.raises(UserError, match="another run is writing to"):
        with FolderLock(tmp_path, shared=True):
            pass


def test_reopened_settings_can_be_chosen_once_more_and_no_others(tmp_path):
    check_settings(tmp_path, {"seed": 0, "labeler": "llm", "labeler.model": "tpyo"})
    reopen_settings(tmp_path, "labeler")
    with pytest.raises(UserError, match=r"made with other settings \(seed was 0, now 1\)"):
        check_settings(tmp_path, {"seed": 1, "labeler": "llm", "labeler.model": "good"})
    check_settings(tmp_path, {"seed": 0, "labeler": "llm", "labeler.model": "good"})
    with pytest.raises(UserError, match=r"\(labeler.model was 'good', now None\)"):
        check_settings(tmp_path, {"seed": 0, "labeler": "llm"})


def test_other_settings_are_refused_by_name(tmp_path):
    check_settings(tmp_path, {"seed": 0, "labeler": "cues"})
    check_settings(tmp_path, {"labeler": "cues", "seed": 0})
    with pytest.raises(UserError, match=r"made with other settings \(seed was 0, now 1\)"):
        check_settings(tmp_path, {"seed": 1, "labeler": "cues"})


def test_a_file_where_a_folder_should_be_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/out\.json"):
        write_json(tmp_path / "file" / "out.json", {})
