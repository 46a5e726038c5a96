"""When copies of requests are answered: beside no answer, some all the same, none once the line is full."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from everloop.predictions import log
from everloop.serving import Limits
from everloop.serving.mirroring import LIMIT, Mirror
from tests.serving.asgi import InProcess
from tests.serving.home import go_live
from tests.serving.records import route


class Line:
    """A mirror whose work notes what it was given."""

    def __init__(self, work: Callable[[list[int]], Awaitable[None]] | None = None) -> None:
        self.answered: list[list[int]] = []
        self.work = work
        self.mirror = Mirror(self._work, holds_loop=lambda _: True)
        self.enough = asyncio.Event()
        self.n_enough = 0

    async def _work(self, copies: list[int]) -> None:
        if self.work is not None:
            await self.work(copies)
        self.answered.append(copies)
        if sum(map(len, self.answered)) >= self.n_enough:
            self.enough.set()

    async def settle(self) -> None:
        await asyncio.wait_for(self.mirror.settle(), 5)

    async def has_answered(self, n: int) -> None:
        self.n_enough = n
        await asyncio.wait_for(self.enough.wait(), 10)

    async def turns(self, n: int = 10) -> list[list[int]]:
        for _ in range(n):
            await asyncio.sleep(0)
        return self.answered


def test_copies_wait_until_no_answer_is_under_way() -> None:
    async def story() -> None:
        line = Line(lambda _: asyncio.sleep(0.001))
        line.mirror.put(0)
        await line.settle()  # it took so long that the next may wait for ten times as long
        line.mirror.begin()
        line.mirror.begin()
        line.mirror.put(1)
        assert await line.turns() == [[0]]
        line.mirror.end()
        assert await line.turns() == [[0]], "one is still under way"
        line.mirror.end()
        await line.settle()
        assert line.answered == [[0], [1]]

    asyncio.run(story())


def test_where_it_is_never_quiet_copies_are_answered_all_the_same_and_a_few_at_a_time() -> None:
    async def story() -> None:
        line = Line()
        line.mirror.begin()
        for number in range(9):
            line.mirror.put(number)
        await line.has_answered(9)
        assert line.answered == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]

    asyncio.run(story())


def test_they_get_a_tenth_of_the_time_where_it_is_never_quiet() -> None:
    async def story() -> None:
        line = Line(lambda _: asyncio.sleep(0.02))
        line.mirror.begin()
        for number in range(8):
            line.mirror.put(number)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await line.has_answered(8)
        assert loop.time() - began_s >= 0.02 + 9 * 0.02

    asyncio.run(story())


def test_a_full_line_takes_no_more() -> None:
    async def story() -> None:
        line = Line()
        line.mirror.begin()
        assert all(line.mirror.put(number) for number in range(LIMIT))
        assert not line.mirror.put(LIMIT)
        await line.settle()
        assert sum(map(len, line.answered)) == LIMIT

    asyncio.run(story())


def test_to_settle_is_to_answer_what_waits_now_whatever_comes_meanwhile() -> None:
    async def story() -> None:
        line = Line()

        async def more(copies: list[int]) -> None:
            line.mirror.put(copies[-1] + 100)

        line.work = more
        line.mirror.begin()
        line.mirror.put(1)
        await line.settle()
        assert line.answered[0] == [1]

    asyncio.run(story())


def test_copies_that_raise_keep_no_others_from_being_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async def raises(copies: list[int]) -> None:
            if 0 in copies:
                raise RuntimeError("broken")

        line = Line(raises)
        line.mirror.put(0)
        await line.settle()
        line.mirror.put(1)
        await line.settle()
        assert line.answered == [[1]]

    with caplog.at_level(logging.ERROR):
        asyncio.run(story())
    assert "1 mirrored requests were not answered" in caplog.text


def test_a_copy_that_waits_is_answered_before_its_version_is_let_go(home: Path) -> None:
    go_live(home, ("control", 100), shadow=route(("canary", 100)).variants)
    with InProcess(home) as app:
        mirror = app._app._answerer._mirror
        mirror._took_s = 60.0  # copies may wait for ten minutes
        mirror.begin()
        app.post("/endpoints/category/predict", {"inputs": {"title": "a fridge"}})
        go_live(home, ("control", 100))
        app.reload()
        app.run(asyncio.sleep(0.5))
        table = log.read(home / "serving", columns=["variant", "status"]).to_pylist()
        mirror.end()
    assert {(one["variant"], one["status"]) for one in table} == {("control", "ok"), ("canary", "ok")}


def test_a_copy_of_what_is_under_way_is_answered_before_its_version_is_let_go(home: Path) -> None:
    slowly = Limits(wait_ms=300.0)
    go_live(home, ("control", 100), shadow=route(("canary", 100)).variants, limits=slowly)
    with InProcess(home) as app:

        async def story() -> None:
            body = b'{"inputs": {"title": "a fridge"}}'
            asked = asyncio.create_task(app.ask("POST", "/endpoints/category/predict", body, {}))
            await asyncio.sleep(0)
            go_live(home, ("control", 100), limits=slowly)
            await app._watcher.reload()
            await asyncio.sleep(0.1)
            assert not asked.done()
            await asked

        app.run(story())
    table = log.read(home / "serving", columns=["variant", "status"]).to_pylist()
    assert {(one["variant"], one["status"]) for one in table} == {("control", "ok"), ("canary", "ok")}
