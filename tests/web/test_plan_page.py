"""A release is looked at before it begins."""

from __future__ import annotations

from everloop import rollout
from tests.loop import living
from tests.loop.living import Shop
from tests.rollout.test_kpis import audit
from tests.rollout.test_rollouts import with_canary
from tests.web.conftest import serve


def test_a_plan_shows_its_stages_and_may_be_started(small: Shop) -> None:
    with_canary(small, 10, 50, 100)
    with serve(small.ws) as site:
        early = site.get("/endpoints/kind/plan?version=kind@2").text
        assert "kind@2 is not released" in early
        assert "Start rolling out" not in early
        living.release(small.ws, "kind@2")
        page = site.get("/endpoints/kind/plan?version=kind@2").text
    assert [step in page for step in ("10 %</b>", "50 %</b>", "100 %</b>")] == [True] * 3
    assert "10 % of kind&#39;s traffic will go to kind@2 at once" in page
    assert rollout.live(small.ws, "kind")[0].version == "kind@1", "nothing was started"


def test_made_up_rollouts_tell_how_it_would_go_and_what_each_stage_takes(small: Shop) -> None:
    with_canary(small, 50, 100, excess_at_most={"errors": 0.2})
    with serve(small.ws) as site:
        assert "has answered nothing" in site.get("/endpoints/kind/plan?prospects=yes").text
        small.ask(200)
        page = site.get("/endpoints/kind/plan?prospects=yes").text
    assert "Of 200 made-up rollouts" in page
    assert "20 points" in page


def test_made_up_rollouts_wait_for_reviewers_as_long_as_they_took(small: Shop) -> None:
    with_canary(small, 50, 100, excess_at_most={"wrong": 0.3})
    asked = small.ask(50)
    small.later(hours=8)
    audit(small, asked[:10], wrong={1: 0.1})
    with serve(small.ws) as site:
        page = site.get("/endpoints/kind/plan?prospects=yes").text
    assert "wrong becomes known of 20" in page
    assert "8 h later" in page


def test_a_version_that_was_rolled_back_is_started_again_by_a_person_who_is_told(small: Shop) -> None:
    with_canary(small, 50, 100)
    living.release(small.ws, "kind@2")
    made = rollout.start(small.ws, "kind", "kind@2", reason="a test")
    rollout.roll_back(small.ws, made.id, reason="worse")
    with serve(small.ws) as site:
        page = site.get("/endpoints/kind/plan?version=kind@2").text
    assert "It was rolled back here before" in page
    assert "&#34;again&#34;: true" in page
