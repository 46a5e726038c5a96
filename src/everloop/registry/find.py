"""Reading: models, versions, decisions, stages, releases."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from everloop.errors import NotFound
from everloop.registry import store
from everloop.registry.records import (
    Decision,
    ModelVersion,
    PointerKind,
    RegisteredModel,
    Release,
    StageEvent,
    parse_ref,
)
from everloop.workspace import Workspace


def models(ws: Workspace) -> list[RegisteredModel]:
    """All models, by name."""
    with ws.read() as connection:
        return store.all_models(connection)


def model(ws: Workspace, name: str) -> RegisteredModel:
    """A model by its name. Raises NotFound."""
    with ws.read() as connection:
        return need_model(connection, name)


def version(ws: Workspace, ref: str, *, even_deleted: bool = False) -> ModelVersion:
    """A version by `MODEL@NUMBER` or `MODEL@ALIAS`, or the newest by `MODEL`. Raises NotFound.

    With `even_deleted` also one that was deleted: where things come from is known of it all the same.
    """
    with ws.read() as connection:
        return need_version(connection, ref, even_deleted=even_deleted)


def versions(ws: Workspace, name: str, *, below: int | None = None, limit: int = 1000) -> list[ModelVersion]:
    """The versions of a model, or those below a number, newest first; none for a name that nothing was registered under."""
    with ws.read() as connection:
        return store.newest_versions(connection, name, below=below, limit=limit)


def version_of_run(ws: Workspace, name: str, run: str) -> ModelVersion | None:
    """The version that a run registered under a name, None when there is none."""
    with ws.read() as connection:
        return store.version_of_run(connection, name, run)


def versions_of_runs(ws: Workspace) -> dict[str, str]:
    """The newest version, as `MODEL@NUMBER`, that each run registered, by the run's id."""
    with ws.read() as connection:
        return store.versions_of_runs(connection)


def versions_made_by(ws: Workspace, run: str, logged_models: Sequence[str] = ()) -> list[ModelVersion]:
    """The versions that a run registered, or that were registered of models that it logged, oldest first."""
    with ws.read() as connection:
        return store.versions_made_by(connection, run, logged_models)


def versions_of_logged_models(ws: Workspace, ids: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    """Name and number of the versions that were registered from each logged model, oldest first; without such it is left out."""
    with ws.read() as connection:
        return store.versions_of_logged_models(connection, ids)


def version_before(ws: Workspace, ref: str) -> ModelVersion | None:
    """The version with the next lower number; None for the first. Raises NotFound."""
    with ws.read() as connection:
        found = need_version(connection, ref)
        before = store.newest_versions(connection, found.model, below=found.number, limit=1)
    return before[0] if before else None


def decisions(ws: Workspace, ref: str) -> list[Decision]:
    """Who approved or rejected a version, also one that was deleted, first first. Raises NotFound."""
    with ws.read() as connection:
        found = need_version(connection, ref, even_deleted=True)
        return store.decisions_of(connection, found.model, found.number)


def history(ws: Workspace, name: str, *, limit: int = 1000) -> list[StageEvent]:
    """Which version each stage and alias came to mean, when and by whom, newest first. Raises NotFound."""
    with ws.read() as connection:
        need_model(connection, name)
        return store.newest_events(connection, name, limit=limit)


def stages(ws: Workspace, name: str) -> dict[str, int]:
    """The number of the version in each stage now. Raises NotFound."""
    return _pointers(ws, name, "stage")


def aliases(ws: Workspace, name: str) -> dict[str, int]:
    """The number of the version that each alias means now. Raises NotFound."""
    return _pointers(ws, name, "alias")


def _pointers(ws: Workspace, name: str, kind: PointerKind) -> dict[str, int]:
    with ws.read() as connection:
        found = store.pointers_of(connection, name, kind)
        if not found:
            need_model(connection, name)
    return found


def version_in_stage(
    ws: Workspace, name: str, stage: str, *, at: datetime | None = None
) -> ModelVersion | None:
    """The version that is in a stage, or was at a domain time; None when there is or was none.

    Raises NotFound for an unknown model.
    """
    with ws.read() as connection:
        need_model(connection, name)
        event = store.pointer_at(connection, name, "stage", stage, at=at)
        if event is None or event.number is None:
            return None
        return store.version_by_number(connection, name, event.number)


def stays(ws: Workspace, ref: str, names: Collection[str]) -> dict[str, tuple[datetime, datetime | None]]:
    """From when to when a version was the last time in each of these stages that it was in; None while it is there.

    Raises NotFound.
    """
    with ws.read() as connection:
        found = need_version(connection, ref)
        known = {name: store.last_stay(connection, found.model, name, found.number) for name in names}
    return {name: stay for name, stay in known.items() if stay is not None}


def release_of(ws: Workspace, ref: str) -> Release:
    """The release of a version. Raises NotFound when the version is unknown or was not released."""
    with ws.read() as connection:
        found = need_version(connection, ref)
        release = store.release_by_version(connection, found.model, found.number)
    if release is None:
        raise NotFound(
            f"{found.ref} is not released; only a released version is served. Release it with: "
            f"everloop models release {found.ref}"
        )
    return release


def find_release(ws: Workspace, release_id: str) -> Release:
    """A release by its id. Raises NotFound."""
    with ws.read() as connection:
        release = store.release_by_id(connection, release_id)
    if release is None:
        raise NotFound(f"there is no release {release_id!r}. List a model's with: everloop models list")
    return release


def releases(ws: Workspace, name: str, *, limit: int = 100) -> list[Release]:
    """The releases of a model, newest first."""
    with ws.read() as connection:
        return store.newest_releases(connection, model=name, limit=limit)


def need_model(connection: Connection, name: str) -> RegisteredModel:
    found = store.model_by_name(connection, name)
    if found is None:
        raise NotFound(f"there is no model {name!r}. List them with: everloop models list")
    return found


def need_version(connection: Connection, ref: str, *, even_deleted: bool = False) -> ModelVersion:
    name, which = parse_ref(ref)
    if which is None:
        newest = store.newest_versions(connection, name, limit=1)
        found = newest[0] if newest else None
    else:
        alias = store.pointer_at(connection, name, "alias", which) if isinstance(which, str) else None
        number = which if isinstance(which, int) else 0 if alias is None else alias.number or 0
        found = store.version_by_number(connection, name, number, even_deleted=True)
    if found is not None and found.deleted_at is not None and not even_deleted:
        raise NotFound(
            f"model version {found.ref} was deleted at {found.deleted_at:%Y-%m-%d %H:%M}; its number is not given again. "
            f"Where it came from: everloop trace {found.ref}"
        )
    if found is None:
        raise NotFound(
            f"there is no model version {ref!r}; one is named MODEL@NUMBER or MODEL@ALIAS, for example category@2. "
            "List them with: everloop models list"
        )
    return found
