"""Models that clients log before anybody registers them: made, filled with files, found, tagged, deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from everloop.errors import Conflict, Invalid, NotFound
from everloop.ids import new_model_id
from everloop.ledger import Node, link
from everloop.storage import Tx
from everloop.tracking import model_store
from everloop.tracking.filters import Grammar, parse_filter
from everloop.tracking.grouping import need_experiment
from everloop.tracking.lifecycle import need_run
from everloop.tracking.model_store import ATTRIBUTES, DatasetOfMetric, ModelOrder
from everloop.tracking.places import uri_for
from everloop.tracking.records import NAME_LENGTH, LoggedModel, ModelStatus, check_name, check_texts
from everloop.tracking.searching import Page, check_limit, page_of, position_of
from everloop.workspace import Workspace

_TEXT_LENGTH = 65_535  # of a parameter or a tag: MLflow's column holds as much
_NOT_IN_NAMES = frozenset("/:.%\"'")  # as MLflow says: a name may stand in a URI
_MOST_ORDERS = 20
_TIMES = {"creation_timestamp", "last_updated_timestamp"}
_OTHER_NAMES = {
    "creation_time": "creation_timestamp",
    "creation_timestamp_ms": "creation_timestamp",
    "last_updated_timestamp_ms": "last_updated_timestamp",
}
MODEL_GRAMMAR = Grammar(
    texts=sorted(ATTRIBUTES.keys() - _TIMES),
    numbers=sorted(_TIMES),
    kinds=("attribute", "metric", "param", "tag"),
    aliases=_OTHER_NAMES,
)


def log_model(
    ws: Workspace,
    experiment_id: int,
    *,
    name: str | None = None,
    kind: str | None = None,
    run: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> LoggedModel:
    """Begin a logged model, whose files follow; `finish_logged_model` says that they are there.

    Writes `logged_model`, its parameters and tags, and the lineage from the run that made it.

    Raises
    ------
    Invalid
        The name, a parameter or a tag cannot be stored.
    NotFound, Conflict
        There is no such experiment or run, or it is deleted.
    """
    model_id = new_model_id()
    name = _check_name(name or f"model-{model_id[-8:]}")
    if kind is not None and len(kind) > NAME_LENGTH:
        raise Invalid(f"the type {kind[:40]!r}... has {len(kind)} characters; {NAME_LENGTH} is the most.")
    made = LoggedModel(
        id=model_id,
        experiment_id=experiment_id,
        name=name,
        kind=kind,
        status="pending",
        run=run,
        actor=ws.actor,
        created_at=ws.now(),
        updated_at=ws.now(),
        params=check_texts("a parameter", params or {}, length=_TEXT_LENGTH),
        tags=check_texts("a tag", tags or {}, length=_TEXT_LENGTH),
    )

    def change(tx: Tx) -> LoggedModel:
        experiment = need_experiment(tx, experiment_id)
        placed = replace(made, artifact_uri=uri_for(ws.settings, experiment, model_id))
        if run is not None:
            need_run(tx, run)
        model_store.insert(tx, placed)
        if made.params:
            model_store.add_params(tx, model_id, made.params)
        if made.tags:
            model_store.put_tags(tx, model_id, made.tags)
        if run is not None:
            link(tx, Node("run", run), Node("logged_model", model_id), role="model", at=made.created_at)
        return placed

    return ws.write(change)


def finish_logged_model(ws: Workspace, model_id: str, status: ModelStatus) -> LoggedModel:
    """Say that a model's files are there, or that they could not be written. Raises NotFound, Conflict, Invalid."""
    if status == "pending" or status not in get_args(ModelStatus):
        raise Invalid(f"{status!r} is no end of logging a model; it ends ready or upload_failed.")
    _change(ws, model_id, lambda tx: model_store.update(tx, model_id, {"status": status}))
    return logged_model(ws, model_id)


def log_model_params(ws: Workspace, model_id: str, values: Mapping[str, Any]) -> None:
    """Write down parameters of a model, which do not change any more. All or none are kept.

    Raises
    ------
    Conflict
        One has another value already, or the model is deleted.
    Invalid, NotFound
        A name or value cannot be stored; there is no such model.
    """
    texts = check_texts("a parameter", values, length=_TEXT_LENGTH)

    def add(tx: Tx) -> None:
        stored = model_store.add_params(tx, model_id, texts)
        if changed := [name for name, text in texts.items() if stored[name] != text]:
            raise Conflict(
                f"the parameter {changed[0]!r} of logged model {model_id} has another value already, and parameters do not "
                "change. Log another model, or use a tag."
            )

    if texts:
        _change(ws, model_id, add)


