"""The loop that carries out a plan: what is ready is taken from the cache or begun, what ended is written down."""

from __future__ import annotations

import heapq
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from everloop import clock, tracking
from everloop.errors import LostLease
from everloop.ids import new_id
from everloop.pipelines import store
from everloop.pipelines.executors import Executor, Work
from everloop.pipelines.journal import Begun, Ended, Journal, TrackedModel
from everloop.pipelines.perform import Outcome, Task
from everloop.pipelines.plan import PlannedStep, cache_key, key_parts
from everloop.pipelines.records import OnProgress, Pinned, Progress, ProgressKind, StepRun, Stored
from everloop.pipelines.results import Results
from everloop.pipelines.seeds import step_seed
from everloop.pipelines.tracked import describe

_BATCH = 256  # cached steps that share a transaction: bounds how long it takes
_LOG_BYTES = 1_000_000  # kept of the beginning and of the end of what a step printed


@dataclass(frozen=True)
class _End:
    """How an attempt ended, and what is told of it."""

    begun: Begun
    kind: ProgressKind
    ended: Ended


class Runner:
    """Carries out one plan under one token. `outputs` and `made` fill with the results and who made them, by node."""

    def __init__(
        self,
        journal: Journal,
        work: Work,
        executor: Executor,
        *,
        environment: str,
        pins: Mapping[str, Pinned],
        attempts: Sequence[StepRun],
        on_progress: OnProgress | None,
    ) -> None:
        self.outputs: dict[str, Stored] = {}
        self.made: dict[str, str] = {}
        self.error: str | None = None
        self._journal = journal
        self._work = work
        self._executor = executor
        self._environment = environment
        self._results = Results(journal.ws.blobs, work.scratch)
        self._pins = pins
        self._on_progress = on_progress
        self._earlier = attempts
        self._steps = work.plan.by_name
        self._attempts = Counter(one.node for one in attempts)
        self._failures: Counter[str] = Counter()
        self._ready: deque[str] = deque()
        self._missing: dict[str, int] = {}
        self._followers: dict[str, list[str]] = {}
        self._running: dict[Future[Outcome], Begun] = {}
        self._retries: list[tuple[float, str]] = []
        self._lost = threading.Event()
        self._found: list[Begun] = []
        self._expects_hits = True
        self._arrange(attempts)
        self._told = len(self.outputs)  # steps of which it was told that they ended

    def run(self) -> None:
        """Go on until all steps are finished, or one failed for good (`error`) and those beside it ended.

        Raises
        ------
        LostLease
            Another process took the run over, or it was cancelled.
        """
        self._repair()
        ended: list[_End] = []
        while True:
            begun = [] if self.error else self._next()
            known: dict[str, tuple[str, Stored]] = {}
            if ended or begun:
                known = self._journal.advance(
                    ended=[one.ended for one in ended], begun=begun, made=self.made, pins=self._pins
                )
            for end in ended:
                self._committed(end)
            if not begun and not self._running and (self.error or not self._retries):
                return
            for one in begun:
                if one.id in known:
                    self._found.append(self._from_cache(one, known[one.id]))
                else:
                    self._begin(one)
            ended = self._settle()

    def lose(self) -> None:
        """Told from beside that the run is no longer ours: end what runs."""
        self._lost.set()
        self._executor.stop()

    def _arrange(self, attempts: Sequence[StepRun]) -> None:
        """Take over what is finished, and find out what waits for what."""
        for one in attempts:
            if one.state in store.FINISHED and one.output is not None and one.made_by is not None:
                self.outputs[one.node], self.made[one.node] = one.output, one.made_by
        for step in self._work.plan.steps:
            if step.name in self.outputs:
                continue
            missing = [node for node in step.needs if node not in self.outputs]
            self._missing[step.name] = len(missing)
            for node in missing:
                self._followers.setdefault(node, []).append(step.name)
            if not missing:
                self._ready.append(step.name)

    def _next(self) -> list[Begun]:
        """What can begin now, as far as there are free slots; results from the cache need none.

        After a hit the cache is read before the journal is written, so that a run of hits is written at once. After a
        miss it is read in the transaction in which the step begins, which costs a third less.
        """
        while self._retries and self._retries[0][0] <= clock.elapsed_s():
            self._ready.appendleft(heapq.heappop(self._retries)[1])
        begun, self._found = self._found, []
        free = self._executor.slots - len(self._running) - sum(one.cached is None for one in begun)
        with self._journal.ws.read() if self._expects_hits else nullcontext() as connection:
            while self._ready and len(begun) < _BATCH and free > 0:
                one = self._prepared(self._steps[self._ready.popleft()])
                if one.look and one.key and self._expects_hits and connection is not None:
                    one = self._from_cache(one, store.made_under(connection, one.key))
                begun.append(one)
                free -= one.cached is None
        return begun

    def _prepared(self, step: PlannedStep) -> Begun:
        self._attempts[step.name] += 1
        parts = key_parts(
            step,
            environment=self._environment,
            outputs=self.outputs,
            pins=self._pins,
            seed=self._work.plan.seed,
        )
        key = cache_key(parts) if self._work.plan.repeats is None else None
        return Begun(step, self._attempts[step.name], key, parts, look=step.cache)

    def _from_cache(self, one: Begun, known: tuple[str, Stored] | None) -> Begun:
        """The step as taken from the cache; as one that has to run when its result is not known, or gone."""
        self._expects_hits = known is not None and self._results.is_there(known[1])
        if known is None or not self._expects_hits:
            return replace(one, look=False)
        made_by, stored = known
        self._finished(one.step.name, stored, made_by)
        return replace(one, look=False, cached=stored, made_by=made_by)

    def _finished(self, node: str, output: Stored, made_by: str) -> None:
        self.outputs[node], self.made[node] = output, made_by
        for follower in self._followers.get(node, ()):
            self._missing[follower] -= 1
            if self._missing[follower] == 0:
                self._ready.append(follower)

    def _begin(self, one: Begun) -> None:
        if one.cached is not None:
            self._tell("step_cached", one)
            return
        self._tell("step_started", one)
        task = Task(
            self._journal.run,
            one.step.name,
            one.attempt,
            self._work.plan.params,
            {node: self.outputs[node] for node in one.step.needs},
            {name: self._pins[name] for name in one.step.sources},
            one.step.timeout_s,
            None if self._work.plan.seed is None else step_seed(self._work.plan.seed, one.step.step),
        )
        self._running[self._executor.start(self._work, task)] = one

    def _settle(self) -> list[_End]:
        """Wait until something ended or a retry is due."""
        due_s = (
            max(0.0, self._retries[0][0] - clock.elapsed_s()) if self._retries and not self.error else None
        )
        if self._running:
            done, _ = wait(self._running, timeout=due_s, return_when=FIRST_COMPLETED)
        else:
            done = set()
            self._lost.wait(due_s or 0.0)
        if self._lost.is_set():
            raise LostLease(f"run {self._journal.run} was taken over or cancelled; its steps were ended.")
        return [self._end(self._running.pop(future), future.result()) for future in done]

    def _end(self, one: Begun, outcome: Outcome) -> _End:
        log = self._keep_log(one, outcome.log)
        stored = outcome.stored
        if stored is None:
            kind = self._failed(one, outcome)
            return _End(one, kind, Ended(one.id, None, outcome.seconds, outcome.error, log))
        inputs = {self.outputs[node].digest for node in one.step.needs}
        model = None
        if stored.metrics and stored.digest not in inputs:  # else it was only passed on
            model = TrackedModel(new_id("run"), self._work.plan.pipeline, one.step.label)
        self._finished(one.step.name, stored, one.id)
        return _End(one, "step_done", Ended(one.id, stored, outcome.seconds, None, log, model))

    def _failed(self, one: Begun, outcome: Outcome) -> ProgressKind:
        name = one.step.name
        self._failures[name] += 1
        if not outcome.is_final and self._failures[name] <= one.step.retries:
            wait_s = one.step.back_off_s * 2 ** (self._failures[name] - 1)
            heapq.heappush(self._retries, (clock.elapsed_s() + wait_s, name))
            return "step_retried"
        self.error = self.error or f"step {one.step.label} failed: {outcome.error}"
        return "step_failed"

    def _committed(self, end: _End) -> None:
        """What follows once an attempt's end is written down."""
        if end.ended.model is not None and end.ended.output is not None:
            describe(
                self._journal.ws, end.ended.model.run, end.ended.output, params=end.begun.step.parameters
            )
        message = (end.ended.error or "").strip().rpartition("\n")[2]
        self._tell(end.kind, end.begun, seconds=end.ended.seconds, message=message)

    def _repair(self) -> None:
        """Do again what a kill may have cut off behind a commit."""
        for one in self._earlier:
            if one.tracking_run is not None and one.output is not None:
                describe(
                    self._journal.ws, one.tracking_run, one.output, params=self._steps[one.node].parameters
                )

    def _keep_log(self, one: Begun, file: str | None) -> str | None:
        """Keep what a step printed as an artifact of the run, a long one without its middle."""
        if file is None or not Path(file).stat().st_size:
            return None
        path = f"logs/{Path(file).name}"
        tracking.log_artifact(self._journal.ws, self._journal.run, path, _shortened(Path(file)))
        return path

    def _tell(
        self, kind: ProgressKind, one: Begun, *, seconds: float | None = None, message: str = ""
    ) -> None:
        if self._on_progress is not None:
            self._told += kind in ("step_cached", "step_done")
            step, done, total = one.step, self._told, len(self._steps)
            self._on_progress(
                Progress(kind, self._journal.run, step.name, step.label, done, total, seconds, message)
            )


def _shortened(file: Path) -> bytes:
    size = file.stat().st_size
    if size <= 2 * _LOG_BYTES:
        return file.read_bytes()
    with file.open("rb") as opened:
        head = opened.read(_LOG_BYTES)
        opened.seek(size - _LOG_BYTES)
        left_out = size - 2 * _LOG_BYTES
        return head + f"\n[... {left_out} bytes left out ...]\n".encode() + opened.read()
