"""Stages in this process and in several: the same work."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from wildreward.common.errors import UserError
from wildreward.dataset_builder.stages import Stage
from wildreward.dataset_builder.workers import Workers


def work(folder: Path, numbers: Sequence[int]) -> None:
    for number in numbers:
        if number == 7:
            raise UserError("this one cannot be done")
        (folder / f"{number}.process").write_text(str(os.getpid()))


def die(folder: Path, numbers: Sequence[int]) -> None:
    os._exit(1)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "stage",
    [
        Stage(work, lambda folder: 5),
        Stage(work, lambda folder: 5, exclusive=lambda folder: True),
        Stage(work, lambda folder: 5, whole=lambda folder: True),
    ],
)
def test_every_number_is_done_once_where_it_should_be(tmp_path, count, stage):
    with Workers(tmp_path, count) as workers:
        workers.run("test", stage)
    processes = [(tmp_path / f"{number}.process").read_text() for number in range(5)]
    here = count == 1 or stage.whole(tmp_path) or stage.exclusive(tmp_path)
    assert (str(os.getpid()) in processes) == here
    assert not here or len(set(processes)) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_the_first_error_ends_the_stage(tmp_path, count):
    with Workers(tmp_path, count) as workers, pytest.raises(UserError, match="this one cannot be done"):
        workers.run("test", Stage(work, lambda folder: 8))


def test_a_worker_that_dies_ends_the_run_with_one_line(tmp_path):
    with Workers(tmp_path, 2) as workers, pytest.raises(UserError, match="a worker process died during 'read'"):
        workers.run("read", Stage(die, lambda folder: 3))


LONG_TASKS = """
import signal
import sys
from pathlib import Path
from tests.dataset_builder.test_workers import wait_long
from wildreward.dataset_builder.stages import Stage
from wildreward.dataset_builder.workers import Workers
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it puts in the background ignore it
    try:
        with Workers(Path(sys.argv[1]), 2) as workers:
            workers.run("test", Stage(wait_long, lambda folder: 2))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def wait_long(folder: Path, numbers: Sequence[int]) -> None:
    (folder / f"{numbers[0]}.process").write_text(str(os.getpid()))
    time.sleep(60)
    (folder / f"{numbers[0]}.done").write_text("written after the end")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_main_process_and_without_a_word(tmp_path, how):
    """Killed alone, and by Ctrl-C, which reaches the whole group."""
    (tmp_path / "main.py").write_text(LONG_TASKS)
    root = Path(__file__).parents[2]
    main = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py"), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    begun = tmp_path / "0.process"
    deadline = time.monotonic() + 60
    while not (begun.exists() and begun.read_text()):
        assert main.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(main.pid, how) if how == signal.SIGKILL else os.killpg(main.pid, how)
    # the pipe closes when the last process that holds it has ended
    errors = main.communicate(timeout=30)[1]
    assert "Traceback" not in errors
    assert main.returncode == (130 if how == signal.SIGINT else -how)
    assert not list(tmp_path.glob("*.done"))
