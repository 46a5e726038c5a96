"""everloop: the kill-safe journal in SQLite; steps in this process, side by side in two forked ones."""

from __future__ import annotations

import sys
import tempfile
import textwrap
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from measuring import WIDE, measure, timed

LOOP = """
    from everloop.pipelines import pipeline, step

    @step
    def add(value: int, salt: int) -> int:
        return value + 1

    @pipeline
    def chain(count: int, salt: int) -> int:
        value = 0
        for _ in range(count):
            value = add(value, salt)
        return value

    @step
    def numbers(salt: int) -> list:
        return list(range(salt * 1_000, salt * 1_000 + 100))

    @step
    def total(values: list) -> int:
        return sum(values)

    @pipeline
    def fan_out(salt: int) -> int:
        return total(add.map(numbers(salt), salt=0))
"""


class Everloop:
    def __init__(self, folder: Path) -> None:
        from everloop.settings import load_settings
        from everloop.workspace import open_workspace

        (folder / "loop.py").write_text(textwrap.dedent(LOOP))
        sys.path.insert(0, str(folder))
        import loop

        self.loop: Any = loop
        self.ws = open_workspace(settings=load_settings(folder / "home", environ={}, actor="bench"))

    def run(self, pipeline: Any, executor: Any, **params: int) -> Any:
        from everloop.pipelines import run_pipeline

        return run_pipeline(self.ws, pipeline, params=params, reason="", executor=executor)

    def chain(self, steps: int, salt: int) -> None:
        from everloop.pipelines import Inline

        self.run(self.loop.chain, Inline(), count=steps, salt=salt)

    def fan_out(self, salt: int) -> float:
        """The map alone: the pool is warm, as the step before it ran there."""
        from everloop.pipelines import Processes, run_pipeline

        told: dict[str, float] = {}

        def hear(progress: Any) -> None:
            if progress.kind == "step_done":
                told[progress.node] = time.perf_counter()

        run_pipeline(
            self.ws,
            self.loop.fan_out,
            params={"salt": salt},
            reason="",
            executor=Processes(2),
            on_progress=hear,
        )
        return told["add"] - told["numbers"]

    def again(self, salt: int) -> float:
        self.chain(WIDE, salt)
        return timed(lambda: self.chain(WIDE, salt))

    def resume(self, salt: int) -> float:
        from everloop.ids import new_id
        from everloop.pipelines import Inline, resume, run_pipeline

        run_id = new_id("run")

        def stop(progress: Any) -> None:
            if progress.done == WIDE - 1:
                raise KeyboardInterrupt

        params = {"count": WIDE, "salt": salt}
        with suppress(KeyboardInterrupt):
            run_pipeline(
                self.ws,
                self.loop.chain,
                params=params,
                reason="",
                run_id=run_id,
                executor=Inline(),
                on_progress=stop,
            )
        return timed(lambda: resume(self.ws, run_id, executor=Inline()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        measure(Everloop(Path(name)), int(sys.argv[1]), sys.argv[2])
