"""Connections that would cost a server more than their share: slow ones, too many of them, and heads without an end.

uvicorn bounds what a request may be made of once its head is whole, and closes a connection that rests between two. What
comes before a whole head, bodies that trickle in and answers that nobody reads are bounded here: by bytes as they come in,
and by time in one look a second over all connections, so that a request pays nothing for it.
"""

from __future__ import annotations

import resource
from math import inf
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from everloop import clock
from everloop.serving.one_write import OneWrite

HEAD_S = 10.0  # for a request's first line and headers; also for the first byte of a connection
BODY_S = 60.0  # for the body, and for taking the answer: 16 MiB in that time are 2.2 Mbit/s
STEP_BYTES = 1 << 20  # of a file on its way, whose size nobody knows: so many in each BODY_S, 0.14 Mbit/s
HEAD_BYTES = 64 << 10  # of what is neither a body nor a whole head: trailers too
_OTHER_FILES = 256  # open files that are no connections: models, logs, databases, what is forwarded
_MOST = 4_096
_TICKS = 10  # uvicorn's, in a second
_BUFFERED_BYTES = 48 << 10  # that were taken when a full connection is not full any more: asyncio's marks


class Connection(OneWrite):
    """A connection that knows since when it has waited for its client."""

    most = _MOST
    step_bytes: float = inf  # after which the time of a body, or of taking an answer, begins again

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._loose_bytes = 0
        self._moved_bytes: float = 0
        self._waiting_for: tuple[object, str, float] | None = None
        self._waiting_since_s = clock.elapsed_s()
        if len(self.connections) > self.most:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        cycle = self.cycle
        self._loose_bytes += len(data)
        super().data_received(data)
        if self.cycle is not cycle:
            self._loose_bytes = 0
        elif self._loose_bytes > HEAD_BYTES:
            self._refuse(
                b"431 Request Header Fields Too Large",
                f"the headers are over {HEAD_BYTES:,} bytes, the limit. Send fewer.",
            )

    def on_body(self, body: bytes) -> None:
        self._loose_bytes = 0
        self._moved_bytes += len(body)
        super().on_body(body)

    def resume_writing(self) -> None:
        self._moved_bytes += _BUFFERED_BYTES
        super().resume_writing()

    def look(self, now_s: float, *, head_s: float, body_s: float) -> None:
        """Close it when its client has kept it waiting for too long. Called once a second."""
        found = self._wait
        wait = None if found is None else (*found, self._moved_bytes // self.step_bytes)
        if (
            wait is None
            or self._waiting_for is None
            or wait[1:] != self._waiting_for[1:]
            or wait[0] is not self._waiting_for[0]
        ):
            self._waiting_for, self._waiting_since_s = wait, now_s
            return
        waited_s, what = now_s - self._waiting_since_s, wait[1]
        if what == "head" and waited_s >= head_s and not self._loose_bytes:
            self.transport.close()  # a browser opened it to have it ready, and would show a 408 for its next request
        elif what == "head" and waited_s >= head_s:
            self._refuse(
                b"408 Request Timeout",
                f"no whole request came in {head_s:g} seconds, the limit. Send it again.",
            )
        elif what == "body" and waited_s >= body_s:
            self._refuse(
                b"408 Request Timeout",
                f"the body was not whole after {body_s:g} seconds, the limit. Send it again.",
            )
        elif what == "reader" and waited_s >= body_s:
            self.transport.abort()

    @property
    def _wait(self) -> tuple[object, str] | None:
        """What its client has to do next, and in which request; None while the server is at work."""
        cycle: RequestResponseCycle | None = (
            self.cycle
        )  # none before the first request, whatever uvicorn says
        if self.transport.is_closing() or self.flow.write_paused:
            return cycle, "reader"
        if cycle is None or cycle.response_complete:
            return cycle, "head"
        return (cycle, "body") if cycle.more_body and not self.pipeline else None

    def _make_room(self) -> None:
        """Close the connection that has been without a request for longest, else this one: who is answered stays."""
        idle = [
            one
            for one in cast("set[Connection]", self.connections)
            if one is not self and (wait := one._wait) is not None and wait[1] == "head"
        ]
        if idle:
            min(idle, key=lambda one: one._waiting_since_s).transport.abort()
        else:
            self._refuse(
                b"503 Service Unavailable",
                f"{self.most:,} connections are open, the limit. Try again in a second.",
            )

    def _refuse(self, status: bytes, message: str) -> None:
        """Answer without a request, and close."""
        code = {b"4": b"malformed", b"5": b"overloaded"}[status[:1]]
        body = b'{"error":{"code":"%b","message":"%b"}}' % (code, message.encode())
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(head % (status, len(body)) + body)
        if cycle is not None:
            cycle.disconnected = True  # whatever is still on its way would be a second answer
        self.transport.close()


class Server(uvicorn.Server):
    """A uvicorn whose connections are bounded.

    `step_bytes` is for a server of files of any size: a body, or an answer that is taken, has `body_s` for each so many of them.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        most: int | None = None,
        head_s: float = HEAD_S,
        body_s: float = BODY_S,
        step_bytes: float = inf,
    ) -> None:
        limit = _most_here() if most is None else most
        config.http = type("Connection", (Connection,), {"most": limit, "step_bytes": step_bytes})
        super().__init__(config)
        self._head_s, self._body_s = head_s, body_s

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS == 0:
            now_s = clock.elapsed_s()
            for one in cast("list[Connection]", list(self.server_state.connections)):
                one.look(now_s, head_s=self._head_s, body_s=self._body_s)
        return await super().on_tick(counter)


def _most_here() -> int:
    """As many connections as this process may have open files, up to a limit; a few files are for other things."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files == resource.RLIM_INFINITY else min(_MOST, max(files - _OTHER_FILES, files // 2))
