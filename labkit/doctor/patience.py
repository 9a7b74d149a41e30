"""Wait for an answer, and not for ever: a dead server or disk must not make anyone wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Asked(Generic[T]):
    """A question that is being answered by a thread of its own.

    The thread is left behind when nobody waits any longer: it holds nothing, and a process
    may end all the same.
    """

    def __init__(self, question: Callable[[], T]) -> None:
        self._question = question
        self._answer: T | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = self._question()
        except Exception as error:
            self._error = error

    def wait(self, seconds: float) -> T:
        """The answer.  Raises what the question raised, and TimeoutError when it is too late."""
        self._thread.join(max(seconds, 0))
        if self._thread.is_alive():
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]  # None is T's own here
