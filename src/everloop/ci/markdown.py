"""report.md: short enough for a comment on a pull request, the table first, the rest folded.

Names and messages come from a pull request, which anybody may open: they are escaped, so that they can neither mark up,
link, nor call anybody by name.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

from everloop.ci.records import Metric, Outcome, PipelineReport, Report
from everloop.ci.wording import (
    answers_moved,
    data_moved,
    difference,
    gate_pairs,
    labels_moved,
    number,
    ran_and_why,
)

MARK = "<!-- everloop ci -->"  # by which a bot finds its comment again
_LONGEST = 60_000  # characters; GitHub refuses a comment of 65,536
_ROWS = 40
_SPECIAL = re.compile(r"([\\`*\[\]|~#])")
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)  # controls, and what turns the direction of text
_NAMED = re.compile(r"([@#])(?=\w)")
_EDGE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # underscores inside a word mark nothing up


def markdown(report: Report) -> str:
    """The report as GitHub and GitLab render it."""
    text = "\n".join(_lines(report)) + "\n"
    if len(text) <= _LONGEST:
        return text
    short = "\n".join(_top(report))[: _LONGEST - 200]
    return f"{short}\n\nThe rest is too long for a comment: see report.html.\n"


def escaped(text: str) -> str:
    """A text of others on one line, to be read as it stands."""
    plain = _EDGE.sub(r"\\_", _SPECIAL.sub(r"\\\1", _tame(text)))
    return plain.replace("://", ":&#47;&#47;")  # no link is made of an address


def _tame(text: str) -> str:
    """On one line, without tags; a space of no width keeps a service from seeing a person or an issue named."""
    return _NAMED.sub("\\1\u200b", html.escape(_one_line(text), quote=False))


def _one_line(text: str) -> str:
    return _UNSEEN.sub("\ufffd", " ".join(text.split()))


def code(text: str) -> str:
    """A name of others as code, in which nothing is marked up."""
    plain = _one_line(text).replace("|", r"\|")
    longest = max((len(run) for run in re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{plain}{space}{fence}" if plain else ""


def _lines(report: Report) -> Iterator[str]:
    yield from _top(report)
    for one in report.pipelines:
        if one.head is not None:
            yield from _folded(report, one)
    if report.unreached:
        yield from _details(
            f"Changed files that no step reaches: {len(report.unreached)}",
            (f"- {code(one)}" for one in report.unreached),
        )


def _top(report: Report) -> Iterator[str]:
    yield MARK
    yield f"### everloop: {report.verdict}"
    yield ""
    yield escaped(report.sentence)
    yield ""
    against = "" if report.base is None else f" against {code(report.base.name)} ({report.base.commit[:12]})"
    dirty = " with uncommitted changes" if report.head.is_dirty else ""
    yield f"{code(report.head.name)} ({report.head.commit[:12]}){dirty}{against}, {report.seconds:.0f} s"
    for problem in report.problems:
        yield ""
        yield f"> {escaped(problem)}"
    for one in report.pipelines:
        if one.head is not None:
            yield from _head_of(one, one.head)
    for note in report.notes:
        yield ""
        yield escaped(note)


def _head_of(one: PipelineReport, head: Outcome) -> Iterator[str]:
    model = f", model {code(one.model)}" if one.model else ""
    yield ""
    yield f"**{code(one.name)}**{model}"
    yield ""
    if head.failure is not None:
        at = f" in step {code(head.failed_step)}" if head.failed_step else ""
        yield f"Failed{at}: {escaped(head.failure[:600])}"
        return
    metrics = one.compared.metrics
    if metrics:
        yield from _metrics(metrics)
        yield ""
    shown = [pair for pair in gate_pairs(one) if pair.is_told]
    if shown:
        yield "| gate | base | change | found |"
        yield "| --- | --- | --- | --- |"
        for pair in shown:
            yield f"| {code(pair.name)} | {pair.before} | {_loud(pair.after)} | {escaped(pair.found)} |"
    elif head.gates:
        yield f"All {len(head.gates)} gates passed."
    if one.compared.answers is not None:
        yield ""
        yield escaped(answers_moved(one.compared.answers))


def _metrics(metrics: Iterable[Metric]) -> Iterator[str]:
    yield "| metric | base | change | difference (95 %) | |"
    yield "| --- | ---: | ---: | ---: | --- |"
    for one in metrics:
        moved = "**worse**" if one.moved == "worse" else (one.moved or "")
        yield f"| {code(one.name)} | {number(one.before)} | {number(one.after)} | {difference(one)} | {moved} |"


def _folded(report: Report, one: PipelineReport) -> Iterator[str]:
    head = one.head
    assert head is not None  # noqa: S101  (the caller looked)
    told = list(ran_and_why(one))
    if told:
        yield from _details(
            f"Steps of {one.name}: what ran, and why",
            (f"- {code(name)} {state}: {escaped(why)}" for name, state, why in told),
        )
    if one.compared.slices:
        yield from _details(f"Slices of {one.name}", _slices(one))
    data = [
        *(data_moved(moved) for moved in one.compared.data),
        *(labels_moved(moved) for moved in one.compared.labels),
        *one.compared.environment,
    ]
    if data:
        yield from _details(f"Data of {one.name} against the base", (f"- {escaped(line)}" for line in data))
    if head.gates:
        yield from _details(f"All gates of {one.name}", _gates(one))


def _slices(one: PipelineReport) -> Iterator[str]:
    yield "Of the rows that both were tested on; accuracy, or for numbers 1 - error / error of the median."
    yield ""
    yield "| slice | rows | base | change | difference (95 %) | |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for part in one.compared.slices[:_ROWS]:
        name = code(f"{part.column} = {part.value}")
        yield (
            f"| {name} | {part.rows:,} | {part.before:.3f} | {part.after:.3f} | {part.difference:+.3f} "
            f"({part.low:+.3f} to {part.high:+.3f}) | {_loud(part.moved) if part.moved != 'same' else ''} |"
        )


def _gates(one: PipelineReport) -> Iterator[str]:
    yield "| gate | base | change | found |"
    yield "| --- | --- | --- | --- |"
    for pair in list(gate_pairs(one))[:_ROWS]:
        yield f"| {code(pair.name)} | {pair.before} | {_loud(pair.after)} | {escaped(pair.found)} |"


def _details(summary: str, lines: Iterable[str]) -> Iterator[str]:
    yield ""
    yield f"<details><summary>{_tame(summary)}</summary>"
    yield ""
    yield from list(lines)[: _ROWS + 4]
    yield ""
    yield "</details>"


def _loud(word: str) -> str:
    return f"**{word}**" if word in ("failed", "worse") else word
