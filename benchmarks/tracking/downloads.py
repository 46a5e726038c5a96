"""Files of 1 MB through the artifact proxy of `everloop up` and of `mlflow server`, asked in turns by the same client.

    python benchmarks/tracking/downloads.py PEER_PYTHON

PEER_PYTHON is of an environment with the whole of mlflow (pip install mlflow==3.17.2). Both keep their data on the same
disk, mlflow with its defaults and one worker; everloop forces each upload to the disk, mlflow does not.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS, EACH, SIZE = 10, 10, 1_000_000
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A running server with a run in it."""

    def __init__(self, command: list[str], port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.place = ""
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def begin(self) -> None:
        deadline = time.monotonic() + 300
        while True:
            try:
                self.ask("GET", "/version")
                break
            except OSError:
                assert self.process.poll() is None, "it did not start"
                assert time.monotonic() < deadline, "it does not answer"
                self.connection.close()
                time.sleep(0.05)
        made = self.ask("POST", "/api/2.0/mlflow/runs/create", json.dumps({"experiment_id": "0"}).encode())
        run_id = json.loads(made)["run"]["info"]["run_id"]
        self.place = f"/api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts"

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        self.connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        told = answer.read()
        assert answer.status == 200, (method, path, answer.status, told[:300])
        return told

    def cpu_s(self) -> float:
        """What all processes of the server's session have used."""
        used = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            if int(fields[3]) == self.process.pid:
                used += int(fields[11]) + int(fields[12])
        return used / TICKS

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


def main(peer: str) -> None:
    content = os.urandom(SIZE)
    with tempfile.TemporaryDirectory() as folder:
        everloop = [sys.executable, "-m", "everloop", "--home", f"{folder}/home", "up", "--port", "8571"]
        mlflow = [peer, "-m", "mlflow", "server", "--port", "8573", "--workers", "1"]
        mlflow += [
            "--backend-store-uri",
            f"sqlite:///{folder}/ml.db",
            "--artifacts-destination",
            f"{folder}/ml",
        ]
        servers: dict[str, Server] = {}
        try:
            for name, command, port in (("everloop", everloop, 8571), ("mlflow", mlflow, 8573)):
                servers[name] = Server(command, port)
                servers[name].begin()
            for what, act in (("upload", put), ("download", get)):
                report(what, measured(servers, act, content))
        finally:
            for server in servers.values():
                server.stop()


def put(server: Server, number: int, content: bytes) -> None:
    server.ask("PUT", f"{server.place}/{number}.bin", content[number:] + content[:number])


def get(server: Server, number: int, content: bytes) -> None:
    assert len(server.ask("GET", f"{server.place}/{number}.bin")) == len(content)


def measured(servers: dict[str, Server], act: Any, content: bytes) -> dict[str, tuple[list[float], float]]:
    """Milliseconds of each call, and of the server's CPU a call; the servers are asked in turns."""
    found: dict[str, tuple[list[float], float]] = {name: ([], 0.0) for name in servers}
    for round_ in range(ROUNDS):
        for name, server in servers.items():
            server.connection.close()  # an idle one may have been closed at the other end
            server.ask("GET", "/version")
            times, used = found[name]
            began = server.cpu_s()
            for number in range(round_ * EACH, (round_ + 1) * EACH):  # each with a content of its own
                start = time.perf_counter()
                act(server, number, content)
                times.append((time.perf_counter() - start) * 1e3)
            found[name] = times, used + (server.cpu_s() - began) * 1e3 / (ROUNDS * EACH)
    return found


def report(what: str, found: dict[str, tuple[list[float], float]]) -> None:
    for name, (times, cpu) in found.items():
        p95 = statistics.quantiles(times, n=20)[-1]
        print(f"{what:<9} {name:<9} median {statistics.median(times):7.2f} ms   p95 {p95:7.2f} ms   CPU {cpu:6.2f} ms")  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
