"""The tables of models, versions, decisions, stages and releases, and all SQL over them."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.checks import Gate
from everloop.features import FeatureView
from everloop.registry.records import (
    ApprovalRule,
    Decision,
    ModelVersion,
    PointerKind,
    RegisteredModel,
    Release,
    StageEvent,
    StagePolicy,
)
from everloop.serving import Manifest, Signature
from everloop.storage import Json, Tx, Utc, inserting, metadata

models = sa.Table(
    "model",
    metadata,
    sa.Column("name", sa.String(120), primary_key=True),
    sa.Column("approval", Json, nullable=False),
    sa.Column("gates", Json, nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("created_by", sa.String(120), nullable=False),
    sa.Column("stages", Json, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("updated_at", Utc),
    sa.Column("deleted_at", Utc),
)

# Rows stay when a version or a model is deleted: their numbers and what refers to them keep one meaning for good.
versions = sa.Table(
    "model_version",
    metadata,
    sa.Column("model", sa.String(120), sa.ForeignKey("model.name"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("run", sa.String(40)),
    sa.Column("files", Json, nullable=False),
    sa.Column("flavor", sa.String(20), nullable=False),
    sa.Column("signature", Json),
    sa.Column("features", Json, nullable=False),
    sa.Column("metrics", Json, nullable=False),
    sa.Column("data_version", sa.String(160)),
    sa.Column("label_snapshot", sa.String(64)),
    sa.Column("code", sa.String(64)),
    sa.Column("environment", sa.String(64)),
    sa.Column("trusted_types", Json, nullable=False),
    sa.Column("author", sa.String(120), nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("source", sa.Text),
    sa.Column("logged_model", sa.String(40)),
    sa.Column("run_link", sa.Text),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("updated_at", Utc),
    sa.Column("archived_at", Utc),
    sa.Column("deleted_at", Utc),
    sa.Index("ix_model_version_run", "run"),
    sa.Index("ix_model_version_logged_model", "logged_model"),
)

model_tags = sa.Table(
    "model_tag",
    metadata,
    sa.Column("model", sa.String(120), sa.ForeignKey("model.name"), primary_key=True),
    sa.Column("name", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

version_tags = sa.Table(
    "model_version_tag",
    metadata,
    sa.Column("model", sa.String(120), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(["model", "number"], ["model_version.model", "model_version.number"]),
)

decisions = sa.Table(
    "approval",
    metadata,
    sa.Column("model", sa.String(120), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("verdict", sa.String(8), nullable=False),
    sa.Column("by", sa.String(120), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("gate_report", sa.String(40)),
    sa.Column("at", Utc, nullable=False),
    sa.ForeignKeyConstraint(["model", "number"], ["model_version.model", "model_version.number"]),
)

stage_events = sa.Table(
    "stage_event",
    metadata,
    sa.Column("model", sa.String(120), sa.ForeignKey("model.name"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("name", sa.String(60), nullable=False),
    sa.Column("number", sa.Integer),
    sa.Column("by", sa.String(120), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Index("ix_stage_event_name", "model", "kind", "name", "position"),
)

# One release a version: releasing again gives the same one.
releases = sa.Table(
    "release",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("model", sa.String(120), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("manifest", sa.Text, nullable=False),
    sa.Column("by", sa.String(120), nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.UniqueConstraint("model", "number"),
    sa.ForeignKeyConstraint(["model", "number"], ["model_version.model", "model_version.number"]),
)


_KEYS_AT_ONCE = 1_000  # both databases limit the values of one statement
MODELS = sa.select(models).where(models.c.deleted_at.is_(None))
VERSIONS = sa.select(versions).where(versions.c.deleted_at.is_(None))


def model_by_name(connection: Connection, name: str) -> RegisteredModel | None:
    found = list(read_models(connection, MODELS.where(models.c.name == name)))
    return found[0] if found else None


def was_model(connection: Connection, name: str) -> bool:
    """Whether there is or ever was a model of this name."""
    return connection.execute(sa.select(sa.literal(1)).where(models.c.name == name)).first() is not None


def all_models(connection: Connection) -> list[RegisteredModel]:
    return list(read_models(connection, MODELS.order_by(models.c.name)))


def insert_model(tx: Tx, model: RegisteredModel) -> None:
    """Keep a new model, or one under the name of a deleted one, whose versions' numbers it goes on from."""
    values = {**_terms(model), "description": model.description, "updated_at": None, "deleted_at": None}
    values |= {"created_at": model.created_at, "created_by": model.created_by}
    if was_model(tx.connection, model.name):
        tx.execute(sa.update(models).where(models.c.name == model.name).values(**values))
    else:
        tx.execute(sa.insert(models).values(name=model.name, **values))


