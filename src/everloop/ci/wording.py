"""What the readable forms of a report have in common: how numbers, gates and differences are told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from everloop.ci.records import AnswersMoved, DataMoved, LabelsMoved, Metric, PipelineReport


@dataclass(frozen=True)
class GatePair:
    """A gate on both sides; `-` where it was not run."""

    name: str
    before: str
    after: str
    found: str
    rule: str
    remedy: str

    @property
    def is_told(self) -> bool:
        """Whether it belongs in the short part: it failed, warns, or did so on the base, or is gone."""
        return (
            self.after in ("failed", "warned") or self.before in ("failed", "warned") or self.after == "gone"
        )


def gate_pairs(one: PipelineReport) -> Iterator[GatePair]:
    """The gates of a pipeline's model, those that failed first; then those that the change takes away."""
    before = {gate.name: gate for gate in one.base.gates} if one.base is not None else {}
    after = one.head.gates if one.head is not None else ()
    order = {"failed": 0, "warned": 1}
    for gate in sorted(after, key=lambda gate: order.get(gate.verdict, 2)):
        was = before.get(gate.name)
        yield GatePair(
            gate.name, "-" if was is None else was.verdict, gate.verdict, gate.found, gate.rule, gate.remedy
        )
    for name in before.keys() - {gate.name for gate in after}:
        if after:
            yield GatePair(name, before[name].verdict, "gone", "The change takes this gate away.", "", "")


def ran_and_why(one: PipelineReport) -> Iterator[tuple[str, str, str]]:
    """The steps of the change by name, with their state and the reason; then what touched the pipeline besides."""
    touched = {step.name: step for step in one.touched.steps}
    ended = one.head.steps if one.head is not None else ()
    for step in ended:
        took = "" if step.seconds is None or step.state != "done" else f" in {step.seconds:.1f} s"
        state = {"done": f"ran{took}", "cached": "was cached"}.get(step.state, step.state)
        if step.state == "cached":
            yield step.label, state, "nothing that it depends on changed."
        elif step.name in touched:
            yield step.label, state, f"{'; '.join(touched[step.name].reasons)}."
        else:
            yield step.label, state, step.why
    names = {step.name for step in ended}
    for gone in one.touched.steps:
        if gone.name not in names:
            yield gone.label, "did not run", f"{'; '.join(gone.reasons)}."
    for reason in one.touched.reasons:
        yield one.name, "is touched", f"{reason}."


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def difference(one: Metric) -> str:
    """`+0.0120 (-0.0031 to +0.0271)`; without an interval where there is none."""
    if one.difference is None:
        return "-"
    interval = "" if one.low is None or one.high is None else f" ({one.low:+.4f} to {one.high:+.4f})"
    return f"{one.difference:+.4f}{interval}"


def answers_moved(one: AnswersMoved) -> str:
    return (
        f"Of {one.shared:,} rows that both models were tested on, {one.differing:,} are answered differently: "
        f"{one.right_after:,} right only now, {one.right_before:,} right only on the base."
    )


def data_moved(one: DataMoved) -> str:
    """What became of a dataset, in one line."""
    rows = f"{one.name}: {_count(one.rows_before)} rows on the base, {_count(one.rows_after)} now"
    if not (one.added or one.removed or one.changed) and one.rows_before == one.rows_after:
        rows = f"{one.name}: the same {_count(one.rows_after)} rows, declared otherwise"
    elif one.added is not None:
        rows += f" ({one.added:,} added, {_count(one.removed)} removed, {_count(one.changed)} changed)"
    return "; ".join([rows, *(f"column {column}" for column in one.columns)]) + "."


def labels_moved(one: LabelsMoved) -> str:
    if one.added is None:
        return f"labels {one.name}: other labels than on the base."
    if not (one.added or one.removed or one.changed):
        return f"labels {one.name}: the same labels, said again."
    return f"labels {one.name}: {one.added:,} rows got a label, {_count(one.removed)} lost it, {_count(one.changed)} changed it."


def _count(value: int | None) -> str:
    return "no" if value is None else f"{value:,}"
