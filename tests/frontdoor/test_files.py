"""Files survive crashes, full disks and second runs; settings of a folder cannot change silently."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from wildreward.common.errors import UserError
from wildreward.common.files import FolderLock, atomic_path, make_folder, read_json, refuse_filled, write_json
from wildreward.common.settings import check_least, check_range, check_settings, reopen_settings


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
from wildreward.common.files import FolderLock
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
    check_settings(tmp_path, {"seed": 0, "labeler": "classifier"})
    check_settings(tmp_path, {"labeler": "classifier", "seed": 0})
    with pytest.raises(UserError, match=r"made with other settings \(seed was 0, now 1\)"):
        check_settings(tmp_path, {"seed": 1, "labeler": "classifier"})


def test_many_settings_that_differ_are_told_in_short(tmp_path):
    check_settings(tmp_path, {f"s{number}": 0 for number in range(8)} | {"text": "x" * 1000})
    with pytest.raises(UserError) as caught:
        check_settings(tmp_path, {f"s{number}": 1 for number in range(8)} | {"text": "y" * 1000})
    told = str(caught.value)
    assert "(s0 was 0, now 1; s1 was 0, now 1; s2 was 0, now 1; s3 was 0, now 1; s4 was 0, now 1; and 4 more)" in told
    with pytest.raises(UserError) as caught:
        check_settings(tmp_path, {f"s{number}": 0 for number in range(8)} | {"text": "y" * 1000})
    assert "text was 'xxx" in str(caught.value) and len(str(caught.value)) < 400


def test_a_folder_of_another_command_is_called_so(tmp_path):
    check_settings(tmp_path, dict.fromkeys(("seed", "source", "labeler", "layout", "limit", "max_words", "zzz"), 1))
    with pytest.raises(UserError) as caught:
        check_settings(tmp_path, dict.fromkeys(("seed", "dataset", "base_model", "head"), 2))
    told = "was made by another command: its settings are labeler, layout, limit, max_words, source, and 1 more, which"
    assert told in str(caught.value)


def test_an_output_folder_that_holds_anything_is_refused(tmp_path):
    refuse_filled(tmp_path / "new")
    refuse_filled(tmp_path)
    for name in "dcba":
        (tmp_path / name).write_text("")
    with pytest.raises(
        UserError, match=r"is not empty \(it holds a, b, c and 1 more\); expected a new or an empty folder"
    ):
        refuse_filled(tmp_path)
    with pytest.raises(UserError, match="a is a file; expected a new or an empty folder"):
        refuse_filled(tmp_path / "a")


def test_numbers_out_of_range_are_named_together():
    check_least(("a", None, 1), ("b", 1, 1), ("c", 0.0, 0))
    check_range(("a", 0, 0, 1), ("b", 1.0, 0, 1))
    with pytest.raises(UserError, match=r"^--a is 0; expected at least 1\. --b is nan; expected at least 0$"):
        check_least(("a", 0, 1), ("b", float("nan"), 0))
    with pytest.raises(UserError, match=r"^--a is 2; expected from 0 to 1$"):
        check_range(("a", 2, 0, 1))


def test_a_file_where_a_folder_should_be_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/out\.json"):
        write_json(tmp_path / "file" / "out.json", {})
