"""The tables of models, versions, decisions, stages and releases, and all SQL over them."""

from __future__ import annotations

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
)
from everloop.serving import Manifest, Signature
from everloop.storage import Json, Tx, Utc, metadata

models = sa.Table(
    "model",
    metadata,
    sa.Column("name", sa.String(120), primary_key=True),
    sa.Column("approval", Json, nullable=False),
    sa.Column("gates", Json, nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("created_by", sa.String(120), nullable=False),
)

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
    sa.Index("ix_model_version_run", "run"),
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


def model_by_name(connection: Connection, name: str) -> RegisteredModel | None:
    row = connection.execute(sa.select(models).where(models.c.name == name)).first()
    return None if row is None else _model(row)


def all_models(connection: Connection) -> list[RegisteredModel]:
    return [_model(row) for row in connection.execute(sa.select(models).order_by(models.c.name))]


def insert_model(tx: Tx, model: RegisteredModel) -> None:
    tx.execute(
        sa.insert(models).values(**_policy(model), created_at=model.created_at, created_by=model.created_by)
    )


def update_policy(tx: Tx, model: RegisteredModel) -> None:
    tx.execute(sa.update(models).where(models.c.name == model.name).values(**_policy(model)))


def version_by_number(connection: Connection, model: str, number: int) -> ModelVersion | None:
    statement = sa.select(versions).where(versions.c.model == model, versions.c.number == number)
    row = connection.execute(statement).first()
    return None if row is None else _version(row)


def version_of_run(connection: Connection, model: str, run: str) -> ModelVersion | None:
    """The first version that a run registered under a name."""
    statement = (
        sa.select(versions)
        .where(versions.c.model == model, versions.c.run == run)
        .order_by(versions.c.number)
    )
    row = connection.execute(statement.limit(1)).first()
    return None if row is None else _version(row)


def versions_of_runs(connection: Connection) -> dict[str, str]:
    """The newest version that each run registered, by the run."""
    statement = sa.select(versions.c.run, versions.c.model, versions.c.number)
    found = connection.execute(statement.where(versions.c.run.is_not(None)).order_by(versions.c.number))
    return {row.run: f"{row.model}@{row.number}" for row in found}


def newest_versions(
    connection: Connection, model: str, *, below: int | None = None, limit: int
) -> list[ModelVersion]:
    """The versions of a model, newest first."""
    statement = sa.select(versions).where(versions.c.model == model)
    if below is not None:
        statement = statement.where(versions.c.number < below)
    return [
        _version(row) for row in connection.execute(statement.order_by(versions.c.number.desc()).limit(limit))
    ]


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


def newest_events(connection: Connection, model: str, *, limit: int) -> list[StageEvent]:
    statement = (
        sa.select(stage_events)
        .where(stage_events.c.model == model)
        .order_by(stage_events.c.position.desc())
        .limit(limit)
    )
    return [_event(row) for row in connection.execute(statement)]


def pointers_of(connection: Connection, model: str, kind: PointerKind) -> dict[str, int]:
    """The number that each stage or alias of a model means now, by name."""
    last = (
        sa.select(sa.func.max(stage_events.c.position))
        .where(stage_events.c.model == model, stage_events.c.kind == kind)
        .group_by(stage_events.c.name)
    )
    statement = (
        sa.select(stage_events.c.name, stage_events.c.number)
        .where(
            stage_events.c.model == model,
            stage_events.c.position.in_(last),
            stage_events.c.number.is_not(None),
        )
        .order_by(stage_events.c.name)
    )
    return {row.name: row.number for row in connection.execute(statement)}


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


def _policy(model: RegisteredModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "approval": asdict(model.approval),
        "gates": [one.as_json() for one in model.gates],
    }


def _model(row: sa.Row[Any]) -> RegisteredModel:
    gates = tuple(Gate.from_json(one) for one in row.gates)
    return RegisteredModel(row.name, ApprovalRule(**row.approval), gates, row.created_at, row.created_by)


def _version(row: sa.Row[Any]) -> ModelVersion:
    values = dict(row._mapping)
    if row.signature is not None:
        values["signature"] = msgspec.convert(row.signature, Signature)
    values["features"] = msgspec.convert(row.features, tuple[FeatureView, ...])
    values["trusted_types"] = tuple(row.trusted_types)
    return ModelVersion(**values)


def _event(row: sa.Row[Any]) -> StageEvent:
    values = dict(row._mapping)
    del values["position"]
    return StageEvent(**values)


def _release(row: sa.Row[Any]) -> Release:
    manifest = msgspec.json.decode(row.manifest.encode(), type=Manifest)
    return Release(row.id, row.model, row.number, manifest, row.by, row.at)
