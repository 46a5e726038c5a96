"""The page of a rollout that is mirrored first, and of one that is watched."""

from __future__ import annotations

import re

from everloop import rollout
from tests.loop import living
from tests.rollout.test_shadow import mirrored, shadowed
from tests.rollout.test_watch import watched
from tests.web.conftest import serve


def test_a_mirrored_version_is_shown_with_what_its_pairs_say(small: living.Shop) -> None:
    made = shadowed(small, differs_at_most=0.2)
    mirrored(small, made, 10)
    rollout.tick(small.ws)
    with serve(small.ws) as site:
        page = site.get(f"/rollouts/{made.id}").text
        assert site.get("/endpoints/kind").status_code == 200
    assert "shadow 100 %" in page
    assert "answers differ in 0 of 10 pairs" in page
    assert re.search(r'<polygon class="within" points="[\d.,-]+ ', page), "both ends of the excess are drawn"
    assert "goes on under 20 pt" in page


def test_a_watched_version_may_be_taken_back_but_not_promoted(small: living.Shop) -> None:
    made = watched(small)
    with serve(small.ws) as site:
        page = site.get(f"/rollouts/{made.id}").text
    assert "kind@1 stays warm" in page
    assert "Roll back" in page
    assert "Promote now" not in page
