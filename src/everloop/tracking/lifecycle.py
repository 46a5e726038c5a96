"""Starting, ending and finding runs, and the experiments they are kept under."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everloop.errors import Conflict, Invalid, NotFound
from everloop.ids import new_id, prefix_of
from everloop.ledger import Node, link
from everloop.storage import Tx
from everloop.tracking import store
from everloop.tracking.records import (
    DEFAULT_EXPERIMENT,
    PARAM_LENGTH,
    TAG_LENGTH,
    Code,
    Environment,
    Experiment,
    Run,
    RunKind,
    RunStatus,
    check_name,
    check_texts,
)
from everloop.workspace import Workspace

_ERROR_LENGTH = 20_000  # of a traceback: enough to see where and why


def start_run(
    ws: Workspace,
    *,
    experiment: str = DEFAULT_EXPERIMENT,
    name: str | None = None,
    parent: str | None = None,
    kind: RunKind = "run",
    code: Code | None = None,
    environment: Environment | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
) -> Run:
    """Begin a run, in a transaction of its own; see `start_run_in`."""
    return ws.write(
        lambda tx: start_run_in(
            ws,
            tx,
            experiment=experiment,
            name=name,
            parent=parent,
            kind=kind,
            code=code,
            environment=environment,
            params=params,
            tags=tags,
            run_id=run_id,
        )
    )


def start_run_in(
    ws: Workspace,
    tx: Tx,
    *,
    experiment: str = DEFAULT_EXPERIMENT,
    name: str | None = None,
    parent: str | None = None,
    kind: RunKind = "run",
    code: Code | None = None,
    environment: Environment | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    run_id: str | None = None,
) -> Run:
    """Begin a run in the caller's transaction; writes `run`, `run_param`, `run_tag` and its lineage.

    Parameters
    ----------
    experiment
        Created when there is none of this name.
    name
        None: the kind and the end of the id.
    parent
        Id of the run that this one is part of.
    code, environment
        As captured before.
    params
        What it is told to do; see `log_params`.
    run_id
        An id made with `ids.new_id("run")`; None makes one.

    Raises
    ------
    Invalid
        A name, a parameter or a tag is too long, or `run_id` is no run's id.
    NotFound
        There is no run `parent`.
    Conflict
        There is a run of this id.
    """
    run_id = _free_id(tx, run_id)
    if parent is not None:
        need_run(tx, parent)
    begun = Run(
        id=run_id,
        experiment=experiment,
        name=check_name("a run", name or f"{kind}-{run_id[-8:]}"),
        kind=kind,
        status="running",
        parent=parent,
        actor=ws.actor,
        started_at=ws.now(),
        ended_at=None,
        error=None,
        code=code.digest if code else None,
        environment=environment.digest if environment else None,
        tags=check_texts("a tag", tags or {}, length=TAG_LENGTH),
        params=check_texts("a parameter", params or {}, length=PARAM_LENGTH),
    )
    store.insert_run(tx, begun, experiment=_experiment(ws, tx, experiment))
    if begun.params:
        store.add_texts(tx, store.params, run_id, begun.params)
    if begun.tags:
        store.put_texts(tx, store.tags, run_id, begun.tags)
    _link_sources(tx, begun)
    return begun


def finish_run(
    ws: Workspace, run_id: str, status: RunStatus = "finished", *, error: str | None = None
) -> None:
    """End a run, in a transaction of its own; see `finish_run_in`."""
    ws.write(lambda tx: finish_run_in(ws, tx, run_id, status, error=error))


def finish_run_in(
    ws: Workspace, tx: Tx, run_id: str, status: RunStatus = "finished", *, error: str | None = None
) -> None:
    """End a run in the caller's transaction. Ending it again in the same way changes nothing.

    Raises
    ------
    NotFound
        There is no such run.
    Conflict
        It ended in another way.
    Invalid
        The status is no end.
    """
    if status not in ("finished", "failed", "killed"):
        raise Invalid(f"{status!r} is no end of a run; it ends finished, failed or killed.")
    found = store.status_of(tx, run_id)
    if found is None:
        raise unknown_run(run_id)
    if found == status:
        return
    if found != "running":
        raise Conflict(
            f"run {run_id} is {found} and cannot end as {status}: a run ends once. Resume it first if it goes on."
        )
    ended = {"status": status, "ended_at": ws.now(), "error": error and error[-_ERROR_LENGTH:]}
    store.update_run(tx, run_id, ended)


def resume_run(ws: Workspace, run_id: str) -> Run:
    """Let a run that ended, or was cut off, go on: it is running again and its error is forgotten. Raises NotFound."""
    going_on = {"status": "running", "ended_at": None, "error": None}

    def change(tx: Tx) -> None:
        need_run(tx, run_id)
        store.update_run(tx, run_id, going_on)

    ws.write(change)
    return run(ws, run_id)


def run(ws: Workspace, run_id: str) -> Run:
    """One run with its parameters, newest metrics and tags. Raises NotFound."""
    with ws.read() as connection:
        found = store.run_by_id(connection, run_id)
    if found is None:
        raise unknown_run(run_id)
    return found


def runs(
    ws: Workspace,
    *,
    experiment: str | None = None,
    kind: RunKind | None = None,
    parent: str | None = None,
    before: str | None = None,
    limit: int = 100,
) -> list[Run]:
    """Runs, newest first, at most `limit`; the next page is asked for with `before` the last run's id."""
    with ws.read() as connection:
        return store.newest_runs(
            connection, experiment=experiment, kind=kind, parent=parent, before=before, limit=limit
        )


def experiments(ws: Workspace) -> list[Experiment]:
    """All experiments, oldest first; the first is the one for runs that name none."""
    with ws.read() as connection:
        return store.all_experiments(connection)


def _link_sources(tx: Tx, begun: Run) -> None:
    target = Node("run", begun.id)
    if begun.parent:
        link(tx, Node("run", begun.parent), target, role="parent", at=begun.started_at)
    if begun.code:
        link(tx, Node("code", begun.code), target, role="code", at=begun.started_at)
    if begun.environment:
        link(tx, Node("environment", begun.environment), target, role="environment", at=begun.started_at)


def need_run(tx: Tx, run_id: str) -> None:
    """Raise NotFound unless there is such a run."""
    if not store.has_run(tx.connection, run_id):
        raise unknown_run(run_id)


def unknown_run(run_id: str) -> NotFound:
    return NotFound(f"there is no run {run_id!r}. 'everloop runs list' shows the newest.")


def _experiment(ws: Workspace, tx: Tx, name: str) -> Experiment:
    """The experiment of this name, made now if there is none."""
    if (known := store.experiment_by_name(tx.connection, name)) is not None:
        return known
    check_name("an experiment", name)
    tx.lock("tracking.experiment")
    known = store.experiment_by_name(tx.connection, name)
    return known or store.insert_experiment(tx, name, created_at=ws.now())


def _free_id(tx: Tx, run_id: str | None) -> str:
    if run_id is None:
        return new_id("run")
    if prefix_of(run_id) != "run":
        raise Invalid(f"{run_id!r} is no run's id; one begins with run_. Make it with new_id('run').")
    if store.has_run(tx.connection, run_id):
        raise Conflict(f"there is a run {run_id} already. Resume it, or start one without naming its id.")
    return run_id
