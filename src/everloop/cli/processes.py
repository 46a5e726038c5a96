"""The processes of `everloop up`: this one answers API and pages; beside it one serves predictions; workers come and go.

Predictions run models, and jobs run users' code: neither shares this process. A child that dies is started again; a
child whose parent died stops by itself. Predictions are served from when a version first goes live; workers are started
when there is something to do and stop when there is not, so that an idle everloop is one process, or two.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette

from everloop import background, clock, jobs, loop, rollout, serving, tracking, web
from everloop.api import check_address, create_app
from everloop.errors import EverloopError, Invalid
from everloop.settings import Settings, child_environment
from everloop.workspace import Workspace, open_workspace

_LOOK_EVERY_S = 0.5
_LINGER_S = 30.0  # a worker takes a second or two to start: what comes soon finds it there
_BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 5.0)
_STOP_WITHIN_S = 15
_ENDS_WITHIN_S = 10.0


def run_server(settings: Settings, *, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises
    ------
    Invalid
        The address is not loopback and authentication is off, a port is in use, or the artifact root is no place.
    """
    check_address(settings)
    tracking.root_setting(settings)
    with bound(settings.host, settings.port) as listening, open_workspace(settings=settings) as ws:
        # a clear error now instead of a child that dies; the data plane of an everloop that was killed just now is
        # still ending, and whoever starts it again does so at once
        bound(settings.host, settings.port + 1, patience_s=_ENDS_WITHIN_S).close()
        if restored := loop.restore(ws):
            say(f"wrote the serving files of {len(restored)} releases again, which were not there")
        app = create_app(
            ws,
            predictions_url=f"http://127.0.0.1:{settings.port + 1}",
            pages=web.routes(ws),
            handlers=web.error_handlers(ws),
        )
        server = server_of(app, body_s=max(serving.BODY_S, settings.upload_idle_s))
        # What is loaded now is never garbage. Without this every full collection looked at all of it: a search of 10,000
        # runs took 170 ms of CPU instead of 100.
        gc.collect()
        gc.freeze()
        children = _Children(ws)
        listening.listen()  # who reads that it is there and asks at once waits, and is not turned away
        say(
            f"everloop is at http://{settings.host}:{settings.port}/  (predictions also at port {settings.port + 1}; "
            "stop with Ctrl-C)"
        )
        # uvicorn, done with a signal, raises it again: by default that ends this process before its children are told
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with children:
            server.run(sockets=[listening])


def server_of(app: Starlette, **bounds: Any) -> serving.Server:
    """The server of the control plane: its connections are bounded as those of predictions are, but files may take their time."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, ws="none")
    return serving.Server(config, **{"step_bytes": serving.STEP_BYTES, **bounds})


def bound(host: str, port: int, *, patience_s: float = 0.0) -> socket.socket:
    """A socket bound to an address, waiting so long for it to become free.

    Raises Invalid when the port is in use or the address is not this machine's.
    """
    until_s = clock.elapsed_s() + patience_s
    while True:
        try:
            return _bound(host, port)
        except Invalid:
            if clock.elapsed_s() >= until_s:
                raise
            threading.Event().wait(0.1)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise Invalid(
            f"port {port} on {host} cannot be used: {error.strerror}. "
            "Stop what listens there, or choose another with --port (everloop up takes that port and the next)."
        ) from error
    return listening


@dataclass
class _Child:
    """One child process that may be started again and again."""

    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    not_before_s: float = 0.0

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, settings: Settings) -> None:
        command = [sys.executable, "-m", "everloop", *self.arguments, "--home", str(settings.home.absolute())]
        self.process = subprocess.Popen(command, env=child_environment(settings), stdin=subprocess.DEVNULL)

    def keep_running(self, settings: Settings) -> None:
        """Start it if it is not there; after deaths in a row, with growing pauses."""
        if self.runs or clock.elapsed_s() < self.not_before_s:
            return
        if self.process is not None:
            self.deaths += 1
            serving.note_crash(settings.home / "serving", self.process.pid, self.process.returncode)
        self.not_before_s = clock.elapsed_s() + _BACK_OFF_S[min(self.deaths, len(_BACK_OFF_S) - 1)]
        self.start(settings)

    def stop(self) -> None:
        if self.process is not None and self.runs:
            self.process.terminate()

    def wait(self) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class _Children:
    """The data plane, kept running once a version went live, and workers, started when there is work."""

    ws: Workspace
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        with_parent = ("--with-parent", str(os.getpid()))
        linger = ("--linger", str(_LINGER_S), *with_parent)
        self.data_plane = _Child(("serve", *with_parent, "--port", str(self.ws.settings.port + 1)))
        self.ticks = _Child(("work", "--only", "ticks", *linger))
        workers = max(1, self.ws.settings.job_workers)
        self.jobs = [_Child(("work", "--only", "jobs", *linger)) for _ in range(workers)]
        self.thread = threading.Thread(target=self._attend, name="everloop-children", daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_exc: object) -> None:
        self.stopping.set()
        self.thread.join()
        every = (self.data_plane, self.ticks, *self.jobs)
        for child in every:
            child.stop()
        for child in every:
            child.wait()

    def _attend(self) -> None:
        while True:
            try:
                self._look()
            except (
                EverloopError
            ) as error:  # the database may be away for a while; the pages say so themselves
                sys.stderr.write(f"{error}\n")
            if self.stopping.wait(_LOOK_EVERY_S):
                return

    def _look(self) -> None:
        settings = self.ws.settings
        if rollout.has_gone_live(self.ws):
            self.data_plane.keep_running(settings)
        if not self.ticks.runs and background.is_due(self.ws):
            self.ticks.start(settings)
        idle = next((child for child in self.jobs if not child.runs), None)
        if idle is not None and jobs.is_waiting(self.ws):
            idle.start(settings)
