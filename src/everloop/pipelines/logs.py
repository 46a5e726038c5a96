"""What steps print: kept as it comes, so that it can be read while a step runs, and of the run for good when it ended."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from everloop.errors import NotFound
from everloop.pipelines.canonical import digest_of

if TYPE_CHECKING:
    from everloop.pipelines.records import PipelineRun, StepRun
    from everloop.workspace import Workspace

_LOOK_S = 0.3  # between two looks for more
_NAME_BYTES = 150  # of a step's name that file systems take beside an attempt's number


def attempt_name(node: str, attempt: int) -> str:
    """What the files of an attempt are called: the step's name where it is short enough."""
    name = node if len(node.encode()) <= _NAME_BYTES else digest_of(node)[:32]
    return f"{name}-{attempt}"


def log_place(scratch: Path, node: str, attempt: int) -> Path:
    """Where what an attempt prints is while it runs."""
    return scratch / f"{attempt_name(node, attempt)}.log"


def printed(ws: Workspace, attempt: StepRun, *, start: int = 0) -> bytes:
    """What an attempt printed so far, from byte `start` on; nothing for one that runs on another machine.

    Raises NotFound when what it printed is not there any more.
    """
    from everloop import tracking  # noqa: PLC0415  (SQLAlchemy: a process that only runs a step does without)
    from everloop.pipelines.claim import scratch_of  # noqa: PLC0415  (as above)

    if attempt.log is not None:
        return tracking.read_artifact(ws, attempt.run, attempt.log)[start:]
    place = log_place(scratch_of(ws, attempt.run, token=attempt.token), attempt.node, attempt.attempt)
    try:
        with place.open("rb") as file:
            file.seek(start)
            return file.read()
    except FileNotFoundError:  # it printed nothing, or ended meanwhile
        return b""


def follow(
    ws: Workspace, run_id: str, *, node: str | None = None, to_the_end: bool = True
) -> Iterator[tuple[str, str]]:
    """What the steps of a run print, or one, in whole lines with the step's name, as it comes.

    Parameters
    ----------
    node
        A step's name, or that of a map's call such as `fit[3]`; None: all.
    to_the_end
        Wait for more until nobody runs the run any more.

    Raises
    ------
    NotFound
        There is no such run, or it has no such step.
    """
    from everloop.pipelines.reading import pipeline_run  # noqa: PLC0415  (as above)

    _check_known(pipeline_run(ws, run_id), node)
    readers: dict[str, _Reader] = {}
    while True:
        run = pipeline_run(ws, run_id)
        is_over = not to_the_end or run.state not in ("running", "pausing")
        for attempt in run.steps:
            if node in (None, attempt.node):
                reader = readers.setdefault(attempt.id, _Reader())
                text = reader.read(ws, attempt, is_over=is_over)
                if text:
                    yield attempt.node, text
        if is_over:
            return
        time.sleep(_LOOK_S)


class _Reader:
    """How far one attempt was read. An unfinished line is kept until its end is there."""

    def __init__(self) -> None:
        self._read = 0
        self._unfinished = b""
        self._is_over = False

    def read(self, ws: Workspace, attempt: StepRun, *, is_over: bool) -> str:
        if self._is_over:
            return ""
        self._is_over = is_over or attempt.state != "running"
        more = printed(ws, attempt, start=self._read)
        self._read += len(more)
        whole, end, rest = (self._unfinished + more).rpartition(b"\n")
        self._unfinished = rest
        if self._is_over and rest:
            whole, end = whole + end + rest, b"\n"
        return (whole + end).decode(errors="replace")


def _check_known(run: PipelineRun, node: str | None) -> None:
    names = [step["name"] for step in run.plan["steps"]]
    if node is not None and node not in names and node not in {one.node for one in run.steps}:
        raise NotFound(f"run {run.id} has no step {node!r}; its steps are {', '.join(names)}.")


@contextlib.contextmanager
def kept_as_printed(place: Path) -> Iterator[None]:
    """Also write into a file, which is made at the first character, what Python prints in this process meanwhile."""
    out, err = _Tee(sys.stdout, place), _Tee(sys.stderr, place)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    finally:
        out.end()
        err.end()


class _Tee(io.TextIOBase):
    """Writes to a stream and, until it is told to end, into a file too. Handlers of log messages may hold it longer."""

    def __init__(self, stream: TextIO, place: Path) -> None:
        self._stream = stream
        self._place: Path | None = place
        self._file: io.FileIO | None = None

    def write(self, text: str) -> int:
        if self._file is None and self._place is not None:
            self._file = self._place.open("ab", buffering=0)  # two streams append by turns
        if self._file is not None:
            self._file.write(text.encode(errors="replace"))
        return self._stream.write(text)

    def end(self) -> None:
        self._place = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()
