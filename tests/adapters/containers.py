"""A container daemon as far as kfp's local runner needs one: each container is a process of this machine.

It speaks the Docker Engine's protocol on loopback. What it leaves out is the image: a command runs with the files that
are here. So kfp itself, its loader, its orchestrator and its runner are as they come.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Daemon(BaseHTTPRequestHandler):
    image = ""
    commands: dict[str, list[str]]
    running: dict[str, subprocess.Popen[bytes]]

    def do_GET(self) -> None:
        match self.path.partition("?")[0].strip("/").split("/"):
            case ["version"]:
                self._answer({"ApiVersion": "1.43", "MinAPIVersion": "1.24", "Version": "24.0"})
            case [_, "info"]:
                self._answer({"SecurityOptions": []})
            case [_, "images", "json"]:
                self._answer([self._image])
            case [_, "images", *_]:
                self._answer(self._image)
            case [_, "containers", name, "json"]:
                self._answer({"Id": name, "Config": {"Tty": True}})
            case [_, "containers", name, "logs"]:
                printed, _ = self.running[name].communicate()
                self._send(200, printed, "application/octet-stream")
            case _:
                self._answer({"message": f"no {self.path} here"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match self.path.partition("?")[0].strip("/").split("/"):
            case [_, "containers", "create"]:
                name = f"c{len(self.commands)}"
                self.commands[name] = json.loads(body)["Cmd"]
                self._answer({"Id": name, "Warnings": []}, 201)
            case [_, "containers", name, "start"]:
                self.running[name] = subprocess.Popen(
                    self.commands[name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
                self._send(204, b"", "text/plain")
            case [_, "containers", name, "wait"]:
                self._answer({"StatusCode": self.running[name].wait()})
            case _:
                self._answer({"message": f"no {self.path} here"}, 404)

    @property
    def _image(self) -> dict[str, Any]:
        return {"Id": "sha256:1", "RepoTags": [self.image], "RepoDigests": []}

    def _answer(self, what: Any, status: int = 200) -> None:
        self._send(status, json.dumps(what).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name there)
        """Nobody reads it."""


@contextmanager
def daemon(image: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """A daemon that has one image: its address, and the commands of its containers as they come."""
    commands: dict[str, list[str]] = {}
    handler = type("Daemon", (_Daemon,), {"image": image, "commands": commands, "running": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.server_address[1]}", commands
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
