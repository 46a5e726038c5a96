"""Looking: each watch is asked about the windows that have closed since it last looked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from everloop import events, predictions
from everloop.clock import to_micros
from everloop.errors import Invalid, NotFound
from everloop.ledger import Node, link
from everloop.monitoring import look_drift, store, traffic_hours
from everloop.monitoring.answers import PIECE, Pieces, keep, pieces_of
from everloop.monitoring.look_accuracy import look_at_accuracy
from everloop.monitoring.look_drift import look_at_drift
from everloop.monitoring.look_kpi import look_at_kpi
from everloop.monitoring.look_latency import look_at_latency
from everloop.monitoring.records import (
    AccuracyWatch,
    DriftWatch,
    Finding,
    KpiWatch,
    LatencyWatch,
    TrafficWatch,
    Watch,
    every_of,
    from_value,
    name_of,
    to_value,
    window_of,
)
from everloop.monitoring.seen import Seen, Window, read_window
from everloop.storage import Tx
from everloop.workspace import Workspace

_MOST_LOOKS = 60  # windows that one watch catches up with after a long pause


@dataclass(frozen=True)
class _Due:
    """A watch whose next window has closed."""

    endpoint: str
    watch: Watch
    looked_at: datetime


def is_due(ws: Workspace) -> bool:
    """Whether a watch has a window to look at."""
    return bool(_due(ws))


def observe(ws: Workspace) -> list[Finding]:
    """Let every watch look at its closed windows; keep what was measured and what was found.

    A finding is an event that asks for attention. What was found already in an overlapping window, of the same
    versions and about the same things, is not found again. A watch that cannot look, such as a query with a mistake,
    is an event `monitoring.failed`; it goes on with its next window and keeps no other watch from looking.
    """
    dues = _due(ws)
    _count_traffic(ws, dues)
    looks = [look for due in dues if not isinstance(due.watch, TrafficWatch) for look in _closed(ws, due)]
    # watches of one endpoint often share a window: it is read once
    looks.sort(key=lambda look: look.window)
    return [
        finding
        for (endpoint, start, end), together in groupby(looks, key=lambda look: look.window)
        for finding in _look_together(ws, read_window(ws, endpoint, start=start, end=end), list(together))
    ]


def _due(ws: Workspace) -> list[_Due]:
    with ws.read() as connection:
        rows = store.all_watches(connection, None)
    known = [_Due(row.endpoint, from_value(row.watch), row.looked_at) for row in rows]
    return [one for one in known if _is_due(ws, one)]


def _is_due(ws: Workspace, one: _Due) -> bool:
    if isinstance(one.watch, TrafficWatch):
        return traffic_hours.is_due(ws, one.watch, looked_at=one.looked_at)
    return one.looked_at + every_of(one.watch) <= ws.now()


@dataclass(frozen=True)
class _Look:
    """One watch's look at one window; `before` is when the watch has looked at last by then."""

    due: _Due
    before: datetime
    end: datetime

    @property
    def window(self) -> tuple[str, datetime, datetime]:
        """Endpoint, start and end."""
        return self.due.endpoint, self.end - window_of(self.due.watch), self.end


def _closed(ws: Workspace, due: _Due) -> list[_Look]:
    """The windows that have closed since the watch last looked, oldest first."""
    every = every_of(due.watch)
    missed = int((ws.now() - due.looked_at) / every)
    first = max(1, missed - _MOST_LOOKS + 1)
    ends = [due.looked_at + look * every for look in range(first, missed + 1)]
    return [_Look(due, before, end) for before, end in zip([due.looked_at, *ends], ends, strict=False)]


def _look_together(ws: Workspace, window: Window, looks: Sequence[_Look]) -> list[Finding]:
    found: list[Finding] = []
    for look in looks:
        seen = _seen(ws, look.due.watch, window)
        found += ws.write(lambda tx, seen=seen, look=look: _keep(ws, tx, look, seen))  # type: ignore[misc]  # bound per turn
    return found