def tag_logged_model(ws: Workspace, model_id: str, values: Mapping[str, str]) -> None:
    """Set tags of a model; a tag may change. Raises Invalid, NotFound, Conflict."""
    texts = check_texts("a tag", values, length=_TEXT_LENGTH)
    if texts:
        _change(ws, model_id, lambda tx: model_store.put_tags(tx, model_id, texts))


def untag_logged_model(ws: Workspace, model_id: str, name: str) -> None:
    """Remove a tag of a model. Raises NotFound for one that is not there, and Conflict."""

    def remove(tx: Tx) -> None:
        if not model_store.remove_tag(tx, model_id, name):
            raise NotFound(f"logged model {model_id} has no tag {name[:60]!r}.")

    _change(ws, model_id, remove)


def delete_logged_model(ws: Workspace, model_id: str) -> None:
    """Mark a model as deleted; versions that are registered from it keep their files. Raises NotFound."""

    def change(tx: Tx) -> None:
        if model_store.state_of(tx, model_id) is None:
            raise unknown_model(model_id)
        model_store.update(tx, model_id, {"deleted_at": ws.now(), "updated_at": ws.now()})

    ws.write(change)


def logged_model(ws: Workspace, model_id: str, *, or_deleted: bool = False) -> LoggedModel:
    """One logged model. Raises NotFound, also for a deleted one unless it is asked for."""
    with ws.read() as connection:
        found = model_store.model_by_id(connection, model_id)
    if found is None or (found.deleted_at is not None and not or_deleted):
        raise unknown_model(model_id)
    return found


def models_of_run(ws: Workspace, run_id: str) -> list[LoggedModel]:
    """The models that a run made, oldest first, without those that are deleted."""
    with ws.read() as connection:
        return model_store.models_of_run(connection, run_id)


def search_logged_models(
    ws: Workspace,
    *,
    experiment_ids: Sequence[int],
    filter_text: str | None = None,
    datasets: Sequence[DatasetOfMetric] = (),
    order_by: Sequence[ModelOrder] = (),
    limit: int = 100,
    token: str | None = None,
) -> Page[LoggedModel]:
    """Logged models of some experiments that meet a filter in MLflow's language, in order, then newest first.

    A metric's condition holds where any of its points meets it; with `datasets`, any that was measured on one of them.
    Ordered is by a metric's newest point. Raises Invalid as `search_runs`.
    """
    conditions = parse_filter(filter_text, MODEL_GRAMMAR)
    offset = position_of(token)
    check_limit(limit)
    with ws.read() as connection:
        found = model_store.found_models(
            connection,
            conditions,
            _checked(order_by),
            experiment_ids=experiment_ids,
            datasets=datasets,
            offset=offset,
            limit=limit + 1,
        )
    return page_of(found, offset, limit)


def need_model(tx: Tx, model_id: str) -> None:
    """Raise NotFound unless there is such a model, and Conflict when it is deleted: then nothing is added to it."""
    state = model_store.state_of(tx, model_id)
    if state is None:
        raise unknown_model(model_id)
    if state[0] is not None:
        raise Conflict(f"logged model {model_id} is deleted and takes nothing more. Log another.")


def unknown_model(model_id: str) -> NotFound:
    return NotFound(
        f"there is no logged model {model_id[:60]!r}. 'everloop runs show RUN' lists those of a run."
    )


def _change(ws: Workspace, model_id: str, act: Callable[[Tx], None]) -> None:
    def change(tx: Tx) -> None:
        need_model(tx, model_id)
        act(tx)
        model_store.update(tx, model_id, {"updated_at": ws.now()})

    ws.write(change)


def _check_name(name: str) -> str:
    check_name("a logged model", name)
    if not _NOT_IN_NAMES.isdisjoint(name):
        raise Invalid(
            f"{name[:60]!r} cannot name a logged model: a name holds none of {' '.join(sorted(_NOT_IN_NAMES))}. "
            "Choose another one."
        )
    return name


def _checked(orders: Sequence[ModelOrder]) -> list[ModelOrder]:
    if len(orders) > _MOST_ORDERS:
        raise Invalid(f"there are {len(orders)} things to order by; {_MOST_ORDERS} is the most. Name fewer.")
    named = [
        one if one.is_metric else replace(one, name=_OTHER_NAMES.get(one.name, one.name)) for one in orders
    ]
    for one in named:
        if not one.is_metric and one.name not in ATTRIBUTES:
            raise Invalid(
                f"logged models cannot be ordered by {one.name[:60]!r}; they can by {', '.join(ATTRIBUTES)} and by "
                "metrics.NAME."
            )
    return named
