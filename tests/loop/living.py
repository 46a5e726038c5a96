"""A shop whose first version is live, and a hand in place of its serving process: what that would log, without HTTP."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from everloop import loop, registry, rollout, serving
from everloop.clock import SimulatedClock, to_micros, wall
from everloop.ids import new_prediction_id
from everloop.predictions import LogWriter, PredictionRecord
from everloop.serving.files import write_worker
from everloop.serving.records import Worker
from everloop.workspace import Workspace
from tests.loop import shop


def begin(ws: Workspace, folder: Path) -> None:
    """Train two versions: `kind@1` is live, `kind@2` passed its gates and waits for somebody to approve it."""
    found = shop.set_up(ws, folder)
    for params in ({}, {"picky": True}):
        trained = shop.train(ws, found, **params)
        assert trained.passed, trained
    approve(ws, "kind@1")
    loop.deliver(ws)


def approve(ws: Workspace, ref: str) -> None:
    registry.approve(ws.acting_as("alice"), ref, reason="looks right")


def release(ws: Workspace, ref: str) -> None:
    """Approve and release a version, as if somebody wanted it live."""
    approve(ws, ref)
    loop.prepare_release(ws, registry.version(ws, ref))


def pass_time(ws: Workspace, **by: float) -> datetime:
    """Let the domain time of a simulation pass, for all its processes, and say what time it is then."""
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(**by))
    return ws.now()


@dataclass
class Shop:
    """A workspace in which the shop's loop is applied, and the log of what its endpoint `kind` answered."""

    ws: Workspace
    log: LogWriter
    chance: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311  (traffic, not secrets)

    @property
    def folder(self) -> Path:
        return self.ws.home / "serving"

    def acknowledge(self) -> None:
        """Say, as a serving process does, that the newest routes are served."""
        table = serving.read_routes(self.folder)
        epoch = None if table is None else table.epoch
        write_worker(
            self.folder, Worker(self.log.writer, 1, epoch, wall(), wall(), "localhost", 1, error=None)
        )

    def ask(
        self,
        n: int = 1,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        fails: Mapping[str, float] | None = None,
        **given: Any,
    ) -> list[PredictionRecord]:
        """Log `n` requests as the routes in force deal them; `fails` is the share of failures by version."""
        table = serving.read_routes(self.folder)
        assert table is not None
        records = [self._record(table, key, headers or {}, fails or {}, given) for _ in range(n)]
        self.log.write(records)
        return records

    def later(self, **by: float) -> datetime:
        """Let domain time pass, and say what time it is then."""
        return pass_time(self.ws, **by)

    def _record(
        self,
        table: serving.RouteTable,
        key: str | None,
        headers: Mapping[str, str],
        fails: Mapping[str, float],
        given: Mapping[str, Any],
    ) -> PredictionRecord:
        prediction_id = new_prediction_id(self.log.writer)
        inputs = {"title": "red leaf", "seller": self.chance.randrange(7), **given.get("inputs", {})}
        variant, assigned = serving.assign(
            table.endpoints["kind"],
            key=key,
            request=given.get("request") or prediction_id,
            inputs=inputs,
            headers=headers,
        )
        manifest = serving.read_manifest(self.folder, variant.release)
        version = f"{manifest.model}@{manifest.version}"
        failed = self.chance.random() < fails.get(version, 0.0)
        values: dict[str, Any] = {
            "id": prediction_id,
            "endpoint": "kind",
            "variant": variant.name,
            "release": variant.release,
            "model": manifest.model,
            "version": manifest.version,
            "epoch": table.epoch,
            "at": to_micros(given.get("at", self.ws.now())),
            "key": key,
            "inputs": inputs,
            "features": {"seller_volume": (3, None)},
            "output": None if failed else "Tea",
            "scores": {} if failed else {"Tea": 0.9},
            "status": "failed" if failed else "ok",
            "error": "model_failed: ValueError: unknown" if failed else None,
            "latency_us": 900,
            "assigned": assigned,
        }
        return PredictionRecord(**{**values, **{name: one for name, one in given.items() if name != "at"}})


@contextmanager
def opened(ws: Workspace) -> Iterator[Shop]:
    """The shop of a workspace in which `begin` ran, with a serving process's place taken."""
    log = LogWriter.claim(ws.home / "serving")
    try:
        found = Shop(ws, log)
        rollout.publish(ws)
        found.acknowledge()
        yield found
    finally:
        log.close()
