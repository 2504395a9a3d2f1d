"""Who does the steps: this process, or a pool of processes; and the sentence encoder, loaded when it is needed."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from wildreward.errors import UserError


class LazyEncoder:
    """Loads the sentence encoder when the first text comes; many logs need none."""

    def __init__(self, name: str, max_tokens: int) -> None:
        self.name, self.max_tokens = name, max_tokens
        self.embedder: Any = None

    def __call__(self, texts: list[str]) -> Any:
        if self.embedder is None:
            from wildreward.dataset_builder.embedding import Embedder

            self.embedder = Embedder(self.name, max_tokens=self.max_tokens)
        return self.embedder.encode(texts)


class Workers:
    """Runs a step for many parts: here with one worker, else in a pool of processes."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        self.rest()

    def rest(self) -> None:
        """End the processes, and with them the memory they hold; the next step starts new ones."""
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
        self.pool = None

    def apart(self, function: Callable, *arguments: Any) -> None:
        """Call a function that needs much memory in a process of its own, so that it is all given back at the end.

        The other processes rest meanwhile. With one worker it is called here.
        """
        if self.count == 1:
            function(*arguments)
            return
        self.rest()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as single:
            try:
                single.submit(function, *arguments).result()
            except BrokenProcessPool as error:
                raise _died(function.__name__) from error

    def each(self, function: Callable, tasks: list[tuple], name: str) -> None:
        """Call `function(*task)` for every task, in any order. The first error ends the run."""
        from tqdm.auto import tqdm

        with tqdm(total=len(tasks), desc=name, unit="part", leave=False) as bar:
            if self.count == 1:
                for task in tasks:
                    function(*task)
                    bar.update()
                return
            if self.pool is None:
                self.pool = ProcessPoolExecutor(self.count, mp_context=get_context("spawn"))
            futures = [self.pool.submit(function, *task) for task in tasks]
            try:
                for future in futures:
                    future.result()
                    bar.update()
            except BrokenProcessPool as error:
                raise _died(name) from error
            finally:
                for future in futures:
                    future.cancel()


def _died(name: str) -> UserError:
    return UserError(
        f"a worker process died during '{name}' (out of memory?); finished parts are kept, "
        "run the same command again, with fewer --num-workers if memory is short"
    )
