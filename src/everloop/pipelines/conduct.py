"""Carrying a run that is this process's from where it stands to its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from everloop import clock, events, tracking
from everloop.errors import Invalid, LostLease, NotReady, StepFailed
from everloop.ledger import Node, link
from everloop.pipelines.claim import beating, lease_end, scratch_of
from everloop.pipelines.executors import Executor, Work
from everloop.pipelines.graph import Graph
from everloop.pipelines.journal import Journal
from everloop.pipelines.lean import able
from everloop.pipelines.place import Place
from everloop.pipelines.plan import Plan, leaves
from everloop.pipelines.reading import pipeline_run
from everloop.pipelines.records import OnProgress, PipelineRun, Progress
from everloop.pipelines.runner import Runner
from everloop.pipelines.snapshot import check_out, imported_from
from everloop.pipelines.tracked import describe
from everloop.storage import Tx
from everloop.workspace import Workspace


def conduct(
    ws: Workspace,
    run: PipelineRun,
    executor: Executor,
    *,
    graph: Graph | None,
    on_progress: OnProgress | None,
    lease_s: float,
    place: Place | None = None,
) -> PipelineRun:
    """Run what is left of a run and write its end; `graph` is None when this process did not trace it.

    With a `place` its steps run there, in processes of their own.

    Raises
    ------
    StepFailed, LostLease, NotReady
        As `run_pipeline`.
    """
    begun = clock.elapsed_s()
    journal = Journal(ws, run.id, run.token)
    plan = Plan.from_json(run.plan)
    code = _code_of(ws, run, place)
    executor = able(executor, plan)
    if graph is None and executor.in_process:
        graph = _traced_here(plan, code)
    runner = Runner(
        journal,
        _work(ws, run, plan, graph, code, place),
        executor,
        environment=run.environment if place is not None else tracking.capture_environment(ws).digest,
        pins=run.pins,
        attempts=run.steps,
        on_progress=on_progress,
    )

    def beat() -> bool:
        state = journal.renew(lambda now: lease_end(now, lease_s))
        if state == "pausing":
            runner.pause()
        return state is not None

    on_progress = on_progress or _unheard
    on_progress(Progress("run_started", run.id, "", plan.pipeline, runner.told, runner.total))
    try:
        with beating(beat, runner.lose, lease_s=lease_s):
            runner.run()
            if runner.is_paused:
                journal.pause()
            else:
                write_end(ws, journal, plan, runner)
    except BaseException as error:
        executor.stop()
        if not isinstance(error, LostLease):
            journal.release()
        raise
    finally:
        executor.close()
    seconds, failure = clock.elapsed_s() - begun, runner.error
    done, total = runner.told, runner.total
    if runner.is_paused:
        raise NotReady(
            f"run {run.id} of pipeline {plan.pipeline} is paused. Go on: everloop runs resume {run.id}"
        )
    on_progress(Progress("run_ended", run.id, "", plan.pipeline, done, total, seconds, failure or ""))
    if failure is not None:
        raise StepFailed(
            f"run {run.id} of pipeline {plan.pipeline}: {failure}\nMend the step and run the pipeline again: finished "
            "steps come from the cache.",
            run_id=run.id,
        )
    return pipeline_run(ws, run.id)


def _code_of(ws: Workspace, run: PipelineRun, place: Place | None) -> Path | None:
    if place is not None:
        return place.code
    return None if run.code is None else check_out(ws, run.code)


def _work(
    ws: Workspace, run: PipelineRun, plan: Plan, graph: Graph | None, code: Path | None, place: Place | None
) -> Work:
    work = Work(ws, plan, graph, code, scratch_of(ws, run.id, token=run.token))
    return work if place is None else replace(work, python=place.python, variables=place.variables)


def write_end(ws: Workspace, journal: Journal, plan: Plan, runner: Runner) -> None:
    """Write the run's end, its result's lineage and what is told of it, power-safe, in one transaction."""
    error, target = runner.error, Node("run", journal.run)
    output = runner.outputs.get(plan.output.get("node", ""))
    if error is None and output is not None and output.metrics:
        describe(ws, journal.run, output)  # so that runs can be compared by their results

    def then(tx: Tx) -> None:
        if error is not None:
            tracking.finish_run_in(ws, tx, journal.run, "failed", error=error)
            message = f"{plan.pipeline}: {error.splitlines()[0]}"
            if plan.repeats is None:
                events.emit(
                    ws, tx, "pipeline.failed", target, message=message, level="failed", topic=plan.pipeline
                )
            return
        tracking.finish_run_in(ws, tx, journal.run)
        for leaf in leaves([plan.output]):
            if "node" in leaf:
                link(tx, Node("step", runner.made[leaf["node"]]), target, role="result", at=ws.now())
        message = f"{plan.pipeline} is done, {len(plan.steps)} steps."
        if plan.repeats is None:  # nobody is to act on a rerun's end
            events.emit(ws, tx, "pipeline.done", target, message=message, topic=plan.pipeline)

    journal.finish(then=then, state="done" if error is None else "failed", error=error)


def _traced_here(plan: Plan, code: Path | None) -> Graph:
    """The graph, from the run's code imported into this process."""
    if code is None:
        raise Invalid(
            f"{plan.entry} is not in a file, so its run cannot be taken over by another process. Run it again: finished "
            "steps come from the cache."
        )
    return imported_from(code, plan).trace(plan.params)


def _unheard(_progress: Progress) -> None:
    """Nobody asked to be told."""
