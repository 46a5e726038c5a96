from __future__ import annotations

import asyncio
import threading
import time

import pytest

from everloop.errors import NotReady
from everloop.serving.batching import Batcher, TooLate


class Work:
    """Doubles numbers; runs a batch only when told to, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Semaphore(0)

    def __call__(self, items: list[int]) -> list[int]:
        self.go.acquire()
        self.batches.append(items)
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]


def test_a_batch_is_what_arrived_while_the_last_one_ran() -> None:
    async def story() -> None:
        work = Work()
        batcher = Batcher(work, limit=100, name="test")
        first = [batcher.submit(1), batcher.submit(2)]
        await asyncio.sleep(0)
        later = [batcher.submit(number) for number in (3, 4, 5)]
        work.go.release(2)
        assert await asyncio.gather(*first, *later) == [2, 4, 6, 8, 10]
        assert work.batches == [[1, 2], [3, 4, 5]]
        await batcher.close()

    asyncio.run(story())


def test_a_full_queue_says_so_and_takes_more_when_there_is_room() -> None:
    async def story() -> None:
        work = Work()
        batcher = Batcher(work, limit=2, name="test")
        waiting = [batcher.submit(1), batcher.submit(2)]
        with pytest.raises(NotReady, match="2 requests wait"):
            batcher.submit(3)
        await asyncio.sleep(0)
        assert batcher.room == 0  # those in work count too: memory is bounded
        work.go.release(2)
        await asyncio.gather(*waiting)
        assert await batcher.submit(4) == 8
        await batcher.close()

    asyncio.run(story())


def test_an_error_reaches_all_of_its_batch_and_none_after() -> None:
    async def story() -> None:
        work = Work()
        batcher = Batcher(work, limit=9, name="test")
        work.go.release(2)
        results = await asyncio.gather(batcher.submit(12), batcher.submit(13), return_exceptions=True)
        assert [str(result) for result in results] == ["13", "13"]
        assert await batcher.submit(1) == 2
        await batcher.close()

    asyncio.run(story())


def test_one_who_stops_waiting_holds_nobody_up() -> None:
    async def story() -> None:
        work = Work()
        batcher = Batcher(work, limit=9, name="test")
        gone, stays = batcher.submit(1), batcher.submit(2)
        gone.cancel()
        work.go.release()
        assert await stays == 4
        await batcher.close()

    asyncio.run(story())


def test_closing_finishes_what_waits_and_leaves_nobody_waiting_after_it() -> None:
    async def story() -> None:
        work = Work()
        batcher = Batcher(work, limit=9, name="test")
        waiting = [batcher.submit(1)]
        closing = asyncio.create_task(batcher.close())
        work.go.release()
        await closing
        assert [future.result() for future in waiting] == [2]
        with pytest.raises(NotReady):
            batcher.submit(2)

    asyncio.run(story())


def test_a_batch_has_at_most_256_items() -> None:
    async def story() -> None:
        work = Work()
        batcher = Batcher(work, limit=1000, name="test")
        work.go.release(3)
        await asyncio.gather(*(batcher.submit(number) for number in range(100, 700)))
        assert [len(batch) for batch in work.batches] == [256, 256, 88]
        await batcher.close()

    asyncio.run(story())


def test_a_batch_that_is_quick_is_answered_without_the_thread() -> None:
    async def story() -> None:
        work = Work()
        asked: list[list[int]] = []

        def at_once(items: list[int]) -> list[int] | None:
            asked.append(items)
            return [2 * item for item in items] if len(items) < 3 else None

        batcher = Batcher(work, limit=100, name="test", at_once=at_once)
        assert await asyncio.gather(*[batcher.submit(number) for number in (1, 2)]) == [2, 4]
        assert work.batches == []
        together = [batcher.submit(number) for number in (3, 4, 5)]
        work.go.release()
        assert await asyncio.gather(*together) == [6, 8, 10]
        assert asked == [[1, 2], [3, 4, 5]]
        assert work.batches == [[3, 4, 5]]
        await batcher.close()

    asyncio.run(story())


def test_quick_batches_leave_the_loop_to_others_in_between() -> None:
    async def story() -> None:
        turns: list[int] = []

        def at_once(items: list[int]) -> list[int]:
            turns.append(len(items))
            return items

        batcher = Batcher(Work(), limit=1000, name="test", at_once=at_once)
        waiting = [batcher.submit(number) for number in range(600)]
        asyncio.get_running_loop().call_soon(turns.append, 0)
        waiting += [batcher.submit(600) for _ in range(400)]
        with pytest.raises(NotReady, match="1000 requests wait"):
            batcher.submit(0)
        assert await asyncio.gather(*waiting) == [*range(600), *[600] * 400]
        await batcher.close()
        assert turns == [256, 0, 256, 256, 232]

    asyncio.run(story())


def test_an_item_whose_time_is_over_hears_of_it_at_once_and_is_not_asked_any_more() -> None:
    async def story() -> None:
        work = Work()
        batcher = Batcher(work, limit=3, name="test")
        in_work = batcher.submit(1, until_s=time.perf_counter() + 0.2)
        await asyncio.sleep(0)
        soon, later = batcher.submit(2, until_s=time.perf_counter() + 0.05), batcher.submit(3)
        with pytest.raises(NotReady):
            batcher.submit(4)
        with pytest.raises(TooLate):
            await soon
        assert not in_work.done()
        assert batcher.room == 1  # who is told no more waits makes room
        with pytest.raises(TooLate):
            await in_work
        work.go.release(2)
        assert await later == 6
        assert work.batches == [[1], [3]]
        await batcher.close()

    asyncio.run(story())


def test_an_item_whose_time_was_over_before_the_batch_began_is_not_asked() -> None:
    async def story() -> None:
        batcher = Batcher(Work(), limit=9, name="test")
        with pytest.raises(TooLate):
            await batcher.submit(1, until_s=time.perf_counter() - 1)
        await batcher.close()

    asyncio.run(story())


def test_a_small_batch_waits_for_company_where_that_is_asked_and_a_full_one_does_not() -> None:
    async def story() -> None:
        work = Work()
        work.go.release(9)
        batcher = Batcher(work, limit=99, name="test", most=3, wait_s=0.1)
        first = batcher.submit(1)
        await asyncio.sleep(0.01)
        assert [*await asyncio.gather(first, batcher.submit(2))] == [2, 4]
        begun = time.perf_counter()
        assert await asyncio.gather(*[batcher.submit(number) for number in (3, 4, 5)]) == [6, 8, 10]
        assert time.perf_counter() - begun < 0.1
        assert await batcher.submit(6) == 12
        assert work.batches == [[1, 2], [3, 4, 5], [6]]
        await batcher.close()

    asyncio.run(story())
