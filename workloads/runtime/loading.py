"""Loading: batches prepared in a thread while the framework computes on the one before."""

import queue
import threading
from typing import Any, Callable, Iterable


class Loader:
    """Makes items one after the other, ahead of their use.

    At most three are in memory: in use, waiting, and being made. The thread runs on this process's
    cores. Its errors are raised by the `next` call for the item that failed.
    """

    def __init__(self, make: Callable[[Any], Any], wanted: Iterable[Any]) -> None:
        self._made: "queue.Queue[Any]" = queue.Queue(1)
        self._closed = False
        self._thread = threading.Thread(target=self._work, args=(make, wanted), daemon=True)
        self._thread.start()

    def next(self) -> Any:
        """Return the next item; wait until it is made."""
        made = self._made.get()
        if isinstance(made, _Failed):
            raise made.error
        return made

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        while self._thread.is_alive():
            try:
                self._made.get(timeout=0.01)
            except queue.Empty:
                continue

    def _work(self, make: Callable[[Any], Any], wanted: Iterable[Any]) -> None:
        try:
            for each in wanted:
                if self._closed:
                    return
                self._made.put(make(each))
        # The error is raised in the thread that asks for the batch.
        except BaseException as error:  # noqa: BLE001
            self._made.put(_Failed(error))


class _Failed:
    def __init__(self, error: BaseException) -> None:
        self.error = error
