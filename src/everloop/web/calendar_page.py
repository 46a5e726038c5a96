"""`/calendar`: what fired and how it ended, what fires next, and how far the conditions are that wait for events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from everloop import jobs, loop, pipelines, retraining, triggers
from everloop.errors import Invalid
from everloop.jobs import Job, Schedule
from everloop.web.visits import Shown, Visit
from everloop.web.words import short
from everloop.workspace import Workspace

_JOBS = 500  # of the time that is shown, the newest
_INSTANTS = 500  # of one schedule
_IN_A_DAY = {"month": 5, "week": 40}  # entries that are told
_APART = 4  # firings of one schedule a day, up to which each is told
_KINDS = {
    pipelines.REPRODUCE: "reproduce",
    loop.GO_ON: "go on with",
    loop.FORK: "fork",
    triggers.PIPELINE: "trigger",
}
_TONES = {"done": "ok", "failed": "failed", "cancelled": "attention", "running": "live", "waiting": "live"}


@dataclass(frozen=True)
class Entry:
    """One thing on a day: a job that was put, or a firing to come (`state` is `next`).

    `clock` is its time in the zone that is shown. Of a firing that comes several `times` that day, `until` is the last.
    """

    at: datetime
    clock: str
    what: str
    state: str
    tone: str
    told: str
    link: str | None
    times: int = 1
    until: str | None = None


@dataclass(frozen=True)
class Day:
    date: date
    is_today: bool
    is_inside: bool
    entries: tuple[Entry, ...]
    more: int


def view(visit: Visit) -> Shown:
    ws = visit.ws
    zone, name = _zone(visit.query.get("zone", ""))
    span = "week" if visit.query.get("span") == "week" else "month"
    today = ws.now().astimezone(zone).date()
    middle = _date(visit.query.get("on", ""), today)
    first, last, begin = _bounds(middle, span)
    start, end = (datetime.combine(one, datetime.min.time(), zone).astimezone(UTC) for one in (first, last))
    schedules = jobs.list_schedules(ws)
    put = jobs.jobs_between(ws, start, end, limit=_JOBS)
    entries: dict[date, list[Entry]] = {}
    for one in sorted(
        [*_fired(put, zone), *_coming(ws, schedules, start, end, zone)], key=lambda one: one.at
    ):
        entries.setdefault(one.at.astimezone(zone).date(), []).append(one)
    days = [
        _day(
            first + timedelta(days=i),
            entries,
            today=today,
            month=begin.month if span == "month" else None,
            most=_IN_A_DAY[span],
        )
        for i in range((last - first).days)
    ]
    return {
        "weeks": [days[i : i + 7] for i in range(0, len(days), 7)],
        "span": span,
        "on": middle,
        "title": f"{begin:%B %Y}" if span == "month" else _days(first, last - timedelta(days=1)),
        "before": (first - timedelta(days=1)) if span == "week" else begin - timedelta(days=1),
        "after": last if span == "week" else (begin + timedelta(days=32)).replace(day=1),
        "today": today,
        "zone_name": name,
        "zones": sorted({"UTC", name, *(one.time_zone for one in schedules)}),
        "schedules": [_scheduled(one) for one in schedules],
        "armed": retraining.outlook(ws),
        "triggers": triggers.standings(ws),
        "is_cut": len(put) == _JOBS,
    }


def _days(first: date, last: date) -> str:
    return f"{first.day} {first:%B} to {last.day} {last:%B %Y}"


def _zone(name: str) -> tuple[ZoneInfo, str]:
    try:
        return ZoneInfo(name or "UTC"), name or "UTC"
    except (LookupError, ValueError, OSError) as error:  # also what a name that is no plain path gives
        raise Invalid(f"{name!r} is not a time zone; one looks like Europe/Vienna or UTC.") from error


def _date(text: str, today: date) -> date:
    if not text:
        return today
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is not a day; one is written 2026-10-28.") from error
    if not 2000 <= found.year < 2200:
        raise Invalid(f"{text} is out of the calendar, which goes from 2000 to 2199. Choose a day in it.")
    return found


def _bounds(middle: date, span: str) -> tuple[date, date, date]:
    """The first day shown, the one behind the last, and the first of the month; weeks begin on Monday."""
    if span == "week":
        first = middle - timedelta(days=middle.weekday())
        return first, first + timedelta(days=7), middle.replace(day=1)
    begin = middle.replace(day=1)
    behind = (begin + timedelta(days=32)).replace(day=1)
    first = begin - timedelta(days=begin.weekday())
    return first, behind + timedelta(days=-behind.weekday() % 7), begin


def _day(on: date, entries: dict[date, list[Entry]], *, today: date, month: int | None, most: int) -> Day:
    every = entries.get(on, [])
    return Day(on, on == today, month in (None, on.month), tuple(every[:most]), max(0, len(every) - most))


def _fired(put: list[Job], zone: ZoneInfo) -> Iterator[Entry]:
    for one in put:
        subject = (
            one.payload.get("model") or one.payload.get("trigger") or short(str(one.payload.get("run") or ""))
        )
        yield Entry(
            at=one.put_at,
            clock=_clock(one.put_at, zone),
            what=f"{_KINDS.get(one.kind, one.kind)} {subject}".strip(),
            state=one.state,
            tone=_TONES[one.state],
            told=_outcome(one),
            link=_link(one),
        )


def _outcome(one: Job) -> str:
    """How a job ended, or why it was put."""
    result: Any = one.result if isinstance(one.result, dict) else {}
    if one.state == "failed":
        return one.error or "failed"
    if "skipped" in result:
        return f"nothing to do: {result['skipped']}"
    if result.get("version"):
        return f"made {result['version']}{'' if result.get('passed') else ', which its gates block'}; {one.reason}"
    return f"{result['verdict']}: {result['sentence']}" if "verdict" in result else one.reason


def _link(one: Job) -> str:
    result = one.result if isinstance(one.result, dict) else {}
    run = result.get("run") or result.get("rerun")
    return f"/pipelines/runs/{run}" if run else f"/api/jobs/{one.id}"


def _coming(
    ws: Workspace, schedules: list[Schedule], start: datetime, end: datetime, zone: ZoneInfo
) -> Iterator[Entry]:
    """Firings to come: one by one, or those of a day together where there are many."""
    for one in schedules:
        if one.paused_at is not None:
            continue
        by_day: dict[date, list[datetime]] = {}
        for at in jobs.instants_of(one, max(start, ws.now()), end, limit=_INSTANTS):
            by_day.setdefault(at.astimezone(zone).date(), []).append(at)
        for instants in by_day.values():
            told = f"{one.cron}, {one.time_zone}"
            if len(instants) <= _APART:
                yield from (
                    Entry(at, _clock(at, zone), one.name, "next", "quiet", told, None) for at in instants
                )
            else:
                first, last = (_clock(at, zone) for at in (instants[0], instants[-1]))
                yield Entry(instants[0], first, one.name, "next", "quiet", told, None, len(instants), last)


def _clock(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).strftime("%H:%M")


def _scheduled(one: Schedule) -> dict[str, Any]:
    local = one.next_at.astimezone(ZoneInfo(one.time_zone))
    return {**vars(one), "local": local.strftime("%a %-d %b %H:%M %Z")}
