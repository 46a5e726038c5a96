"""`/predictions`: what was asked, what was answered, what was said of it: the log, newest first, as the address narrows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec

from everloop import monitoring, rollout, serving
from everloop.api import Logged, PredictionsAsked, found_predictions, read_query
from everloop.errors import EverloopError, Invalid, NotFound
from everloop.feedback import Exchanges
from everloop.rollout import Endpoint
from everloop.serving import TRIED
from everloop.web.thumbnails import thumbnails
from everloop.web.visits import Shown, Visit
from everloop.web.words import middle_cut

_json = msgspec.json.Encoder().encode
_MAIN = ("endpoint", "status", "version", "output", "text")
_MORE = ("start", "end", "key", "variant", "kind", "said", "slower_than_ms", "score_below")
_COUNTED = ("endpoint", "status", "version", "start", "end")  # the filters by which traffic is counted
_WEEK, _BAR = timedelta(days=7), timedelta(hours=3)
_CSV_ROWS = 500
_SCORES = 3
_LONGEST = 90  # characters of a value in the table; the trace has all of it
_VALUES = 6  # of a row in the table
# how an active filter is said
WORDS = {
    "endpoint": "endpoint",
    "status": "status",
    "version": "version",
    "output": "answer",
    "text": "inputs hold",
    "start": "from",
    "end": "before",
    "key": "key",
    "variant": "answered by",
    "kind": "traffic",
    "said": "people",
    "slower_than_ms": "slower than ms",
    "score_below": "best score below",
}


@dataclass(frozen=True)
class Line:
    """A prediction as the table shows it: a few values of its inputs, cut, and its best scores."""

    logged: Logged
    values: tuple[tuple[str, str], ...]
    pictures: tuple[tuple[str, str], ...]
    more_values: int
    scores: tuple[tuple[str, float], ...]

    @property
    def is_tried(self) -> bool:
        """Whether somebody sent it by hand, to see what comes."""
        return self.logged.kind == "replay" and (self.logged.key or "").startswith(TRIED)

    @property
    def may_be_corrected(self) -> bool:
        return self.logged.status == "ok" and self.logged.kind == "live"


@dataclass(frozen=True)
class Bar:
    """How many were asked in a part of the last week; `link` narrows the list to it."""

    start: datetime
    n: int
    link: str
    is_chosen: bool


def view(visit: Visit) -> Shown:
    """The page of all endpoints, and of one where the path names it."""
    fixed = visit.path.get("name")
    endpoints = rollout.endpoints(visit.ws)
    if fixed is not None:
        rollout.endpoint(visit.ws, fixed)
    asked = {name: visit.query.get(name, "").strip() for name in (*_MAIN, *_MORE, "before")}
    asked["endpoint"] = fixed or asked["endpoint"]
    problem, page = None, Exchanges((), 0, None)
    try:
        most = {"limit": str(_CSV_ROWS)} if visit.query.get("as") == "csv" else {}
        page = found_predictions(visit.ws, _read({**asked, **most}))
    except (Invalid, NotFound) as error:
        problem = str(error)
    pictures = thumbnails(visit.ws, page.found)
    one = next((it for it in endpoints if it.name == asked["endpoint"]), None)
    return {
        "fixed": fixed,
        "endpoints": endpoints,
        "asked": asked,
        "is_narrowed": any(asked[name] for name in (*_MAIN[1:], *_MORE))
        or bool(asked["endpoint"] and not fixed),
        "without": {name: _address(asked, name, fixed) for name in (*_MAIN, *_MORE) if asked[name]},
        "words": WORDS,
        "lines": [_line(Logged.of(it), pictures) for it in page.found],
        "bars": _bars(visit, asked, fixed),
        "looked_at": page.looked_at,
        "earlier": None if page.before is None else _address({**asked, "before": page.before}, "", fixed),
        "here_again": f"{_address(asked, '', fixed)}&",
        "newest": _address(asked, "before", fixed),
        "problem": problem,
        "share": "" if one is None else one.log.share,
        "classes": () if one is None else _classes(visit, one),
        "variants": ("control", "canary", "shadow"),
    }


def _read(asked: Mapping[str, str]) -> PredictionsAsked:
    """The filters as the JSON route reads them; a browser's times have no zone, and are UTC."""
    given = {name: value for name, value in asked.items() if value}
    for name in ("start", "end"):
        if name in given and len(given[name]) in (16, 19):
            given[name] += "Z"
    try:
        found: PredictionsAsked = read_query(given, PredictionsAsked)
    except msgspec.ValidationError as error:
        raise Invalid(f"a filter cannot be read: {error}. Change it above, or leave it empty.") from error
    return found


