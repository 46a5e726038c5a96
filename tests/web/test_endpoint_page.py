"""What the page of an endpoint says of those who answer on it."""

from __future__ import annotations

from datetime import timedelta

from everloop import rollout
from everloop.clock import wall
from everloop.rollout import RoutingRule
from everloop.serving import Worker
from everloop.serving.files import note_crash, remove_worker, write_worker
from tests.loop.living import Shop
from tests.web.conftest import serve


def test_the_serving_processes_and_the_limits_are_shown(small: Shop) -> None:
    rollout.set_limits(small.ws, "kind", rollout.limits(deadline_ms=200, own_process=True))
    rollout.put_rule(small.ws, "kind", RoutingRule("staff", "candidate", "X-Staff", None), reason="a test")
    epoch = rollout.endpoint(small.ws, "kind").epoch
    with serve(small.ws) as site:
        behind = site.get("/endpoints/kind").text
        since = wall() - timedelta(hours=3)
        worker = Worker(small.log.writer, 4_711, epoch, since, wall(), "127.0.0.1", 8401)
        write_worker(small.folder, worker)
        note_crash(small.folder, 4_711, -11)
        page = site.get("/endpoints/kind").text
    assert "is loading" in behind
    assert "is loading" not in page
    for said in (
        "4711",
        f"epoch {epoch}",
        "3 h",
        "1 process ended by itself in the last hour",
        "An answer within",
        "200 ms",
        "candidate answers where header X-Staff is there",
    ):
        assert said in page


def test_without_a_process_the_page_says_how_to_start_one(small: Shop) -> None:
    remove_worker(small.folder, small.log.writer)
    with serve(small.ws) as site:
        page = site.get("/endpoints/kind").text
    assert "No process answers predictions" in page
    assert "No limits and no rules of its own" in page
