"""Dagster: an instance with its run and event storage in SQLite, outputs as files; without its web server and daemon.

A run that failed is executed again from the failure. Side by side: its multiprocess executor, with a fork server that has
the code loaded. It keeps no results of ops for later runs.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    FOLDER = tempfile.TemporaryDirectory()
    os.environ |= {"DAGSTER_HOME": FOLDER.name, "DAGSTER_DISABLE_TELEMETRY": "1"}  # noqa: TID251  (its own settings)
    (Path(FOLDER.name) / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")

from dagster import (
    DagsterInstance,
    DynamicOut,
    DynamicOutput,
    JobDefinition,
    ReexecutionOptions,
    execute_job,
    fs_io_manager,
    graph,
    job,
    op,
    reconstructable,
)
from measuring import WIDE, measure, timed

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@op
def nothing() -> int:
    return 0


@op
def add(value: int) -> int:
    return value + 1


@op
def add_or_fail(value: int) -> int:
    if not (Path(os.environ["DAGSTER_HOME"]) / "mended").exists():  # noqa: TID251  (as above)
        raise KeyError("cut off")
    return value + 1


@op(out=DynamicOut(int))
def numbers() -> Any:
    for number in range(WIDE):
        yield DynamicOutput(number, str(number))


@op
def total(values: list[int]) -> int:
    return sum(values)


@job(resource_defs={"io_manager": fs_io_manager})
def fan_out() -> None:
    total(numbers().map(add).collect())


@functools.cache
def chain(steps: int, last: Any = add) -> JobDefinition:
    @graph
    def linear() -> None:
        value = nothing()
        for number in range(steps - 2):
            value = add.alias(f"add_{number}")(value)
        last.alias("last")(value)

    return linear.to_job(name=f"chain_{steps}_{last.name}", resource_defs={"io_manager": fs_io_manager})


@job(resource_defs={"io_manager": fs_io_manager})
def cut() -> None:
    value = nothing()
    for number in range(WIDE - 2):
        value = add.alias(f"add_{number}")(value)
    add_or_fail(value)


class Dagster:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.instance = DagsterInstance.get()

    def chain(self, steps: int, salt: int) -> None:
        assert chain(steps).execute_in_process(instance=self.instance, run_config=QUIET).success

    def fan_out(self, salt: int) -> float:
        start = {"start_method": {"forkserver": {"preload_modules": ["dagster", "dagster_peer"]}}}
        config = {"execution": {"config": {"multiprocess": {"max_concurrent": 2, **start}}}, **QUIET}
        return timed(lambda: self._execute("fan_out", config))

    def resume(self, salt: int) -> float:
        (self.folder / "mended").unlink(missing_ok=True)
        config = {"execution": {"config": {"in_process": {}}}, **QUIET}
        run = self._execute("cut", config, succeeds=False)
        (self.folder / "mended").touch()
        again = ReexecutionOptions.from_failure(run, self.instance)
        return timed(lambda: self._execute("cut", config, reexecution_options=again))

    def again(self, salt: int) -> None:
        """It keeps no results of ops for later runs."""

    def _execute(self, name: str, config: dict[str, Any], *, succeeds: bool = True, **options: Any) -> str:
        import dagster_peer

        known = reconstructable(getattr(dagster_peer, name))
        with execute_job(known, self.instance, run_config=config, raise_on_error=succeeds, **options) as done:
            assert done.success is succeeds
            return str(done.run_id)


if __name__ == "__main__":
    measure(Dagster(Path(FOLDER.name)), int(sys.argv[1]), sys.argv[2])
