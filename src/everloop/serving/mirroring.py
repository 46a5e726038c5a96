"""When copies of requests are answered: while nobody waits for an answer.

A copy that ran as soon as its request was answered would make the next request wait. Copies wait in line instead until no
answer is under way, and are answered a few at a time. Where it never gets quiet they are given a tenth of the time, so
that there is something to compare; a copy that finds the line full is shed, which its record says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

LIMIT = 1_024
_ON_LOOP = 4  # they hold the loop up; one by one they cost more, and the line filled at 60 % load
_IN_THREAD = 32  # a model that is asked in a thread takes hardly longer for 32 rows than for one
_SHARE = 0.1


class Mirror(Generic[Item]):
    """Copies that wait, and the answers that are under way. `work` answers some of them; `holds_loop` says whether it
    takes the event loop's time to answer one.
    """

    def __init__(
        self, work: Callable[[list[Item]], Awaitable[None]], *, holds_loop: Callable[[Item], bool]
    ) -> None:
        self._work = work
        self._holds_loop = holds_loop
        self._waiting: deque[Item] = deque()
        self._answering = 0
        self._calm: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._took_s = 0.0
        self._n_asked = self._n_done = 0
        self._settling: deque[tuple[int, asyncio.Future[None]]] = deque()

    def begin(self) -> None:
        """An answer is under way."""
        self._answering += 1

    def end(self) -> None:
        """It is there."""
        self._answering -= 1
        if not self._answering and self._calm is not None:
            self._go_on()

    def put(self, copy: Item) -> bool:
        """Whether there is room for it."""
        if len(self._waiting) >= LIMIT:
            return False
        self._waiting.append(copy)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return True

    async def settle(self) -> None:
        """Answer at once what waits now."""
        if self._task is None:
            return
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settling.append((self._n_done + len(self._waiting) + self._n_asked, settled))
        self._go_on()
        await settled

    async def _run(self) -> None:
        while self._waiting:
            await self._until_quiet()
            most = _ON_LOOP if self._holds_loop(self._waiting[0]) else _IN_THREAD
            some = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._n_asked, began_s = len(some), time.perf_counter()
            try:
                await self._work(some)
            except Exception:
                logger.exception("%d mirrored requests were not answered", len(some))
            self._took_s = time.perf_counter() - began_s
            self._n_done, self._n_asked = self._n_done + len(some), 0
            while self._settling and self._settling[0][0] <= self._n_done:
                _resolve(self._settling.popleft()[1])
        self._task = None

    async def _until_quiet(self) -> None:
        """No answer is under way, or it was not quiet for so long that copies may have their share of the time."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._took_s * (1 / _SHARE - 1)
        await asyncio.sleep(0)  # requests that this turn of the loop has read come first
        while self._answering and not self._settling and loop.time() < until_s:
            self._calm = loop.create_future()
            timer = loop.call_at(until_s, self._go_on)
            await self._calm
            timer.cancel()
            await asyncio.sleep(0)

    def _go_on(self) -> None:
        if self._calm is not None:
            _resolve(self._calm)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
