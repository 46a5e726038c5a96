"""Golden predictions of a registered version: made from its test rows, and accepted again when its answers are right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from everloop import checks, pipelines, registry
from everloop.checks import CheckInput, GoldenRow
from everloop.errors import Conflict, Invalid
from everloop.loop.training import check_input
from everloop.pipelines import Model
from everloop.workspace import Workspace


@dataclass(frozen=True)
class Answered:
    """The rows of a golden file as they are kept, and as a version answers them."""

    kept: tuple[GoldenRow, ...]
    now: tuple[GoldenRow, ...]

    @property
    def changed(self) -> list[int]:
        """Places of rows that get another answer."""
        return [
            place
            for place, (old, new) in enumerate(zip(self.kept, self.now, strict=True))
            if old.expected != new.expected
        ]


def make_golden(ws: Workspace, ref: str, file: Path, *, rows: int = 50) -> int:
    """Keep a version's answers to so many of its test rows, taken from all classes in turn; how many they are.

    Raises
    ------
    Conflict
        The file is there: its answers are accepted, not made.
    Invalid
        The version was not made by a pipeline here, or cannot answer.
    """
    if file.exists():
        raise Conflict(
            f"{file} is there; golden answers are replaced knowingly. Accept a version's answers with --accept, or name another file."
        )
    given = _given(ws, ref)
    places = _spread(given, rows)
    table = given.test.take(places).select(["_row_id", *given.columns])
    asked = [
        GoldenRow({name: one[name] for name in given.columns}, "", row=one["_row_id"])
        for one in table.to_pylist()
    ]
    checks.write_golden(file, _answered(given, asked), made_by=ref)
    return len(asked)


def answer_golden(ws: Workspace, ref: str, file: Path) -> Answered:
    """What a version answers to the rows of a golden file. Raises Invalid when it cannot."""
    kept = checks.read_golden(file)
    return Answered(kept, tuple(_answered(_given(ws, ref), kept)))


def accept_golden(ws: Workspace, ref: str, file: Path) -> Answered:
    """Write a version's answers into a golden file, in place of those that it holds."""
    found = answer_golden(ws, ref, file)
    checks.write_golden(file, found.now, made_by=ref)
    return found


def _given(ws: Workspace, ref: str) -> CheckInput:
    version = registry.version(ws, ref)
    made = pipelines.result(ws, version.run) if version.run is not None else None
    if version.run is None or not isinstance(made, Model):
        raise Invalid(
            f"{ref} was not made by a pipeline of this workspace, so its test rows are not known. Name a version that was."
        )
    return check_input(ws, version.model, version, pipelines.pipeline_run(ws, version.run), made)


def _answered(given: CheckInput, rows: tuple[GoldenRow, ...] | list[GoldenRow]) -> list[GoldenRow]:
    found = checks.answered(rows, given)
    if isinstance(found, str):
        raise Invalid(f"{found} Make the golden file anew from a version of this model.")
    return found


def _spread(given: CheckInput, rows: int) -> list[int]:
    """Places among the test rows: one of each class after the other, until there are enough."""
    labels = given.test[given.label].to_pylist()
    seen: dict[object, int] = {}
    rank = []
    for label in labels if given.task == "class" else [None] * len(labels):
        rank.append(seen.get(label, 0))
        seen[label] = rank[-1] + 1
    order = np.argsort(np.array(rank), kind="stable")[: max(1, rows)]
    return sorted(int(one) for one in order)
