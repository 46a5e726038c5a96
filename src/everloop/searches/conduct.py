"""Carrying a search from where it stands to its end: trials side by side, watched while they run."""

from __future__ import annotations

import fcntl
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from everloop import events, pipelines, tracking
from everloop.errors import Conflict, EverloopError, Invalid, LostLease, NotFound, NotReady, StepFailed
from everloop.ids import new_id
from everloop.ledger import Node
from everloop.pipelines import Executor, Pipeline, Processes, Progress
from everloop.searches import store
from everloop.searches.look import find, trials
from everloop.searches.propose import searcher_of
from everloop.searches.records import Plan, Search, Trial
from everloop.storage import Tx
from everloop.workspace import Workspace

_LOOK_EVERY_S = 0.2  # at what running trials have told
_MOST_POINTS = 10_000
_ENDED = ("step_done", "step_cached", "step_failed", "step_skipped")

OnTrial = Callable[[Trial], None]
Elsewhere = Callable[[], Executor] | None


def run_search(
    ws: Workspace,
    pipeline: Pipeline[..., Any],
    plan: Plan,
    *,
    name: str | None = None,
    code: str | None = None,
    executor: str | None = None,
    on_trial: OnTrial | None = None,
) -> Search:
    """Try parameters of a pipeline as planned, and return the search with its best trial.

    Each trial is a run below the search's own tracking run. What trials have in common is made once: the others begin
    when the first one has made it. A trial that fails is noted, and the search goes on.

    Parameters
    ----------
    name
        What it is called by in lists; the pipeline's name when left out.
    code
        The code that the pipeline was loaded from: only with the same is the search gone on with.
    executor
        Where the steps of all trials run, such as `ray`; None: where the settings say. What runs in a command's own process
        elsewhere has one of its own here, since trials run side by side.
    on_trial
        Called, in the trial's thread, when one begins and when it has ended.

    Raises
    ------
    Invalid
        The plan, or what the pipeline takes or returns, does not fit; or no trial came to its end.
    NotFound, MissingExtra
        Nobody offers such an executor, or its package is not installed.
    """
    searcher_of(plan)
    elsewhere = _elsewhere(ws, executor)
    pipeline.trace(_example(plan, []))  # parameters that do not fit are told before anything is written
    run = tracking.start_run(ws, experiment=pipeline.name, name=f"search {name or pipeline.name}")
    tracking.log_params(ws, run.id, plan.as_json())
    search = Search(
        new_id("srch"),
        run.id,
        name or pipeline.name,
        pipeline.name,
        plan,
        code,
        "running",
        ws.now(),
        None,
        None,
    )
    ws.write(lambda tx: store.insert_search(tx, search))
    return _conduct(ws, search, pipeline, elsewhere, on_trial)


def resume(
    ws: Workspace,
    search_id: str,
    pipeline: Pipeline[..., Any],
    *,
    code: str | None = None,
    executor: str | None = None,
    on_trial: OnTrial | None = None,
) -> Search:
    """Go on with a search that was cut off. Trials that ended stay as they are, interrupted ones go on where they were.

    Raises
    ------
    NotFound
    NotReady
        It is being run by another process.
    Conflict
        The pipeline is another one, or of other code, than it began with.
    """
    search = find(ws, search_id)
    if search.state == "done":
        return search
    if search.pipeline != pipeline.name:
        raise Conflict(f"search {search_id} is over the pipeline {search.pipeline!r}, not {pipeline.name!r}.")
    if search.code != code:
        raise Conflict(
            f"the code of pipeline {pipeline.name!r} is not what search {search_id} began with, so that its trials could not "
            "be compared. Start another search: steps that have not changed come from the cache."
        )
    elsewhere = _elsewhere(ws, executor)
    tracking.resume_run(ws, search.run)
    ws.write(lambda tx: store.update_search(tx, search_id, {"state": "running", "ended_at": None}))
    return _conduct(ws, search, pipeline, elsewhere, on_trial)


def _elsewhere(ws: Workspace, executor: str | None) -> Elsewhere:
    """How a trial comes to an executor elsewhere: each to one of its own; None: its steps run on this machine."""
    name = executor or ws.settings.executor
    if name in ("inline", "processes"):
        return None
    pipelines.executor_named(ws.settings, name)  # what is wrong with it is told before anything is written
    return lambda: pipelines.executor_named(ws.settings, name)


def _conduct(
    ws: Workspace,
    search: Search,
    pipeline: Pipeline[..., Any],
    elsewhere: Elsewhere,
    on_trial: OnTrial | None,
) -> Search:
    with _alone(ws, search.id):
        try:
            with _held(elsewhere):
                _Conductor(ws, search, pipeline, elsewhere, on_trial or _unheard).run()
            _end(ws, search.id)
        except EverloopError as error:
            _fail(ws, search, str(error))
            raise
    return find(ws, search.id)


@contextmanager
def _held(elsewhere: Elsewhere) -> Iterator[None]:
    """What the executors of trials connect to is there for all of them: no cluster is started for each."""
    if elsewhere is None:
        yield
        return
    with closing(elsewhere()) as one:
        _ = one.slots  # to know them it connects
        yield


