"""One prediction, from its parsed request to its record: route, check, features, model, log.

Each part runs once and in this order. Only the model's own work leaves the event loop; nothing here opens a
transaction, compiles or reads a file.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from math import inf
from typing import Any

import msgspec

from everloop.clock import Clock, to_micros
from everloop.errors import Invalid, NotReady, StorageFailed
from everloop.explaining import Explanation
from everloop.ids import new_prediction_id
from everloop.predictions import Keeper, LogPolicy, LogWriter, PredictionRecord, uniform
from everloop.serving.batching import Batcher, TooLate
from everloop.serving.explain import Unexplained
from everloop.serving.http import Refusal
from everloop.serving.live import Arrival, LiveEndpoint, LiveRelease
from everloop.serving.mirroring import Mirror
from everloop.serving.predictor import Failure
from everloop.serving.records import Variant
from everloop.serving.route import PINNED, assign, is_placed, shadows
from everloop.serving.signature import FieldProblem

logger = logging.getLogger(__name__)


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked about one row."""

    inputs: dict[str, Any]
    key: str | int | None = None
    at: datetime | None = None
    replay: bool = False
    version: int | None = None
    explain: bool = False


class Answer(msgspec.Struct, frozen=True):
    """The record, what the HTTP answer says beside it when it is no prediction, and why it is this one, if that was asked."""

    record: PredictionRecord
    refusal: Refusal | None = None
    explanation: Explanation | Unexplained | None = None


class Asked(msgspec.Struct, frozen=True):
    """A question on its way to one variant."""

    id: str
    question: Question
    key: str | None
    at: datetime
    started_ns: int
    endpoint: LiveEndpoint
    variant: Variant
    within_ms: float
    assigned: str
    shadow_of: str | None = None
    request: str | None = None

    @property
    def release(self) -> LiveRelease:
        return self.endpoint.releases[self.variant.release]

    @property
    def keeper(self) -> Keeper | None:
        """How its inputs are kept; None: as they are."""
        return self.endpoint.keepers.get(self.variant.release)

    def record(self, **result: Any) -> PredictionRecord:
        """The record of what came of it."""
        manifest = self.release.manifest
        given = {"features": {}, "output": None, "scores": {}, "error": None, **result}
        inputs, key, route = self.release.reader.logged(self.question.inputs), self.key, self.endpoint.route
        if (keeper := self.keeper) is not None:
            inputs, given["features"] = keeper.inputs(inputs), keeper.features(given["features"])
            if key is not None and self.question.key is None and route.key is not None:
                key = keeper.key(route.key, key)
        policy = route.log
        return PredictionRecord(
            id=self.id,
            endpoint=route.endpoint,
            variant=self.variant.name,
            release=manifest.id,
            model=manifest.model,
            version=manifest.version,
            epoch=self.endpoint.epoch,
            at=to_micros(self.at),
            key=key,
            inputs=inputs,
            latency_us=(time.perf_counter_ns() - self.started_ns) // 1000,
            replay=self.question.replay,
            shadow_of=self.shadow_of,
            request=self.request,
            probability=policy.sample if given["status"] == "ok" else policy.sample_failed,
            assigned=self.assigned,
            **given,
        )


