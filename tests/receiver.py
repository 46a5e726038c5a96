"""A real HTTP server on loopback that keeps what is posted to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


@dataclass
class Receiver:
    """What was posted, read and as it came; it answers with the statuses it was told, then with 200."""

    url: str
    got: list[dict[str, Any]] = field(default_factory=list)
    raw: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver while the block runs."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.raw.append((dict(self.headers), body))
            kept.got.append(json.loads(body))
            status = kept.statuses.pop(0) if kept.statuses else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", kept.url + "/elsewhere")
            self.end_headers()
            self.wfile.write(b"what nobody is told")

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    kept = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield kept
    server.shutdown()
    server.server_close()
    thread.join()
