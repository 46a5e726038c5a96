"""Load for one server, without an HTTP library, so that asking costs little beside answering.

    python load.py PORT PATH CONNECTIONS SECONDS [RATE] < bodies, one a line

Each connection sends its next request when it has its answer. With RATE, requests a second, requests come evenly whether
answers do or not: each connection sends at its own times, or as soon as it has the answer before; a latency counts
from the time at which the request should have been sent. Prints one line of JSON: requests, seconds, latencies' p50
and p99 in ms, how many answers were not 200, and the processor time of this program a request.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop


class Client(asyncio.Protocol):
    """One connection. `period_s` 0: the next request follows its answer at once."""

    def __init__(self, requests: list[bytes], first: int, at: float, until: float, period_s: float) -> None:
        self.requests, self.next, self.at, self.until, self.period_s = requests, first, at, until, period_s
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.latencies: list[float] = []
        self.failed = 0
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.loop.call_later(max(0.0, self.at - time.perf_counter()), self.ask)

    def ask(self) -> None:
        self.transport.write(self.requests[self.next % len(self.requests)])
        self.next += 1

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        head = data.find(b"\r\n\r\n")
        if head < 0 or len(data) < head + 4 + _length(data, head):
            self.buffer = data
            return
        self.buffer = b""
        now = time.perf_counter()
        self.latencies.append(now - self.at)
        if not data.startswith(b"HTTP/1.1 200"):
            self.failed += 1
        self.at = self.at + self.period_s if self.period_s else now
        if max(now, self.at) >= self.until:
            self.transport.close()
            self.done.set_result(None)
        elif self.at > now:
            self.loop.call_later(self.at - now, self.ask)
        else:
            self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server closed the connection"))


def _length(answer: bytes, head: int) -> int:
    start = answer.find(b"ontent-", 0, head)
    while start >= 0 and answer[start + 7 : start + 14].lower() != b"length:":
        start = answer.find(b"ontent-", start + 1, head)
    return int(answer[start + 14 : answer.index(b"\r", start)])


async def main(port: int, path: str, connections: int, seconds: float, rate: float) -> None:
    requests = [
        b"POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        % (path.encode(), port, len(body), body)
        for body in sys.stdin.buffer.read().splitlines()
    ]
    loop = asyncio.get_running_loop()
    period_s = connections / rate if rate else 0.0
    began, used = time.perf_counter() + 0.05, time.process_time()
    clients = []
    for number in range(connections):
        first = number * len(requests) // connections
        at = began + number * period_s / connections
        _, client = await loop.create_connection(
            lambda first=first, at=at: Client(requests, first, at, began + seconds, period_s),
            "127.0.0.1",
            port,
        )
        clients.append(client)
    await asyncio.wait_for(asyncio.gather(*(client.done for client in clients)), timeout=seconds + 30)
    took, used = time.perf_counter() - began, time.process_time() - used
    latencies = sorted(latency for client in clients for latency in client.latencies)
    result = {
        "requests": len(latencies),
        "seconds": took,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
        "failed": sum(client.failed for client in clients),
        "asking_us": used * 1e6 / len(latencies),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    given = sys.argv[1:]
    uvloop.run(
        main(int(given[0]), given[1], int(given[2]), float(given[3]), float(given[4]) if given[4:] else 0.0)
    )