def update_terms(tx: Tx, model: RegisteredModel) -> None:
    update_model(tx, model.name, _terms(model))


def update_model(tx: Tx, name: str, values: Mapping[str, Any]) -> None:
    tx.execute(sa.update(models).where(models.c.name == name).values(**values))


def update_version(tx: Tx, model: str, number: int, values: Mapping[str, Any]) -> None:
    chosen = sa.update(versions).where(versions.c.model == model, versions.c.number == number)
    tx.execute(chosen.values(**values))


_ONE_VERSION = sa.select(versions).where(
    versions.c.model == sa.bindparam("of_model"), versions.c.number == sa.bindparam("of_number")
)


def version_by_number(
    connection: Connection, model: str, number: int, *, even_deleted: bool = False
) -> ModelVersion | None:
    found = next(read_versions(connection, _ONE_VERSION, {"of_model": model, "of_number": number}), None)
    return found if found is None or even_deleted or found.deleted_at is None else None


def version_of_run(connection: Connection, model: str, run: str) -> ModelVersion | None:
    """The first version that a run registered under a name."""
    statement = VERSIONS.where(versions.c.model == model, versions.c.run == run).order_by(versions.c.number)
    return next(read_versions(connection, statement.limit(1)), None)


def versions_of_runs(connection: Connection) -> dict[str, str]:
    """The newest version that each run registered, by the run."""
    statement = sa.select(versions.c.run, versions.c.model, versions.c.number)
    found = connection.execute(statement.where(versions.c.run.is_not(None)).order_by(versions.c.number))
    return {row.run: f"{row.model}@{row.number}" for row in found}


def versions_made_by(connection: Connection, run: str, logged_models: Sequence[str]) -> list[ModelVersion]:
    """The versions that a run registered, or that were registered of models that it logged, oldest first."""
    made = sa.or_(versions.c.run == run, versions.c.logged_model.in_(logged_models))
    return list(read_versions(connection, VERSIONS.where(made).order_by(versions.c.created_at)))


