"""DBOS: its system database in SQLite, as it is without a server; child workflows on threads of this process.

Each step's output is committed when it ends. A queue spreads over processes only with PostgreSQL behind it.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from dbos import DBOS, SetWorkflowID, error
from measuring import WIDE, measure, timed

CANCELLED = (error.DBOSWorkflowCancelledError, error.DBOSAwaitedWorkflowCancelledError)
POLL_S = 0.01  # its default is a second: set to where waiting adds nothing to the figures


@DBOS.step()
def add(value: int, salt: int) -> int:
    return value + 1


@DBOS.workflow()
def chain(count: int, salt: int) -> int:
    value = 0
    for _ in range(count):
        value = add(value, salt)
    return value


@DBOS.workflow()
def one(value: int, salt: int) -> int:
    return add(value, salt)


@DBOS.workflow()
def fan_out(salt: int) -> int:
    handles = [DBOS.enqueue_workflow("wide", one, number, salt) for number in range(WIDE)]
    return sum(handle.get_result(polling_interval_sec=POLL_S) for handle in handles)


cut_off: set[str] = set()


@DBOS.workflow()
def cut(count: int, salt: int) -> int:
    """Cancelled before its last step at the first try, as a crash would end it in a process of its own."""
    value = 0
    for _ in range(count - 1):
        value = add(value, salt)
    if (workflow := str(DBOS.workflow_id)) not in cut_off:
        cut_off.add(workflow)
        DBOS.cancel_workflow(workflow)
    return add(value, salt)


class Dbos:
    def __init__(self, folder: Path) -> None:
        DBOS(
            config={
                "name": "bench",
                "system_database_url": f"sqlite:///{folder}/dbos.sqlite",
                "log_level": "CRITICAL",
                "enable_otlp": False,
            }
        )
        DBOS.launch()
        DBOS.register_queue("wide", polling_interval_sec=POLL_S)

    def chain(self, steps: int, salt: int) -> None:
        chain(steps, salt)

    def fan_out(self, salt: int) -> float:
        return timed(lambda: fan_out(salt))

    def resume(self, salt: int) -> float:
        with suppress(*CANCELLED), SetWorkflowID(f"cut-{salt}"):
            cut(WIDE, salt)
        return timed(lambda: DBOS.resume_workflow(f"cut-{salt}").get_result(polling_interval_sec=POLL_S))

    def again(self, salt: int) -> None:
        """It keeps results for each workflow's own id, none for other runs with the same inputs."""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        measure(Dbos(Path(name)), int(sys.argv[1]), sys.argv[2])