def _count_traffic(ws: Workspace, dues: Sequence[_Due]) -> None:
    """Count what came since the last looks, in one reading of the log for all endpoints, however long ago they were."""
    counts = [
        _Count(one, watch, _look_of(ws, one)) for one in dues if isinstance(watch := one.watch, TrafficWatch)
    ]
    if not counts:
        return
    places = [one.watch.passed for one in counts]
    known = {
        name: min(one[name] for one in places) for name in places[0] if all(name in one for one in places)
    }
    log_end = predictions.end(ws.home / "serving")
    passed = traffic_hours.count(ws, [one.look for one in counts], known)
    for one in counts:
        watch = traffic_hours.looked(one.watch, one.look, log_end=log_end, passed=passed)
        ws.write(lambda tx, one=one, watch=watch: _keep_count(tx, one, watch))  # type: ignore[misc]  # bound per turn


@dataclass(frozen=True)
class _Count:
    due: _Due
    watch: TrafficWatch
    look: traffic_hours.Look


def _look_of(ws: Workspace, due: _Due) -> traffic_hours.Look:
    assert isinstance(due.watch, TrafficWatch), "the caller looked"  # noqa: S101
    with ws.read() as connection:
        rows = [(from_value(row.watch), row.looked_at) for row in store.all_watches(connection, due.endpoint)]
    wanted = [Pieces.wanted(watch, at) for watch, at in rows if isinstance(watch, LatencyWatch)]
    known = pieces_of(due.watch)
    pieces = next((one for one in wanted if one is not None), None)
    if pieces is not None:
        goes_on = pieces.fits(known)
        pieces = known if goes_on else replace(pieces, since_us=to_micros(due.looked_at))
    end = traffic_hours.end_of_look(ws, due.watch, looked_at=due.looked_at)
    return traffic_hours.Look(due.endpoint, due.looked_at, end, pieces)


def _keep_count(tx: Tx, counted: _Count, watch: TrafficWatch) -> None:
    due, look = counted.due, counted.look
    name, value = name_of(watch), to_value(watch)
    if not store.move_watch(tx, due.endpoint, name, before=look.start, after=look.end, watch=value):
        return  # another process counted meanwhile
    traffic_hours.add(tx, due.endpoint, look.hours)
    if look.pieces != pieces_of(counted.watch):  # those from before end elsewhere, or are not wanted any more
        store.remove_measures(tx, due.endpoint, PIECE)
    if look.pieces is not None:
        keep(tx, due.endpoint, look.pieces, look.in_pieces)


def _seen(ws: Workspace, watch: Watch, window: Window) -> Seen:
    try:
        return _LOOKS[type(watch)](ws, watch, window)
    except (Invalid, NotFound) as error:  # looking again would give the same; what may pass by is not caught
        return Seen(failure=str(error))


def _keep(ws: Workspace, tx: Tx, look: _Look, seen: Seen) -> list[Finding]:
    due, name = look.due, name_of(look.due.watch)
    if not store.move_watch(tx, due.endpoint, name, before=look.before, after=look.end):
        return []  # another process looked meanwhile
    if seen.failure is not None:
        told = f"The watch {name} of {due.endpoint} could not look at its window: {seen.failure}"
        events.emit(ws, tx, "monitoring.failed", Node("endpoint", due.endpoint), message=told, level="failed")
    store.put_measures(tx, seen.measures)
    for name in _PIECES.get(type(due.watch), ()):
        store.remove_measures(tx, due.endpoint, name, before=look.window[1])
    return [finding for finding in seen.findings if _is_new(tx, finding) and _tell(ws, tx, finding)]


def _is_new(tx: Tx, finding: Finding) -> bool:
    known = store.similar_finding(tx.connection, finding.endpoint, finding.kind, after=finding.start)
    about = finding.detail.get("about")
    return not any(one.versions == finding.versions and one.detail.get("about") == about for one in known)


def _tell(ws: Workspace, tx: Tx, finding: Finding) -> bool:
    store.insert_finding(tx, finding)
    endpoint = Node("endpoint", finding.endpoint)
    for version in finding.versions:
        link(tx, Node("model_version", version), Node("finding", finding.id), role="observed", at=ws.now())
    events.emit(
        ws,
        tx,
        f"monitoring.{finding.kind}",
        endpoint,
        message=finding.message,
        level="attention",
        payload={"finding": finding.id},
    )
    return True


_LOOKS: dict[type[Watch], Callable[..., Seen]] = {
    DriftWatch: look_at_drift,
    AccuracyWatch: look_at_accuracy,
    LatencyWatch: look_at_latency,
    KpiWatch: look_at_kpi,
}
_PIECES: dict[type[Watch], tuple[str, ...]] = {LatencyWatch: (PIECE,), DriftWatch: (look_drift.PIECE,)}
