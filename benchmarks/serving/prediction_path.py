"""The prediction path against FastAPI + uvicorn, LitServe, BentoML and mlflow models serve: one model file, one program that asks.

    python -m benchmarks.serving.prediction_path [--data ../shared/data] [--rounds 7] [--seconds 2]

All serve in one worker process and are asked in turns, so that what else the machine does hits all: the ratios, of pairs
in the same round, mean more than the figures. A server whose turn it is not is stopped, so that what it does while
nobody asks costs itself alone. everloop answers by the plan that was verified against the model, and by the unmodified
pipeline; it checks each request and logs each prediction. What the peers do is said at the top of each in `peers/`; each has an
environment of its own, made at the first run from `tests/peers/bench_*.txt`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.serving import tasks
from benchmarks.serving.servers import HERE, Measured, Server, started
from benchmarks.serving.tasks import Task
from tests.peer import peer

PATH = "/endpoints/category/predict"
COMPILED, UNMODIFIED = "everloop, compiled", "everloop, unmodified"
FASTAPI, LITSERVE, BENTOML, MLFLOW = (
    "FastAPI + uvicorn",
    "LitServe, batching",
    "BentoML, batching",
    "mlflow models serve",
)
PEERS = {"text": (FASTAPI, LITSERVE, BENTOML, MLFLOW), "table": (FASTAPI,)}
CONNECTIONS = (32, 1)


@dataclass
class Results:
    """Of one model: the turns of each server at so many connections, round by round; and their memory after them."""

    turns: dict[tuple[str, int], list[Measured]] = field(default_factory=dict)
    memory_mb: dict[str, float] = field(default_factory=dict)

    def middle(self, name: str, connections: int, what: str) -> float:
        return median(getattr(turn, what) for turn in self.turns[name, connections])

    def ratios(self, ours: str, peer_: str, connections: int, what: str) -> list[float]:
        """Ours by the peer's, of each round."""
        pairs = zip(self.turns[ours, connections], self.turns[peer_, connections], strict=True)
        return sorted(getattr(one, what) / getattr(other, what) for one, other in pairs)


@dataclass(frozen=True)
class Bar:
    """A figure in a median of turns, and what it should be: at `least` or at `most` so much, or neither is promised."""

    what: str
    found: Sequence[float]
    least: float | None = None
    most: float | None = None
    digits: int = 2

    @property
    def is_met(self) -> bool:
        middle = median(self.found)
        return (self.least is None or middle >= self.least) and (self.most is None or middle <= self.most)

    def row(self) -> str:
        if self.least is None and self.most is None:
            allowed, met = "", ""
        else:
            allowed = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
            met = "yes" if self.is_met else "**no**"
        told = f"{median(self.found):.{self.digits}f}"
        if len(self.found) > 1:
            told += f" ({min(self.found):.{self.digits}f} to {max(self.found):.{self.digits}f})"
        return f"| {self.what} | {allowed} | {told} | {met} |"


BARS_HEAD = "| | wanted | found | met |\n|---|---|---|---|"


def main() -> None:
    options = parser(__doc__).parse_args()
    for model in PEERS:
        results = measure(model, options.data, rounds=options.rounds, seconds=options.seconds)
        print(f"\n{model} model\n\n{table(results)}\n\n{BARS_HEAD}")
        print("\n".join(bar.row() for bar in bars(model, results)))


def parser(doc: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, default=Path("../shared/data"), help="where the two data sets are")
    made.add_argument("--rounds", type=int, default=7)
    made.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    return made


def task_of(model: str, data: Path) -> Task:
    if model == "text":
        return tasks.listings(data / "marketplace" / "seed_labelled.parquet")
    return tasks.census(data / "adult" / "train.parquet")


def measure(model: str, data: Path, *, rounds: int, seconds: float) -> Results:
    task = task_of(model, data)
    results = Results()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        file = tasks.release(home, task)
        servers = [stack.enter_context(start()) for start in _starts(model, home, file, task)]
        for server in servers:
            server.stand_still()
        for number in range(rounds + 1):
            for connections in CONNECTIONS:
                for server in servers:
                    server.go_on()
                    measured = server.ask(connections=connections, seconds=seconds if number else 1.0)
                    server.stand_still()
                    if number:  # the first round warms up
                        results.turns.setdefault((server.name, connections), []).append(measured)
            print(f"{model}: round {number} of {rounds}", file=sys.stderr, flush=True)
        results.memory_mb = {server.name: server.memory_mb() for server in servers}
    return results


def _starts(model: str, home: Path, file: Path, task: Task) -> Iterator[Callable[[], object]]:
    yield lambda: ours(COMPILED, home, task)
    yield lambda: ours(UNMODIFIED, home, task, EVERLOOP_COMPILED_MODELS="false")
    for name in PEERS[model]:
        yield lambda name=name: _peer(name, home, file, task)


