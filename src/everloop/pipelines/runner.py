"""The loop that carries out a plan: what is ready is taken from the cache or begun, what ended is written down."""

from __future__ import annotations

import heapq
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from everloop import clock, tracking
from everloop.errors import LostLease
from everloop.pipelines import store
from everloop.pipelines.executors import Executor, Work
from everloop.pipelines.journal import Begun, Ended, Journal, model_run_of
from everloop.pipelines.perform import Outcome, Task
from everloop.pipelines.plan import PlannedStep, cache_key, key_parts
from everloop.pipelines.records import OnProgress, Pinned, Progress, ProgressKind, StepRun, Stored
from everloop.pipelines.results import Results

_BATCH = 256  # cached steps that share a transaction: bounds how long it takes
_LOG_BYTES = 1_000_000  # kept of the beginning and of the end of what a step printed


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
        self._steps = {step.name: step for step in work.plan.steps}
        self._attempts = Counter(one.node for one in attempts)
        self._failures: Counter[str] = Counter()
        self._ready: deque[str] = deque()
        self._missing: dict[str, int] = {}
        self._followers: dict[str, list[str]] = {}
        self._running: dict[Future[Outcome], Begun] = {}
        self._retries: list[tuple[float, str]] = []
        self._lost = threading.Event()
        self._arrange(attempts)
        self._told = len(self.outputs)  # steps of which it was told that they ended

    def run(self) -> list[Ended]:
        """Go on until all steps are finished, or one failed for good and those beside it ended.

        Returns what ended last and is not written yet: it is written together with the run's end.

        Raises
        ------
        LostLease
            Another process took the run over, or it was cancelled.
        """
        ended: list[Ended] = []
        while True:
            begun = [] if self.error else self._next()
            if not begun and not self._running and (self.error or not self._retries):
                return ended
            if ended or begun:
                self._journal.advance(ended=ended, begun=begun, made=self.made, pins=self._pins)
            for one in begun:
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
        """What can begin now: cached results first come first, others as far as there are free slots."""
        while self._retries and self._retries[0][0] <= clock.elapsed_s():
            self._ready.appendleft(heapq.heappop(self._retries)[1])
        begun: list[Begun] = []
        free = self._executor.slots - len(self._running)
        with self._journal.ws.read() as connection:
            while self._ready and free > 0 and len(begun) < _BATCH:
                step = self._steps[self._ready.popleft()]
                parts = key_parts(step, environment=self._environment, outputs=self.outputs, pins=self._pins)
                key = cache_key(parts)
                known = store.made_under(connection, key) if step.cache else None
                one = self._begun(step, key, parts, known)
                begun.append(one)
                if one.cached is None:
                    free -= 1
        return begun

    def _begun(self, step: PlannedStep, key: str, parts: dict[str, object], known: StepRun | None) -> Begun:
        self._attempts[step.name] += 1
        attempt = self._attempts[step.name]
        if known is None or known.output is None or not self._results.is_there(known.output):
            return Begun(step, attempt, key, parts)
        one = Begun(step, attempt, key, parts, cached=known.output, made_by=known.id)
        self._finished(step.name, known.output, known.id)
        return one

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
        )
        self._running[self._executor.start(self._work, task)] = one

    def _settle(self) -> list[Ended]:
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
        return [self._ended(self._running.pop(future), future.result()) for future in done]

    def _ended(self, one: Begun, outcome: Outcome) -> Ended:
        log = self._keep_log(one, outcome.log)
        if outcome.stored is None:
            self._failed(one, outcome)
            return Ended(one.id, None, outcome.seconds, outcome.error, log)
        inputs = {self.outputs[node].digest for node in one.step.needs}
        is_new_model = bool(outcome.stored.metrics) and outcome.stored.digest not in inputs
        model_run = self._log_model(one, outcome.stored) if is_new_model else None
        self._finished(one.step.name, outcome.stored, one.id)
        self._tell("step_done", one, seconds=outcome.seconds)
        return Ended(one.id, outcome.stored, outcome.seconds, None, log, model_run)

    def _failed(self, one: Begun, outcome: Outcome) -> None:
        name = one.step.name
        self._failures[name] += 1
        message = (outcome.error or "").strip().rpartition("\n")[2]
        if not outcome.is_final and self._failures[name] <= one.step.retries:
            wait_s = one.step.back_off_s * 2 ** (self._failures[name] - 1)
            heapq.heappush(self._retries, (clock.elapsed_s() + wait_s, name))
            self._tell("step_retried", one, seconds=outcome.seconds, message=message)
            return
        self.error = self.error or f"step {one.step.label} failed: {outcome.error}"
        self._tell("step_failed", one, seconds=outcome.seconds, message=message)

    def _keep_log(self, one: Begun, file: str | None) -> str | None:
        """Keep what a step printed as an artifact of the run, a long one without its middle."""
        if file is None or not Path(file).stat().st_size:
            return None
        path = f"logs/{Path(file).name}"
        tracking.log_artifact(self._journal.ws, self._journal.run, path, _shortened(Path(file)))
        return path

    def _log_model(self, one: Begun, stored: Stored) -> str:
        """A tracking run of its own for a step that made a model, so that candidates can be compared.

        Its id follows from the step run's; it is ended in the transaction that commits the step.
        """
        ws, run_id = self._journal.ws, model_run_of(one.id)
        tracking.start_run(
            ws,
            experiment=self._work.plan.pipeline,
            name=one.step.label[:250],
            parent=self._journal.run,
            kind="step",
            run_id=run_id,
        )
        tracking.log_params(ws, run_id, one.step.parameters)
        tracking.log_metrics(ws, run_id, stored.metrics)
        return run_id

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
