"""Prefect: its server as a process beside, with SQLite; results persisted and cached by inputs and source.

What a task returned survives a crash as a file; a flow is resumed by running it again with that cache. Side by side: its
runner of a pool of processes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":
    FOLDER = tempfile.TemporaryDirectory()
    os.environ |= {  # noqa: TID251  (Prefect's own settings)
        "PREFECT_HOME": FOLDER.name,
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
        "DO_NOT_TRACK": "1",
    }

from measuring import WIDE, measure, timed
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.task_runners import ProcessPoolTaskRunner


@task(persist_result=True, cache_policy=INPUTS + TASK_SOURCE)
def add(value: int, salt: int) -> int:
    return value + 1


@flow
def chain(count: int, salt: int, fails_at: int | None = None) -> int:
    value = 0
    for number in range(count):
        if number == fails_at:
            raise KeyError("cut off")
        value = add(value, salt)
    return value


@flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
def fan_out(salt: int) -> int:
    return sum(add.map(list(range(WIDE)), salt).result())


class Prefect:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def chain(self, steps: int, salt: int) -> None:
        chain(steps, salt)

    def fan_out(self, salt: int) -> float:
        """Its pool begins and ends with the flow."""
        return timed(lambda: fan_out(salt))

    def resume(self, salt: int) -> float:
        with suppress(KeyError):
            chain(WIDE, salt, WIDE - 1)
        return timed(lambda: chain(WIDE, salt))

    def again(self, salt: int) -> float:
        chain(WIDE, salt)
        return timed(lambda: chain(WIDE, salt))


if __name__ == "__main__":
    measure(Prefect(Path(FOLDER.name)), int(sys.argv[1]), sys.argv[2])
