"""Runs a stage in this process, or in a pool of processes."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any

from wildreward.common.errors import UserError
from wildreward.common.progress import progress
from wildreward.dataset_builder.stages import Stage

_build: Any


class WorkerDied(UserError):
    """A process of the pool ended by itself or was killed; what it and the others had finished is there."""


class Workers:
    """Does the stages of one build. Use as a context manager.

    Args:
        build: sent to each process once, so what it keeps there stays.
        count: of processes; with one, all is done in this process.
    """

    def __init__(self, build: Any, count: int) -> None:
        self.build, self.count = build, count
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

    def run(self, name: str, stage: Stage) -> None:
        """Do a stage for all its slices or shards, in any order. The first error ends it.

        Raises:
            WorkerDied: a process was killed.
        """
        build, count = self.build, stage.count(self.build)
        if stage.single or stage.whole(build):
            stage.run(build, range(count))
            return
        with progress(name, count, unit="shard") as bar:
            if self.count == 1 or stage.exclusive(build):
                for number in range(count):
                    stage.run(build, [number])
                    bar.update()
                return
            self.pool = self.pool or ProcessPoolExecutor(
                self.count, get_context("spawn"), initializer=_start, initargs=(build,)
            )
            with _interrupts_ignored():  # by processes that still start, too; `_start` gives them their own way
                futures = [self.pool.submit(_run, stage.run, number) for number in range(count)]
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except BrokenProcessPool as error:
                raise WorkerDied(
                    f"a worker process died during '{name}' (out of memory?); finished shards are kept, "
                    "run the same command again, with fewer --num-workers if memory is short"
                ) from error
            finally:
                for future in futures:
                    future.cancel()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only there may it be changed
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start(build: Any) -> None:
    global _build
    _build = build
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every process and ends it without a word
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed run's folder may soon be another's: its processes must not write on."""
    parent_process().join()
    os._exit(1)


def _run(function: Callable[[Any, Sequence[int]], None], number: int) -> None:
    function(_build, [number])
