"""The loop that carries out a plan: what is ready is taken from the cache or begun, what ended is written down."""

from __future__ import annotations

import heapq
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from everloop import clock, tracking
from everloop.errors import Invalid, LostLease
from everloop.ids import new_id
from everloop.pipelines import store
from everloop.pipelines.admission import MEMORY, Room
from everloop.pipelines.executors import Executor, Work
from everloop.pipelines.flow import Flow
from everloop.pipelines.journal import Begun, Ended, Journal, TrackedModel
from everloop.pipelines.mapping import Fan
from everloop.pipelines.perform import Outcome, Task
from everloop.pipelines.plan import PlannedStep, cache_key, key_parts
from everloop.pipelines.records import OnProgress, Pinned, Progress, ProgressKind, StepRun, Stored
from everloop.pipelines.results import Results
from everloop.pipelines.seeds import step_seed
from everloop.pipelines.step_environments import environment_of, to_be_built
from everloop.pipelines.touched import told
from everloop.pipelines.tracked import describe

_BATCH = 256  # cached steps that share a transaction: bounds how long it takes
_LOOK_AHEAD = 100  # ready steps among which one is looked for that there is room for
_MOST_LOST = 5  # machines that one step may lose: it may be what brings them down
_LOG_BYTES = 1_000_000  # kept of the beginning and of the end of what a step printed


@dataclass(frozen=True)
class _End:
    """How an attempt ended, and what is told of it."""

    begun: Begun
    kind: ProgressKind
    ended: Ended


@dataclass(frozen=True)
class Part:
    """What of a run one process does when others do the rest: one attempt at one step, and nothing that follows.

    `items` are the calls of a map that it makes; None: those that nobody made, then it gathers them. No `step`: it only
    writes down what turned out to be skipped.
    """

    step: str = ""
    items: frozenset[int] | None = None


