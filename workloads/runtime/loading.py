"""Loading: batches made in a thread, ahead of their use, while the framework computes on the one before."""

import queue
import threading
from typing import Any, Callable, Iterable


class Loader:
    """Makes what is wanted, one after the other; at most three are in memory: in use, waiting, being made.

    The thread runs on this process's cores. What goes wrong in it is raised by the `next` that it was made for.
    """

    def __init__(self, make: Callable[[Any], Any], wanted: Iterable[Any]) -> None:
        self._made: "queue.Queue[Any]" = queue.Queue(1)
        self._closed = False
        self._thread = threading.Thread(target=self._work, args=(make, wanted), daemon=True)
        self._thread.start()

    def next(self) -> Any:
        """The next one; waits until it is made."""
        made = self._made.get()
        if isinstance(made, _Failed):
            raise made.error
        return made

    def close(self) -> None:
        """Ends the thread."""
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
        except BaseException as error:  # noqa: BLE001  it is raised where the batch is wanted
            self._made.put(_Failed(error))


class _Failed:
    def __init__(self, error: BaseException) -> None:
        self.error = error
