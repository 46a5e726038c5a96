"""Load for one server: some connections, each sends its next request when it has its answer. No HTTP library.

    python load.py PORT PATH CONNECTIONS SECONDS < bodies, one a line

Prints one line of JSON: requests, seconds, latencies' p50 and p99 in ms, and how many answers were not 200.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, requests: list[bytes], first: int, until: float, latencies: list[float]) -> None:
        self.requests, self.next, self.until, self.latencies = requests, first, until, latencies
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed = 0
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.ask()

    def ask(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.requests[self.next % len(self.requests)])
        self.next += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        start = self.buffer.lower().find(b"content-length:") + len(b"content-length:")
        size = int(self.buffer[start : self.buffer.index(b"\r", start)])
        if len(self.buffer) < head + 4 + size:
            return
        now = time.perf_counter()
        self.latencies.append(now - self.sent)
        self.failed += not self.buffer.startswith(b"HTTP/1.1 200")
        self.buffer = b""
        if now < self.until:
            self.ask()
        else:
            self.transport.close()
            self.done.set_result(None)


async def main(port: int, path: str, connections: int, seconds: float) -> None:
    requests = [
        b"POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        % (path.encode(), port, len(body), body)
        for body in sys.stdin.buffer.read().splitlines()
    ]
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    started = time.perf_counter()
    clients = []
    for number in range(connections):
        first = number * len(requests) // connections
        _, client = await loop.create_connection(
            lambda first=first: Client(requests, first, started + seconds, latencies), "127.0.0.1", port
        )
        clients.append(client)
    await asyncio.wait_for(asyncio.gather(*(client.done for client in clients)), timeout=seconds + 30)
    took = time.perf_counter() - started
    latencies.sort()
    result = {
        "requests": len(latencies),
        "seconds": took,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
        "failed": sum(client.failed for client in clients),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
