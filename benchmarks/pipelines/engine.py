"""What the engine costs beside the work of the steps: per step, from the cache, to resume, to import.

    python benchmarks/pipelines/engine.py [DATABASE_URL]      default a new SQLite file

Steps do nothing but add one, so all that is measured is tracing, fingerprints, journal, lineage and results. Times are
medians; CPU is of this process. `strace -f -c -e trace=fsync,fdatasync` around it counts the fsyncs.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 7
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

    @pipeline
    def fan_out(count: int, salt: int) -> list:
        return [add(number, salt) for number in range(count)]

    @step
    def numbers(count: int, salt: int) -> list:
        return list(range(salt, salt + count))

    @step
    def total(values: list) -> int:
        return sum(values)

    @pipeline
    def mapped(count: int, salt: int) -> int:
        return total(add.map(numbers(count, salt), salt=0))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "project").mkdir()
        (folder / "project" / "loop.py").write_text(textwrap.dedent(LOOP))
        sys.path.insert(0, str(folder / "project"))
        print(f"{platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        measure_import()
        measure_runs(folder, sys.argv[1] if len(sys.argv) > 1 else "")


def measure_import() -> None:
    for what in ("everloop.pipelines.steps, everloop.pipelines.tracing", "everloop.pipelines.nursery"):
        code = f"import time; t = time.perf_counter(); import {what}; print(time.perf_counter() - t)"
        took = [
            float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
            for _ in range(ROUNDS)
        ]
        print(f"import {what}: {statistics.median(took) * 1e3:.0f} ms")


def measure_runs(folder: Path, url: str) -> None:
    import loop

    from everloop.pipelines import Inline, Processes, run_pipeline
    from everloop.settings import load_settings
    from everloop.workspace import open_workspace

    settings = load_settings(folder / "home", environ={}, actor="bench", database_url=url)
    with open_workspace(settings=settings) as ws:

        def run(pipeline: Any, executor: Any, count: int, salt: int) -> None:
            params = {"count": count, "salt": salt}
            run_pipeline(ws, pipeline, params=params, reason="benchmark", executor=executor)

        run(loop.chain, Inline(), 3, -1)  # what is done once a process: statements compiled, packages listed
        counts = {
            count: timed(lambda salt, n=count: run(loop.chain, Inline(), n, salt)) for count in (10, 110)
        }
        shown("chain of 10 steps, inline", counts[10])
        shown("chain of 110 steps, inline", counts[110])
        more = [(long - short) / 100 for long, short in zip(counts[110], counts[10], strict=True)]
        print(f"  a further step: {more[0] * 1e3:.2f} ms, CPU {more[1] * 1e3:.2f} ms")
        run(loop.chain, Inline(), 100, 10_000)
        shown("100 steps from the cache", timed(lambda _: run(loop.chain, Inline(), 100, 10_000)))
        shown("resume, 1 of 100 steps left", timed_resume(ws, loop))
        with_processes = timed(lambda salt: run(loop.fan_out, Processes(2), 100, 20_000 + salt), rounds=3)
        shown("100 steps side by side in 2 processes, forked, start included", with_processes)
        for what, took in timed_map(ws, loop).items():
            shown(f"a map over 100 items in 2 processes, {what}", took)
        for count in (1_000, 10_000):
            before_mb, salt = resident_mb(), 1_000_000 * count
            mapped = timed(lambda _, n=count, s=salt: run(loop.mapped, Inline(), n, s), rounds=1)
            shown(f"a map over {count} items, inline", mapped)
            print(f"  memory: {before_mb:.0f} MB before, {resident_mb():.0f} MB after")
            shown("  again", timed(lambda _, n=count, s=salt: run(loop.mapped, Inline(), n, s), rounds=1))
            more = timed(lambda _, n=count, s=salt: run(loop.mapped, Inline(), n + 1, s), rounds=1)
            shown("  again with one item more", more)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def timed_resume(ws: Any, loop: Any) -> tuple[float, float]:
    from everloop.ids import new_id
    from everloop.pipelines import Inline, resume, run_pipeline

    class Stop(BaseException):
        pass

    def stop_at_99(progress: Any) -> None:
        if progress.done == 99:
            raise Stop

    left = []
    for salt in range(ROUNDS):
        left.append(new_id("run"))
        try:
            params = {"count": 100, "salt": 30_000 + salt}
            run_pipeline(
                ws,
                loop.chain,
                params=params,
                reason="",
                run_id=left[-1],
                executor=Inline(),
                on_progress=stop_at_99,
            )
        except Stop:
            pass
    return timed(lambda _: resume(ws, left.pop(), executor=Inline()))


def timed_map(ws: Any, loop: Any) -> dict[str, tuple[float, float]]:
    """The map alone, once the pool is warm as the step before it ran there, and the run as a whole."""
    from everloop.pipelines import Processes, run_pipeline

    marks: dict[str, list[tuple[float, float]]] = {
        "with a warm pool": [],
        "start of run and pool included": [],
    }
    for salt in range(ROUNDS):
        told: dict[str, tuple[float, float]] = {}

        def hear(progress: Any, told: dict[str, tuple[float, float]] = told) -> None:
            if progress.kind in ("step_done", "run_ended"):
                told[progress.node] = time.perf_counter(), time.process_time()

        begun = time.perf_counter(), time.process_time()
        params = {"count": 100, "salt": 50_000 + 1_000 * salt}
        run_pipeline(ws, loop.mapped, params=params, reason="", executor=Processes(2), on_progress=hear)
        for what, start, end in zip(marks, (told["numbers"], begun), (told["add"], told[""]), strict=True):
            marks[what].append((end[0] - start[0], end[1] - start[1]))
    return {
        what: (statistics.median(wall), statistics.median(cpu))
        for what, taken in marks.items()
        for wall, cpu in [zip(*taken, strict=True)]
    }


def timed(act: Callable[[int], object], *, rounds: int = ROUNDS) -> tuple[float, float]:
    """Median seconds and CPU seconds of `act`, called with another number each time."""
    walls, cpus = [], []
    for number in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        act(number)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def shown(what: str, took: tuple[float, float]) -> None:
    print(f"{what}: {took[0] * 1e3:.1f} ms, CPU {took[1] * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
