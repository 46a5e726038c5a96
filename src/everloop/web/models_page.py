"""`/models` and `/models/NAME`: which models there are, where each version stands, and what was live when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from everloop import registry, rollout
from everloop.clock import parse_time
from everloop.errors import Invalid, NotFound
from everloop.registry import ModelVersion, Readiness, StageEvent
from everloop.rollout import Endpoint, RolloutEvent
from everloop.web.lanes import time_line
from everloop.web.stages import stages_of
from everloop.web.visits import Shown, Visit
from everloop.workspace import Workspace

_MODELS = 50  # of a page
_VERSIONS = 25  # of a page
_MOVES = 200  # of stages and aliases, and of each endpoint
_TOLD = 30  # of those in words
_METRICS = 4
_SPANS = {"7d": timedelta(days=7), "30d": timedelta(days=30), "1y": timedelta(days=365), "all": None}

Tone = Literal["ok", "attention", "failed", "live", "quiet"]


@dataclass(frozen=True)
class Word:
    """A state in a word, and how it is drawn."""

    word: str
    tone: Tone


@dataclass(frozen=True)
class VersionLine:
    """A version with where it stands: live, released, waits for approval, may go live, blocked or rejected.

    `gates` says in a word what its newest report came to; `names` are the stages and aliases that mean it now.
    """

    version: ModelVersion
    state: str
    tone: Tone
    gates: Word
    gate_report: str | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class ModelLine:
    """A model with its newest version, the stages and aliases that it has, and what is live."""

    name: str
    newest: VersionLine | None
    names: Mapping[str, int]
    live: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Move:
    """A stage or an alias came to mean another version, or an endpoint served otherwise."""

    at: datetime
    what: str
    tone: Tone
    said: str
    by: str
    version: str | None
    rollout: str | None = None


def view(visit: Visit) -> Shown:
    """The models by name, a page at a time."""
    after = visit.query.get("after", "")
    names = [one.name for one in registry.models(visit.ws) if one.name > after]
    endpoints = rollout.endpoints(visit.ws)
    return {
        "models": [_model_line(visit.ws, name, endpoints) for name in names[:_MODELS]],
        "next": names[_MODELS - 1] if len(names) > _MODELS else None,
        "after": after,
    }


def view_one(visit: Visit) -> Shown:
    """One model: its versions, newest first, a page at a time, and its history."""
    ws, name = visit.ws, visit.path["model"]
    try:
        model = registry.model(ws, name)
    except NotFound as error:
        raise NotFound(f"there is no model {name!r}. /models lists them.") from error
    found = registry.versions(ws, name, below=_below(visit), limit=_VERSIONS + 1)
    endpoints = rollout.endpoints(ws)
    moves = registry.history(ws, name, limit=_MOVES)
    traffic = [
        event
        for one in endpoints
        if one.model == name
        for event in rollout.history(ws, endpoint_name=one.name, without_looks=True, limit=_MOVES)
    ]
    was = _asked_time(visit)
    span = visit.query.get("span", "all")
    span = span if span in _SPANS else "all"
    now = ws.now()
    length = _SPANS[span]
    begun = min([*(one.at for one in moves), *(one.at for one in traffic)], default=model.created_at)
    return {
        "model": model,
        "stages": stages_of(ws, model),
        "was": was,
        "live": rollout.live_of_model(ws, name, at=was),
        "versions": _lines(ws, name, found[:_VERSIONS], endpoints),
        "metrics": sorted({key for one in found[:_VERSIONS] for key in one.metrics})[:_METRICS],
        "next": found[_VERSIONS - 1].number if len(found) > _VERSIONS else None,
        "is_first": "below" not in visit.query,
        "span": span,
        "spans": list(_SPANS),
        "line": time_line(moves, traffic, start=begun if length is None else now - length, end=now),
        "moves": sorted(_told(moves, traffic), key=lambda one: one.at, reverse=True)[:_TOLD],
        "all_moves": len(moves) + len(traffic),
    }


def _asked_time(visit: Visit) -> datetime | None:
    """The time about which `at` asks, as a field of a page writes it (UTC) or with its zone. Raises Invalid."""
    text = visit.query.get("at", "").strip()
    if not text:
        return None
    is_of_field = len(text) in (len("2026-09-01T12:00"), len("2026-09-01T12:00:00"))
    return parse_time(f"{text}Z" if is_of_field else text)


def _below(visit: Visit) -> int | None:
    text = visit.query.get("below")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid(f"below {text!r} is no version's number, which is a whole number. Leave it out.")
    return int(text)


def _model_line(ws: Workspace, name: str, endpoints: Sequence[Endpoint]) -> ModelLine:
    newest = _lines(ws, name, registry.versions(ws, name, limit=1), endpoints)
    live = tuple(
        (it.version, one.name) for one in endpoints if one.model == name for it in one.variants if it.weight
    )
    names = {**registry.stages(ws, name), **registry.aliases(ws, name)}
    return ModelLine(name, newest[0] if newest else None, names, live)


def _lines(
    ws: Workspace, name: str, versions: Sequence[ModelVersion], endpoints: Sequence[Endpoint]
) -> list[VersionLine]:
    live = {one.version: endpoint.name for endpoint in endpoints for one in endpoint.variants}
    released = {one.version for one in registry.releases(ws, name)}
    names = [*registry.stages(ws, name).items(), *registry.aliases(ws, name).items()]
    return [
        _line(
            one,
            registry.readiness(ws, one.ref),
            live.get(one.ref),
            is_released=one.ref in released,
            names=tuple(word for word, number in names if number == one.number),
        )
        for one in versions
    ]


def _line(
    one: ModelVersion, ready: Readiness, live_on: str | None, *, is_released: bool, names: tuple[str, ...]
) -> VersionLine:
    word = _state(ready, live_on, is_released=is_released)
    return VersionLine(one, word.word, word.tone, gates_word(ready), ready.gate_report, names)


def _state(ready: Readiness, live_on: str | None, *, is_released: bool) -> Word:
    if live_on is not None:
        return Word(f"live on {live_on}", "live")
    if is_released:
        return Word("released", "ok")
    kinds = {obstacle.kind for obstacle in ready.obstacles}
    if not kinds:
        return Word("may go live", "ok")
    if kinds == {"approvals"}:
        return Word("waits for approval", "attention")
    if kinds <= {"approvals", "soak"}:
        return Word("waits", "attention")
    return Word("rejected" if "rejected" in kinds else "blocked", "failed")


def gates_word(ready: Readiness) -> Word:
    """What a version's gates came to, in a word."""
    kinds = {obstacle.kind for obstacle in ready.obstacles}
    if "no_report" in kinds:
        return Word("not run", "quiet")
    if "check_failed" in kinds:
        return Word("failed", "failed")
    if kinds & {"gate_not_run", "other_evidence"}:
        return Word("incomplete", "attention")
    return Word("waived", "attention") if ready.waivers else Word("passed", "ok")


def _told(moves: Sequence[StageEvent], traffic: Sequence[RolloutEvent]) -> list[Move]:
    tones: dict[str, Tone] = {"rolled_back": "failed", "paused": "attention", "finished": "ok", "first": "ok"}
    found = [
        Move(
            one.at,
            f"{one.kind} {one.name}",
            "quiet" if one.ref is None else "ok",
            one.reason,
            one.by,
            one.ref,
        )
        for one in moves
    ]
    for event in traffic:
        said = ", ".join(f"{it.version} {it.weight:g} %" for it in event.variants or ())
        found.append(
            Move(
                event.at,
                f"{event.endpoint} {event.act.replace('_', ' ')}",
                tones.get(event.act, "live"),
                f"{event.reason} ({said})" if said else event.reason,
                event.actor,
                None,
                event.rollout,
            )
        )
    return found
