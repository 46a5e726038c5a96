"""A new version that crashes its process: judged by a real serving process's log, and taken back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

import httpx
import pytest

from everloop import registry, rollout, serving
from everloop.serving import Signature
from everloop.workspace import Workspace
from tests.registry.versions import check, servable
from tests.serving.conftest import serve
from tests.serving.home import CLASSES, CRASHES, SIZE, size_model, trap
from tests.serving.server import Server, wait_for

__all__ = ["serve"]


@pytest.fixture
def sizes(ws: Workspace, serve: Callable[..., Server], request: pytest.FixtureRequest) -> Server:
    """An endpoint on which the first version answers and the second, which some sizes crash, gets half of the traffic."""
    is_apart = request.param == "apart"
    signature = Signature((SIZE,), "class", CLASSES)
    dumps = import_module("skops.io").dumps
    for model in (size_model(), trap()):
        version = servable(ws, dumps(model), name="size", signature=signature)
        check(ws, version)
        registry.release(ws, version.ref)
    plan = rollout.canary(50, 100, excess_at_most={"errors": 0.05}, watch_h=0)
    rollout.create_endpoint(ws, "size", "size", canary=plan, limits=rollout.limits(own_process=is_apart))
    rollout.start(ws, "size", "size@1", reason="a test")
    rollout.start(ws, "size", "size@2", reason="a test")
    return serve(ws.home, settings={"serving_workers": 1 if is_apart else 2})


@pytest.mark.parametrize("sizes", ["apart"], indirect=True)
def test_a_new_version_that_crashes_is_taken_back_and_the_old_one_answers_meanwhile(
    ws: Workspace, sizes: Server
) -> None:
    def ask() -> tuple[int, Any]:
        reply = sizes.client.post("/endpoints/size/predict", json={"inputs": {"size": CRASHES}})
        record = sizes.record(reply)
        return reply.status_code, record.variant

    came = Counter(ask() for _ in range(80))
    assert came.keys() == {(200, "control"), (503, "canary")}
    (event,) = rollout.tick(ws)
    assert event.act == "rolled_back"
    assert "in a row" in event.reason
    assert [one.version for one in rollout.live(ws, "size")] == ["size@1"]
    wait_for(lambda: ask() == (200, "control"))


@pytest.mark.parametrize("sizes", ["in the serving processes"], indirect=True)
def test_a_new_version_that_crashes_the_serving_processes_is_taken_back(ws: Workspace, sizes: Server) -> None:
    """Its requests are in no log: they died with the process."""

    def crash() -> bool:
        with (
            suppress(httpx.TransportError),
            httpx.Client(base_url=sizes.client.base_url, timeout=60) as client,
        ):
            client.post("/endpoints/size/predict", json={"inputs": {"size": CRASHES}})
        return len(serving.crashes(sizes.folder)) >= 3

    wait_for(crash)
    (event,) = rollout.tick(ws)
    assert event.act == "rolled_back"
    # one may crash before the crash of another is counted
    assert re.fullmatch(r"fuse: serving processes crashed [3-5] times since the canary began", event.reason)
    assert [one.version for one in rollout.live(ws, "size")] == ["size@1"]
    wait_for(lambda: serving.acknowledged(sizes.folder) == event.epoch)
