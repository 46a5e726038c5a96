"""A serving process's life beside its requests: notice new routes, load, switch, say how it does."""

from __future__ import annotations

import asyncio
import gc
import logging
from pathlib import Path

import msgspec

from everloop.clock import elapsed_s, from_micros, wall
from everloop.errors import StorageFailed
from everloop.predictions import PredictionRecord
from everloop.serving.answer import Answerer
from everloop.serving.elsewhere import Elsewhere
from everloop.serving.files import remove_worker, workers, write_worker
from everloop.serving.live import Arrival, LiveRelease, LiveTable, Loader
from everloop.serving.records import Worker

logger = logging.getLogger(__name__)

WATCH_PERIOD_S = 0.1
REPORT_PERIOD_S = 1.0
RETRY_PERIOD_S = 2.0
CLOSE_WITHIN_S = 5.0
_AT_A_TIME = 200  # rows from elsewhere between two turns of the loop


class Watcher:
    """Keeps `table` what the route table says, as far as its releases can be loaded."""

    def __init__(self, loader: Loader, answerer: Answerer, worker: Worker) -> None:
        self._loader = loader
        self._answerer = answerer
        self.worker = worker
        self.table = LiveTable()
        self.has_loaded = asyncio.Event()
        self.left_behind = False
        self._all_were_ready = worker.of == 1
        self._elsewhere = Elsewhere(loader.folder, worker.writer)
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def not_ready(self) -> str | None:
        """Why not all endpoints answer by the newest routes; None when they do."""
        if not self.has_loaded.is_set():
            return "the releases are being loaded. Try again in a second."
        if self.table.problems:
            return _in_words(self.table.problems)
        if not self.table.endpoints:
            return "nothing is live yet. Release a model version and start a rollout on an endpoint."
        return None

    def others_not_ready(self) -> str | None:
        """Why not all processes that share this one's port answer; asked until they did once, for each says so itself."""
        if self._all_were_ready:
            return None
        group = [one for one in workers(self._loader.folder) if one.group == self.worker.group]
        ready = [one for one in group if one.epoch is not None and one.error is None]
        self._all_were_ready = len(ready) >= self.worker.of
        if self._all_were_ready:
            return None
        return f"{len(ready)} of {self.worker.of} serving processes have loaded everything. Try again in a second."

    async def run(self) -> None:
        """Until cancelled; also while a release is loaded, the worker file shows that the process lives."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_routes())
            group.create_task(self._keep_reporting())

    async def close(self) -> None:
        """Finish all predictions that were begun, leave the log, take the worker file away.

        A model that does not come back within `CLOSE_WITHIN_S` is `left_behind`.
        """
        closing = {asyncio.create_task(self._let_go(one)) for one in self.table.releases} | self._retiring
        if closing:
            _, left = await asyncio.wait(closing, timeout=CLOSE_WITHIN_S)
            for release in self.table.releases if left else ():
                release.predictor.close()
            self.left_behind = bool(left)
        self._elsewhere.close()
        await self._answerer.close()
        remove_worker(self._loader.folder, self.worker.writer)

    async def _follow_routes(self) -> None:
        routes = self._loader.folder / "routes.json"
        seen = None
        loaded_s = elapsed_s()
        while True:
            stamp = _stamp(routes)
            must_retry = bool(self.table.problems) and elapsed_s() - loaded_s > RETRY_PERIOD_S
            if not self.has_loaded.is_set() or stamp != seen or must_retry:
                before = frozenset(self.table.releases)
                await self.reload()
                if not before.issuperset(self.table.releases):
                    _keep_out_of_collections()
                seen, loaded_s = stamp, elapsed_s()
            elif self.table.with_histories:
                await self._look_elsewhere()
            await asyncio.sleep(WATCH_PERIOD_S)

    async def _look_elsewhere(self) -> None:
        """Show features what other processes answered since the last look."""
        table = self.table
        for number, arrival in enumerate(await self._arrived_elsewhere(table)):
            table.observe(arrival)
            if number % _AT_A_TIME == _AT_A_TIME - 1:
                await asyncio.sleep(0)

    async def _arrived_elsewhere(self, table: LiveTable) -> list[Arrival]:
        records = await asyncio.to_thread(self._elsewhere.read, table.with_histories)
        return [_arrival(one) for one in records if _has_happened(one)]

    async def _keep_reporting(self) -> None:
        while True:
            try:
                self._answerer.writer.roll()
            except StorageFailed as error:
                logger.error("%s", error)
            self._report()
            await asyncio.sleep(REPORT_PERIOD_S)

    async def reload(self) -> None:
        """Load the routes in force, switch to them, and say so."""
        old = self.table
        self._answerer.arrivals = []
        if not old.with_histories:
            self._elsewhere.close()  # what was logged since it was noted is of no use to anybody
        await asyncio.to_thread(self._elsewhere.look)
        new = await asyncio.to_thread(self._loader.load, old)
        elsewhere = await self._arrived_elsewhere(new) if new.with_histories else []
        new.catch_up(old, self._answerer.arrivals, elsewhere)
        self._answerer.arrivals = None
        for name, problem in new.problems.items():
            if old.problems.get(name) != problem:
                logger.error("%s: %s", name, problem)
        self.table = new
        self.has_loaded.set()
        kept = new.releases
        for release in old.releases:
            if release not in kept:
                # what it was asked before this moment it still answers
                task = asyncio.create_task(self._let_go(release))
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)
        self._report()

    async def _let_go(self, release: LiveRelease) -> None:
        await self._answerer.settle()
        await release.close()

    def _report(self) -> None:
        self.worker = msgspec.structs.replace(
            self.worker,
            epoch=self.table.epoch,
            seen_at=wall(),
            error=_in_words(self.table.problems) or None,
            problems=self.table.problems,
            paths={release.manifest.id: release.predictor.path for release in self.table.releases},
            unlogged=dict(self._answerer.unlogged),
            log_error=self._answerer.log_error,
        )
        try:
            write_worker(self._loader.folder, self.worker)
        except (
            OSError
        ) as error:  # a full disk: the log refuses predictions then, and rollouts wait for the epoch
            logger.error("the worker file cannot be written: %s", error)


def _has_happened(record: PredictionRecord) -> bool:
    return record.status != "refused" and not record.replay and record.shadow_of is None


def _arrival(record: PredictionRecord) -> Arrival:
    return Arrival(
        record.id, record.endpoint, record.inputs, record.key, from_micros(record.at), is_logged=True
    )


def _keep_out_of_collections() -> None:
    """Let the garbage collector look at what is loaded once, now, instead of with every full collection.

    Libraries and models are some 150,000 objects: 80 ms for each 20,000 requests, in which nobody is answered.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _in_words(problems: dict[str, str]) -> str:
    return "; ".join(f"{name}: {problem}" for name, problem in problems.items())


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Changes whenever the file is replaced, even twice within the clock's resolution (another inode)."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
