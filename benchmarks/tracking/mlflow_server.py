"""The server of `everloop up` beside `mlflow server`, asked by the same client over HTTP.

    python benchmarks/tracking/mlflow_server.py PEER_PYTHON [ROUNDS]

PEER_PYTHON is of an environment with the whole of mlflow (pip install mlflow==3.17.2). Both servers keep their data in
SQLite on the same disk, mlflow with its defaults and one worker, everloop durable (WAL, synchronous=FULL). What a call
sends is what MLflow's client sends; it is sent by http.client, since MLflow's client takes more time than the server does.
Histories and one search are asked by MLflow's client too. Runs for the searches are put into both databases directly.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

AT = 1_788_220_800_000
ONE, EIGHT, SIZES = 300, 800, (1_000, 10_000, 100_000)
HISTORY = SIZES[-1]
METRICS, PARAMS, TAGS = 5, 5, 3  # of each run that is searched
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A running server: its processes, and calls to it."""

    def __init__(self, name: str, command: list[str], port: int, database: Path, env: dict[str, str]) -> None:
        self.name, self.port, self.database = name, port, database
        began = time.perf_counter()
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while True:
            try:
                self.ask(http.client.HTTPConnection("127.0.0.1", port), "experiments/get?experiment_id=0")
                break
            except OSError:
                assert self.process.poll() is None, f"{name} did not start"
                time.sleep(0.02)
        self.started_s = time.perf_counter() - began

    def ask(self, connection: http.client.HTTPConnection, path: str, body: Any = None) -> Any:
        method, content = ("GET", None) if body is None else ("POST", json.dumps(body))
        headers = {"Content-Type": "application/json"}
        place = f"/api/2.0/mlflow/{path}"
        try:
            connection.request(method, place, content, headers)
            answer = connection.getresponse()
        except (http.client.HTTPException, ConnectionError):  # closed while it was idle
            connection.close()
            connection.request(method, place, content, headers)
            answer = connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            raise OSError(f"{answer.status} {told[:200]!r}")
        return json.loads(told or b"{}")

    @contextmanager
    def connected(self) -> Iterator[Callable[..., Any]]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection:
            yield lambda path, body=None: self.ask(connection, path, body)

    def processes(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for place in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(place.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(place.parent.name))
        found, waiting = [], [self.process.pid]
        while waiting:
            found.append(waiting.pop())
            waiting += children.get(found[-1], [])
        return found

    def cpu_s(self) -> float:
        spent = 0
        for number in self.processes():
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            spent += int(fields[11]) + int(fields[12])
        return spent / TICKS

    def memory_mb(self) -> float:
        """Memory of all processes, what they share counted once."""
        total = 0
        for number in self.processes():
            for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total / 1_024

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def timed(
    server: Server, what: str, calls: list[Callable[[], Any]], results: dict[str, float], *, threads: int = 1
) -> None:
    """Make the calls, shared out over threads; note their rate, how long they took, and what the server spent."""
    took: list[float] = []
    share = [calls[number::threads] for number in range(threads)]

    def work(mine: list[Callable[[], Any]]) -> None:
        for call in mine:
            began = time.perf_counter()
            call()
            took.append(time.perf_counter() - began)

    before, began = server.cpu_s(), time.perf_counter()
    workers = [threading.Thread(target=work, args=(mine,)) for mine in share]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    wall = time.perf_counter() - began
    assert len(took) == len(calls)
    took.sort()
    results[f"{what}: calls a second"] = len(calls) / wall
    results[f"{what}: p50 ms"] = statistics.median(took) * 1e3
    results[f"{what}: p95 ms"] = took[int(len(took) * 0.95)] * 1e3
    results[f"{what}: server CPU ms a call"] = (server.cpu_s() - before) / len(calls) * 1e3
    told = {key: round(value, 2) for key, value in results.items() if key.startswith(what)}
    print(server.name, told, file=sys.stderr)  # a round takes minutes


def measure(server: Server, fill: Callable[[int], str], client: list[str]) -> dict[str, float]:
    results = {"seconds until it answers": server.started_s}
    time.sleep(10)
    results["idle memory MB"], results["idle processes"] = server.memory_mb(), len(server.processes())
    with server.connected() as ask:
        run = ask("runs/create", {"experiment_id": "0", "start_time": AT})["run"]["info"]["run_id"]

        def log(ask: Callable[..., Any], name: str, step: int) -> None:
            body = {
                "run_id": run,
                "run_uuid": run,
                "key": name,
                "value": step / 7,
                "timestamp": AT + step,
                "step": step,
            }
            ask("runs/log-metric", body)

        for step in range(20):
            log(ask, "warm", step)
        one = [lambda step=step: log(ask, "one", step) for step in range(ONE)]
        timed(server, "log_metric, one client", one, results)
        connections = [http.client.HTTPConnection("127.0.0.1", server.port) for _ in range(8)]
        asks = [lambda path, body, it=it: server.ask(it, path, body) for it in connections]
        eight = [lambda step=step: log(asks[step % 8], f"eight{step % 8}", step) for step in range(EIGHT)]
        timed(server, "log_metric, eight clients", eight, results, threads=8)

        def batch(name: str, number: int) -> None:
            points = [
                {"key": name, "value": step / 7, "timestamp": AT + step, "step": step}
                for step in range(number * 1_000, (number + 1) * 1_000)
            ]
            ask("runs/log-batch", {"run_id": run, "metrics": points, "params": [], "tags": []})

        done = 0
        for size in SIZES:
            batches = [lambda number=number: batch("many", number) for number in range(done, size // 1_000)]
            timed(server, "log_batch of 1,000", batches, results)
            done = size // 1_000
            whole = [lambda size=size: history(ask, run, size)] * 3
            timed(server, f"history of {size:,}", whole, results)
        registry(server, ask, run, results)
        done = 0
        # mlflow had not answered one search of 100,000 runs after 25 minutes
        for size in SIZES if server.name == "everloop" else SIZES[:-1]:
            experiment = fill(size - done)
            done = size
            search = [lambda experiment=experiment: first_runs(ask, experiment)] * 3
            timed(server, f"search of {size:,} runs", search, results)
            if size == SIZES[-2]:
                results |= by_client(server, client, run, experiment)
    return results


def history(ask: Callable[..., Any], run: str, expected: int) -> None:
    count, token = 0, ""
    while True:
        page = ask(f"metrics/get-history?run_id={run}&metric_key=many&max_results=25000&page_token={token}")
        count, token = count + len(page["metrics"]), page.get("next_page_token")
        if not token:
            break
    assert count == expected, count


def first_runs(ask: Callable[..., Any], experiment: str) -> None:
    body = {
        "experiment_ids": [experiment], "filter": "metrics.m0 > 0.5", "order_by": ["metrics.m1 DESC"],
        "max_results": 1_000,
    }  # fmt: skip
    assert len(ask("runs/search", body)["runs"]) > 400


def by_client(server: Server, client: list[str], run: str, experiment: str) -> dict[str, float]:
    """What MLflow's own client takes."""
    asked = subprocess.run(
        [*client, str(server.port), run, experiment], capture_output=True, text=True, check=True
    )
    return {
        f"MLflow's client, {what}: seconds": seconds for what, seconds in json.loads(asked.stdout).items()
    }


def registry(server: Server, ask: Callable[..., Any], run: str, results: dict[str, float]) -> None:
    """A model of two versions whose alias goes to and fro."""
    place = ask(f"runs/get?run_id={run}")["run"]["info"]["artifact_uri"] + "/model"
    with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        proxied = place.removeprefix("mlflow-artifacts:/")
        connection.request("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{proxied}/MLmodel", b"flavors: {}\n")
        connection.getresponse().read()
    ask("registered-models/create", {"name": "m"})
    for _ in range(2):
        ask("model-versions/create", {"name": "m", "source": place, "run_id": run})

    def point(number: int) -> None:
        ask("registered-models/alias", {"name": "m", "alias": "champion", "version": str(1 + number % 2)})

    point(0)
    timed(server, "set an alias", [lambda number=number: point(number) for number in range(ONE)], results)
    calls = {
        "version by its alias": "registered-models/alias?name=m&alias=champion",
        "version by its number": "model-versions/get?name=m&version=1",
    }
    for what, path in calls.items():
        timed(server, what, [lambda path=path: ask(path)] * ONE, results)


def rows(count: int) -> Iterator[tuple[str, list[float], list[str]]]:
    dice = random.Random(7)  # noqa: S311  (made-up runs)
    for _ in range(count):
        yield (
            f"{dice.getrandbits(128):032x}",
            [dice.random() for _ in range(METRICS)],
            [str(dice.random()) for _ in range(PARAMS)],
        )


def fill_everloop(database: Path, count: int) -> str:
    with closing(sqlite3.connect(database, timeout=60)) as to, to:
        to.execute("INSERT OR IGNORE INTO experiment (id, name) VALUES (77, 'many')")
        start = to.execute("SELECT count(*) FROM run WHERE experiment = 77").fetchone()[0]
        for number, (run, metrics, params) in enumerate(rows(start + count)):
            if number < start:
                continue
            key = f"run_{run}"
            to.execute(
                "INSERT INTO run (id, experiment, name, kind, status, actor, started_at) VALUES (?, 77, 'r', 'run', 'finished', 'x', ?)",
                (key, (AT + number) * 1_000),
            )
            to.executemany(
                "INSERT INTO run_latest_metric (run, name, step, at, value) VALUES (?, ?, 1, ?, ?)",
                [(key, f"m{k}", AT * 1_000, value) for k, value in enumerate(metrics)],
            )
            to.executemany(
                "INSERT INTO run_param VALUES (?, ?, ?)",
                [(key, f"p{k}", value) for k, value in enumerate(params)],
            )
            to.executemany("INSERT INTO run_tag VALUES (?, ?, ?)", [(key, f"t{k}", "v") for k in range(TAGS)])
    return "77"


def fill_mlflow(database: Path, count: int) -> str:
    with closing(sqlite3.connect(database, timeout=60)) as to, to:
        if not to.execute("SELECT 1 FROM experiments WHERE experiment_id = 77").fetchone():
            to.execute(
                "INSERT INTO experiments (experiment_id, name, lifecycle_stage, artifact_location) VALUES (77, 'many', 'active', 'x')"
            )
        start = to.execute("SELECT count(*) FROM runs WHERE experiment_id = 77").fetchone()[0]
        for number, (run, metrics, params) in enumerate(rows(start + count)):
            if number < start:
                continue
            to.execute(
                "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, "
                "lifecycle_stage, artifact_uri, experiment_id) VALUES (?, 'r', 'LOCAL', '', '', 'x', 'FINISHED', ?, 'active', 'x', 77)",
                (run, AT + number),
            )
            to.executemany(
                'INSERT INTO latest_metrics ("key", value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, 1, 0, ?)',
                [(f"m{k}", value, AT, run) for k, value in enumerate(metrics)],
            )
            to.executemany(
                'INSERT INTO params ("key", value, run_uuid) VALUES (?, ?, ?)',
                [(f"p{k}", value, run) for k, value in enumerate(params)],
            )
            to.executemany(
                'INSERT INTO tags ("key", value, run_uuid) VALUES (?, ?, ?)',
                [(f"t{k}", "v", run) for k in range(TAGS)],
            )
    return "77"


def by_mlflows_client(port: str, run: str, experiment: str) -> None:
    """What MLflow's own client takes for a history and for a search: run by PEER_PYTHON."""
    from mlflow import MlflowClient

    client, told = MlflowClient(f"http://127.0.0.1:{port}"), {}
    began = time.perf_counter()
    assert len(client.get_metric_history(run, "many")) == HISTORY
    told[f"history of {HISTORY:,}"] = time.perf_counter() - began
    began = time.perf_counter()
    assert len(client.search_runs([experiment], "metrics.m0 > 0.5", order_by=["metrics.m1 DESC"])) == 1_000
    told[f"search of {SIZES[-2]:,} runs"] = time.perf_counter() - began
    print(json.dumps(told))


def compare(peer: str) -> None:
    client = [peer, __file__, "client"]
    kept = os.environ.items()  # noqa: TID251  (for the servers)
    env = {name: value for name, value in kept if not name.startswith("EVERLOOP_")}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        commands = {
            "mlflow": [
                peer, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{place}/mlflow.db", "--port", "8521",
                "--artifacts-destination", f"{place}/art", "--workers", "1",
            ],
            "everloop": [sys.executable, "-m", "everloop", "up", "--home", f"{place}/home", "--port", "8531"],
        }  # fmt: skip
        databases = {"mlflow": place / "mlflow.db", "everloop": place / "home" / "everloop.db"}
        fills = {"mlflow": fill_mlflow, "everloop": fill_everloop}
        found: dict[str, dict[str, float]] = {}
        for name, port in (("everloop", 8531), ("mlflow", 8521)):
            server = Server(name, commands[name], port, databases[name], env)
            try:
                found[name] = measure(
                    server, lambda count, name=name: fills[name](databases[name], count), client
                )
            finally:
                server.stop()
    print(f"{'':52} {'everloop':>12} {'mlflow':>12}   mlflow / everloop")
    for what, ours in found["everloop"].items():
        theirs = found["mlflow"].get(what, math.nan)
        print(f"{what:52} {ours:12,.3f} {theirs:12,.3f}   {theirs / ours:8.2f}")
    print()


if __name__ == "__main__":
    if sys.argv[1] == "client":
        by_mlflows_client(*sys.argv[2:5])
    else:
        for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1):
            compare(sys.argv[1])