@contextmanager
def ours(name: str, home: Path, task: Task, *options: str, **environment: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "everloop", "serve", "--home", str(home), "--port", "PORT", *options]
    with started(
        name, command, path=PATH, bodies=task.bodies("everloop"), folder=home, environment=environment
    ) as server:
        yield server


@contextmanager
def _peer(name: str, home: Path, file: Path, task: Task) -> Iterator[Server]:
    environment = {"BENCH_MODEL": str(file), "BENCH_FIELDS": json.dumps(task.kinds)}
    form, path = "everloop", PATH
    if name == FASTAPI:
        command = [str(peer("bench_fastapi") / "python"), "fastapi_peer.py", "PORT", str(home / "peer.log")]
    elif name == LITSERVE:
        command = [str(peer("bench_litserve") / "python"), "litserve_peer.py", "PORT"]
    elif name == BENTOML:
        form, path, bin_ = "bentoml", "/predict", peer("bench_bentoml")
        command = [
            str(bin_ / "bentoml"),
            "serve",
            "bentoml_peer:Classifier",
            "--host",
            "127.0.0.1",
            "--port",
            "PORT",
        ]
        environment |= {
            "BENTOML_DO_NOT_TRACK": "1",
            "BENTOML_HOME": str(home / "bentoml"),
            "PATH": f"{bin_}:/usr/bin:/bin",
        }
    else:
        form, path, bin_ = "mlflow", "/invocations", peer("bench_mlflow")
        environment |= {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "PATH": f"{bin_}:/usr/bin:/bin",
        }
        make = [str(bin_ / "python"), "mlflow_model.py", str(home / "mlmodel")]
        subprocess.run(make, cwd=HERE / "peers", env={**os.environ, **environment}, check=True)  # noqa: TID251  (what it inherits)
        command = [
            str(bin_ / "mlflow"),
            "models",
            "serve",
            "-m",
            str(home / "mlmodel"),
            "--env-manager",
            "local",
        ]
        command += ["--host", "127.0.0.1", "--port", "PORT", "--workers", "1"]
    with started(
        name, command, path=path, bodies=task.bodies(form), folder=home, environment=environment
    ) as server:
        yield server


def table(results: Results) -> str:
    lines = [
        "| server | connections | requests/s | CPU us a request | p50 ms | p99 ms | memory MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, connections in results.turns:
        per_s, cpu_us, p50, p99 = (
            results.middle(name, connections, what)
            for what in ("requests_per_s", "cpu_us", "p50_ms", "p99_ms")
        )
        lines.append(
            f"| {name} | {connections} | {per_s:,.0f} | {cpu_us:,.0f} | {p50:.2f} | {p99:.2f} | {results.memory_mb[name]:.0f} |"
        )
    return "\n".join(lines)


def bars(model: str, results: Results) -> list[Bar]:
    def times(ours: str, peer_: str, least: float) -> Bar:
        found = results.ratios(ours, peer_, 32, "requests_per_s")
        return Bar(f"{model}: requests/s at 32 connections, {ours} / {peer_}", found, least=least)

    def middle(ours: str, most: float) -> Bar:
        found = results.ratios(ours, FASTAPI, 1, "p50_ms")
        return Bar(f"{model}: p50 at one connection, {ours} / {FASTAPI}", found, most=most)

    def tail(ours: str) -> Bar:
        found = [turn.p99_ms / turn.p50_ms for turn in results.turns[ours, 32]]
        return Bar(f"{model}: p99 / p50 at 32 connections, {ours}", found, most=10)

    more_mb = results.memory_mb[COMPILED] - results.memory_mb[FASTAPI]
    memory = Bar(f"{model}: memory of one worker over {FASTAPI}'s, MB", [more_mb], most=50, digits=0)
    if model == "table":
        return [
            times(COMPILED, FASTAPI, 5),
            times(UNMODIFIED, FASTAPI, 5),
            tail(COMPILED),
            tail(UNMODIFIED),
            memory,
        ]
    return [
        times(COMPILED, FASTAPI, 12),
        times(COMPILED, MLFLOW, 30),
        times(UNMODIFIED, FASTAPI, 8),
        times(UNMODIFIED, MLFLOW, 20),
        times(COMPILED, BENTOML, 8),
        times(COMPILED, LITSERVE, 8),
        times(UNMODIFIED, BENTOML, 8),
        times(UNMODIFIED, LITSERVE, 8),
        middle(COMPILED, 0.5),
        middle(UNMODIFIED, 1.0),
        tail(COMPILED),
        tail(UNMODIFIED),
        memory,
    ]


if __name__ == "__main__":
    main()
