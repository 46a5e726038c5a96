"""A serving process's work inside this process, without HTTP: for asking again what was asked in the past."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from everloop.clock import Clock, wall
from everloop.errors import NotReady
from everloop.predictions import LogWriter, PredictionRecord
from everloop.serving.answer import Answerer, Question
from everloop.serving.live import Loader
from everloop.serving.records import Worker
from everloop.serving.watch import Watcher
from everloop.storage import Blobs

__all__ = ["LocalServer", "Question"]

_AT_ONCE = 256


class LocalServer:
    """Answers and logs as a serving process of a simulated workspace does; used by one thread, in a `with` block."""

    def __init__(self, home: Path, blobs: Blobs, clock: Clock, *, model_python: str = "") -> None:
        folder = home / "serving"
        writer = LogWriter.claim(folder)
        self._answerer = Answerer(writer, clock, is_simulation=True, is_durable=False)
        now = wall()
        self._watcher = Watcher(
            Loader(folder, blobs, clock, _AT_ONCE, model_python=model_python),
            self._answerer,
            Worker(writer.writer, os.getpid(), None, now, now, "in process", 0),
        )
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self._runner:
            self._runner.run(self._watcher.close())

    def follow(self) -> None:
        """Load the routes in force and say so, as a rollout waits for it."""
        self._runner.run(self._watcher.reload())

    def ask(self, endpoint: str, questions: Sequence[Question]) -> list[PredictionRecord]:
        """What is answered to each question, a request of its own, in their order; logged.

        Raises NotReady when the endpoint has no version that could be loaded, StorageFailed when the log cannot be
        written.
        """
        found: list[PredictionRecord] = []
        for start in range(0, len(questions), _AT_ONCE):
            found += self._runner.run(self._ask(endpoint, questions[start : start + _AT_ONCE]))
        return found

    async def _ask(self, endpoint: str, questions: Sequence[Question]) -> list[PredictionRecord]:
        live = self._watcher.table.endpoints.get(endpoint)
        if live is None:
            why = self._watcher.not_ready or "there is no such endpoint. Apply a loop file that declares it."
            raise NotReady(f"endpoint {endpoint!r} cannot answer: {why}")
        started_ns = time.perf_counter_ns()
        answers = await asyncio.gather(
            *(self._answerer.answer(live, question, started_ns=started_ns) for question in questions)
        )
        records = [answer.record for answer in answers]
        await self._answerer.log(records, live.route.log)
        return records