class Runner:
    """Carries out one plan under one token, or a part of it.

    `outputs` and `made` fill with the results and who made them, by node.
    """

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
        part: Part | None = None,
    ) -> None:
        self._journal = journal
        self._part = part
        self._work = work
        self._executor = executor
        self._environment = environment
        self._results = Results(journal.ws.blobs, work.scratch)
        self._flow = Flow(work.plan, self._results, part=None if part is None else part.step)
        self.outputs, self.made = self._flow.outputs, self._flow.made
        self._pins = pins
        self._on_progress = on_progress
        self._earlier = attempts
        self._steps = work.plan.by_name
        self._attempts = Counter(one.node for one in attempts)
        self._failures: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()  # attempts whose machine was lost, which count as no failure
        self._errors: dict[str, str] = {}  # by step, in the order in which they failed for good
        self._fans: deque[Fan] = deque()  # maps of which some calls were not made yet, or not looked whether
        self._calls: dict[str, tuple[Fan, int]] = {}  # calls of maps that are under way, by name
        self._known_calls: dict[str, tuple[Stored, str]] = {}  # finished by an earlier runner
        self._running: dict[Future[Outcome], Begun] = {}
        self._retries: list[tuple[float, int, PlannedStep]] = []
        self._told = threading.Event()  # from beside, about the run as a whole: one of the next two
        self._is_lost = False
        self._is_pausing = False
        self._found: list[Begun] = []  # taken from the cache: to be written down
        self._anyway: set[str] = set()  # begun though the run has failed
        self._touching: set[str] = (
            set()
        )  # steps of which it was told that they touch what they do not declare
        self._closed: list[_End] = []  # what ended without being run by the executor
        self._expects_hits = True
        self._take_over(attempts)
        self.total = len(self._steps)
        self.told = self._flow.settled  # steps of which it was told that they ended
        self._flow.arrange()
        self.is_retried = False  # whether an attempt failed and is for the outside engine to repeat
        self._comes_late = False
        if part is not None:
            self._look_back(part)

    @property
    def can_begin(self) -> bool:
        """Whether there is anything to do now."""
        return bool(self._flow.ready or self._flow.skipped or self._comes_late)

    @property
    def error(self) -> str | None:
        """Why the run failed: its first step that did."""
        name = next(iter(self._errors), None)
        return None if name is None else f"step {self._steps[name].label} failed: {self._errors[name]}"

    @property
    def is_paused(self) -> bool:
        """Whether it began nothing more because it was told so."""
        return self._is_pausing and self.error is None and self._flow.settled < len(self._steps)

    def run(self) -> None:
        """Go on until all steps are finished, or one failed for good (`error`) and those beside it ended, or it is paused.

        Raises
        ------
        LostLease
            Another process took the run over, or it was cancelled.
        """
        self._repair()
        ended = self._adopt()
        while True:
            begun = self._wind_up() if self.error else [] if self._is_pausing else self._next()
            known: dict[str, tuple[str, Stored]] = {}
            if ended or begun:
                known = self._journal.advance(
                    ended=[one.ended for one in ended], begun=begun, made=self.made, pins=self._pins
                )
            for end in ended:
                self._committed(end)
            if not begun and not self._running and (self._is_pausing or self.error or not self._retries):
                return
            for one in begun:
                if one.id in known:
                    self._found.append(self._from_cache(one, known[one.id]))
                else:
                    self._begin(one)
            ended = self._settle()

    def lose(self) -> None:
        """Told from beside that the run is no longer ours: end what runs."""
        self._is_lost = True
        self._told.set()
        self._executor.stop()

    def pause(self) -> None:
        """Told from beside to begin nothing more: `run` returns when what runs has ended."""
        self._is_pausing = True
        self._told.set()

    def check_complete(self) -> None:
        """A run that is ended before all its steps were run has failed."""
        left = [name for name in self._steps if not self._flow.is_settled(name)]
        if left and not self._errors:
            more = f", and neither was {', '.join(left[1:])}" if left[1:] else ""
            self._errors[left[0]] = f"it was not run before the run was ended{more}."

    def _look_back(self, part: Part) -> None:
        """Count on where other processes of the run failed. A step that always runs may come late: after a failure."""
        self._failures.update(one.node for one in self._earlier if one.state == "failed")
        last = {one.node: one for one in self._earlier}
        failed = {
            one.node.rpartition("[")[0] if one.is_call else one.node: one.error or ""
            for one in last.values()
            if one.state == "failed" and one.output is None
        }
        left = {name: error for name, error in failed.items() if not self._flow.is_settled(name)}
        step = self._steps.get(part.step)
        self._comes_late = step is not None and step.always and not self.can_begin and bool(left)
        if step is None or self._comes_late:
            self._errors.update(left)

    def _adopt(self) -> list[_End]:
        """Go on with a map that another process has opened; gives what ended with that."""
        opened = [one for one in self._earlier if one.state == "running" and not one.is_call]
        for one in opened if self._part is not None else ():
            if self._flow.ready and self._flow.ready[0].name == one.node:
                step = self._flow.ready.popleft()
                self._fan_out(Begun(step, one.attempt, one.key, one.parts, id=one.id))
        ended, self._closed = self._closed, []
        return ended

    def _take_over(self, attempts: Sequence[StepRun]) -> None:
        """Take over what earlier runners of the run settled."""
        for one in attempts:
            if one.state == "skipped":
                self._flow.pass_over(one.node)
            elif one.state not in (*store.FINISHED, "failed") or one.output is None or one.made_by is None:
                continue
            elif one.node in self._steps:
                self._flow.take_over(one.node, one.output, one.made_by)
            else:
                self._known_calls[one.node] = one.output, one.made_by

    def _next(self) -> list[Begun]:
        """What can begin now, as far as there are free slots; results from the cache need none.

        After a hit the cache is read before the journal is written, so that a run of hits is written at once. After a
        miss it is read in the transaction in which the step begins, which costs a third less.
        """
        while self._retries and self._retries[0][0] <= clock.elapsed_s():
            self._flow.ready.appendleft(heapq.heappop(self._retries)[-1])
        begun, self._found = self._found, []
        taking = [*self._running.values(), *(one for one in begun if one.cached is None)]
        room = Room(self._executor.slots, self._executor.capacity, [one.step for one in taking])
        begun += self._skips()
        with self._journal.ws.read() if self._expects_hits else nullcontext() as connection:
            while len(begun) < _BATCH and (step := self._next_step(room)) is not None:
                one = self._prepared(step)
                if one.look and one.key and self._expects_hits and connection is not None:
                    one = self._from_cache(
                        one, store.made_under(connection, one.key, since=one.since(self._journal.ws.now()))
                    )
                begun.append(one)
                if one.cached is None:
                    room.take(step)
        return begun

    def _wind_up(self) -> list[Begun]:
        """The run has failed: when nothing runs any more, the next of the steps that always run."""
        if self._running or self._closed or (self._part is not None and not self._comes_late):
            return []
        for step in self._work.plan.steps:
            is_left = step.always and not self._flow.is_settled(step.name) and step.name not in self._anyway
            if self._part is not None and step.name != self._part.step:
                continue
            if is_left and self._flow.holds(step):
                self._anyway.add(step.name)
                return [self._prepared(step)]
        return []

    def _skips(self) -> list[Begun]:
        """What is to be written down as skipped."""
        found = []
        while self._flow.skipped:
            step, condition, was = self._flow.skipped.popleft()
            self._attempts[step.name] += 1
            parts = {"condition": condition, "was": was}
            found.append(Begun(step, self._attempts[step.name], None, parts, is_skipped=True))
        return found

    def _next_step(self, room: Room) -> PlannedStep | None:
        """The first step that is ready and that there is room for."""
        if room.is_full:
            return None
        for index, step in enumerate(islice(self._flow.ready, _LOOK_AHEAD)):
            if room.admits(step):
                del self._flow.ready[index]
                return step
        while self._fans and room.admits(self._fans[0].step):
            call = self._fans[0].next_call()
            if call is not None:
                self._calls[call[1].name] = self._fans[0], call[0]
                return call[1]
            self._fans.popleft()
        return None

    def _prepared(self, step: PlannedStep) -> Begun:
        self._attempts[step.name] += 1
        if step.is_choice:  # what the other branch gives is no part of it
            is_met = self._flow.truth(step.bindings["condition"]["node"])
            other = {True: ("otherwise",), False: ("then",), None: ("then", "otherwise")}[is_met]
            bindings = {key: one for key, one in step.bindings.items() if key not in other}
            step = replace(step, bindings=bindings)
        own = environment_of(self._journal.ws, self._work.plan, step)
        parts = key_parts(
            step,
            environment=self._environment if own is None else own.digest,
            outputs=self.outputs,
            pins=self._pins,
            seed=self._work.plan.seed,
            lock=None if step.environment is None else self._work.plan.locks[step.environment],
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

    def _finished(self, name: str, output: Stored, made_by: str) -> None:
        if name in self._calls:
            fan, index = self._calls.pop(name)
            fan.finish(index, output, made_by)
            if fan.is_complete:
                self._gather(fan)
            return
        self._flow.finish(name, output, made_by)

    def _begin(self, one: Begun) -> None:
        if one.is_skipped or one.cached is not None:
            self._tell("step_skipped" if one.is_skipped else "step_cached", one)
            return
        self._tell("step_started", one)
        if said := to_be_built(self._journal.ws, self._work.plan, one.step):
            self._tell("environment_built", one, message=said)
        if one.step.over is not None:
            self._fan_out(one)
        elif not (one.step.is_choice and self._chose(one)):
            self._running[self._executor.start(self._work, self._task(one))] = one

    def _task(self, one: Begun) -> Task:
        fan, index = self._calls.get(one.step.name, (None, None))
        node, call = one.step.name, one.step
        if fan is not None and index is not None:
            fan.running.add(index)
            node = fan.step.name
        if fan is None or fan.items is not None:
            call = self._steps[node]
        return Task(
            self._journal.run,
            node,
            one.attempt,
            self._work.plan.params,
            {name: self.outputs[name] for name in one.step.needs if name in self.outputs},
            {name: self._pins[name] for name in one.step.sources},
            one.step.timeout_s,
            call=call.described(),
            seed=None if self._work.plan.seed is None else step_seed(self._work.plan.seed, call.step),
            index=index,
            item=None if fan is None or index is None else fan.item(index),
            memory_gb=one.step.resources.get(MEMORY),
        )

    def _fan_out(self, one: Begun) -> None:
        """Begin a map: from now on its calls are made as there are free slots."""
        each = one.step.bindings[one.step.over or ""]["each"]
        try:
            items = self._results.items(self.outputs[each["node"]]) if "node" in each else None
        except Invalid as error:
            self._close(one, str(error), seconds=0.0)
            return
        fan = Fan(one, items, only=None if self._part is None else self._part.items)
        self.total += len(fan.results)
        fan.take_over(self._known_calls)
        self.told += len(fan.results) - fan.left
        if fan.is_complete:
            self._gather(fan)
        else:
            self._fans.append(fan)

    def _gather(self, fan: Fan) -> None:
        """All calls of a map have ended well: their results are its own, as a list."""
        seconds = clock.elapsed_s() - fan.begun_s
        output = self._results.gathered(fan.gathered())
        ended = Ended(fan.begun.id, output, seconds, members=fan.made)
        self._closed.append(_End(fan.begun, "step_done", ended))
        self._finished(fan.step.name, output, fan.begun.id)

    def _chose(self, one: Begun) -> bool:
        """Join two branches by passing on what the taken one made; False: the executor has to, as it is more than that."""
        condition = one.step.bindings["condition"]["node"]
        is_met = self._flow.truth(condition)
        if is_met is None:
            self._close(
                one,
                f"its condition, what {condition} made, is neither True nor False. Let that step return a comparison.",
                seconds=0.0,
            )
            return True
        taken = one.step.bindings["then" if is_met else "otherwise"]
        if "node" not in taken:
            return False
        output = self.outputs[taken["node"]]
        self._closed.append(_End(one, "step_done", Ended(one.id, output, 0.0)))
        self._finished(one.step.name, output, one.id)
        return True

    def _close(self, one: Begun, error: str, *, seconds: float) -> None:
        """End as failed what the executor does not run."""
        output = self._given_up(one, error)
        if output is None:
            self._errors[one.step.name] = error  # for a map in place of its first failed item's
        self._closed.append(_End(one, "step_failed", Ended(one.id, output, seconds, error)))

    def _given_up(self, one: Begun, error: str) -> Stored | None:
        """What a step that failed for good is taken to have made; None: its failure is the run's."""
        name = one.step.name
        if one.step.optional:
            nothing = self._results.keep(None)
            self._finished(name, nothing, one.id)
            return nothing
        if name in self._calls:
            fan, index = self._calls.pop(name)
            fan.failed[index] = error
            name = fan.step.name
        self._errors.setdefault(name, error)
        return None

    def _settle(self) -> list[_End]:
        """Wait until something ended or a retry is due."""
        due_s = (
            max(0.0, self._retries[0][0] - clock.elapsed_s()) if self._retries and not self.error else None
        )
        if self._closed:
            due_s = 0.0
        if self._running:
            done, _ = wait(self._running, timeout=due_s, return_when=FIRST_COMPLETED)
        else:
            done = set()
            self._told.wait(due_s or 0.0)
        if self._is_lost:
            raise LostLease(f"run {self._journal.run} was taken over or cancelled; its steps were ended.")
        ended = [self._end(self._running.pop(future), future.result()) for future in done]
        ended, self._closed = [*ended, *self._closed], []
        return ended

    def _end(self, one: Begun, outcome: Outcome) -> _End:
        log = self._keep_log(one, outcome.log)
        stored = outcome.stored
        fan, index = self._calls.get(one.step.name, (None, None))
        if fan is not None and index is not None:
            fan.running.discard(index)
        if stored is None:
            error = outcome.error or ""
            is_retried = self._retry(one, outcome)
            output = None if is_retried else self._given_up(one, error)
            self._end_failed(fan)
            kind: ProgressKind = "step_retried" if is_retried else "step_failed"
            ended = Ended(one.id, output, outcome.seconds, error, log, touched=outcome.touched)
            return _End(one, kind, ended)
        model = None
        if stored.metrics and not self._is_passed_on(one, stored):
            model = TrackedModel(new_id("run"), self._work.plan.pipeline, one.step.label)
        self._finished(one.step.name, stored, one.id)
        self._end_failed(fan)
        is_anyway = one.step.name in self._anyway
        ended = Ended(
            one.id, stored, outcome.seconds, None, log, model, anyway=is_anyway, touched=outcome.touched
        )
        return _End(one, "step_done", ended)

    def _is_passed_on(self, one: Begun, stored: Stored) -> bool:
        """Whether a step returned what it was given, itself or in a list."""
        given = [self.outputs[node] for node in one.step.needs if node in self.outputs]
        lists = [self._results.items(other).kept for other in given if other.kind == "list"]
        return any(other.digest == stored.digest for other in chain(given, *lists))

    def _retry(self, one: Begun, outcome: Outcome) -> bool:
        """Put a failed attempt's step on for another try, if it has one left, or its machine was lost."""
        if outcome.is_lost and not self.error and self._losses[one.step.name] < _MOST_LOST:
            self._losses[one.step.name] += 1
            heapq.heappush(self._retries, (clock.elapsed_s(), self._losses.total(), one.step))
            return True
        self._failures[one.step.name] += 1
        failures = self._failures[one.step.name]
        if outcome.is_final or failures > one.step.retries or self.error:
            return False
        if self._part is not None:
            self.is_retried = True
            return True
        due_s = clock.elapsed_s() + one.step.back_off_s * 2 ** (failures - 1)
        heapq.heappush(self._retries, (due_s, self._failures.total(), one.step))
        return True

    def _end_failed(self, fan: Fan | None) -> None:
        """A map of which calls failed ends as soon as none of the others runs any more."""
        if fan is not None and fan.failed and not fan.running and fan.only is None:
            self._close(fan.begun, fan.failure(), seconds=clock.elapsed_s() - fan.begun_s)

    def _committed(self, end: _End) -> None:
        """What follows once an attempt's end is written down."""
        if end.ended.model is not None and end.ended.output is not None:
            describe(
                self._journal.ws, end.ended.model.run, end.ended.output, params=end.begun.step.parameters
            )
        message = (end.ended.error or "").strip().rpartition("\n")[2]
        self._tell(end.kind, end.begun, seconds=end.ended.seconds, message=message)
        name = end.begun.step.name.partition("[")[0]
        if end.ended.touched and end.begun.step.cache and name not in self._touching:
            self._touching.add(name)
            self._tell("step_touched", end.begun, message=told(name, end.ended.touched))

    def _repair(self) -> None:
        """Do again what a kill may have cut off behind a commit."""
        for one in self._earlier:
            if one.tracking_run is not None and one.output is not None:
                describe(self._journal.ws, one.tracking_run, one.output, params=one.parts["parameters"])

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
            has_settled = kind in ("step_cached", "step_done", "step_skipped")
            self.told += has_settled or (kind == "step_failed" and one.step.optional)
            name, label, done, total = one.step.name, one.step.label, self.told, self.total
            self._on_progress(Progress(kind, self._journal.run, name, label, done, total, seconds, message))


def _shortened(file: Path) -> bytes:
    size = file.stat().st_size
    if size <= 2 * _LOG_BYTES:
        return file.read_bytes()
    with file.open("rb") as opened:
        head = opened.read(_LOG_BYTES)
        opened.seek(size - _LOG_BYTES)
        left_out = size - 2 * _LOG_BYTES
        return head + f"\n[... {left_out} bytes left out ...]\n".encode() + opened.read()
