"""A real `everloop up` beside a test, and what can be seen of its processes from outside."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import httpx

from tests.servers import tls

T = TypeVar("T")
Part = Literal["up", "serve", "ticks", "jobs"]
DEADLINE_S = 120.0  # for a loaded machine: a start alone takes five seconds of processor


def free_port() -> int:
    """A port that is free now, and the next one too; below those that the kernel gives to whoever connects."""
    while True:
        port = 20_000 + 2 * secrets.randbelow(6_000)
        with (
            contextlib.suppress(OSError),
            socket.create_server(("127.0.0.1", port)),
            socket.create_server(("127.0.0.1", port + 1)),
        ):
            return port


def wait_for(condition: Callable[[], T | None], what: str, *, within_s: float = DEADLINE_S) -> T:
    """What the condition gives once it is true; fails after a deadline, saying what never came."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {within_s} s")


@dataclass
class Everloop:
    """`everloop up` on a home; it may be killed and started again on the same port."""

    home: Path
    database_url: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "everloop", "up", "--home", str(self.home), "--port", str(self.port)]
        command += ["--with-parent", str(os.getpid())]  # so that no test that is killed leaves it behind
        with (self.home.parent / "said.txt").open("ab") as said:
            self.process = subprocess.Popen(command, env=self.environment(), stderr=said)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "EVERLOOP_DATABASE_URL": self.database_url}  # noqa: TID251  (of a child process)

    def parts(self) -> dict[int, Part]:
        """The processes that work on this home now: this everloop's, and whatever an earlier one left behind."""
        return dict(_parts(self.home))

    def kill(self, part: Part) -> bool:
        """End a process of a part at once, wherever it is; whether there was one. Serving processes have a parent that is one, too."""
        found = list(self.parts().items())
        random.shuffle(found)
        for pid, name in found:
            if name == part:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                if part == "up" and self.process is not None:
                    self.process.wait()
                return True
        return False

    def wait_until_ready(self) -> None:
        """Until the data plane answers."""
        reasons: list[str] = []
        try:
            wait_for(lambda: self._is_ready(reasons), "everloop up is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}: {reasons[-1:]} {self.parts()} {self.said()}") from None

    def said(self) -> str:
        return (self.home.parent / "said.txt").read_text()[-2_000:]

    def stop(self) -> int:
        """Ask it to stop, as a person or a supervisor does; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def _is_ready(self, reasons: list[str]) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"everloop up ended: {self.said()}"
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port + 1}/ready", trust_env=False, verify=tls())
            reasons.append(answer.text)
        except httpx.HTTPError as error:
            reasons.append(repr(error))
            return False
        return answer.status_code == 200


@contextlib.contextmanager
def running(home: Path, database_url: str = "") -> Iterator[Everloop]:
    """`everloop up` on a home until the block ends."""
    found = Everloop(home, database_url)
    found.start()
    try:
        yield found
    finally:
        for part in ("up", "serve", "ticks", "jobs"):
            found.kill(part)


def _parts(home: Path) -> Iterator[tuple[int, Part]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            is_dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue  # it ended just now
        if is_dead or "everloop" not in words or str(home) not in words:
            continue
        command = words[words.index("everloop") + 1]
        if command == "work":
            yield int(entry.name), "jobs" if "jobs" in words else "ticks"
        elif command in ("up", "serve"):
            yield int(entry.name), "up" if command == "up" else "serve"