class Era:
    """The answers that were begun between two moments, and before."""

    def __init__(self, before: Era | None = None) -> None:
        self._before = before
        self._under_way = 0
        self._is_over = asyncio.Event()
        self._is_over.set()

    def begin(self) -> None:
        self._under_way += 1
        self._is_over.clear()

    def end(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._is_over.set()

    async def over(self) -> None:
        """All of them are there. None may begin any more."""
        if self._before is not None:
            await self._before.over()
            self._before = None
        await self._is_over.wait()


class Answerer:
    """Answers questions and logs them; holds what outlives a request."""

    def __init__(self, writer: LogWriter, clock: Clock, *, is_simulation: bool, is_durable: bool) -> None:
        self.writer = writer
        self.clock = clock
        self._is_simulation = is_simulation
        self._syncing: Batcher[None, None] | None = None
        if is_durable:
            self._syncing = Batcher(self._sync, limit=1 << 30, name="log-sync")
        self._mirror = Mirror(self._answer_copies, holds_loop=lambda one: one.release.batcher.is_on_loop)
        self._shedding: set[asyncio.Task[None]] = set()
        self._era = Era()
        self.arrivals: list[Arrival] | None = None
        """What arrives while new releases are loaded, for their histories; None when none are."""
        self.unlogged: dict[str, int] = {}
        """By endpoint, how many were answered although the log could not be written."""
        self.log_error: str | None = None
        """Why the log cannot be written; None when it can, as far as is known."""

    async def answer(
        self,
        endpoint: LiveEndpoint,
        question: Question,
        *,
        started_ns: int,
        request: str | None = None,
        timeout_ms: float = inf,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """What came of the question; not logged yet. Shadows get their copy, which nobody waits for.

        `request` is shared by the rows of one HTTP request: they are dealt to one variant together. `timeout_ms` is how long
        the client waits, if that is less than the endpoint allows. `headers` are those that the endpoint's rules look at. A
        version that the question names must be loaded (`LiveEndpoint.by_version`). What chance did not deal is not mirrored
        either: copies are compared.
        """
        prediction_id = new_prediction_id(self.writer.writer)
        route = endpoint.route
        key = _key_of(question, route.key)
        at = self.clock.now() if question.at is None or self._time_problem(question.at) else question.at
        if question.version is None:
            variant, assigned = assign(
                route, key=key, request=request or prediction_id, inputs=question.inputs, headers=headers
            )
        else:
            variant, assigned = endpoint.by_version[question.version], PINNED
        within_ms = min(timeout_ms, endpoint.deadline_ms)
        asked = Asked(
            prediction_id,
            question,
            key,
            at,
            started_ns,
            endpoint,
            variant,
            within_ms,
            assigned,
            request=request,
        )
        copies: list[Asked] = []
        is_mirrored = route.shadow and not is_placed(assigned)
        for mirrored in shadows(route, prediction_id=prediction_id) if is_mirrored else ():
            copy = Asked(
                new_prediction_id(self.writer.writer),
                question,
                key,
                at,
                started_ns,
                endpoint,
                mirrored,
                endpoint.deadline_ms,
                "shadow",
                shadow_of=prediction_id,
                request=request,
            )
            copies.append(copy)
        era = self._era
        era.begin()
        self._mirror.begin()
        try:
            answered = await self._ask(asked)
            return await self._explained(asked, answered) if question.explain else answered
        finally:
            self._mirror.end()
            for copy in copies:
                if not self._mirror.put(copy):
                    self._shed(copy)
            era.end()

    async def log(self, records: list[PredictionRecord], policy: LogPolicy) -> dict[str, int]:
        """Make the records survive a kill, or a power cut if so set; how many are not in the log, by why.

        All are of one endpoint, whose policy it is. Raises StorageFailed when the log cannot be written, unless the policy
        is to answer all the same.
        """
        left_out: dict[str, int] = {}
        if policy.is_sampled:
            drawn = [one for one in records if uniform(one.shadow_of or one.id) < one.probability]
            if len(drawn) < len(records):
                left_out["sampling"] = len(records) - len(drawn)
            records = drawn
        if not records:
            return left_out
        try:
            self.writer.write(records)
            if self._syncing is not None:
                await self._syncing.submit(None)
        except StorageFailed as error:
            self._could_not_log(records, policy, error)
            left_out["log-unwritable"] = len(records)
        else:
            if self.log_error is not None:
                self.log_error = None
                logger.warning(
                    "the prediction log is written again; answered without it: %s", self.unlogged or "none"
                )
        return left_out

    def _could_not_log(
        self, records: list[PredictionRecord], policy: LogPolicy, error: StorageFailed
    ) -> None:
        if self.log_error is None:
            logger.error("%s", error)
        self.log_error = str(error)
        if policy.when_full == "refuse":
            raise error
        name = records[0].endpoint
        self.unlogged[name] = self.unlogged.get(name, 0) + len(records)

    async def close(self) -> None:
        """Wait for the copies, then leave the log."""
        await self.settle()
        if self._shedding:
            await asyncio.wait(self._shedding)
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
            until_s = asked.started_ns / 1e9 + asked.within_ms / 1e3
            result = await release.batcher.submit(values, until_s=until_s)
        except NotReady as error:
            return _failed(asked, "overloaded", str(error), features=features)
        except TooLate:
            text = f"no answer within {asked.within_ms:g} ms"
            return _failed(asked, "deadline_exceeded", text, features=features)
        if isinstance(result, Failure):
            return _failed(asked, result.code, f"{result.kind}: {result.text}", features=features)
        output, scores = result
        return Answer(asked.record(status="ok", output=output, scores=scores, features=features))

    async def _explained(self, asked: Asked, answered: Answer) -> Answer:
        """The answer with why it is this one; its record is made already, so that its latency is the prediction's own."""
        record, release = answered.record, asked.release
        if record.output is None:
            return answered
        values, _ = release.reader.read(asked.question.inputs)
        row = [*values, *(value for value, _ in record.features.values())]
        try:
            found = await release.explainer.submit((row, record.output))
        except NotReady as error:
            return msgspec.structs.replace(answered, explanation=Unexplained(str(error)))
        explanation = Unexplained(f"{found.kind}: {found.text}") if isinstance(found, Failure) else found
        return msgspec.structs.replace(answered, explanation=explanation)

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

    async def _answer_copies(self, copies: list[Asked]) -> None:
        now_ns = time.perf_counter_ns()
        asked = [msgspec.structs.replace(one, started_ns=now_ns) for one in copies]
        answers = (
            [await self._ask(asked[0])] if len(asked) == 1 else await asyncio.gather(*map(self._ask, asked))
        )
        policies = {one.endpoint.route.endpoint: one.endpoint.route.log for one in asked}
        for name, policy in policies.items():
            records = [one.record for one in answers if one.record.endpoint == name]
            await self._log_copies(records, policy)

    def _shed(self, copy: Asked) -> None:
        """Say in the log that there was no room for it, once the answer is out."""
        record = _failed(copy, "overloaded", "no room for a mirrored request").record
        task = asyncio.create_task(self._log_copies([record], copy.endpoint.route.log))
        self._shedding.add(task)
        task.add_done_callback(self._shedding.discard)

    async def _log_copies(self, records: list[PredictionRecord], policy: LogPolicy) -> None:
        try:
            await self.log(records, policy)
        except StorageFailed as error:
            logger.error("%d mirrored requests were not logged: %s", len(records), error)

    async def settle(self) -> None:
        """Wait for what was begun, and answer the copies that wait: after that no release is asked that only these ask."""
        ended = self._era
        self._era = Era(before=ended)
        await ended.over()
        await self._mirror.settle()

    def _sync(self, waiting: list[None]) -> list[None]:
        self.writer.sync()
        return waiting


def _key_of(question: Question, name: str | None) -> str | None:
    """What the question is about: its key, else the input of that name."""
    key = question.key
    if key is None and name is not None and isinstance(found := question.inputs.get(name), str | int):
        key = found
    return None if key is None else str(key)


def _refused(asked: Asked, problems: list[FieldProblem]) -> Answer:
    text = "; ".join(f"{problem.field} {problem.problem}" for problem in problems)
    # a problem shows the value, which is for whoever sent it and not for the log
    kept = text if asked.keeper is None else f"does not fit: {', '.join(one.field for one in problems)}"
    record = asked.record(status="refused", error=kept)
    message = f"the request does not fit the inputs of {record.model} version {record.version}: {text}."
    return Answer(record, Refusal(422, "invalid", message, fields=problems, prediction_id=asked.id))


_MESSAGES = {
    "overloaded": (503, "more requests wait than the limit allows. Try again in a second."),
    "deadline_exceeded": (
        504,
        "the time that the request or the endpoint allows was over before there was an answer. Allow more by "
        "X-Everloop-Timeout-Ms or the endpoint's deadline_ms, or ask for fewer rows at once.",
    ),
    "model_stopped": (
        503,
        "the model's own process ended, hung or took too much memory; it is started again. What happened is in the "
        "prediction log under this id. Try again in a second.",
    ),
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
    if asked.keeper is not None and code != "overloaded":
        text = f"{text.partition(':')[0]} (its text is not kept: it may show personal data)"
    record = asked.record(status="failed", error=f"{code}: {text}", **found)
    return Answer(record, Refusal(status, code, message, prediction_id=asked.id))
