"""Starting, ending, changing and finding runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from everloop.errors import Conflict, Invalid, NotFound
from everloop.ids import new_id, prefix_of
from everloop.ledger import Node, link
from everloop.storage import Tx
from everloop.tracking import store
from everloop.tracking.grouping import experiment_for, need_experiment
from everloop.tracking.places import uri_for
from everloop.tracking.records import (
    DEFAULT_EXPERIMENT,
    ENDS,
    NAME_LENGTH,
    NAME_TAG,
    PARAM_LENGTH,
    PARENT_TAG,
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
        There is a run of this id, or the experiment is deleted.
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
    _begin(tx, begun, experiment_for(ws, tx, experiment))
    return begun


def start_client_run(
    ws: Workspace,
    experiment_id: int,
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    started_at: datetime | None = None,
    client_user: str | None = None,
) -> Run:
    """Begin a run as a client of MLflow's asks for it: below a number, from its own clock, its files where it keeps them.

    Among the tags may be those that name the run and its parent. Raises Invalid, NotFound, and Conflict for an
    experiment that is deleted.
    """
    texts = check_texts("a tag", tags or {}, length=TAG_LENGTH)
    run_id = new_id("run")
    name = name or texts.pop(NAME_TAG, None) or f"run-{run_id[-8:]}"
    texts.pop(NAME_TAG, None)
    above = texts.pop(PARENT_TAG, None)
    check_name("a run", name)
    if client_user is not None and len(client_user) > NAME_LENGTH:
        raise Invalid(f"the user has {len(client_user)} characters; {NAME_LENGTH} is the most.")

    def change(tx: Tx) -> Run:
        experiment = need_experiment(tx, experiment_id)
        begun = Run(
            id=run_id,
            experiment=experiment.name,
            name=name,
            kind="run",
            status="running",
            parent=None if above is None else parent_of(tx, run_id, above),
            actor=ws.actor,
            started_at=started_at or ws.now(),
            ended_at=None,
            error=None,
            code=None,
            environment=None,
            client_user=client_user,
            artifact_uri=uri_for(ws.settings, experiment, run_id),
            tags=texts,
        )
        _begin(tx, begun, experiment)
        return begun

    return ws.write(change)


def change_run(
    ws: Workspace,
    run_id: str,
    *,
    status: RunStatus | None = None,
    ended_at: datetime | None = None,
    name: str | None = None,
) -> None:
    """Change what a client may say of a run as often as it likes: how it stands, when it ended, its name.

    Raises
    ------
    Conflict
        The run is deleted, or its status is a pipeline's to say.
    Invalid, NotFound
        The name cannot be stored; there is no such run.
    """
    values: dict[str, Any] = {}
    if name is not None:
        values["name"] = check_name("a run", name)

    def change(tx: Tx) -> None:
        kind, stands, _ = need_run(tx, run_id)
        changed = dict(values)
        if status is not None and status != stands:
            if kind != "run":
                raise Conflict(
                    f"run {run_id} is a pipeline's, which says itself how it stands. Log to it as you like, and leave its "
                    "status alone."
                )
            ends = ended_at or ws.now()
            changed |= {"status": status, "ended_at": ends if status in ENDS else None, "error": None}
        elif ended_at is not None and kind == "run" and stands in ENDS:
            changed["ended_at"] = ended_at
        if changed:
            store.update_run(tx, run_id, changed)

    ws.write(change)


def delete_run(ws: Workspace, run_id: str) -> None:
    """Mark a run as deleted; `restore_run` brings it back. Doing it again changes nothing.

    Raises NotFound, and Conflict for a pipeline's run that goes on, which would find nothing to write to.
    """

    def change(tx: Tx) -> None:
        kind, status, deleted_at = _state(tx, run_id)
        if kind != "run" and status == "running":
            raise Conflict(
                f"run {run_id} is a pipeline's and goes on. Cancel it first, or wait until it has ended."
            )
        if deleted_at is None:
            store.update_run(tx, run_id, {"deleted_at": ws.now()})

    ws.write(change)


def restore_run(ws: Workspace, run_id: str) -> None:
    """Bring a deleted run back. Raises NotFound."""

    def change(tx: Tx) -> None:
        _state(tx, run_id)
        store.update_run(tx, run_id, {"deleted_at": None})

    ws.write(change)


def parent_of(tx: Tx, run_id: str, told: str) -> str:
    """The id of the run that a client names as the parent of another. Raises NotFound, Invalid for the run itself."""
    above = told if told.startswith("run_") else f"run_{told}"
    if above == run_id:
        raise Invalid(f"run {run_id} cannot be part of itself. Name the run that it is part of.")
    if not store.has_run(tx.connection, above):
        raise unknown_run(above)
    return above


def _begin(tx: Tx, begun: Run, experiment: Experiment) -> None:
    store.insert_run(tx, begun, experiment=experiment)
    if begun.params:
        store.add_texts(tx, store.params, begun.id, begun.params)
    if begun.tags:
        store.put_texts(tx, store.tags, begun.id, begun.tags)
    _link_sources(tx, begun)


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
    if status not in ENDS:
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
    tag: str | None = None,
    before: str | None = None,
    limit: int = 100,
) -> list[Run]:
    """Runs that are not deleted, newest first, at most `limit`; the next page is asked for with `before` the last run's id.

    With `tag` those that have a tag of this name.
    """
    with ws.read() as connection:
        return store.newest_runs(
            connection, experiment=experiment, kind=kind, parent=parent, tag=tag, before=before, limit=limit
        )


def _link_sources(tx: Tx, begun: Run) -> None:
    target = Node("run", begun.id)
    if begun.parent:
        link(tx, Node("run", begun.parent), target, role="parent", at=begun.started_at)
    if begun.code:
        link(tx, Node("code", begun.code), target, role="code", at=begun.started_at)
    if begun.environment:
        link(tx, Node("environment", begun.environment), target, role="environment", at=begun.started_at)


def need_run(tx: Tx, run_id: str) -> tuple[str, str, datetime | None]:
    """A run's kind and status. Raises NotFound, and Conflict when it is deleted: then nothing is added to it."""
    state = _state(tx, run_id)
    if state[2] is not None:
        raise Conflict(f"run {run_id} is deleted and takes nothing more. Restore it first, or start another.")
    return state


def _state(tx: Tx, run_id: str) -> tuple[str, str, datetime | None]:
    state = store.state_of(tx, run_id)
    if state is None:
        raise unknown_run(run_id)
    return state


def unknown_run(run_id: str) -> NotFound:
    return NotFound(f"there is no run {run_id!r}. 'everloop runs list' shows the newest.")


def _free_id(tx: Tx, run_id: str | None) -> str:
    if run_id is None:
        return new_id("run")
    if prefix_of(run_id) != "run":
        raise Invalid(f"{run_id!r} is no run's id; one begins with run_. Make it with new_id('run').")
    if store.has_run(tx.connection, run_id):
        raise Conflict(f"there is a run {run_id} already. Resume it, or start one without naming its id.")
    return run_id