@contextmanager
def _alone(ws: Workspace, search_id: str) -> Iterator[None]:
    """Hold the search, as long as this process lives. Raises NotReady when another one does."""
    place = ws.home.absolute() / "searches" / f"{search_id}.lock"
    place.parent.mkdir(exist_ok=True)
    with place.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotReady(f"search {search_id} is being run by another process. Wait for it.") from None
        yield
        place.unlink(missing_ok=True)


def _end(ws: Workspace, search_id: str) -> None:
    search = find(ws, search_id)
    best = search.best
    if best is None or best.value is None:
        told = next((one.told for one in trials(ws, search_id) if one.told), "it had none")
        raise Invalid(f"no trial of search {search_id} came to its end. The first: {told}")
    tracking.log_metrics(ws, search.run, {search.plan.by: best.value})
    message = f"Search {search.name}: {search.plan.by} {best.value:.4g} with {_shown(best.params)} (trial {best.number})"

    def change(tx: Tx) -> None:
        store.update_search(tx, search_id, {"state": "done", "ended_at": ws.now()})
        tracking.finish_run_in(ws, tx, search.run)
        payload = {"search": search_id, "params": dict(best.params)}
        events.emit(ws, tx, "search.done", Node("run", search.run), message=message, payload=payload)

    ws.write(change)


def _fail(ws: Workspace, search: Search, error: str) -> None:
    def change(tx: Tx) -> None:
        store.update_search(tx, search.id, {"state": "failed", "ended_at": ws.now()})
        tracking.finish_run_in(ws, tx, search.run, "failed", error=error)

    ws.write(change)


@dataclass
class _Watched:
    """A trial that runs, or ran, and what it has told of the measure: higher is better, whatever the measure says."""

    run: str
    history: dict[int, float] = field(default_factory=dict)
    read: int = 0
    is_running: bool = False
    stopped: str | None = None


