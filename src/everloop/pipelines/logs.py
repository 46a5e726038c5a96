"""What steps print."""

from __future__ import annotations

from everloop import tracking
from everloop.pipelines.records import StepRun
from everloop.workspace import Workspace


def printed(ws: Workspace, attempt: StepRun) -> bytes:
    """What an attempt printed, as far as it is kept.

    Raises NotFound when what it printed is not there any more.
    """
    return b"" if attempt.log is None else tracking.read_artifact(ws, attempt.run, attempt.log)
