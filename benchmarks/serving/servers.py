"""A server in processes of its own: started, asked, stopped between its turns; what it takes, read from /proc."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).resolve().parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# one thread in numeric libraries for all: a row is too small for more
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
READY_S = 90


@dataclass(frozen=True)
class Measured:
    """One turn of load. `cpu_us` is the processor time of all of the server's processes for a request."""

    requests_per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    asking_us: float


@dataclass(frozen=True)
class Server:
    name: str
    pid: int
    port: int
    path: str
    bodies: bytes

    def ask(self, *, connections: int, seconds: float, rate: float = 0.0) -> Measured:
        """Put load on it for so long. Fails when an answer is not 200."""
        before = self.cpu_s()
        command = [sys.executable, str(HERE / "load.py"), str(self.port), self.path]
        told = [str(connections), str(seconds), str(rate)]
        done = subprocess.run([*command, *told], input=self.bodies, stdout=subprocess.PIPE, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["failed"] == 0, f"{self.name}: {found['failed']} answers were not 200"
        cpu_us = (self.cpu_s() - before) * 1e6 / found["requests"]
        per_s = found["requests"] / found["seconds"]
        return Measured(per_s, cpu_us, found["p50_ms"], found["p99_ms"], found["asking_us"])

    def cpu_s(self) -> float:
        """User and system time of its processes, and of those that they have waited for."""
        return sum(sum(map(int, _stat(pid)[11:15])) for pid in self.pids()) / TICKS_PER_S

    def memory_mb(self) -> float:
        """Of its processes together, a page that several share counted once (PSS)."""
        kb = 0
        for pid in self.pids():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            kb += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return kb / 1024

    def pids(self) -> list[int]:
        """Its first process and all that come from it."""
        parents = {int(one.name): _parent(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()}
        found = [self.pid]
        for pid in found:  # it grows while it is read
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def stand_still(self) -> None:
        """Until `go_on`: what a server does while nobody asks it must not cost the others."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@contextmanager
def started(
    name: str,
    command: Sequence[str],
    *,
    path: str,
    bodies: bytes,
    folder: Path,
    environment: dict[str, str] | None = None,
) -> Iterator[Server]:
    """Start it with PORT in the command replaced; it answers once it is given. It is stopped, and killed if it must be."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [word.replace("PORT", str(port)) for word in command]
    said = folder / f"{''.join(one for one in name if one.isalnum())}-{port}.txt"
    with said.open("wb") as out:
        process = subprocess.Popen(
            words,
            env={**os.environ, **ONE_THREAD, **(environment or {})},  # noqa: TID251  (what it inherits)
            cwd=HERE / "peers",
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    server = Server(name, process.pid, port, path, bodies)
    try:
        _wait_until_ready(server, process, said)
        yield server
    finally:
        pids = server.pids()
        server.go_on()
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in pids[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], said: Path) -> None:
    body, headers = server.bodies.split(b"\n", 1)[0], {"content-type": "application/json"}
    last, until = "", time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < until:
        try:
            answer = httpx.post(f"http://127.0.0.1:{server.port}{server.path}", content=body, headers=headers)
            if answer.status_code == 200:
                return
            last = f"{answer.status_code}: {answer.text[:500]}"
        except httpx.TransportError as error:
            last = str(error)
        time.sleep(0.2)
    raise SystemExit(f"{server.name} did not start ({last}):\n{said.read_text()[-3000:]}")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third, state, on; zeros when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 50


def _parent(pid: str) -> int:
    return int(_stat(int(pid))[1])
