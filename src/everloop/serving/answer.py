"""One prediction, from its parsed request to its record: route, check, features, model, log.

Each part runs once and in this order. Only the model's own work leaves the event loop; nothing here opens a
transaction, compiles or reads a file.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime
from typing import Any

import msgspec

from everloop.clock import Clock, to_micros
from everloop.errors import Invalid, NotReady, StorageFailed
from everloop.ids import new_prediction_id
from everloop.serving.batching import Batcher
from everloop.serving.http import Refusal
from everloop.serving.live import Arrival, LiveEndpoint, LiveRelease
from everloop.serving.predictor import Failure
from everloop.serving.records import PredictionRecord, Variant
from everloop.serving.route import choose, shadows
from everloop.serving.segments import LogWriter
from everloop.serving.signature import FieldProblem

logger = logging.getLogger(__name__)


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked about one row."""

    inputs: dict[str, Any]
    key: str | int | None = None
    at: datetime | None = None
    replay: bool = False


class Answer(msgspec.Struct, frozen=True):
    """The record, and what the HTTP answer says beside it when it is no prediction."""

    record: PredictionRecord
    refusal: Refusal | None = None


class Asked(msgspec.Struct, frozen=True):
    """A question on its way to one variant."""

    id: str
    question: Question
    key: str | None
    at: datetime
    started_ns: int
    endpoint: LiveEndpoint
    variant: Variant
    shadow_of: str | None = None
    request: str | None = None

    @property
    def release(self) -> LiveRelease:
        return self.endpoint.releases[self.variant.release]

    def record(self, **result: Any) -> PredictionRecord:
        """The record of what came of it."""
        manifest = self.release.manifest
        given = {"features": {}, "output": None, "scores": {}, "error": None, **result}
        return PredictionRecord(
            id=self.id,
            endpoint=self.endpoint.route.endpoint,
            variant=self.variant.name,
            release=manifest.id,
            model=manifest.model,
            version=manifest.version,
            epoch=self.endpoint.epoch,
            at=to_micros(self.at),
            key=self.key,
            inputs=self.release.reader.logged(self.question.inputs),
            latency_us=(time.perf_counter_ns() - self.started_ns) // 1000,
            replay=self.question.replay,
            shadow_of=self.shadow_of,
            request=self.request,
            **given,
        )


