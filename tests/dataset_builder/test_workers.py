"""Steps in this process and in several: the same work, in the same order for each task."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wildreward.dataset_builder.workers import Step, Workers
from wildreward.errors import UserError


def first(folder: Path, name: str) -> None:
    (folder / f"{name}.log").write_text("first\n")


def second(folder: Path, name: str) -> None:
    with open(folder / f"{name}.log", "a") as log:
        log.write("second\n")
    (folder / f"{name}.process").write_text(str(os.getpid()))


def third(folder: Path, name: str) -> None:
    if name == "bad":
        raise UserError("this one cannot be done")
    with open(folder / f"{name}.log", "a") as log:
        log.write("third\n")


def look_for_pandas(folder: Path) -> None:
    import sys

    import pyarrow as pa

    pa.Table.from_pylist([{"a": 1}])
    (folder / "modules").write_text(" ".join(sys.modules))
    import pandas  # it is still there for whoever needs it

    assert pandas


STEPS = [Step(first), Step(second, done=lambda name: name == "c", apart=True), Step(third)]


@pytest.mark.parametrize("count", [1, 2])
def test_every_task_goes_through_its_steps_in_order(tmp_path, count):
    with Workers(count, tmp_path) as workers:
        workers.chain(STEPS, [("a",), ("b",), ("c",)], "test")
    assert (tmp_path / "a.log").read_text() == (tmp_path / "b.log").read_text() == "first\nsecond\nthird\n"
    assert (tmp_path / "c.log").read_text() == "first\nthird\n"
    where = {(tmp_path / f"{name}.process").read_text() for name in "ab"}
    assert len(where) == 1 and (str(os.getpid()) in where) == (count == 1)


@pytest.mark.parametrize("count", [1, 2])
def test_the_first_error_ends_the_chain(tmp_path, count):
    with Workers(count, tmp_path) as workers, pytest.raises(UserError, match="this one cannot be done"):
        workers.chain(STEPS, [("bad",)], "test")
    assert (tmp_path / "bad.log").read_text() == "first\nsecond\n"


def test_processes_of_the_pool_hold_no_pandas(tmp_path):
    with Workers(2, tmp_path) as workers:
        workers.each(look_for_pandas, [()], "test")
    assert "pandas" not in (tmp_path / "modules").read_text().split()


LONG_TASKS = """
import signal
import sys
from pathlib import Path
from tests.dataset_builder.test_workers import wait_long
from wildreward.dataset_builder.workers import Step, Workers
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it puts in the background ignore it
    try:
        with Workers(2, Path(sys.argv[1])) as workers:
            workers.chain([Step(wait_long, apart=True)], [("a",)], "test")
    except KeyboardInterrupt:
        sys.exit(130)
"""


def wait_long(folder: Path, name: str) -> None:
    (folder / f"{name}.process").write_text(str(os.getpid()))
    time.sleep(60)
    (folder / f"{name}.done").write_text("written after the end")


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
    begun = tmp_path / "a.process"
    deadline = time.monotonic() + 60
    while not (begun.exists() and begun.read_text()):
        assert main.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(main.pid, how) if how == signal.SIGKILL else os.killpg(main.pid, how)
    # the pipe closes when the last process that holds it has ended
    errors = main.communicate(timeout=30)[1]
    assert "Traceback" not in errors
    assert main.returncode == (130 if how == signal.SIGINT else -how)
    assert not (tmp_path / "a.done").exists()