def _address(asked: Mapping[str, str], without: str, fixed: str | None) -> str:
    """This page with one filter less; another look begins at the newest, unless it goes on."""
    left_out = {without, *(("endpoint",) if fixed else ()), *(("before",) if without else ())}
    kept = {name: value for name, value in asked.items() if value and name not in left_out}
    return f"?{urlencode(kept)}"


def _bars(visit: Visit, asked: Mapping[str, str], fixed: str | None) -> list[Bar]:
    """The last week of an endpoint, from what is counted in the background; none where that does not tell by the filters."""
    if not asked["endpoint"] or any(asked[name] for name in (*_MAIN, *_MORE) if name not in _COUNTED):
        return []
    end = visit.ws.now()
    start = end - _WEEK
    counted = monitoring.traffic(visit.ws, asked["endpoint"], start=start, end=end, bucket=_BAR)
    number = asked["version"].rpartition("@")[2]
    by_start: Counter[datetime] = Counter()
    for one in counted:
        if not number or one.version.rpartition("@")[2] == number:
            ok = one.requests - one.failed - one.refused
            of_status = {"": one.requests, "ok": ok, "failed": one.failed, "refused": one.refused}
            by_start[one.start] += of_status.get(asked["status"], 0)
    if not by_start:
        return []
    first = min(by_start)
    return [_bar(first + _BAR * place, by_start, asked, fixed) for place in range((end - first) // _BAR + 1)]


def _bar(start: datetime, by_start: Counter[datetime], asked: Mapping[str, str], fixed: str | None) -> Bar:
    between = {"start": f"{start:%Y-%m-%dT%H:%M}", "end": f"{start + _BAR:%Y-%m-%dT%H:%M}"}
    is_chosen = all(asked[name][:16] == value for name, value in between.items())
    return Bar(start, by_start[start], _address({**asked, **between}, "before", fixed), is_chosen)


def _classes(visit: Visit, of: Endpoint) -> tuple[str, ...]:
    """What the endpoint may answer, of the version that is live."""
    if not of.variants:
        return ()
    try:
        manifest = serving.read_manifest(visit.ws.home / "serving", of.variants[0].release)
    except EverloopError:
        return ()
    return manifest.signature.classes or ()


def _line(one: Logged, pictures: Mapping[str, str]) -> Line:
    drawn = tuple((name, pictures[value]) for name, value in one.inputs.items() if _is_in(pictures, value))
    values = tuple(
        _values({name: value for name, value in one.inputs.items() if not _is_in(pictures, value)})
    )
    scores = sorted(one.scores.items(), key=lambda pair: -pair[1])[:_SCORES]
    return Line(one, values[:_VALUES], drawn, max(0, len(values) - _VALUES), tuple(scores))


def _values(inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in inputs.items():
        text = "none" if value is None else str(value)
        yield (
            name,
            f"image or bytes {text[7:19]}" if text.startswith("blake3:") else middle_cut(text, _LONGEST),
        )


def _is_in(pictures: Mapping[str, str], value: Any) -> bool:
    return isinstance(value, str) and value in pictures


def rows_of(shown: Shown) -> Iterator[Sequence[object]]:
    """The predictions as rows of a CSV file, the names of its columns first; inputs and scores as JSON."""
    yield [
        "id", "at", "endpoint", "version", "variant", "assigned", "status", "output", "latency_ms", "key", "inputs", "scores",
        "error", "corrected_to", "corrected_by",
    ]  # fmt: skip
    for line in shown["lines"]:
        one = line.logged
        last = one.corrections[-1] if one.corrections else None
        yield [
            one.id, one.at.isoformat(), one.endpoint, one.version, one.variant, one.assigned, one.status, one.output,
            one.latency_ms, one.key, _json(one.inputs).decode(), _json(one.scores).decode(), one.error, last and last.value,
            last and last.reporter,
        ]  # fmt: skip
