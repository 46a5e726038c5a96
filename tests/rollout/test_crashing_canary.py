"""A new version that crashes its process: judged by a real serving process's log, and taken back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from everloop import registry, rollout
from everloop.serving import Signature
from everloop.workspace import Workspace
from tests.registry.versions import check, servable
from tests.serving.conftest import serve
from tests.serving.home import CLASSES, CRASHES, SIZE, size_model, trap
from tests.serving.server import Server, wait_for

__all__ = ["serve"]


@pytest.fixture
def sizes(ws: Workspace, serve: Callable[..., Server]) -> Server:
    """An endpoint on which the first version answers and the second, which some sizes crash, gets half of the traffic."""
    signature = Signature((SIZE,), "class", CLASSES)
    dumps = import_module("skops.io").dumps
    for model in (size_model(), trap()):
        version = servable(ws, dumps(model), name="size", signature=signature)
        check(ws, version)
        registry.release(ws, version.ref)
    plan = rollout.canary(50, 100, excess_at_most={"errors": 0.05}, watch_h=0)
    rollout.create_endpoint(ws, "size", "size", canary=plan, limits=rollout.limits(own_process=True))
    rollout.start(ws, "size", "size@1", reason="a test")
    rollout.start(ws, "size", "size@2", reason="a test")
    return serve(ws.home)


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
