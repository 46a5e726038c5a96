"""A serving process's life beside its requests: notice new routes, load, switch, say how it does."""

from __future__ import annotations

import asyncio
import gc
import logging
from pathlib import Path

import msgspec

from everloop.clock import elapsed_s, wall
from everloop.serving.answer import Answerer
from everloop.serving.files import remove_worker, write_worker
from everloop.serving.live import LiveTable, Loader
from everloop.serving.records import Worker

logger = logging.getLogger(__name__)

WATCH_PERIOD_S = 0.1
REPORT_PERIOD_S = 1.0
RETRY_PERIOD_S = 2.0


class Watcher:
    """Keeps `table` what the route table says, as far as its releases can be loaded."""

    def __init__(self, loader: Loader, answerer: Answerer, worker: Worker) -> None:
        self._loader = loader
        self._answerer = answerer
        self._worker = worker
        self.table = LiveTable()
        self._has_loaded = False
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def not_ready(self) -> str | None:
        """Why not all endpoints answer by the newest routes; None when they do."""
        if not self._has_loaded:
            return "the releases are being loaded. Try again in a second."
        if self.table.problems:
            return _in_words(self.table.problems)
        if not self.table.endpoints:
            return "nothing is live yet. Release a model version and start a rollout on an endpoint."
        return None

    async def run(self) -> None:
        """Until cancelled; also while a release is loaded, the worker file shows that the process lives."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_routes())
            group.create_task(self._keep_reporting())

    async def close(self) -> None:
        """Finish all predictions that were begun, leave the log, take the worker file away."""
        for release in self.table.releases.values():
            await release.close()
        await asyncio.gather(*self._retiring)
        await self._answerer.close()
        remove_worker(self._loader.folder, self._worker.writer)

    async def _follow_routes(self) -> None:
        routes = self._loader.folder / "routes.json"
        seen = None
        loaded_s = elapsed_s()
        while True:
            stamp = _stamp(routes)
            must_retry = bool(self.table.problems) and elapsed_s() - loaded_s > RETRY_PERIOD_S
            if not self._has_loaded or stamp != seen or must_retry:
                before = frozenset(self.table.releases)
                await self.reload()
                if not before.issuperset(self.table.releases):
                    _keep_out_of_collections()
                seen, loaded_s = stamp, elapsed_s()
            await asyncio.sleep(WATCH_PERIOD_S)

    async def _keep_reporting(self) -> None:
        while True:
            self._report()
            await asyncio.sleep(REPORT_PERIOD_S)

    async def reload(self) -> None:
        """Load the routes in force, switch to them, and say so."""
        old = self.table
        self._answerer.arrivals = []
        new = await asyncio.to_thread(self._loader.load, old)
        new.catch_up(old, self._answerer.arrivals)
        self._answerer.arrivals = None
        for name, problem in new.problems.items():
            if old.problems.get(name) != problem:
                logger.error("%s: %s", name, problem)
        self.table, self._has_loaded = new, True
        for name, release in old.releases.items():
            if name not in new.releases:
                # what it was asked before this moment it still answers
                task = asyncio.create_task(release.close())
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)
        self._report()

    def _report(self) -> None:
        self._worker = msgspec.structs.replace(
            self._worker,
            epoch=self.table.epoch,
            seen_at=wall(),
            error=_in_words(self.table.problems) or None,
            paths={name: release.predictor.path for name, release in self.table.releases.items()},
        )
        try:
            write_worker(self._loader.folder, self._worker)
        except (
            OSError
        ) as error:  # a full disk: the log refuses predictions then, and rollouts wait for the epoch
            logger.error("the worker file cannot be written: %s", error)


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
