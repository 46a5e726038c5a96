"""The tables `dataset` and `dataset_version`, and all SQL over them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.data.records import Dataset, DatasetVersion, Schema
from everloop.storage import Json, Tx, Utc, metadata

datasets = sa.Table(
    "dataset",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("schema", Json, nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("created_by", sa.String(120), nullable=False),
)

# The primary key is what makes a second commit on the same parent fail, whatever the lock did.
dataset_versions = sa.Table(
    "dataset_version",
    metadata,
    sa.Column("dataset", sa.String(80), sa.ForeignKey("dataset.name"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("parent", sa.Integer),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("schema", Json, nullable=False),
    sa.Column("manifest", sa.String(64), nullable=False),
    sa.Column("operation", Json, nullable=False),
    sa.Column("personal", Json, nullable=False),
    sa.Column("profile", sa.String(64)),  # blob with the profile, once somebody asked for it: a cache
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("created_by", sa.String(120), nullable=False),
)


def dataset_named(connection: Connection, name: str) -> Dataset | None:
    """Which dataset has this name?"""
    row = connection.execute(sa.select(datasets).where(datasets.c.name == name)).first()
    return None if row is None else _dataset(row)


def all_datasets(connection: Connection) -> list[Dataset]:
    """Which datasets are there, by name?"""
    return [_dataset(row) for row in connection.execute(sa.select(datasets).order_by(datasets.c.name))]


def insert_dataset(tx: Tx, dataset: Dataset) -> None:
    tx.execute(
        sa.insert(datasets).values(
            name=dataset.name,
            schema=dataset.schema.as_json(),
            created_at=dataset.created_at,
            created_by=dataset.created_by,
        )
    )


def set_schema(tx: Tx, name: str, schema: Schema) -> None:
    tx.execute(sa.update(datasets).where(datasets.c.name == name).values(schema=schema.as_json()))


def newest_version(connection: Connection, dataset: str) -> DatasetVersion | None:
    """What is the dataset's newest version?"""
    row = connection.execute(_versions_of(dataset).limit(1)).first()
    return None if row is None else _version(row)


def version_numbered(connection: Connection, dataset: str, number: int) -> DatasetVersion | None:
    """Which version has this number?"""
    row = connection.execute(_versions_of(dataset).where(dataset_versions.c.number == number)).first()
    return None if row is None else _version(row)


def number_at(connection: Connection, dataset: str, *, at: datetime) -> int:
    """Which number had the newest version at that time? 0 for none."""
    statement = sa.select(sa.func.max(dataset_versions.c.number)).where(
        dataset_versions.c.dataset == dataset, dataset_versions.c.created_at <= at
    )
    return int(connection.execute(statement).scalar() or 0)


def versions_before(
    connection: Connection, dataset: str, *, before: int | None, limit: int
) -> list[DatasetVersion]:
    """Which are the newest versions, below a number if one is given?"""
    statement = _versions_of(dataset).limit(limit)
    if before is not None:
        statement = statement.where(dataset_versions.c.number < before)
    return [_version(row) for row in connection.execute(statement)]


def insert_version(tx: Tx, version: DatasetVersion) -> None:
    tx.execute(
        sa.insert(dataset_versions).values(
            dataset=version.dataset,
            number=version.number,
            digest=version.digest,
            parent=version.parent,
            row_count=version.rows,
            schema=version.schema.as_json(),
            manifest=version.manifest,
            operation=version.operation,
            personal=version.personal,
            created_at=version.created_at,
            created_by=version.created_by,
        )
    )


def profile_of(connection: Connection, version: DatasetVersion) -> str | None:
    """Which blob holds the version's profile?"""
    digest: str | None = connection.execute(
        sa.select(dataset_versions.c.profile).where(_is(version))
    ).scalar_one()
    return digest


def set_profile(tx: Tx, version: DatasetVersion, blob: str) -> None:
    tx.execute(sa.update(dataset_versions).where(_is(version)).values(profile=blob))


def _versions_of(dataset: str) -> sa.Select[Any]:
    return (
        sa.select(dataset_versions)
        .where(dataset_versions.c.dataset == dataset)
        .order_by(dataset_versions.c.number.desc())
    )


def _is(version: DatasetVersion) -> sa.ColumnElement[bool]:
    return sa.and_(dataset_versions.c.dataset == version.dataset, dataset_versions.c.number == version.number)


def _dataset(row: sa.Row[Any]) -> Dataset:
    return Dataset(row.name, Schema.from_json(row.schema), row.created_at, row.created_by)


def _version(row: sa.Row[Any]) -> DatasetVersion:
    return DatasetVersion(
        dataset=row.dataset,
        number=row.number,
        digest=row.digest,
        parent=row.parent,
        rows=row.row_count,
        schema=Schema.from_json(row.schema),
        manifest=row.manifest,
        operation=row.operation,
        personal=row.personal,
        created_at=row.created_at,
        created_by=row.created_by,
    )
