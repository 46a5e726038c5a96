"""Gate reports: made, read, waived, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from blake3 import blake3
from sqlalchemy.engine import Connection

from everloop.checks import store
from everloop.checks.columns import Column, as_text, plain
from everloop.checks.records import ROW_ID, CheckInput, Evidence, Gate, GateReport, Standing, Waiver
from everloop.checks.run import run_checks
from everloop.errors import Invalid, NotFound
from everloop.ids import new_id
from everloop.ledger import Node, audit, link
from everloop.storage import Tx
from everloop.workspace import Workspace


def evaluate(
    ws: Workspace,
    model_version: str,
    given: CheckInput,
    *,
    gates: Sequence[Gate] = (),
    evidence: Evidence | None = None,
) -> GateReport:
    """Run the default checks and the gates for a model version (`category@2`) and keep the report.

    The report is bound to the evidence: the digests handed in, and one of the rows, labels and predictions that
    were looked at. Written with its lineage and an audit entry in one transaction. The checks run before it.
    """
    results = run_checks(given, gates)
    bound = replace(evidence or Evidence(), checked=checked_digest(given))
    report = GateReport(
        id=new_id("gr"),
        model_version=model_version,
        evidence=bound,
        gates=tuple(gates),
        results=results,
        verdict="failed" if any(one.verdict == "failed" for one in results) else "passed",
        at=ws.now(),
        by=ws.actor,
    )
    ws.write(lambda tx: _keep(ws, tx, report))
    return report


def report(ws: Workspace, report_id: str) -> GateReport:
    """A report by its id. Raises NotFound."""
    with ws.read() as connection:
        return _found(store.report_by_id(connection, report_id), report_id)


def reports_of(ws: Workspace, model_version: str, *, limit: int = 20) -> list[GateReport]:
    """The reports of a model version, newest first."""
    with ws.read() as connection:
        return store.newest_reports(connection, model_version, limit=limit)


def waive(ws: Workspace, report_id: str, check: str, *, reason: str, until: datetime) -> Waiver:
    """Let a failed check of one report pass until a time (domain time). Audited with the reason.

    Raises
    ------
    NotFound
        No such report, or the report has no result of this name.
    Invalid
        The check has not failed, the reason is empty, or `until` is not in the future.
    """
    waiver = Waiver(report_id, check, reason.strip(), until, ws.actor, ws.now())
    if not waiver.reason:
        raise Invalid(
            f"the waiver of {check!r} has no reason; whoever reads it later needs one. Give it with --reason."
        )
    if until <= ws.now():
        raise Invalid(
            f"the waiver of {check!r} would end at {until.isoformat()}, which is past; a waiver ends in the future. "
            "Give a later time with --until."
        )

    def change(tx: Tx) -> None:
        tx.lock(f"waiver:{report_id}")
        found = _found(store.report_by_id(tx.connection, report_id), report_id)
        _require_failed(found, check)
        store.insert_waiver(tx, waiver)
        detail = {"check": check, "reason": waiver.reason, "until": until.isoformat()}
        audit(
            ws,
            tx,
            "checks.waive",
            Node("gate_report", report_id),
            model_version=found.model_version,
            **detail,
        )

    ws.write(change)
    return waiver


def waivers_of(ws: Workspace, report_id: str) -> list[Waiver]:
    """All waivers of a report, ended ones too, first first."""
    with ws.read() as connection:
        return store.waivers_of(connection, report_id)


def standing(ws: Workspace, report_id: str, *, at: datetime | None = None) -> Standing:
    """Which failed checks of a report block now (or at `at`), and which are waived. Raises NotFound."""
    with ws.read() as connection:
        found = _found(store.report_by_id(connection, report_id), report_id)
        return _standing(connection, found, at or ws.now())


def newest_standing_in(connection: Connection, model_version: str, *, at: datetime) -> Standing | None:
    """Where the newest report of a model version stands, inside a transaction; None when it has no report."""
    found = store.newest_reports(connection, model_version, limit=1)
    return _standing(connection, found[0], at) if found else None


def checked_digest(given: CheckInput) -> str:
    """BLAKE3 over row ids and labels of both sides and the predictions: which rows a report is about.

    The inputs' values are covered by the digest of the dataset version, together with the row ids.
    """
    hasher = blake3()
    parts = (
        (given.train, (ROW_ID, given.label)),
        (given.test, (ROW_ID, given.label)),
        (given.predictions, (ROW_ID, "predicted")),
        (given.live.predictions if given.live else None, (ROW_ID, "predicted")),
    )
    for table, names in parts:
        for name in names:
            hasher.update(b"\x1d")  # so that no value can move from one column to the next
            if table is not None and name in table.column_names:
                _hash_column(hasher, table[name])
    hasher.update("\x1d".join(given.columns).encode())
    return hasher.hexdigest()


def _hash_column(hasher: blake3, column: Column) -> None:
    for value in as_text(plain(column)).to_pylist():
        encoded = b"" if value is None else value.encode()
        hasher.update(f"{-1 if value is None else len(encoded)}:".encode() + encoded)


def _standing(connection: Connection, report: GateReport, at: datetime) -> Standing:
    waived = store.waivers_in_force(connection, report.id, at)
    names = {one.check for one in waived}
    return Standing(report, tuple(one for one in report.failed if one.name not in names), tuple(waived))


def _keep(ws: Workspace, tx: Tx, report: GateReport) -> None:
    store.insert_report(tx, report)
    node = Node("gate_report", report.id)
    link(tx, Node("model_version", report.model_version), node, role="judged", at=report.at)
    if report.evidence.data is not None:
        link(tx, Node("dataset_version", report.evidence.data), node, role="evidence", at=report.at)
    if report.evidence.labels is not None:
        link(tx, Node("label_snapshot", report.evidence.labels), node, role="evidence", at=report.at)
    failed = [one.name for one in report.failed]
    audit(
        ws,
        tx,
        "checks.evaluate",
        node,
        model_version=report.model_version,
        verdict=report.verdict,
        failed=failed,
    )


def _found(report: GateReport | None, report_id: str) -> GateReport:
    if report is None:
        raise NotFound(
            f"there is no gate report {report_id!r}. List a version's reports with: everloop models show REF"
        )
    return report


def _require_failed(report: GateReport, check: str) -> None:
    result = report.result(check)
    if result is None:
        names = ", ".join(one.name for one in report.results)
        raise NotFound(f"gate report {report.id} has no result {check!r}; it has {names}. Name one of these.")
    if result.verdict != "failed":
        raise Invalid(
            f"{check!r} has {result.verdict} in gate report {report.id}; only a failed check is waived. Nothing to do."
        )
