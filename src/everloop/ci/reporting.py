"""From what a check found to its report: the verdict, what to tell and where, and nothing that is secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any, get_args

import msgspec

from everloop.checks import Moved
from everloop.ci.annotating import remarks
from everloop.ci.records import (
    Compared,
    GateEnded,
    Level,
    Look,
    Metric,
    Outcome,
    PipelineReport,
    PipelineState,
    Report,
    Revision,
    Touched,
    Verdict,
)
from everloop.settings import secret_values

_HIDDEN = "[hidden]"
# These are no text, but a choice.
_WORDS = {*get_args(Verdict), *get_args(Level), *get_args(Moved), *get_args(PipelineState)}
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")  # a user and a password in an address


@dataclass(frozen=True)
class Found:
    """What a check found, as it came. `look` is of the change; `base` is None where there is none."""

    file: str
    head: Revision
    base: Revision | None
    uncommitted: tuple[str, ...]
    changed_files: tuple[str, ...]
    look: Look | None = None
    data_files: tuple[str, ...] = ()
    touched: tuple[Touched, ...] = ()
    head_problem: str | None = None
    base_problem: str | None = None
    has_base_loop: bool = False
    head_outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    base_outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    compared: Mapping[str, Compared] = field(default_factory=dict)
    side_notes: tuple[str, ...] = ()
    is_cached: bool = False
    is_kept: bool = False
    seconds: float = 0.0


def report_of(found: Found) -> Report:
    """The report of what was found; values of secrets in the environment are hidden in all of its texts."""
    pipelines = tuple(_pipeline(found, one) for one in found.touched)
    verdict = _verdict(found, pipelines)
    base = found.base
    report = Report(
        verdict=verdict,
        sentence=_sentence(found, pipelines, verdict),
        everloop=metadata.version("everloop"),
        file=found.file,
        head=found.head,
        base=None if base is None else Revision(base.name, base.commit, is_cached=found.is_cached),
        changed_files=found.changed_files,
        unreached=tuple(_unreached(found)),
        pipelines=pipelines,
        problems=tuple(_problems(found, pipelines)),
        notes=tuple(_notes(found)),
        annotations=tuple(remarks(found.file, found.look, found.head_problem, pipelines)),
        seconds=round(found.seconds, 1),
    )
    return without_secrets(report, secret_values())


def without_secrets(report: Report, secrets: frozenset[str]) -> Report:
    """The report with each of these values, and passwords in addresses, replaced in all of its texts."""
    longest_first = sorted(secrets, key=len, reverse=True)
    patterns = [_IN_ADDRESS, *(re.compile(re.escape(one)) for one in longest_first)]

    def hidden(value: Any) -> Any:
        if isinstance(value, str) and value not in _WORDS:
            for pattern in patterns:
                value = pattern.sub(_HIDDEN, value)
            return value
        if isinstance(value, dict):
            return {key: hidden(one) for key, one in value.items()}
        return [hidden(one) for one in value] if isinstance(value, list | tuple) else value

    return msgspec.convert(hidden(msgspec.to_builtins(report)), Report)


def failed_gates(outcome: Outcome | None) -> tuple[GateEnded, ...]:
    return () if outcome is None else tuple(one for one in outcome.gates if one.verdict == "failed")


def _pipeline(found: Found, touched: Touched) -> PipelineReport:
    declared = None if found.look is None else found.look.pipeline(touched.pipeline)
    head = found.head_outcomes.get(touched.pipeline) if touched.is_run else None
    base = found.base_outcomes.get(touched.pipeline) if touched.is_run else None
    compared = found.compared.get(touched.pipeline, Compared())
    if head is not None and not compared.metrics:
        alone = (Metric(name, None, one) for name, one in sorted(head.metrics.items()))
        compared = replace(compared, metrics=tuple(alone))
    return PipelineReport(
        touched.pipeline,
        None if declared is None else declared.model,
        touched,
        None if head is None else _named(head, base),
        base,
        compared,
    )


def _named(head: Outcome, base: Outcome | None) -> Outcome:
    """The outcome with the versions called what they are here: their numbers are those of a home that nobody sees."""
    names = {head.version: "the change", None if base is None else base.version: "the base"}

    def told(text: str) -> str:
        for version, name in names.items():
            text = re.sub(rf"\b{re.escape(version)}\b", name, text) if version else text
        return text

    gates = (replace(one, found=told(one.found), remedy=told(one.remedy)) for one in head.gates)
    return replace(head, gates=tuple(gates))


def _verdict(found: Found, pipelines: tuple[PipelineReport, ...]) -> Verdict:
    if found.head_problem is not None:
        return "failed"
    return (
        "failed"
        if any(one.head is not None and one.head.verdict != "passed" for one in pipelines)
        else "passed"
    )


def _sentence(found: Found, pipelines: tuple[PipelineReport, ...], verdict: Verdict) -> str:
    if found.head_problem is not None:
        return f"{found.file} cannot be loaded."
    run = [one for one in pipelines if one.head is not None]
    if not run:
        if not found.touched:
            return f"{found.file} has no pipeline: nothing was run."
        return "The change touches no step, no gate and no data: nothing had to run."
    broken = [one for one in run if one.head is not None and one.head.failure is not None]
    if broken:
        first = broken[0]
        at = first.head.failed_step if first.head is not None else None
        return f"{first.name} failed{f' in step {at}' if at else ''}."
    gates = [one for each in run for one in failed_gates(each.head)]
    if verdict == "failed":
        return f"{_counted(len(gates), 'gate')} failed: {', '.join(one.name for one in gates)}."
    worse = [one.name for each in run for one in each.compared.metrics if one.moved == "worse"]
    names = ", ".join(one.name for one in run)
    told = (
        f"All gates of {names} passed."
        if any(one.head and one.head.gates for one in run)
        else f"{names} ran."
    )
    return f"{told} Worse than on the base: {', '.join(worse)}." if worse else told


def _unreached(found: Found) -> Iterator[str]:
    """Changed files that are neither code that a pipeline reaches nor data that are declared."""
    if found.look is None:
        return
    folder = found.file.rpartition("/")[0]
    known = {f"{folder}/{one}" if folder else one for one in found.look.files} | set(found.data_files)
    yield from (one for one in found.changed_files if one not in known)


def _problems(found: Found, pipelines: tuple[PipelineReport, ...]) -> Iterator[str]:
    if found.head_problem is not None:
        yield found.head_problem
    base = "the base" if found.base is None else f"the base {found.base.name} ({found.base.commit[:12]})"
    if found.base_problem is not None:
        yield f"There is no comparison, as {base} could not be looked at: {found.base_problem}"
    for one in pipelines:
        if one.base is not None and one.base.failure is not None:
            yield f"There is no comparison of {one.name}, as it failed on {base}: {one.base.failure}"


def _notes(found: Found) -> Iterator[str]:
    if found.uncommitted:
        shown = ", ".join(found.uncommitted[:5])
        more = f" and {len(found.uncommitted) - 5} more" if len(found.uncommitted) > 5 else ""
        yield f"Uncommitted changes are part of what was checked: {shown}{more}."
    if found.base is None:
        kept = " Its results are kept for the changes that start from it." if found.is_kept else ""
        yield f"{found.head.name} was checked by itself: it is the base, or there is none here.{kept}"
    elif not found.has_base_loop:
        yield f"The base {found.base.name} has no {found.file} yet: there is nothing to compare with."
    yield from found.side_notes
    gates = [gate.name for one in found.head_outcomes.values() for gate in one.gates]
    if found.base_outcomes and any(name.endswith(":against_live") for name in gates):
        yield "Gates that compare with the live version were given the base's in its place."
    if found.base is not None and found.is_cached:
        yield "The results of the base were kept by an earlier check."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
