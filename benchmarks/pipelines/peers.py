"""The engine beside Prefect, Dagster and DBOS: the same work in one run, each in an environment of its own.

    python benchmarks/pipelines/peers.py [ROUNDS] [FOLDER]

LIMIT_S in the environment is how long one engine may take. Needs uv. The environments are made below a temporary folder, or below FOLDER and kept there, with the versions pinned here;
ours from the repository's lock. What each engine is set to, and what it guarantees then, stands at the top of its program
in `peers/`. All measure from inside a warm process; import, size on disk and fsyncs (with strace, if there is one) are
measured from outside. Ratios are to ours in the same run: a busy machine makes them less sharp, not one-sided.
"""

from __future__ import annotations

import json
import os
import platform
import selectors
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
ENGINES = {
    "everloop": ["--require-hashes", "-r", str(REPOSITORY / "requirements.lock")],
    "dbos": ["dbos==3.4.0"],
    "dagster": ["dagster==1.13.29"],
    "prefect": ["prefect==3.9.1"],
}
# What a program imports to declare and run a pipeline.
IMPORTS = {
    "everloop": "from everloop.pipelines import pipeline, step, run_pipeline; from everloop.workspace import open_workspace",
    "dbos": "from dbos import DBOS",
    "dagster": "from dagster import DagsterInstance, job, op",
    "prefect": "from prefect import flow, task",
}
COUNTED = 5  # chains that fsyncs are counted over
LIMIT_S = float(os.environ.get("LIMIT_S", "900"))  # noqa: TID251  (no setting)  for all figures of one engine


def main(rounds: int, folder: Path) -> None:
    load = os.getloadavg()[0]
    figures: dict[str, dict[str, float | None]] = {}
    for engine in ENGINES:
        python = environment(engine, folder / engine)
        figures[engine] = {
            "import, ms of CPU": import_cpu_ms(engine, python),
            "installed, MB": size_mb(folder / engine),
            "fsyncs of 10 steps": fsyncs(engine, python),
            **run(engine, python, rounds, "all"),
        }
        print(engine, json.dumps(figures[engine]), file=sys.stderr, flush=True)  # the slow ones take minutes
    about = f"Python {platform.python_version()}, {os.cpu_count()} cores, {rounds} rounds"
    print(f"{about}, load {load:.1f} before and {os.getloadavg()[0]:.1f} after; in brackets: times ours")
    print(f"{'':28}" + "".join(f"{engine:>20}" for engine in ENGINES))
    for what, ours in figures["everloop"].items():
        row = [shown(figures[engine], what, None if engine == "everloop" else ours) for engine in ENGINES]
        print(f"{what:28}" + "".join(f"{one:>20}" for one in row))


def environment(engine: str, place: Path) -> Path:
    """An environment with one engine, made if there is none; its Python."""
    python = place / "bin" / "python"
    if not python.exists():
        uv = shutil.which("uv") or sys.exit("peers.py makes environments with uv. Install it: pip install uv")
        install = [uv, "pip", "install", "-q", "--python", str(python)]
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(place)], check=True)
        subprocess.run([*install, *ENGINES[engine]], check=True)
        if engine == "everloop":
            subprocess.run([*install, "hatchling", "editables"], check=True)
            subprocess.run([*install, "--no-deps", "--no-build-isolation", str(REPOSITORY)], check=True)
        subprocess.run([str(python), "-m", "compileall", "-q", str(place / "lib")], check=False)
    return python


def import_cpu_ms(engine: str, python: Path) -> float:
    """Milliseconds of processor, which other work on the machine does not lengthen."""
    code = f"import time; {IMPORTS[engine]}; print(time.process_time())"
    took = [
        float(subprocess.run([python, "-c", code], capture_output=True, check=True).stdout) for _ in range(5)
    ]
    return statistics.median(took) * 1e3


def size_mb(place: Path) -> float:
    """All files of an environment's packages, without what Python compiled of them."""
    files = [one for one in (place / "lib").rglob("*") if one.is_file() and one.suffix != ".pyc"]
    return sum(one.stat().st_size for one in files) / 1e6


def fsyncs(engine: str, python: Path) -> float | None:
    """Of one chain of 10 steps, by all processes of the engine: the difference that COUNTED more of them make."""
    if shutil.which("strace") is None:
        return None
    counts = []
    with tempfile.TemporaryDirectory() as name:
        for chains in (1, 1 + COUNTED):
            trace = Path(name) / "trace"
            strace = ["strace", "-f", "-qq", "-I", "2", "-e", "trace=fsync,fdatasync", "-o", str(trace)]
            run(engine, python, chains, "fsyncs", before=strace)
            counts.append(trace.read_text().count("sync("))
    return (counts[1] - counts[0]) / COUNTED


def run(
    engine: str, python: Path, rounds: int, what: str, *, before: list[str] | None = None
) -> dict[str, float | None]:
    """What an engine's program says, in a session of its own, of which nothing is left then."""
    command = [*(before or []), str(python), f"{engine}_peer.py", str(rounds), what]
    figures: dict[str, float | None] = {}
    until = time.monotonic() + LIMIT_S
    with (
        subprocess.Popen(
            command, cwd=HERE / "peers", stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        ) as process,
        selectors.DefaultSelector() as selector,
    ):
        assert process.stdout is not None
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(until - time.monotonic()) and (said := process.stdout.readline()):
            name, value = json.loads(said)
            if not name:
                break
            figures[name] = value
        process.terminate()  # first, so that strace writes down what it saw
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        for pid in session_of(process.pid):
            os.kill(pid, signal.SIGKILL)
    return figures


def session_of(leader: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(place.name)) == leader:
                found.append(int(place.name))
        except ProcessLookupError:
            continue
    return found


def shown(figures: dict[str, float | None], what: str, ours: float | None) -> str:
    if what not in figures:
        return "not in time"
    if (value := figures[what]) is None:
        return "none"
    ratio = f" ({value / ours:.3g})" if ours else ""
    return f"{value:.{2 if value < 10 else 0}f}{ratio}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else 5,
            Path(sys.argv[2]) if len(sys.argv) > 2 else Path(temporary),
        )
