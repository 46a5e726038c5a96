"""Servers in a thread of the test's own process, and clients of them that cost nothing to make."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx
import uvicorn


@cache
def tls() -> ssl.SSLContext:
    """What each client of httpx makes anew, for `verify`: 18 ms, also where there is no TLS."""
    return ssl.create_default_context()


def client_of(url: str, **options: Any) -> httpx.Client:
    """A client of one server, which asks no proxy of the environment's."""
    return httpx.Client(base_url=url, trust_env=False, verify=tls(), **options)


@contextmanager
def in_thread(server: uvicorn.Server) -> Iterator[str]:
    """The address of a server that runs in a thread; at the end it answers nobody any more."""
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        if not _is_left_alone(server):
            thread.join()  # otherwise it is not waited for: uvicorn looks ten times a second whether it is to end


def _is_left_alone(server: uvicorn.Server) -> bool:
    """Whether nobody is connected, after the time that it takes to hear that a client has left."""
    state = server.server_state
    for _ in range(20):
        if server.started and not state.connections and not state.tasks:
            return True
        time.sleep(0.001)
    return False
