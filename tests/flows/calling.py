"""Callers beside a test that ask an endpoint again and again, whatever happens, and remember what they were told."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx


@dataclass
class Clients:
    """Callers of the endpoint `kind`; while there are `strangers`, they ask about these sellers."""

    port: int
    answered: dict[str, str] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)
    cut_off: Counter[str] = field(default_factory=Counter)  # requests that were sent and never answered
    strangers: tuple[int, ...] = ()
    stopping: threading.Event = field(default_factory=threading.Event)

    def ask(self, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  (traffic, not secrets)
        place = f"http://127.0.0.1:{self.port}"
        # a connection for each request: one that is kept may be closed for being idle just as it is used again
        once = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=place, trust_env=False, timeout=60, limits=once) as client:
            while not self.stopping.wait(0.01):
                seller = chance.choice(self.strangers) if self.strangers else chance.randrange(7)
                inputs = {"title": "red small leaf", "seller": seller}
                try:
                    answer = client.post("/endpoints/kind/predict", json={"inputs": inputs})
                except httpx.ConnectError:
                    self.stopping.wait(0.1)  # nobody listens: the server is being started again
                    continue
                except httpx.HTTPError as error:
                    self.cut_off[type(error).__name__] += 1
                    continue
                if answer.status_code == 200:
                    body = answer.json()
                    self.answered[body["prediction_id"]] = body["output"]
                else:
                    self.refused[answer.status_code] += 1
                    self.stopping.wait(0.05)


@contextmanager
def traffic(port: int, *, callers: int = 2) -> Iterator[Clients]:
    found = Clients(port)
    threads = [threading.Thread(target=found.ask, args=(seed,)) for seed in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.stopping.set()
        for thread in threads:
            thread.join()
