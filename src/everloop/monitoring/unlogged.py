"""What was answered without the prediction log, which could not be written: told as a finding, and told again as it grows."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

from everloop import events, serving
from everloop.ids import new_id
from everloop.ledger import Node
from everloop.monitoring import store
from everloop.monitoring.records import Finding
from everloop.storage import Tx
from everloop.workspace import Workspace

_AGAIN = timedelta(hours=1)


def has_unlogged(ws: Workspace) -> bool:
    """Whether a serving process answered predictions without the log that no finding tells of."""
    return bool(_untold(ws))


def tell_unlogged(ws: Workspace) -> list[Finding]:
    """Make a finding, and an event, of what was answered without the log; at most once an hour for each endpoint."""
    found = _untold(ws)
    if found:
        ws.write(lambda tx: _keep(ws, tx, found))
    return found


def _untold(ws: Workspace) -> list[Finding]:
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    errors = {}
    for worker in serving.workers(ws.home / "serving"):
        for endpoint, count in worker.unlogged.items():
            counts[endpoint][str(worker.writer)] = count
            errors[endpoint] = worker.log_error
    return [
        _finding(ws, endpoint, of_writers, errors[endpoint])
        for endpoint, of_writers in counts.items()
        if _is_news(ws, endpoint, of_writers)
    ]


def _is_news(ws: Workspace, endpoint: str, of_writers: dict[str, int]) -> bool:
    with ws.read() as connection:
        told = store.newest_findings(connection, endpoint=endpoint, kinds=("unlogged",), limit=1)
    if not told:
        return True
    before: dict[str, int] = told[0].detail["by_process"]
    has_grown = any(count > before.get(writer, 0) for writer, count in of_writers.items())
    return has_grown and ws.now() - told[0].at >= _AGAIN


def _finding(ws: Workspace, endpoint: str, of_writers: dict[str, int], error: str | None) -> Finding:
    total = sum(of_writers.values())
    now = error or "The log is written again."
    message = (
        f"{total:,} prediction{'s' if total != 1 else ''} of {endpoint} {'were' if total != 1 else 'was'} answered and not logged, as "
        f"the endpoint's when_full says: nothing that is counted from the log has them. {now}"
    )
    detail = {"about": "log", "by_process": of_writers}
    return Finding(new_id("find"), endpoint, "unlogged", ws.now(), ws.now(), ws.now(), message, detail, ())


def _keep(ws: Workspace, tx: Tx, found: list[Finding]) -> None:
    for one in found:
        store.insert_finding(tx, one)
        events.emit(
            ws,
            tx,
            "monitoring.unlogged",
            Node("endpoint", one.endpoint),
            message=one.message,
            level="attention",
            payload={"finding": one.id},
        )
