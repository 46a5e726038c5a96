"""A time limit in a process that is not the step's own: an alarm that interrupts Python code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from everloop import clock


class OutOfTime(BaseException):
    """The time is over. No Exception, so that what a step does after errors does not keep it going."""


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Raise OutOfTime in the calling code when it takes longer; only the main thread can be interrupted.

    Native code is interrupted when it comes back to Python, not before.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    begun = clock.elapsed_s()
    handler = signal.signal(signal.SIGALRM, _end)
    left_s, each_s = signal.setitimer(signal.ITIMER_REAL, seconds)  # somebody else may wait for an alarm
    try:
        yield
    finally:
        passed_s = clock.elapsed_s() - begun
        signal.setitimer(signal.ITIMER_REAL, max(left_s - passed_s, 0.001) if left_s else 0, each_s)
        signal.signal(signal.SIGALRM, handler)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise OutOfTime
