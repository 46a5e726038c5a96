"""The tables of gate reports and waivers, and all SQL over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.checks.plots import Plot
from everloop.checks.records import CheckResult, Evidence, Gate, GateReport, Waiver
from everloop.storage import Json, Tx, Utc, metadata

reports = sa.Table(
    "gate_report",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("model_version", sa.String(160), nullable=False),
    sa.Column("verdict", sa.String(8), nullable=False),
    sa.Column("evidence", Json, nullable=False),
    sa.Column("gates", Json, nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("by", sa.String(120), nullable=False),
    sa.Index("ix_gate_report_model_version", "model_version", "id"),
)

results = sa.Table(
    "check_result",
    metadata,
    sa.Column("report", sa.String(40), sa.ForeignKey("gate_report.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(160), nullable=False),
    sa.Column("verdict", sa.String(8), nullable=False),
    sa.Column("found", sa.Text, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("remedy", sa.Text, nullable=False),
    sa.Column("numbers", Json, nullable=False),
    sa.Column("evidence", Json, nullable=False),
    sa.Column("details", Json, nullable=False),
    sa.Column("plot", Json),  # null where there is none, as in results of before it was kept
)

# A waiver is never changed or taken back; it ends by itself.
waivers = sa.Table(
    "waiver",
    metadata,
    sa.Column("report", sa.String(40), sa.ForeignKey("gate_report.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("check", sa.String(160), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("until", Utc, nullable=False),
    sa.Column("by", sa.String(120), nullable=False),
    sa.Column("at", Utc, nullable=False),
)


def insert_report(tx: Tx, report: GateReport) -> None:
    tx.execute(
        sa.insert(reports).values(
            id=report.id,
            model_version=report.model_version,
            verdict=report.verdict,
            evidence=asdict(report.evidence),
            gates=[one.as_json() for one in report.gates],
            at=report.at,
            by=report.by,
        )
    )
    rows = [_values(report.id, position, one) for position, one in enumerate(report.results)]
    if rows:
        tx.execute(sa.insert(results), rows)


def report_by_id(connection: Connection, report_id: str) -> GateReport | None:
    row = connection.execute(sa.select(reports).where(reports.c.id == report_id)).first()
    return None if row is None else _report(connection, row)


def newest_reports(connection: Connection, model_version: str, *, limit: int) -> list[GateReport]:
    """The reports of a model version, newest first; ids rise with time."""
    statement = (
        sa.select(reports)
        .where(reports.c.model_version == model_version)
        .order_by(reports.c.id.desc())
        .limit(limit)
    )
    return [_report(connection, row) for row in connection.execute(statement).all()]


def insert_waiver(tx: Tx, waiver: Waiver) -> None:
    """Number and keep a waiver; the caller holds the lock of its report."""
    taken = sa.select(sa.func.coalesce(sa.func.max(waivers.c.number), 0)).where(
        waivers.c.report == waiver.report
    )
    number = tx.execute(taken).scalar_one() + 1
    tx.execute(sa.insert(waivers).values(number=number, **asdict(waiver)))


def waivers_of(connection: Connection, report_id: str) -> list[Waiver]:
    """All waivers of a report, first first."""
    columns = [column for column in waivers.c if column.name != "number"]
    statement = sa.select(*columns).where(waivers.c.report == report_id).order_by(waivers.c.number)
    return [Waiver(**row._mapping) for row in connection.execute(statement)]


def waivers_in_force(connection: Connection, report_id: str, at: datetime) -> list[Waiver]:
    return [one for one in waivers_of(connection, report_id) if one.at <= at < one.until]


def _values(report_id: str, position: int, result: CheckResult) -> dict[str, Any]:
    return {
        "report": report_id,
        "position": position,
        "name": result.name,
        "verdict": result.verdict,
        "found": result.found,
        "rule": result.rule,
        "remedy": result.remedy,
        "numbers": dict(result.numbers),
        "evidence": list(result.evidence),
        "details": list(result.details),
        "plot": None if result.plot is None else result.plot.as_json(),
    }


def _report(connection: Connection, row: sa.Row[Any]) -> GateReport:
    return GateReport(
        id=row.id,
        model_version=row.model_version,
        evidence=Evidence(**row.evidence),
        gates=tuple(Gate.from_json(one) for one in row.gates),
        results=tuple(_results(connection, row.id)),
        verdict=row.verdict,
        at=row.at,
        by=row.by,
    )


def _results(connection: Connection, report_id: str) -> Sequence[CheckResult]:
    statement = sa.select(results).where(results.c.report == report_id).order_by(results.c.position)
    return [
        CheckResult(
            name=row.name,
            verdict=row.verdict,
            found=row.found,
            rule=row.rule,
            remedy=row.remedy,
            numbers=row.numbers,
            evidence=tuple(row.evidence),
            details=tuple(row.details),
            plot=None if row.plot is None else Plot.from_json(row.plot),
        )
        for row in connection.execute(statement)
    ]
