"""Lineage: a graph of what was made from what."""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.storage import Tx, Utc, inserting, metadata
from everloop.workspace import Workspace

Kind = Literal[
    "file",
    "dataset_version",
    "label_snapshot",
    "code",
    "environment",
    "run",
    "logged_model",
    "step",
    "gate_report",
    "model_version",
    "release",
    "rollout",
    "endpoint",
    "finding",
    "retraining",
    "correction",
    "prediction",
    "job",
    "schedule",
    "trigger",
    "firing",
    "account",
    "token",
    "dataset",
    "label_schema",
    "row",
    "annotator",
    "declaration",
    "workspace",
    "webhook",
]


class Node(NamedTuple):
    """One thing in the graph. `id` is what the thing's own room calls it, for example `listings@3`."""

    kind: Kind
    id: str


@dataclass(frozen=True)
class Edge:
    """`target` was made from (or because of) `source`; `role` says as what, for example `training data`."""

    source: Node
    target: Node
    role: str
    at: datetime


edges = sa.Table(
    "lineage",
    metadata,
    sa.Column("source_kind", sa.String(24), primary_key=True),
    sa.Column("source_id", sa.String(200), primary_key=True),
    sa.Column("target_kind", sa.String(24), primary_key=True),
    sa.Column("target_id", sa.String(200), primary_key=True),
    sa.Column("role", sa.String(60), primary_key=True),
    sa.Column("at", Utc, nullable=False),
    sa.Index("ix_lineage_target", "target_kind", "target_id"),
)


@functools.cache  # building it takes four times as long as running it
def _linking(dialect: str) -> sa.Insert:
    return inserting(dialect, edges).on_conflict_do_nothing()


def link(tx: Tx, source: Node, target: Node, *, role: str, at: datetime) -> None:
    """Record that `target` was made from `source`. Recording it again changes nothing."""
    edge = {
        "source_kind": source.kind,
        "source_id": source.id,
        "target_kind": target.kind,
        "target_id": target.id,
        "role": role,
        "at": at,
    }
    tx.execute(_linking(tx.connection.dialect.name), edge)


def upstream(ws: Workspace, node: Node) -> list[Edge]:
    """Every edge on a way that leads to `node`, nearest first: what it was made from, and that from what."""
    with ws.read() as connection:
        return _walk(connection, node, towards="source")


def downstream(ws: Workspace, node: Node) -> list[Edge]:
    """Every edge on a way that starts at `node`, nearest first: what was made from it, and from that."""
    with ws.read() as connection:
        return _walk(connection, node, towards="target")


def _walk(connection: Connection, start: Node, *, towards: Literal["source", "target"]) -> list[Edge]:
    found: list[Edge] = []
    seen = {start}
    waiting = deque([start])
    while waiting:
        for edge in _edges_at(connection, waiting.popleft(), towards):
            found.append(edge)
            reached = edge.source if towards == "source" else edge.target
            if reached not in seen:
                seen.add(reached)
                waiting.append(reached)
    return found


def _edges_at(connection: Connection, node: Node, towards: Literal["source", "target"]) -> list[Edge]:
    kind, identity = (
        (edges.c.target_kind, edges.c.target_id)
        if towards == "source"
        else (edges.c.source_kind, edges.c.source_id)
    )
    statement = sa.select(edges).where(kind == node.kind, identity == node.id).order_by(edges.c.at)
    return [
        Edge(Node(row.source_kind, row.source_id), Node(row.target_kind, row.target_id), row.role, row.at)
        for row in connection.execute(statement)
    ]
