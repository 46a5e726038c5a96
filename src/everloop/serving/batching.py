"""Micro-batching without a timer: a batch is what arrived while the last one ran.

Nearly all of a small model's time for one row is overhead that a batch pays once: 414 us for one text, 441 us
for 32 (TF-IDF and logistic regression). A single request starts at once; under load batches form by
themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Generic, TypeVar

from everloop.errors import NotReady

Item = TypeVar("Item")
Result = TypeVar("Result")

# While the loop turns so often, answers go out and what their clients ask next comes in. Without it two halves of the
# clients take turns in batches of half the size: 20 to 25 % more CPU a request at 4 and at 32 connections.
_TURNS = 5
MOST_AT_ONCE = 256  # beyond it a row costs as much in a batch, and the first of the batch waits for the last


class TooLate(Exception):  # noqa: N818  (what came of an item, no error to read)
    """The item's time was over before it had a result."""


class Batcher(Generic[Item, Result]):
    """Runs `work` on lists of items in a thread of its own; asked from one event loop.

    `work` gives one result an item. When it raises, all who wait for that batch get its error. `at_once`, where given, is
    asked first, on the event loop: it gives the results of a batch that takes less than a hand-over to the thread does,
    None of any other. It must not raise. A batch has `most` items at most; with `wait_s`, a smaller one waits so long for
    more of them.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], list[Result]],
        *,
        limit: int,
        name: str,
        at_once: Callable[[list[Item]], list[Result] | None] | None = None,
        most: int = MOST_AT_ONCE,
        wait_s: float = 0.0,
    ) -> None:
        self._work = work
        self._at_once = at_once
        self._limit = limit
        self._most = most
        self._wait_s = wait_s
        self._waiting: list[_Waiting[Item, Result]] = []
        self._batch: list[_Waiting[Item, Result]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"batch-{name}")
        self._company: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._expiry_s = inf
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_on_loop = False
        """Whether the last batch was answered there, and not in the thread."""

    @property
    def room(self) -> int:
        """How many more items may wait."""
        return self._limit - len(self._waiting) - len(self._batch)

    def submit(self, item: Item, *, until_s: float = inf) -> asyncio.Future[Result]:
        """The result to come. Raises NotReady when the queue is full.

        An item that has no result when `time.perf_counter` says `until_s` gets TooLate, and is not asked any more if it
        still waits.
        """
        if self.room <= 0:
            raise NotReady(f"{self._limit} requests wait already, which is the limit. Try again in a second.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future, until_s))
        if self._idle.is_set():
            self._idle.clear()
            if self._is_alone:
                self._wait_for_company(until_s)
            else:
                # not at once: other requests that this turn of the loop has already read shall join
                loop.call_soon(self._start)
        elif self._company is not None:
            if not self._is_alone:
                self._company.cancel()
                self._company = None
                loop.call_soon(self._start)
        elif until_s < self._expiry_s and self._batch:
            self._expire_at(until_s)
        return future

    async def close(self) -> None:
        """Finish what waits, then end the thread; who submits after that is refused."""
        await self._idle.wait()
        self._limit = 0  # else it would wait for ever
        self._thread.shutdown(wait=False)

    @property
    def _is_alone(self) -> bool:
        """Whether what waits is to wait for company."""
        return self._wait_s > 0 and len(self._waiting) < self._most

    def _wait_for_company(self, until_s: float) -> None:
        wait_s = min(self._wait_s, max(0.0, until_s - time.perf_counter()))
        self._company = asyncio.get_running_loop().call_later(wait_s, self._start)

    def _start(self) -> None:
        self._company = None
        now_s = time.perf_counter()
        taken, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        batch = self._batch = [one for one in taken if not _is_over(one, now_s)]
        items = [item for item, _, _ in batch]
        results = [] if not items else None if self._at_once is None else self._at_once(items)
        self.is_on_loop = results is not None
        if results is not None:
            self._batch = []
            for (_, future, _), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
            self._start_after(bool(self._waiting))  # others get their turn of the loop first
            return
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._work, items)
        work.add_done_callback(self._deliver)
        self._expire_next()

    def _deliver(self, work: asyncio.Future[list[Result]]) -> None:
        batch, self._batch = self._batch, []
        self._expire_at(inf)
        error = work.exception()
        for index, (_, future, _) in enumerate(batch):
            if future.done():
                continue  # whoever waited was cancelled, or its time was over
            if error is None:
                future.set_result(work.result()[index])
            else:
                future.set_exception(error)
        self._start_after(_TURNS)

    def _start_after(self, turns: int) -> None:
        """The next batch, once the loop has turned so often; nothing if nothing waits by then."""
        if turns:
            asyncio.get_running_loop().call_soon(self._start_after, turns - 1)
        elif not self._waiting:
            self._idle.set()
        elif self._is_alone:
            self._wait_for_company(min(until_s for _, _, until_s in self._waiting))
        else:
            self._start()

    def _expire(self) -> None:
        """While the thread works: whose time is over hears of it now."""
        now_s = time.perf_counter()
        self._waiting = [one for one in self._waiting if not _is_over(one, now_s)]
        for one in self._batch:
            _is_over(one, now_s)
        self._expire_next()

    def _expire_next(self) -> None:
        every = (*self._batch, *self._waiting)
        self._expire_at(min((until_s for _, future, until_s in every if not future.done()), default=inf))

    def _expire_at(self, until_s: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._expiry_s = until_s
        if until_s < inf:
            delay_s = max(0.0, until_s - time.perf_counter())
            self._expiry = asyncio.get_running_loop().call_later(delay_s, self._expire)


_Waiting = tuple[Item, "asyncio.Future[Result]", float]


def _is_over(one: _Waiting[Item, Result], now_s: float) -> bool:
    """Whether nobody waits for the item any more; if that is because its time is over, whoever waited is told."""
    _, future, until_s = one
    if until_s <= now_s and not future.done():
        future.set_exception(TooLate())
    return future.done()