class _Conductor:
    """Hands out trials to threads, and watches those that run."""

    def __init__(
        self,
        ws: Workspace,
        search: Search,
        pipeline: Pipeline[..., Any],
        elsewhere: Elsewhere,
        on_trial: OnTrial,
    ) -> None:
        self._elsewhere = elsewhere
        self._ws, self._search, self._plan = ws, search, search.plan
        self._pipeline, self._on_trial = pipeline, on_trial
        self._searcher = searcher_of(search.plan)
        self._guard = threading.Lock()
        self._is_over = threading.Event()
        known = trials(ws, search.id)
        self._cut_off = [one for one in known if one.state == "running"]
        self._watched = {one.number: self._seen(one) for one in known}
        self._shared = self._in_common(known)
        self._is_shared = threading.Event()
        if not self._shared:
            self._is_shared.set()

    def run(self) -> None:
        watch = threading.Thread(target=self._watch, name="everloop-search", daemon=True)
        watch.start()
        try:
            with ThreadPoolExecutor(self._plan.parallel, thread_name_prefix="everloop-trial") as pool:
                working = [
                    pool.submit(self._work, is_first=number == 0) for number in range(self._plan.parallel)
                ]
                try:
                    wait(working, return_when=FIRST_EXCEPTION)
                finally:  # also on Ctrl-C: those that run come to their end, and no other begins
                    self._is_over.set()
                    self._is_shared.set()
            for one in working:
                one.result()
        finally:
            self._is_over.set()
            watch.join()

    def _work(self, *, is_first: bool) -> None:
        if not is_first:
            self._is_shared.wait()
        while (trial := self._next()) is not None:
            self._on_trial(trial)
            self._on_trial(self._ended(trial))
            self._is_shared.set()

    def _next(self) -> Trial | None:
        """The trial to run now: one that was cut off, else a new one, written down before it begins."""
        with self._guard:
            if self._is_over.is_set():
                return None
            if self._cut_off:
                trial = self._cut_off.pop(0)
            else:
                known = trials(self._ws, self._search.id)
                number = len(known)
                if self._plan.trials is not None and number >= self._plan.trials:
                    return None
                params = self._searcher.propose(number, known)
                if params is None:
                    return None
                trial = Trial(number, new_id("run"), params, "running", None, None, None)
                self._ws.write(lambda tx: store.insert_trial(tx, self._search.id, trial))
                self._watched[number] = _Watched(trial.run)
            self._watched[trial.number].is_running = True
            return trial

    def _ended(self, trial: Trial) -> Trial:
        """Run a trial and write down what came of it."""
        watched = self._watched[trial.number]
        try:
            self._run(trial)
            ended = replace(trial, state="done", value=self._value(trial.run))
        except StepFailed as error:
            ended = replace(trial, state="failed", told=str(error).strip())
        except (LostLease, Conflict):
            run = pipelines.pipeline_run(self._ws, trial.run)
            if run.state != "cancelled":
                raise
            ended = replace(trial, state="stopped", told=run.error)
        except Invalid as error:  # it would be so in every other trial
            self._write(replace(trial, state="failed", told=str(error)))
            raise
        finally:
            watched.is_running = False
        if watched.history:
            last = max(watched.history)
            ended = replace(ended, reached=last)
            if ended.state == "stopped":
                ended = replace(ended, value=self._signed(watched.history[last]))
        self._write(ended)
        return ended

    def _write(self, ended: Trial) -> None:
        values = {name: getattr(ended, name) for name in ("state", "value", "reached", "told")}
        self._ws.write(lambda tx: store.update_trial(tx, self._search.id, ended.number, values))

    def _run(self, trial: Trial) -> None:
        params = {**(self._plan.params or {}), **trial.params}
        pipelines.run_pipeline(
            self._ws,
            self._pipeline,
            params=params,
            reason=f"trial {trial.number} of search {self._search.id}: {_shown(trial.params)}",
            run_id=trial.run,
            executor=self._executor(),
            on_progress=lambda told: self._heard(trial, told),
            parent=self._search.run,
        )

    def _executor(self) -> Executor | None:
        if self._elsewhere is not None:
            return self._elsewhere()
        if self._plan.parallel == 1:
            return None
        return Processes(max(1, (os.cpu_count() or 1) // self._plan.parallel))

    def _heard(self, trial: Trial, told: Progress) -> None:
        if told.kind in _ENDED:
            self._collect(trial.number)  # while what it told is there: its folder goes with the run's end
            with self._guard:
                self._shared.discard(told.node)
                if not self._shared:
                    self._is_shared.set()

    def _value(self, run_id: str) -> float:
        """The measure of a finished run: among the metrics of the model it returned, or in what it returned."""
        by = self._plan.by
        run = pipelines.pipeline_run(self._ws, run_id)
        returned = run.plan["output"].get("node")
        metrics = next((one.output.metrics for one in run.steps if one.output and one.node == returned), {})
        found: Any = metrics.get(by)
        if found is None:
            made = pipelines.result(self._ws, run_id)
            found = made.get(by) if isinstance(made, Mapping) else made
        if isinstance(found, bool) or not isinstance(found, int | float) or math.isnan(found):
            raise Invalid(
                f"run {run_id} of pipeline {self._pipeline.name!r} gave {by!r} as {found!r}; a search needs a number: a metric "
                f"of the model that it returns, or a number, or a dictionary with {by!r}."
            )
        return float(found)

    def _watch(self) -> None:
        while not self._is_over.wait(_LOOK_EVERY_S):
            for number in [number for number, one in list(self._watched.items()) if one.is_running]:
                self._collect(number)
                self._judge(number)

    def _collect(self, number: int) -> None:
        """Take in what a trial has told since the last look."""
        with self._guard:
            watched = self._watched[number]
            told = pipelines.reports_of(self._ws, watched.run)[watched.read :]
            for report in told:
                tracking.log_metrics(self._ws, watched.run, report.metrics, step=report.step)
                if self._plan.by in report.metrics:
                    watched.history[report.step] = self._signed(report.metrics[self._plan.by])
            watched.read += len(told)

    def _judge(self, number: int) -> None:
        own = self._watched[number]
        if self._plan.stop is None or own.stopped is not None:
            return
        others = [one.history for other, one in self._watched.items() if other != number and one.history]
        own.stopped = self._plan.stop.verdict(own.history, others)
        if own.stopped is not None:
            with suppress(Conflict):  # it has just ended by itself
                pipelines.cancel(self._ws, own.run, reason=f"stopped early: {own.stopped}")

    def _seen(self, trial: Trial) -> _Watched:
        """A trial of before, with what it told."""
        try:
            points = tracking.metric_history(self._ws, trial.run, self._plan.by, limit=_MOST_POINTS)
        except NotFound:  # it was written down, and its process died before the run began
            points = []
        return _Watched(trial.run, {one.step: self._signed(one.value) for one in points})

    def _signed(self, value: float) -> float:
        return value if self._plan.highest else -value

    def _in_common(self, known: Sequence[Trial]) -> set[str]:
        """The steps that the first two trials have in common, which the first is let make alone."""
        if self._plan.parallel == 1 or known:
            return set()
        first = self._searcher.propose(0, [])
        second = self._searcher.propose(1, [])
        if first is None or second is None:
            return set()
        given = self._plan.params or {}
        one, other = self._pipeline.trace({**given, **first}), self._pipeline.trace({**given, **second})
        there = {node.name: node for node in other.nodes}
        common: set[str] = set()
        for node in one.nodes:  # in the order of the calls: what a node takes comes before it
            twin = there.get(node.name)
            is_same = twin is not None and (node.step, dict(node.bindings), node.guards) == (
                twin.step,
                dict(twin.bindings),
                twin.guards,
            )
            if is_same and set(node.needs) <= common:
                common.add(node.name)
        return common if len(common) < len(one.nodes) else set()


def _example(plan: Plan, known: Sequence[Trial]) -> dict[str, Any]:
    return {**(plan.params or {}), **(searcher_of(plan).propose(0, known) or {})}


def _shown(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in params.items())


def _unheard(_trial: Trial) -> None:
    """Nobody asked to be told."""
