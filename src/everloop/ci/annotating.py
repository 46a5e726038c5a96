"""Remarks at lines of the repository: what a reviewer sees beside the code that it is about."""

from __future__ import annotations

import re
from collections.abc import Iterator

from everloop.ci.records import Annotation, DeclaredPipeline, GateEnded, Look, Metric, Outcome, PipelineReport

_PLACE = re.compile(r"^([^/\n][^\n]*?), line (\d+)")  # of a message, by its path in the repository
_FRAME = re.compile(r'File "([^"/<][^"]*)", line (\d+)')  # of a traceback, likewise


def remarks(
    file: str, look: Look | None, problem: str | None, pipelines: tuple[PipelineReport, ...]
) -> Iterator[Annotation]:
    """What is to be said of a change and where.

    Parameters
    ----------
    file
        The loop file's path in the repository.
    problem
        Why the loop file cannot be loaded, with the place first where that is known.
    """
    if problem is not None:
        place = _PLACE.search(problem)
        at = (file, 1) if place is None else (place[1], int(place[2]))
        yield Annotation("error", *at, "the loop file cannot be loaded", problem, "loop file")
    for one in pipelines:
        declared = None if look is None else look.pipeline(one.name)
        if look is not None and declared is not None and one.head is not None:
            yield from _Lines(file, look, declared, one, one.head).told()


class _Lines:
    """The remarks about one pipeline."""

    def __init__(
        self, file: str, look: Look, declared: DeclaredPipeline, report: PipelineReport, head: Outcome
    ) -> None:
        self._file, self._look, self._declared = file, look, declared
        self._report, self._head = report, head
        self._here = look.lines.get(f"model:{report.model}", declared.line)

    def told(self) -> Iterator[Annotation]:
        if self._head.failure is not None:
            yield self._failure(self._head.failure)
        base = self._report.base
        known = {gate.name for gate in (() if base is None else base.gates) if gate.verdict == "warned"}
        for gate in self._head.gates:
            if gate.verdict == "failed" or (gate.verdict == "warned" and gate.name not in known):
                yield self._gate(gate)
        for metric in self._report.compared.metrics:
            if metric.moved == "worse":
                yield self._worse(metric)

    def _failure(self, failure: str) -> Annotation:
        """At the last line of the project that the error passed through, else at the step, else at the pipeline."""
        name = (self._head.failed_step or "").partition("[")[0]
        step = next((one for one in self._declared.steps if one.name == name), None)
        place = self._declared if step is None else step
        at = (self._in_repository(place.file), place.line)
        if frames := _FRAME.findall(failure):
            at = (frames[-1][0], int(frames[-1][1]))
        title = (
            f"{self._report.name}: step {self._head.failed_step} failed"
            if step
            else f"{self._report.name} failed"
        )
        return Annotation("error", *at, title, failure, f"{self._report.name} {name}")

    def _gate(self, gate: GateEnded) -> Annotation:
        model = self._report.model
        lines = (
            self._look.lines.get(f"gate:{model}:{about}")
            for about in (gate.name, gate.name.rpartition(":")[0])
        )
        return Annotation(
            "error" if gate.verdict == "failed" else "warning",
            self._file,
            next((line for line in lines if line is not None), self._here),
            f"{model}: gate {gate.name} {gate.verdict}",
            " ".join(part for part in (gate.found, gate.rule, gate.remedy) if part),
            f"{model} {gate.name}",
        )

    def _worse(self, one: Metric) -> Annotation:
        model = self._report.model
        return Annotation(
            "warning",
            self._file,
            self._here,
            f"{model}: {one.name} is worse than on the base",
            f"{one.name} went from {one.before:.4f} to {one.after:.4f} (95 %: {one.low:+.4f} to {one.high:+.4f}) on "
            f"{one.rows:,} rows that both were tested on.",
            f"{model} {one.name} against base",
        )

    def _in_repository(self, place: str) -> str:
        folder = self._file.rpartition("/")[0]
        return f"{folder}/{place}" if folder else place
