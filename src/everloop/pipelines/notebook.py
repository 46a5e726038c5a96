"""A run's progress in a notebook: one output that is written over as the run goes on."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from typing import Any

from everloop import clock
from everloop.pipelines.records import OnProgress, Progress
from everloop.pipelines.rendering import state, table

_EACH_S = 0.1  # at most so often; a browser is not quicker
_STATES = {
    "step_started": "running",
    "step_cached": "cached",
    "step_done": "done",
    "step_retried": "retried",
    "step_failed": "failed",
    "step_skipped": "skipped",
}


def progress_here() -> OnProgress | None:
    """What shows a run's progress where this process is a notebook's kernel; None: it is none."""
    return Board(importlib.import_module("IPython.display").display) if in_kernel() else None


def in_kernel() -> bool:
    """Whether this process is a notebook's kernel, whose output is no file's."""
    module: Any = sys.modules.get("IPython")  # who runs in it has imported it; everloop does without
    shell = None if module is None else module.get_ipython()
    return hasattr(shell, "kernel")


@dataclass
class _Row:
    """A step as it is shown; the calls of a map are counted in its row."""

    label: str
    state: str = "running"
    seconds: float | None = None
    message: str = ""
    calls: int = 0


@dataclass
class Board:
    """Shows progress by a function such as `IPython.display.display`."""

    display: Any
    _rows: dict[str, _Row] = field(default_factory=dict)
    _heading: str = ""
    _ended: str = ""
    _handle: Any = None
    _shown_s: float = 0.0

    def __call__(self, one: Progress) -> None:
        self._heading = f"{self._heading.partition(' ')[0] or one.label} {one.done} of {one.total}"
        if one.kind == "run_ended":
            ended = "failed: " + one.message.strip().rpartition("\n")[2] if one.message else "done"
            self._ended = f"{one.run} {ended}" + (
                f" in {one.seconds:.1f} s" if one.seconds is not None else ""
            )
        elif one.node:
            self._take(one)
        self._show(is_last=one.kind in ("run_started", "run_ended"))

    def _take(self, one: Progress) -> None:
        node, bracket, _ = one.node.partition("[")
        row = self._rows.setdefault(node, _Row(node if bracket else one.label))
        if bracket:
            row.calls += one.kind in ("step_done", "step_cached")
        elif one.kind in _STATES:
            row.state, row.seconds = _STATES[one.kind], one.seconds
        if one.message:
            row.message = one.message

    def _show(self, *, is_last: bool) -> None:
        if self._handle is None:
            self._handle = self.display(self, display_id=True)
        elif is_last or clock.elapsed_s() - self._shown_s >= _EACH_S:
            self._handle.update(self)
        else:
            return
        self._shown_s = clock.elapsed_s()

    def _cells(self) -> list[tuple[str, str, Any, str]]:
        return [
            (
                row.label,
                state(row.state),
                row.seconds,
                f"{row.calls:,} calls {row.message}" if row.calls else row.message,
            )
            for row in self._rows.values()
        ]

    def _repr_html_(self) -> str:
        return table(self._heading, ("step", "state", "seconds", ""), self._cells(), note=self._ended)

    def __repr__(self) -> str:
        lines = ["  ".join(str(cell) for cell in cells if cell not in (None, "")) for cells in self._cells()]
        return "\n".join([self._heading, *lines, self._ended]).rstrip()
