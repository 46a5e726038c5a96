"""The steps of a run as they stand: what a box of the graph and a line of the table say of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from everloop.pipelines import PipelineRun, PlannedStep, RunOverview, StepRun

Tone = Literal["ok", "attention", "failed", "live", "quiet"]
_TONES: dict[str, Tone] = {
    "running": "live",
    "done": "ok",
    "cached": "ok",
    "failed": "failed",
    "interrupted": "attention",
    "ran anyway": "attention",
    "skipped": "quiet",
    "waiting": "quiet",
    "not reached": "quiet",
}
STATES = tuple(_TONES)
_WORST = (
    "failed",
    "running",
    "interrupted",
    "ran anyway",
    "waiting",
    "not reached",
    "done",
    "cached",
    "skipped",
)
_ENDED = ("done", "failed", "cancelled")
_CLOCK_STOOD_STILL = timedelta(milliseconds=1)


@dataclass(frozen=True)
class RunNode:
    """One step of a run. `calls` counts a map's calls by state, `items` is how many there are in all, if known.

    `notes` are words on how it is declared. `error` is the last line of its last attempt's.
    """

    name: str
    step: str
    state: str
    tone: Tone
    before: tuple[str, ...]
    attempts: int
    seconds: float | None
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None
    notes: tuple[str, ...]
    is_map: bool
    calls: Mapping[str, int]
    items: int | None

    @property
    def finished_calls(self) -> int:
        return self.calls.get("done", 0) + self.calls.get("cached", 0)


@dataclass(frozen=True)
class Bar:
    """When a step ran, from 0 to 1000 of the run's time."""

    start: float
    width: float


@dataclass(frozen=True)
class TimeLine:
    """When steps ran. Not `is_real`: how long each took, behind what it needs; `seconds` is how long it is."""

    bars: Mapping[str, Bar]
    is_real: bool
    seconds: float


def nodes_of(seen: RunOverview) -> dict[str, RunNode]:
    """All steps of the plan, in its order."""
    attempts: dict[str, list[StepRun]] = {}
    for one in seen.run.steps:
        attempts.setdefault(one.node, []).append(one)
    return {step.name: _node(seen, step, attempts.get(step.name, [])) for step in seen.plan.steps}


def inputs_of(seen: RunOverview) -> dict[str, tuple[str, ...]]:
    """The steps' declared inputs, by step; an input has a name that no step has."""
    return {step.name: tuple(f"input {one}" for one in step.sources) for step in seen.plan.steps}


def summed(nodes: Iterable[RunNode]) -> tuple[str, Tone]:
    """What several steps are in a word: that of the one that a person would look at first."""
    states = Counter(one.state for one in nodes)
    word = next(one for one in _WORST if states[one])
    return word, _TONES[word]


def time_line(run: PipelineRun, nodes: Sequence[RunNode], now: datetime) -> TimeLine:
    """When each step ran.

    In a simulation the clock may stand still while steps run: then each begins where the last of those before it ended.
    """
    begun = [(one, one.started_at) for one in nodes if one.started_at is not None]
    end = run.ended_at or now
    spans: dict[str, tuple[float, float]] = {}
    is_real = end - run.started_at > _CLOCK_STOOD_STILL
    for one, at in begun:
        if is_real:
            start = (at - run.started_at).total_seconds()
            spans[one.name] = (start, ((one.ended_at or end) - run.started_at).total_seconds())
        else:
            start = max((spans[name][1] for name in one.before if name in spans), default=0.0)
            spans[one.name] = (start, start + (one.seconds or 0.0))
    total = (
        (end - run.started_at).total_seconds()
        if is_real
        else max((last for _, last in spans.values()), default=0.0)
    )
    scale = 1000 / total if total else 0.0
    bars = {
        name: Bar(min(996.0, first * scale), max(4.0, (last - first) * scale))
        for name, (first, last) in spans.items()
    }
    return TimeLine(bars, is_real, total)


def _node(seen: RunOverview, step: PlannedStep, attempts: Sequence[StepRun]) -> RunNode:
    last = attempts[-1] if attempts else None
    state = _state(seen.run, last)
    calls = seen.calls.get(step.name, {})
    return RunNode(
        name=step.name,
        step=step.step.rpartition(":")[2],
        state=state,
        tone=_TONES[state],
        before=step.waits_for,
        attempts=len(attempts),
        seconds=None if last is None or last.state in ("cached", "skipped") else last.seconds,
        started_at=None if last is None else attempts[0].started_at,
        ended_at=None if last is None else last.ended_at,
        error=None if last is None or not last.error else last.error.strip().rpartition("\n")[2],
        notes=tuple(_notes(step, len(attempts))),
        is_map=step.over is not None,
        calls=calls,
        items=seen.items.get(step.name),
    )


def _state(run: PipelineRun, last: StepRun | None) -> str:
    if last is None:
        return "not reached" if run.state in _ENDED else "waiting"
    return last.state.replace("_", " ")


def _notes(step: PlannedStep, attempts: int) -> Iterable[str]:
    if attempts > 1:
        yield f"{attempts} attempts"
    if step.optional:
        yield "optional"
    if step.always:
        yield "always runs"
    elif not step.cache:
        yield "never cached"
    for node, holds in step.guards:
        yield f"if {'' if holds else 'not '}{node}"
