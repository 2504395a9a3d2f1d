"""Who does the steps: this process, or a pool of processes with one more for the work that needs much memory."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from queue import SimpleQueue
from typing import Any

from wildreward.errors import UserError

TASKS_A_WORKER = 3

_shared: Any = None


class WorkerDied(UserError):
    """A process of the pool ended by itself or was killed; what it and the others had finished is there."""


@dataclass(frozen=True)
class Step:
    """What is done to each task.

    Attributes:
        function: called with what the workers share and the task's values.
        done: says whether a task needs this step no more.
        apart: needs much memory, so one process of its own does it, with all cores or the GPU.
    """

    function: Callable
    done: Callable[..., bool] = lambda *task: False
    apart: bool = False


class Workers:
    """Runs steps for many tasks: here with one worker, else in processes.

    Args:
        count: of the processes in the pool.
        shared: the first argument of every step. Each process gets it once, so what a step keeps in it stays.
        pandas: the steps need it (the `datasets` library does, for some files of the Hub).
    """

    def __init__(self, count: int, shared: Any, pandas: bool = False) -> None:
        self.count, self.shared, self.pandas = count, shared, pandas
        self.pools: dict[bool, ProcessPoolExecutor] = {}
        self.interrupted: Event | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.interrupted is not None and kind is not None and issubclass(kind, KeyboardInterrupt):
            self.interrupted.set()
        self.rest()

    def rest(self) -> None:
        """End the processes; the next step starts new ones."""
        for pool in self.pools.values():
            pool.shutdown(cancel_futures=True)
        self.pools = {}

    def each(self, function: Callable, tasks: Sequence[tuple], name: str) -> None:
        """Call `function(shared, *task)` for every task, in any order. The first error ends the run."""
        self.chain([Step(function)], tasks, name)

    def chain(self, steps: Sequence[Step], tasks: Sequence[tuple], name: str) -> None:
        """Take every task through all steps in their order; different tasks side by side, each at its own step."""
        from tqdm.auto import tqdm

        with tqdm(total=len(tasks), desc=name, unit="part", leave=False) as bar:
            if self.count == 1:
                for task in tasks:
                    for step in steps:
                        if not step.done(*task):
                            step.function(self.shared, *task)
                    bar.update()
                return
            try:
                for _ in self._finished(steps, tasks):
                    bar.update()
            except BrokenProcessPool as error:
                raise WorkerDied(
                    f"a worker process died during '{name}' (out of memory?); finished parts are kept, "
                    "run the same command again, with fewer --num-workers if memory is short"
                ) from error

    def _finished(self, steps: Sequence[Step], tasks: Iterable[tuple]) -> Iterable[tuple]:
        """Tasks that have been through all steps, as they get there."""
        ended: SimpleQueue[Future] = SimpleQueue()
        at: dict[Future, tuple[tuple, int]] = {}

        def begin(task: tuple, number: int) -> bool:
            """Start the next step that the task needs, if any, from `number` on."""
            for place, step in enumerate(steps[number:], number):
                if not step.done(*task):
                    future = self._pool(step.apart).submit(_run, step.function, task)
                    at[future] = task, place
                    future.add_done_callback(ended.put)
                    return True
            return False

        left = iter(tasks)

        def begin_more() -> Iterator[tuple]:
            """Keep some tasks on their way, not all: so that those begun come to their end before others begin."""
            while len(at) < TASKS_A_WORKER * self.count and (task := next(left, None)) is not None:
                if not begin(task, 0):
                    yield task

        try:
            yield from begin_more()
            while at:
                future = ended.get()
                task, place = at.pop(future)
                future.result()
                if not begin(task, place + 1):
                    yield task
                yield from begin_more()
        finally:
            for future in at:
                future.cancel()
            if True in self.pools:
                self.pools.pop(True).shutdown(wait=False)  # gives its memory back

    def _pool(self, apart: bool) -> ProcessPoolExecutor:
        if apart not in self.pools:
            context = get_context("spawn")
            self.interrupted = self.interrupted or context.Event()
            given = (self.shared, self.pandas, self.interrupted)
            count = 1 if apart else self.count
            self.pools[apart] = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=given)
        return self.pools[apart]


def _begin(shared: Any, pandas: bool, interrupted: Event) -> None:
    global _shared
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the main one passes it on
    for wait in (interrupted.wait, parent_process().join):
        threading.Thread(target=_end_after, args=(wait,), daemon=True).start()
    if not pandas:
        _leave_pandas_out()


def _end_after(wait: Callable[[], object]) -> None:
    """End at once when the run was interrupted or the main process was killed: nobody waits for the task, and its folder
    may soon be another's."""
    wait()
    os._exit(1)


class _NoPandas:
    """An import finder that finds no pandas."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _leave_pandas_out() -> None:
    """Let pyarrow look for pandas, which it does once, and find none: it would cost half a second and 60 MB a process."""
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([None])
    finally:
        sys.meta_path.remove(_NoPandas)


def _run(function: Callable, task: tuple) -> None:
    function(_shared, *task)
