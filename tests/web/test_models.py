"""What the pages about models show: where each version stands, and what was live when."""

from __future__ import annotations

from datetime import timedelta

from everloop import registry, rollout
from everloop.clock import parse_time
from everloop.registry import StageEvent
from everloop.rollout import LiveVariant, RolloutEvent
from everloop.web.lanes import TimeLine, time_line
from tests.conftest import START
from tests.registry.versions import check, register
from tests.web.conftest import Site

HOUR = timedelta(hours=1)


def meant(name: str, number: int | None, hour: int) -> StageEvent:
    return StageEvent("category", "alias", name, number, "ann", "to try it", START + hour * HOUR)


def served(hour: int, *shares: tuple[str, float]) -> RolloutEvent:
    variants = tuple(
        LiveVariant("canary" if i else "control", version, f"rel_{version}", weight)
        for i, (version, weight) in enumerate(shares)
    )
    return RolloutEvent(
        f"evt_{hour}", "kind", None, START + hour * HOUR, "advanced", "judge", None, "well", None, variants, 1
    )


def drawn(moves: list[StageEvent], traffic: list[RolloutEvent], *, since: int = 0) -> TimeLine:
    return time_line(moves, traffic, start=START + since * HOUR, end=START + 10 * HOUR)


def test_an_alias_means_a_version_until_it_means_another() -> None:
    (lane,) = drawn([meant("champion", 2, 5), meant("champion", 1, 0), meant("champion", None, 8)], []).lanes
    assert [(one.version, one.x, one.width) for one in lane.stretches] == [
        ("category@1", 0.0, 500.0),
        ("category@2", 500.0, 300.0),
    ]


def test_a_canary_stands_below_what_it_takes_traffic_from() -> None:
    traffic = [
        served(0, ("kind@1", 100)),
        served(4, ("kind@1", 90), ("kind@2", 10)),
        served(6, ("kind@2", 100)),
    ]
    (lane,) = drawn([], traffic).lanes
    assert [(one.version, one.share, one.above, one.is_canary) for one in lane.stretches] == [
        ("kind@1", 100, 0, False),
        ("kind@1", 90, 0, False),
        ("kind@2", 10, 90, True),
        ("kind@2", 100, 0, False),
    ]
    assert lane.stretches[-1].end is None


def test_what_ended_before_the_time_shown_is_left_out_and_what_began_is_cut() -> None:
    line = drawn([meant("champion", 1, 0), meant("champion", 2, 4), meant("champion", 3, 8)], [], since=6)
    assert [(one.number, one.x, one.width) for one in line.lanes[0].stretches] == [
        ("2", 0.0, 500.0),
        ("3", 500.0, 500.0),
    ]


def test_a_look_that_changes_nothing_is_no_new_stretch() -> None:
    (lane,) = drawn([], [served(0, ("kind@1", 100)), served(3, ("kind@1", 100))]).lanes
    assert len(lane.stretches) == 1


def test_versions_follow_one_another_in_pages(empty: Site) -> None:
    for number in range(26):
        register(empty.ws, f"model {number}".encode())
    first = empty.get("/models/category?as=json").json()
    assert [one["version"]["number"] for one in first["versions"]] == list(range(26, 1, -1))
    rest = empty.get(f"/models/category?below={first['next']}&as=json").json()
    assert [one["version"]["number"] for one in rest["versions"]] == [1]
    assert empty.get("/models/category?below=x").status_code == 422


def test_gates_are_said_in_a_word(empty: Site) -> None:
    check(empty.ws, register(empty.ws, b"good"))
    check(empty.ws, register(empty.ws, b"leaking"), leaks=True)
    register(empty.ws, b"new")
    lines = empty.get("/models/category?as=json").json()["versions"]
    assert [one["gates"]["word"] for one in lines] == ["not run", "failed", "passed"]


def test_a_version_shows_what_it_takes_its_files_and_its_aliases(empty: Site) -> None:
    found = register(empty.ws)
    registry.alias(empty.ws, "category", "champion", found.ref)
    page = empty.get("/models/category/1").text
    assert "champion" in page
    assert "one of 2 classes: drink, other" in page
    assert all(digest in page for digest in found.files.values())
    assert "champion <b>1</b>" in empty.get("/models").text


LOGGED = """
flavors:
  python_function: {{loader_module: mlflow.sklearn}}
  sklearn: {{pickled_model: model.skops}}
{signature}
"""
SIGNED = """
signature:
  inputs: '[{"type": "double", "name": "alcohol", "required": true}, {"type": "string", "name": "cellar", "required": false}]'
  outputs: '[{"type": "string", "required": true}]'
"""


def logged(site: Site, signature: str) -> str:
    """A version as an mlflow client registers it."""
    text = LOGGED.format(signature=signature)
    files = {"MLmodel": site.ws.blobs.put(text.encode()), "model.skops": site.ws.blobs.put(b"model")}
    return register(site.ws, files=files, signature=None, run=None).ref


def test_a_version_of_an_mlflow_client_shows_the_signature_that_its_release_would_use(empty: Site) -> None:
    logged(empty, SIGNED)
    takes = empty.get("/models/category/1?as=json").json()["takes"]
    inputs = [(one["name"], one["type"], one["nullable"]) for one in takes["inputs"]]
    assert inputs == [("alcohol", "number", False), ("cellar", "string", True)]
    assert "text" in takes["gives"]
    assert "alcohol" in empty.get("/models/category/1").text


def test_a_version_without_a_signature_says_what_to_do(empty: Site) -> None:
    logged(empty, "")
    page = empty.get("/models/category/1").text
    assert "logged without a signature" in page
    assert "infer_signature" in page


def test_a_version_shows_which_terms_of_each_stage_it_meets_and_since_when_it_soaks(empty: Site) -> None:
    ws = empty.ws
    ref = register(ws).ref
    check(ws, registry.version(ws, ref))
    four_eyes = registry.people(2, not_author=True)
    terms = [registry.stage("staging"), registry.stage("production", approve=four_eyes, soak_h=24)]
    registry.define(ws, "category", stages=terms)
    registry.promote(ws, ref, "staging")
    registry.approve(ws.acting_as("ann"), ref, reason="it reads well")
    staging, production = empty.get("/models/category/1?as=json").json()["stages"]
    assert staging["since"] is not None
    assert staging["until"] is None
    assert [one["is_met"] for one in production["terms"]] == [True, False, False]
    _, approvals, soak = (one["said"] for one in production["terms"])
    assert approvals.startswith("1 of 2 approvals, not the author: ann on ")
    assert "0 h of 24 h, enough at 2026-" in soak
    page = empty.get("/models/category").text
    assert "2 approvals, not the author" in page
    assert "24 h in staging" in page


def test_a_time_is_answered_with_what_was_live_then(story: Site) -> None:
    for at in ("", "2020-01-01T00:00", story.ws.now().strftime("%Y-%m-%dT%H:%M")):
        shown = story.get(f"/models/kind?at={at}&as=json").json()["live"]
        moment = parse_time(f"{at}Z") if at else None
        expected = rollout.live_of_model(story.ws, "kind", at=moment)
        assert [(one["version"], one["weight"]) for one in shown] == [
            (one.version, one.weight) for one in expected
        ]
        assert bool(shown) == (not at.startswith("2020"))
    assert story.get("/models/kind?at=yesterday").status_code == 422
