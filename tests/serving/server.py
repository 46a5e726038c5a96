"""A real serving process, started from a test and spoken to over HTTP."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from everloop.serving import PredictionRecord, Worker, log
from everloop.settings import child_environment, load_settings

Result = TypeVar("Result")
DEADLINE_S = 60.0  # for a loaded machine; nothing here takes more than seconds

_ENTRY = """
import json, sys
from everloop.serving import run
from everloop.settings import load_settings
options = json.loads(sys.argv[2])
run(load_settings(sys.argv[1], **options.pop("settings", {})), port=0, **options)
"""


class Server:
    """A child process that serves a home on a free port."""

    def __init__(self, home: Path, *, wrap: Sequence[str] = (), ready: bool = True, **options: Any) -> None:
        self.home = home
        self.log_folder = home / "serving"
        known = set(self._worker_files())
        command = [*wrap, sys.executable, "-c", _ENTRY, str(home), msgspec.json.encode(options).decode()]
        self._stderr = home / "stderr.txt"
        with self._stderr.open("ab") as stderr:
            environment = child_environment(load_settings(home))
            self.process = subprocess.Popen(command, stderr=stderr, env=environment)
        self._known = known
        worker = wait_for(self._started)
        self.writer = worker.writer
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{worker.port}", timeout=DEADLINE_S)
        if ready:
            wait_for(lambda: self.client.get("/ready").status_code == 200)

    def predict(self, title: str = "a fridge", *, endpoint: str = "category", **given: Any) -> httpx.Response:
        body = {"inputs": {"title": title}, **given}
        return self.client.post(f"/endpoints/{endpoint}/predict", json=body)

    def worker(self) -> Worker:
        """What the process says of itself."""
        path = self.home / "serving" / "workers" / f"{self.writer:05d}.json"
        return msgspec.json.decode(path.read_bytes(), type=Worker)

    def wait_for_epoch(self, epoch: int) -> None:
        wait_for(lambda: self.worker().epoch == epoch)

    def records(self) -> list[PredictionRecord]:
        """All that is in the home's log, by id."""
        found = [log.find(self.log_folder, name.as_py()) for name in log.read(self.log_folder)["id"]]
        return sorted((one for one in found if one is not None), key=lambda one: one.id)

    def record(self, reply: httpx.Response) -> PredictionRecord:
        found = log.find(self.log_folder, reply.headers["x-everloop-prediction-id"])
        assert found is not None
        return found

    def stop(self) -> int:
        """Ask it to stop, as a supervisor does; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        """End it at once, wherever it is."""
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self.client.close()

    @property
    def said(self) -> str:
        """What it wrote to stderr."""
        return self._stderr.read_text()

    def _started(self) -> Worker | None:
        if self.process.poll() is not None:
            raise AssertionError(self.said)
        new = [path for path in self._worker_files() if path not in self._known]
        return msgspec.json.decode(new[0].read_bytes(), type=Worker) if new else None

    def _worker_files(self) -> list[Path]:
        return sorted((self.home / "serving" / "workers").glob("[0-9]*.json"))


def wait_for(condition: Callable[[], Result | None]) -> Result:
    """What the condition gives once it is true; fails after a deadline."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        result = condition()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError(f"nothing within {DEADLINE_S} s")
