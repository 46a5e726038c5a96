"""Requests from several clients at once, without pause."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.serving.server import Server, wait_for


class Traffic:
    """Requests from several clients at once, without pause, and all that came back."""

    def __init__(self, server: Server, *, clients: int = 8) -> None:
        self.server = server
        self.answered: list[dict[str, Any]] = []
        self.errors: list[int] = []
        self.lost = 0
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def _ask(self, client: int) -> None:
        with httpx.Client(base_url=self.server.client.base_url, timeout=60) as http:
            number = 0
            while not self._stopped.is_set():
                number += 1
                body = {"inputs": {"title": "a fridge"}, "key": f"{client}-{number}"}
                try:
                    reply = http.post("/endpoints/category/predict", json=body)
                except httpx.TransportError:
                    self.lost += 1
                    return
                if reply.status_code == 200:
                    self.answered.append({**reply.json(), "key": body["key"]})
                else:
                    self.errors.append(reply.status_code)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        wait_for(lambda: len(self.answered) > 50)
        try:
            yield
        finally:
            self._stopped.set()
            for thread in self._threads:
                thread.join()

    def wait_for_more(self, count: int) -> None:
        before = len(self.answered)
        wait_for(lambda: len(self.answered) >= before + count)