class Answerer:
    """Answers questions and logs them; holds what outlives a request."""

    def __init__(self, writer: LogWriter, clock: Clock, *, is_simulation: bool, is_durable: bool) -> None:
        self.writer = writer
        self.clock = clock
        self._is_simulation = is_simulation
        self._syncing: Batcher[None, None] | None = None
        if is_durable:
            self._syncing = Batcher(self._sync, limit=1 << 30, name="log-sync")
        self._shadows: set[asyncio.Task[None]] = set()
        self.arrivals: list[Arrival] | None = None
        """What arrives while new releases are loaded, for their histories; None when none are."""

    async def answer(
        self, endpoint: LiveEndpoint, question: Question, *, started_ns: int, request: str | None = None
    ) -> Answer:
        """What came of the question; not logged yet. Shadows get their copy, which nobody waits for.

        `request` is shared by the rows of one HTTP request: they are dealt to one variant together.
        """
        prediction_id = new_prediction_id(self.writer.writer)
        key = None if question.key is None else str(question.key)
        at = self.clock.now() if question.at is None or self._time_problem(question.at) else question.at
        variant = choose(endpoint.route, key=key, request=request or prediction_id, inputs=question.inputs)
        asked = Asked(prediction_id, question, key, at, started_ns, endpoint, variant, request=request)
        copies: list[Asked] = []
        for mirrored in shadows(endpoint.route, prediction_id=prediction_id) if endpoint.route.shadow else ():
            copy = Asked(
                new_prediction_id(self.writer.writer),
                question,
                key,
                at,
                started_ns,
                endpoint,
                mirrored,
                shadow_of=prediction_id,
                request=request,
            )
            copies.append(copy)
        try:
            return await self._ask(asked)
        finally:  # only now, so that no shadow's model runs before the one that is waited for
            for copy in copies:
                task = asyncio.create_task(self._shadow(copy))
                self._shadows.add(task)
                task.add_done_callback(self._shadows.discard)

    async def log(self, records: list[PredictionRecord]) -> None:
        """Make the records survive a kill, or a power cut if so set. Raises StorageFailed."""
        self.writer.write(records)
        if self._syncing is not None:
            await self._syncing.submit(None)

    async def close(self) -> None:
        """Wait for the shadows, then leave the log."""
        while self._shadows:
            await asyncio.wait(self._shadows)
        if self._syncing is not None:
            await self._syncing.close()
        self.writer.close()

    async def _ask(self, asked: Asked) -> Answer:
        release, inputs = asked.release, asked.question.inputs
        values, problems = release.reader.read(inputs)
        if asked.question.at is not None and (problem := self._time_problem(asked.question.at)) is not None:
            problems.append(problem)
        if problems:
            return _refused(asked, problems)
        features: dict[str, tuple[int | float | str | None, int | None]] = {}
        try:
            for feature in release.features:
                found = feature.value(inputs.get(feature.view.entity), asked.at)
                values.append(found.value)
                as_of_us = None if found.as_of_at is None else to_micros(found.as_of_at)
                features[feature.view.name] = (found.value, as_of_us)
        except Invalid as error:
            return _failed(asked, "feature_failed", str(error), features=features)
        finally:
            self._observe(asked)
        try:
            result = await release.batcher.submit(values)
        except NotReady as error:
            return _failed(asked, "overloaded", str(error), features=features)
        if isinstance(result, Failure):
            return _failed(asked, "model_failed", f"{result.kind}: {result.text}", features=features)
        output, scores = result
        return Answer(asked.record(status="ok", output=output, scores=scores, features=features))

    def _observe(self, asked: Asked) -> None:
        """The row has happened, whatever the model makes of it: later requests see it in their past."""
        if asked.question.replay or asked.shadow_of is not None:
            return
        arrival = Arrival(asked.id, asked.endpoint.route.endpoint, asked.question.inputs, asked.key, asked.at)
        for history in asked.endpoint.histories:
            history.observe(arrival)
        if self.arrivals is not None:
            self.arrivals.append(arrival)

    def _time_problem(self, at: datetime) -> FieldProblem | None:
        if not self._is_simulation:
            return FieldProblem("at", "is only taken in a simulation; elsewhere the time is now")
        return (
            FieldProblem("at", "has no zone; write it like 2026-09-01T12:00:00Z")
            if at.tzinfo is None
            else None
        )

    async def _shadow(self, asked: Asked) -> None:
        asked = msgspec.structs.replace(asked, started_ns=time.perf_counter_ns())
        try:
            await self.log([(await self._ask(asked)).record])
        except StorageFailed as error:
            logger.error("shadow %s was not logged: %s", asked.id, error)

    def _sync(self, waiting: list[None]) -> list[None]:
        self.writer.sync()
        return waiting


def _refused(asked: Asked, problems: list[FieldProblem]) -> Answer:
    text = "; ".join(f"{problem.field} {problem.problem}" for problem in problems)
    record = asked.record(status="refused", error=text)
    message = f"the request does not fit the inputs of {record.model} version {record.version}: {text}."
    return Answer(record, Refusal(422, "invalid", message, fields=problems, prediction_id=asked.id))


_MESSAGES = {
    "overloaded": (503, "more requests wait than the limit allows. Try again in a second."),
    "model_failed": (
        500,
        "the model raised an error on this row. Its text is in the prediction log under this id.",
    ),
    "feature_failed": (
        500,
        "a feature raised an error on this row. Its text is in the prediction log under this id.",
    ),
}


def _failed(asked: Asked, code: str, text: str, **found: Any) -> Answer:
    status, message = _MESSAGES[code]
    record = asked.record(status="failed", error=f"{code}: {text}", **found)
    return Answer(record, Refusal(status, code, message, prediction_id=asked.id))
