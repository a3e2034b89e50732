"""A few threads that take items in order; the first error, or the user's interrupt, stops all."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from omnicompose.merging.workspace import MemoryBudget

Item = TypeVar("Item")
WAIT_SECONDS = 0.2


class Stopped(Exception):  # noqa: N818  # no error: another thread's error is the one to report
    """Raised inside a worker to leave its work when another one has failed."""


class Pool:
    """Threads that share a memory budget."""

    def __init__(self, num_threads: int, budget: MemoryBudget) -> None:
        """Nothing runs yet."""
        self._num_threads, self._budget = num_threads, budget
        self.stop = threading.Event()

    def run(
        self,
        items: Sequence[Item],
        cost: Callable[[Item], int],
        make_worker: Callable[[], Callable[[Item], None]],
    ) -> None:
        """Work on all items; return when all are done.

        Args:
            items: handed out in order, so that files are walked from front to back.
            cost: bytes of memory that an item needs while it is worked on.
            make_worker: gives each thread its own function.

        Raises:
            BaseException: the first that a worker raised, or the caller's own interrupt.
        """
        queue = _Queue(items, cost, self._budget, self.stop)
        threads = [
            threading.Thread(target=queue.serve, args=(make_worker,), name=f"merge-{number}")
            for number in range(min(self._num_threads, len(items)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                # A join without end would not let the user's interrupt through.
                while thread.is_alive():
                    thread.join(WAIT_SECONDS)
        except BaseException:
            self.stop.set()
            for thread in threads:
                thread.join()
            raise
        if queue.error is not None:
            raise queue.error


class _Queue(Generic[Item]):
    def __init__(
        self,
        items: Sequence[Item],
        cost: Callable[[Item], int],
        budget: MemoryBudget,
        stop: threading.Event,
    ) -> None:
        self._items = iter(items)
        self._cost, self._budget, self._stop = cost, budget, stop
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def serve(self, make_worker: Callable[[], Callable[[Item], None]]) -> None:
        try:
            work = make_worker()
            while self._serve_one(work):
                pass
        except Stopped:
            pass
        except BaseException as error:  # Handed to the caller's thread.
            with self._lock:
                self.error = self.error or error
            self._stop.set()

    def _serve_one(self, work: Callable[[Item], None]) -> bool:
        # Memory is borrowed in the order of the items, so that a large one is never overtaken.
        with self._lock:
            item = next(self._items, None)
            if item is None or self._stop.is_set():
                return False
            size = self._cost(item)
            self._budget.take(size, self._stop)
        try:
            work(item)
        finally:
            self._budget.give_back(size)
        return True