def versions_of_logged_models(connection: Connection, ids: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    """Name and number of the versions that were registered from each logged model, oldest first; without such it is left out."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for start in range(0, len(ids), _KEYS_AT_ONCE):
        is_asked = versions.c.logged_model.in_(ids[start : start + _KEYS_AT_ONCE])
        statement = sa.select(versions.c.logged_model, versions.c.model, versions.c.number)
        chosen = statement.where(is_asked, versions.c.deleted_at.is_(None))
        for row in connection.execute(chosen.order_by(versions.c.created_at, versions.c.number)):
            found[row.logged_model].append((row.model, row.number))
    return found


def newest_versions(
    connection: Connection, model: str, *, below: int | None = None, limit: int | None
) -> list[ModelVersion]:
    """The versions of a model, newest first."""
    statement = VERSIONS.where(versions.c.model == model)
    if below is not None:
        statement = statement.where(versions.c.number < below)
    return list(read_versions(connection, statement.order_by(versions.c.number.desc()).limit(limit)))


def next_number(connection: Connection, model: str) -> int:
    """The number of the next version; the caller holds the model's lock."""
    newest = sa.select(sa.func.coalesce(sa.func.max(versions.c.number), 0)).where(versions.c.model == model)
    return int(connection.execute(newest).scalar_one()) + 1


def insert_version(tx: Tx, version: ModelVersion) -> None:
    values = {column.name: getattr(version, column.name) for column in versions.c}
    values["files"], values["metrics"] = dict(version.files), dict(version.metrics)
    values["signature"] = None if version.signature is None else msgspec.to_builtins(version.signature)
    values["features"] = msgspec.to_builtins(version.features)
    values["trusted_types"] = list(version.trusted_types)
    tx.execute(sa.insert(versions).values(**values))
    put_version_tags(tx, version, version.tags)


def put_model_tags(tx: Tx, model: str, tags: Mapping[str, str]) -> None:
    """Set tags of a model, replacing those of the same names."""
    _put_tags(tx, model_tags, {"model": model}, tags)


def put_version_tags(tx: Tx, version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Set tags of a version, replacing those of the same names."""
    _put_tags(tx, version_tags, {"model": version.model, "number": version.number}, tags)


def drop_model_tag(tx: Tx, model: str, name: str) -> None:
    tx.execute(sa.delete(model_tags).where(model_tags.c.model == model, model_tags.c.name == name))


def drop_model_tags(tx: Tx, model: str) -> None:
    tx.execute(sa.delete(model_tags).where(model_tags.c.model == model))


def drop_version_tag(tx: Tx, version: ModelVersion, name: str) -> None:
    own = (version_tags.c.model == version.model, version_tags.c.number == version.number)
    tx.execute(sa.delete(version_tags).where(*own, version_tags.c.name == name))


def decisions_of(connection: Connection, model: str, number: int) -> list[Decision]:
    """All that was decided on a version, first first."""
    statement = (
        sa.select(decisions)
        .where(decisions.c.model == model, decisions.c.number == number)
        .order_by(decisions.c.position)
    )
    return [
        Decision(f"{row.model}@{row.number}", row.verdict, row.by, row.reason, row.gate_report, row.at)
        for row in connection.execute(statement)
    ]


def insert_decision(tx: Tx, version: ModelVersion, decision: Decision) -> None:
    """Append a decision; the caller holds the model's lock."""
    position = len(decisions_of(tx.connection, version.model, version.number)) + 1
    values = {name: value for name, value in asdict(decision).items() if name != "model_version"}
    tx.execute(
        sa.insert(decisions).values(model=version.model, number=version.number, position=position, **values)
    )


def pointer_at(
    connection: Connection, model: str, kind: PointerKind, name: str, *, at: datetime | None = None
) -> StageEvent | None:
    """What was decided last on a stage or an alias, or last not later than `at`."""
    statement = sa.select(stage_events).where(
        stage_events.c.model == model, stage_events.c.kind == kind, stage_events.c.name == name
    )
    if at is not None:
        statement = statement.where(stage_events.c.at <= at)
    row = connection.execute(statement.order_by(stage_events.c.position.desc()).limit(1)).first()
    return None if row is None else _event(row)


def last_stay(
    connection: Connection, model: str, stage: str, number: int
) -> tuple[datetime, datetime | None] | None:
    """From when to when a version was in a stage the last time; until None: it is there now."""
    own = (stage_events.c.model == model, stage_events.c.kind == "stage", stage_events.c.name == stage)
    came = connection.execute(
        sa.select(stage_events.c.position, stage_events.c.at)
        .where(*own, stage_events.c.number == number)
        .order_by(stage_events.c.position.desc())
        .limit(1)
    ).first()
    if came is None:
        return None
    went = sa.select(sa.func.min(stage_events.c.position)).where(
        *own, stage_events.c.position > came.position
    )
    until = sa.select(stage_events.c.at).where(
        stage_events.c.model == model, stage_events.c.position == went.scalar_subquery()
    )
    return came.at, connection.execute(until).scalar()


def newest_events(connection: Connection, model: str, *, limit: int) -> list[StageEvent]:
    statement = (
        sa.select(stage_events)
        .where(stage_events.c.model == model)
        .order_by(stage_events.c.position.desc())
        .limit(limit)
    )
    return [_event(row) for row in connection.execute(statement)]


# Built once, as what else a client asks for at each load of a model: building a statement takes longer than running it.
_LAST_EVENTS = (
    sa.select(sa.func.max(stage_events.c.position))
    .where(stage_events.c.model == sa.bindparam("of_model"), stage_events.c.kind == sa.bindparam("of_kind"))
    .group_by(stage_events.c.name)
)
_POINTERS = (
    sa.select(stage_events.c.name, stage_events.c.number)
    .where(
        stage_events.c.model == sa.bindparam("of_model"),
        stage_events.c.position.in_(_LAST_EVENTS),
        stage_events.c.number.is_not(None),
    )
    .order_by(stage_events.c.name)
)


def pointers_of(connection: Connection, model: str, kind: PointerKind) -> dict[str, int]:
    """The number that each stage or alias of a model means now, by name."""
    found = connection.execute(_POINTERS, {"of_model": model, "of_kind": kind})
    return {row.name: row.number for row in found}


def insert_event(tx: Tx, event: StageEvent) -> None:
    """Append an event; the caller holds the model's lock."""
    last = sa.select(sa.func.coalesce(sa.func.max(stage_events.c.position), 0))
    position = int(tx.execute(last.where(stage_events.c.model == event.model)).scalar_one()) + 1
    tx.execute(sa.insert(stage_events).values(position=position, **asdict(event)))


def release_by_version(connection: Connection, model: str, number: int) -> Release | None:
    statement = sa.select(releases).where(releases.c.model == model, releases.c.number == number)
    row = connection.execute(statement).first()
    return None if row is None else _release(row)


def release_by_id(connection: Connection, release_id: str) -> Release | None:
    row = connection.execute(sa.select(releases).where(releases.c.id == release_id)).first()
    return None if row is None else _release(row)


def newest_releases(connection: Connection, *, model: str | None, limit: int | None = None) -> list[Release]:
    """Releases, newest first; without a limit all."""
    statement = sa.select(releases).order_by(releases.c.id.desc()).limit(limit)
    if model is not None:
        statement = statement.where(releases.c.model == model)
    return [_release(row) for row in connection.execute(statement)]


def insert_release(tx: Tx, release: Release) -> None:
    tx.execute(
        sa.insert(releases).values(
            id=release.id,
            model=release.model,
            number=release.number,
            manifest=msgspec.json.encode(release.manifest).decode(),
            by=release.by,
            at=release.at,
        )
    )


def _terms(model: RegisteredModel) -> dict[str, Any]:
    return {
        "approval": asdict(model.approval),
        "gates": [one.as_json() for one in model.gates],
        "stages": [one.as_json() for one in model.stages],
    }


def read_models(connection: Connection, statement: sa.Select[Any]) -> Iterator[RegisteredModel]:
    """The models of a selection of rows, whole, in its order."""
    rows = connection.execute(statement).all()
    tags = _tags_of(connection, model_tags, (model_tags.c.model,), [(row.name,) for row in rows])
    for row in rows:
        values = dict(row._mapping)
        values["approval"] = ApprovalRule(**row.approval)
        values["gates"] = tuple(Gate.from_json(one) for one in row.gates)
        values["stages"] = tuple(StagePolicy.from_json(one) for one in row.stages)
        yield RegisteredModel(**values, tags=tags.get((row.name,), {}))


def read_versions(
    connection: Connection, statement: sa.Select[Any], bound: Mapping[str, Any] | None = None
) -> Iterator[ModelVersion]:
    """The versions of a selection of rows, whole, in its order."""
    rows = connection.execute(statement, bound).all()
    key = (version_tags.c.model, version_tags.c.number)
    tags = _tags_of(connection, version_tags, key, [(row.model, row.number) for row in rows])
    for row in rows:
        values = dict(row._mapping)
        if row.signature is not None:
            values["signature"] = msgspec.convert(row.signature, Signature)
        values["features"] = msgspec.convert(row.features, tuple[FeatureView, ...])
        values["trusted_types"] = tuple(row.trusted_types)
        yield ModelVersion(**values, tags=tags.get((row.model, row.number), {}))


def _tags_of(
    connection: Connection,
    table: sa.Table,
    key: tuple[sa.Column[Any], ...],
    wanted: Sequence[tuple[Any, ...]],
) -> dict[tuple[Any, ...], dict[str, str]]:
    """The tags by name of each key that has any."""
    found: dict[tuple[Any, ...], dict[str, str]] = {}
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        some = wanted[start : start + _KEYS_AT_ONCE]
        for row in connection.execute(_tags_by_key(table, key), {"wanted": some}):
            own = tuple(row._mapping[column.name] for column in key)
            found.setdefault(own, {})[row.name] = row.value
    return found


@functools.cache
def _tags_by_key(table: sa.Table, key: tuple[sa.Column[Any], ...]) -> sa.Select[Any]:
    is_wanted = sa.tuple_(*key).in_(sa.bindparam("wanted", expanding=True))
    return sa.select(table).where(is_wanted).order_by(table.c.name)


def _put_tags(tx: Tx, table: sa.Table, key: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    if not tags:
        return
    statement = inserting(tx.connection.dialect.name, table)
    replacing = statement.on_conflict_do_update(
        index_elements=[column.name for column in table.primary_key],
        set_={"value": statement.excluded.value},
    )
    tx.execute(replacing, [{**key, "name": name, "value": tags[name]} for name in sorted(tags)])


def _event(row: sa.Row[Any]) -> StageEvent:
    values = dict(row._mapping)
    del values["position"]
    return StageEvent(**values)


def _release(row: sa.Row[Any]) -> Release:
    manifest = msgspec.json.decode(row.manifest.encode(), type=Manifest)
    return Release(row.id, row.model, row.number, manifest, row.by, row.at)
