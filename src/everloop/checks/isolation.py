"""Runs a user's code in a process of its own, so that what hangs is killed and what crashes takes nothing with it."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

from threadpoolctl import threadpool_limits

R = TypeVar("R")

# A process forked from one with threads is safe where all that it does is compute. macOS' own libraries are not.
IS_KILLABLE = sys.platform == "linux"


class Ended(Exception):  # noqa: N818  (says what happened to the process)
    """The process ended without an answer; the text says how."""


def apart(work: Callable[[], R], *, timeout_s: float) -> R:
    """What the work returns, computed in a forked process, which is killed after `timeout_s`.

    What the work changes in memory stays there. Where forking is not safe it runs here and has no limit.

    Raises
    ------
    Ended
        It took too long and was killed, or its process died.
    """
    if not IS_KILLABLE:
        return work()
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(work, sending), daemon=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork beside threads
        process.start()
    sending.close()
    try:
        if not receiving.poll(timeout_s):
            raise Ended(f"It was still running after {timeout_s:g} s and was killed")
        answer: R = receiving.recv()
    except EOFError as error:
        process.join()
        raise Ended(_death(process.exitcode)) from error
    else:
        return answer
    finally:
        receiving.close()
        process.kill()
        process.join()


def _answer(work: Callable[[], R], sending: Connection) -> None:
    with threadpool_limits(1):  # a thread pool of OpenMP that was forked waits for threads that are not there
        sending.send(work())


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"Its process died of {signal.Signals(-code).name}"
    return f"Its process ended with code {code} before it had answered"
