"""A real serving process, started from a test and spoken to over HTTP."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from everloop.predictions import PredictionRecord, log
from everloop.serving import Worker, run
from everloop.settings import load_settings
from tests.servers import client_of

Result = TypeVar("Result")
DEADLINE_S = 60.0  # for a loaded machine; nothing here takes more than seconds

# processes of their own, forked from one that has scikit-learn loaded: each start would take seconds otherwise
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["everloop.serving.app", "skops.io", "tests.serving.home"])


class Server:
    """A process that serves a home on a free port."""

    def __init__(self, home: Path, *, ready: bool = True, **options: Any) -> None:
        self.home = home
        self.folder = home / "serving"
        self._stderr = home / "stderr.txt"
        known = set(self._worker_files())
        self.process = _processes.Process(target=_serve, args=(home, self._stderr, options), daemon=True)
        self.process.start()
        worker = wait_for(lambda: self._started(known))
        self.writer = worker.writer
        self.client = client_of(f"http://127.0.0.1:{worker.port}", timeout=DEADLINE_S)
        if ready:
            wait_for(lambda: self.client.get("/ready").status_code == 200)

    def predict(self, title: str = "a fridge", *, endpoint: str = "category", **given: Any) -> httpx.Response:
        body = {"inputs": {"title": title}, **given}
        return self.client.post(f"/endpoints/{endpoint}/predict", json=body)

    def worker(self) -> Worker:
        """What the process says of itself."""
        path = self.folder / "workers" / f"{self.writer:05d}.json"
        return msgspec.json.decode(path.read_bytes(), type=Worker)

    def wait_for_epoch(self, epoch: int) -> None:
        wait_for(lambda: self.worker().epoch == epoch)

    def records(self) -> list[PredictionRecord]:
        """All that is in the home's log, in the order of asking."""
        found = [log.find(self.folder, name.as_py()) for name in log.read(self.folder)["id"]]
        return sorted((one for one in found if one is not None), key=lambda one: one.id)

    def record(self, reply: httpx.Response) -> PredictionRecord:
        found = log.find(self.folder, reply.headers["x-everloop-prediction-id"])
        assert found is not None
        return found

    def stop(self) -> int | None:
        """Ask it to stop, as a supervisor does; returns its exit code."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.join(DEADLINE_S)
        return self.process.exitcode

    def kill(self) -> None:
        """End it at once, wherever it is."""
        self.process.kill()
        self.process.join(DEADLINE_S)
        self.client.close()

    @property
    def said(self) -> str:
        """What it wrote to stderr."""
        return self._stderr.read_text()

    def _started(self, known: set[Path]) -> Worker | None:
        assert self.process.is_alive(), self.said
        new = [path for path in self._worker_files() if path not in known]
        return msgspec.json.decode(new[0].read_bytes(), type=Worker) if new else None

    def _worker_files(self) -> list[Path]:
        return sorted((self.home / "serving" / "workers").glob("[0-9]*.json"))


def _serve(home: Path, stderr: Path, options: dict[str, Any]) -> None:
    """What the process does."""
    sys.stderr = stderr.open("a", buffering=1)
    run(load_settings(home, **options.pop("settings", {})), port=0, **options)


def wait_for(condition: Callable[[], Result | None]) -> Result:
    """What the condition gives once it is true; fails after a deadline."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        result = condition()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError(f"nothing within {DEADLINE_S} s")
