"""A real S3 server for the tests, a process of its own from `tests/peers/s3.txt`, and a network that can fail before it."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.peer import peer

SECRET = "never-in-a-message"
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_STARTS_WITHIN_S = 60.0


class S3Server:
    """A running server that hands out empty buckets."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"

    def bucket(self) -> str:
        """The address of a new bucket, as the setting `blobs` takes it."""
        name = f"test-{uuid.uuid4().hex}"
        httpx.put(f"{self.endpoint}/{name}").raise_for_status()
        return f"s3://{name}/some/prefix"


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Start a server of its own; its buckets end with it."""
    python = peer("s3") / "python"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, **VARIABLES}  # noqa: TID251  (the server's own, no setting of ours)
    with (folder / "s3.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        _wait_for(port, server, folder / "s3.log")
        yield S3Server(port)
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _STARTS_WITHIN_S
    while server.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"the S3 server did not start: {log.read_text()[-500:]}")


class Wire:
    """A network between clients and a server that can be cut after so many bytes.

    `left_bytes` is how many still go through, None: as many as there are. `cuts` is how often it is cut before it works
    again for good, None: it stays cut.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._stop, self._carriers = threading.Event(), [threading.Thread(target=self._accept)]
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.left_bytes: int | None = None
        self.cuts: int | None = None
        self._carriers[0].start()

    def close(self) -> None:
        self._stop.set()
        for carrier in self._carriers:
            carrier.join()
        self._listening.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            if select.select([self._listening], [], [], 0.05)[0]:
                client, _ = self._listening.accept()
                self._carriers.append(threading.Thread(target=self._carry, args=(client,)))
                self._carriers[-1].start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to)) as server, suppress(OSError):
            while not self._stop.is_set():
                for source in select.select([client, server], [], [], 0.05)[0]:
                    data = source.recv(1 << 16)
                    if not data or not self._lets_through(len(data)):
                        return
                    (server if source is client else client).sendall(data)

    def _lets_through(self, count: int) -> bool:
        if self.left_bytes is None:
            return True
        self.left_bytes -= count
        if self.left_bytes >= 0:
            return True
        if self.cuts is not None:
            self.cuts -= 1
            if self.cuts == 0:
                self.left_bytes = None
        return False
