"""What signing in costs a call of log-metric: by bearer token, and by a name and a password.

    python benchmarks/tracking/sign_in.py

One client on one connection, a real server in the same process, blocks of either way in turns.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import uvicorn

from everloop import access, tracking
from everloop.api import create_app
from everloop.settings import load_settings
from everloop.workspace import open_workspace

BLOCKS, CALLS = 20, 50
PASSWORD = "four words, one lake"  # noqa: S105  (of nobody)


class Client:
    def __init__(self, port: int, run: str) -> None:
        self._connection, self._run = http.client.HTTPConnection("127.0.0.1", port), run
        self._step = 0

    def log(self, authorization: str) -> float:
        """Log one point; how long it took, in seconds."""
        self._step += 1
        point = {"run_id": self._run, "key": "loss", "value": 1.0, "timestamp": 1, "step": self._step}
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        began = time.perf_counter()
        self._connection.request("POST", "/api/2.0/mlflow/runs/log-metric", json.dumps(point), headers)
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        return time.perf_counter() - began


def measure(folder: Path) -> None:
    ws = open_workspace(settings=load_settings(folder, environ={"EVERLOOP_AUTH": "token"}, actor="bench"))
    access.add_account(ws, "ann", role="engineer")
    access.set_password(ws, "ann", PASSWORD)
    _, token = access.create_token(ws, "ann")
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(ws), log_level="warning"))
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    serving.start()
    client = Client(listening.getsockname()[1], tracking.start_client_run(ws, 0).mlflow_id)
    ways = {
        "bearer token": f"Bearer {token}",
        "name and password": "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode(),
    }
    for _ in range(CALLS):
        client.log(ways["bearer token"])
    print(f"first call by password, with its hash {client.log(ways['name and password']) * 1e3:8,.0f} ms")
    took: dict[str, list[float]] = {way: [] for way in ways}
    cpu = dict.fromkeys(ways, 0.0)
    for _ in range(BLOCKS):
        for way, authorization in ways.items():
            began = time.process_time()
            took[way] += [client.log(authorization) for _ in range(CALLS)]
            cpu[way] += time.process_time() - began
    for way in ways:
        each = cpu[way] / BLOCKS / CALLS
        print(
            f"{way:20} median {median(took[way]) * 1e6:8,.0f} us {each * 1e6:8,.0f} us CPU of client and server"
        )
    server.should_exit = True
    serving.join()
    ws.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        measure(Path(place))
