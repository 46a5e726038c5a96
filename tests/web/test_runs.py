"""The pages about pipelines and runs, over HTTP: what they say of each way a step can end, and how soon."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import sqlalchemy as sa

from everloop.clock import SimulatedClock, wall
from everloop.pipelines import DEFAULT_SEED
from everloop.storage import metadata
from tests.web.conftest import Site
from tests.web.runs import NASTY, branching, failing, going_on, many_calls, many_runs, ran, wide
from tests.web.test_pages import check_page


def shown(site: Site, path: str) -> Any:
    """A page's content, once it was drawn as well."""
    check_page(site.get(path))
    answer = site.get(f"{path}{'&' if '?' in path else '?'}as=json")
    assert answer.status_code == 200, answer.text
    return answer.json()


def states(site: Site, run: str) -> dict[str, str]:
    return {one["name"]: one["state"] for one in shown(site, f"/pipelines/runs/{run}")["rows"]}


def test_each_step_stands_with_how_it_ended(empty: Site) -> None:
    run = ran(empty.ws, branching)
    assert states(empty, run) == {
        "load": "done",
        "fit": "done",
        "fit-2": "done",
        "best": "done",
        "preview": "failed",
        "square": "done",
        "is_good": "done",
        "publish": "done",
        "discard": "skipped",
        "choice": "done",
    }
    again = states(empty, ran(empty.ws, branching))
    assert {again[name] for name in ("load", "fit", "best", "square")} == {"cached"}


def test_a_box_tells_the_branch_the_tries_and_the_calls_of_a_map(empty: Site) -> None:
    boxes = {one["id"]: one for one in shown(empty, f"/pipelines/runs/{ran(empty.ws, branching)}")["boxes"]}
    assert boxes["square"]["said"] == "10 of 10 done"
    assert boxes["square"]["kind"] == "map"
    assert boxes["preview"]["said"] == "2 attempts, optional"
    assert (boxes["discard"]["said"], boxes["discard"]["tone"]) == ("if not is_good", "quiet")


def test_a_failed_run_says_where_and_what_was_not_reached(empty: Site) -> None:
    run = ran(empty.ws, failing)
    found = shown(empty, f"/pipelines/runs/{run}")
    assert [one["name"] for one in found["failed"]] == ["square"]
    assert found["failed"][0]["error"] == f"ValueError: 13 is unlucky {NASTY}"
    assert found["counts"]["not reached"] >= 1
    text = empty.get(f"/pipelines/runs/{run}").text
    assert "13 of 20 done, 1 failed" in text
    assert NASTY not in text


def test_one_step_is_told_with_why_it_ran_what_it_printed_and_what_it_made(empty: Site) -> None:
    run = ran(empty.ws, branching, in_processes=True)
    one = shown(empty, f"/pipelines/runs/{run}?step=load")["selected"]
    assert one["why"]["sentence"] == "load ran: no earlier run of branching finished it."
    assert "reading 10 rows" in one["printed"]
    assert one["output"]["kind"] == "json"
    assert one["next"] == ["fit", "fit-2", "square"]
    text = empty.get(f"/pipelines/runs/{run}?step=load").text
    assert "reading 10 rows" in text
    assert NASTY not in text


def test_a_cached_step_leads_to_the_run_that_made_it(empty: Site) -> None:
    first, second = ran(empty.ws, branching), ran(empty.ws, branching)
    one = shown(empty, f"/pipelines/runs/{second}?step=best")["selected"]
    assert (one["why"]["answer"], one["from_run"]) == ("cached", first)


def test_one_call_of_a_map_is_told_and_failed_ones_come_first(empty: Site) -> None:
    run = ran(empty.ws, failing)
    calls = shown(empty, f"/pipelines/runs/{run}?step=square")["selected"]["calls"]
    assert [one["node"] for one in calls][:2] == ["square[13]", "square[12]"]
    one = shown(empty, f"/pipelines/runs/{run}?step=square[13]")["selected"]
    assert "13 is unlucky" in one["attempts"][0]["error"]


def test_a_run_says_what_it_was_made_of(empty: Site) -> None:
    found = shown(empty, f"/pipelines/runs/{ran(empty.ws, branching)}")
    assert found["seed"] == DEFAULT_SEED
    assert "tests/web/runs.py" in found["code"]["files"]
    assert found["environment"]["packages"]
    assert found["tracked"]["actor"] == "tester"


def test_a_run_whose_process_died_says_so(empty: Site, tmp_path: Path) -> None:
    with going_on(empty.ws, tmp_path / "go") as run:
        assert shown(empty, f"/pipelines/runs/{run}")["run"]["is_left"] is False
    left = {"state": "running", "lease_until": wall() - timedelta(minutes=1), "ended_at": None}
    table = metadata.tables["pipeline_run"]
    empty.ws.write(lambda tx: tx.execute(sa.update(table).where(table.c.id == run).values(**left)))
    assert f"everloop runs resume {run}" in empty.get(f"/pipelines/runs/{run}").text


def test_where_the_clock_stands_still_times_are_how_long_each_took_behind_what_it_needs(empty: Site) -> None:
    line = shown(empty, f"/pipelines/runs/{ran(empty.ws, branching)}")["line"]
    assert line["is_real"] is False
    ends = {name: one["start"] + one["width"] for name, one in line["bars"].items()}
    for name, before in (("fit", "load"), ("fit-2", "load"), ("best", "fit"), ("is_good", "best")):
        assert line["bars"][name]["start"] >= min(ends[before], 996) - 4  # a bar is 4 wide at least


def test_times_are_when_steps_ran_where_the_clock_goes(empty: Site, tmp_path: Path) -> None:
    assert isinstance(empty.ws.clock, SimulatedClock)
    with going_on(empty.ws, tmp_path / "go") as run:
        empty.ws.clock.advance(timedelta(minutes=10))
        line = shown(empty, f"/pipelines/runs/{run}")["line"]
    assert (line["is_real"], line["seconds"]) == (True, 600.0)
    assert line["bars"]["wait_for"]["width"] == 1000.0


def test_a_run_of_500_steps_is_folded_searched_and_opened(empty: Site) -> None:
    run = ran(empty.ws, wide)
    found = shown(empty, f"/pipelines/runs/{run}")
    assert [one["label"] for one in found["boxes"]] == ["load", "498 fit steps", "best"]
    assert found["steps"] == 500
    assert len(found["rows"]) == 100
    opened = shown(empty, f"/pipelines/runs/{run}?open=all&find=fit-33")
    assert len(opened["boxes"]) == 500
    assert sum(one["is_found"] for one in opened["boxes"]) == opened["found"] == 11  # 33 and 330 to 339
    for path in (f"/pipelines/runs/{run}", f"/pipelines/runs/{run}?open=all&step=fit-7"):
        check_page(empty.get(path))


def test_a_run_of_500_steps_takes_less_than_200_ms_of_work(empty: Site) -> None:
    """Work of this process, and not time on the wall, which other programs on the machine stretch."""
    run = ran(empty.ws, wide)
    for asked in ("", "?open=all", "?step=fit-7", "?find=fit-3"):
        empty.get(f"/pipelines/runs/{run}{asked}")
        spent = []
        for _ in range(3):
            begun = time.process_time()
            assert empty.get(f"/pipelines/runs/{run}{asked}").status_code == 200
            spent.append(time.process_time() - begun)
        assert min(spent) < 0.2, asked


def test_a_map_over_ten_thousand_items_is_counted_and_not_told(empty: Site) -> None:
    run = ran(empty.ws, branching)
    small = len(empty.get(f"/pipelines/runs/{run}?step=square").content)
    many_calls(empty.ws, run, "square", 10_000)
    empty.get("/pipelines")
    begun = time.process_time()
    answer = empty.get(f"/pipelines/runs/{run}?step=square")
    assert time.process_time() - begun < 0.3
    assert len(answer.content) < small + 40_000
    calls = shown(empty, f"/pipelines/runs/{run}")["rows"][5]["calls"]
    assert calls == {"done": 10_010}


def test_ten_thousand_runs_are_paged_filtered_and_sorted(empty: Site) -> None:
    run = ran(empty.ws, branching)
    many_runs(empty.ws, run, 10_000)
    empty.get("/pipelines/runs")
    for path in (
        "/pipelines",
        "/pipelines/runs",
        "/pipelines/runs?order=longest&state=failed&pipeline=branching-1",
    ):
        begun = time.process_time()
        answer = empty.get(path)
        assert time.process_time() - begun < 0.3, path
        assert len(answer.content) < 100_000, path
        check_page(answer)
    seen: list[str] = []
    after = ""
    for _ in range(3):
        page = shown(empty, f"/pipelines/runs?pipeline=branching-1&state=failed&after={after}")
        seen += [one["id"] for one in page["found"]]
        after = page["next"]
    assert len(seen) == len(set(seen)) == 150
    assert seen == sorted(seen, reverse=True)
    longest = shown(empty, "/pipelines/runs?order=longest")["found"]
    assert {one["state"] for one in longest} <= {"done", "failed"}
    took = [_seconds(one) for one in longest]
    assert took == sorted(took, reverse=True)
    assert took[0] == 100.0


def _seconds(one: dict[str, str]) -> float:
    start, end = (datetime.fromisoformat(one[name]).astimezone(UTC) for name in ("started_at", "ended_at"))
    return (end - start).total_seconds()


def test_a_pipeline_stands_with_how_its_last_runs_went(empty: Site) -> None:
    run = ran(empty.ws, branching)
    many_runs(empty.ws, run, 90)
    (one, zero, other) = sorted(shown(empty, "/pipelines")["pipelines"], key=lambda each: str(each["name"]))
    assert (one["name"], one["done"], one["ended"]) == ("branching", 1, 1)
    assert zero["ended"] == other["ended"] == 30
    assert zero["done"] == other["done"] == 20
    text = empty.get("/pipelines").text
    assert "66.7 %" in text
    assert re.search(r'aria-label="30 runs: 20 done\s+10 failed', text)


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/pipelines/runs?order=best", 422, "it is one of newest, oldest, longest"),
        ("/pipelines/runs?state=odd", 422, "it is one of running"),
        ("/pipelines/runs?since=yesterday", 422, "is not a day"),
        (f"/pipelines/runs/run_{'0' * 32}", 404, "everloop runs list"),
        ("/compare?runs=a,b,c,d,e,f", 422, "compares 5 at most"),
        ("/calendar?zone=../../etc/passwd", 422, "is not a time zone"),
        ("/calendar?zone=Nowhere", 422, "is not a time zone"),
        ("/calendar?on=soon", 422, "is not a day"),
        ("/calendar?on=0001-01-01", 422, "2000 to 2199"),
        ("/gates/gr_nothing", 404, "no gate report"),
        ("/searches/srch_nothing", 404, "no search"),
        ("/triggers?name=none", 404, "no trigger"),
    ],
)
def test_a_wrong_address_is_a_page_with_what_to_do(empty: Site, path: str, status: int, told: str) -> None:
    answer = empty.get(path)
    assert answer.status_code == status
    assert told in answer.text


def test_whatever_stands_in_an_address_stays_text(empty: Site) -> None:
    asks = {
        "/pipelines/runs": ["pipeline", "state", "since", "order", "after"],
        f"/pipelines/runs/{ran(empty.ws, branching)}": ["find", "state", "step", "open", "first"],
        "/compare": ["runs", "before"],
        "/calendar": ["on", "span", "zone"],
        "/triggers": ["name"],
    }
    for asked in (NASTY, '"><img src=x onerror=alert(1)>', "'; DROP TABLE run; --", "9" * 40):
        addresses = [f"{path}?{urlencode({name: asked})}" for path, names in asks.items() for name in names]
        for address in [*addresses, f"/gates/{quote(asked, safe='')}", f"/pipelines/{quote(asked, safe='')}"]:
            answer = empty.get(address)
            assert answer.status_code in (200, 303, 404, 422), address
            assert "<" not in asked or asked not in answer.text, address
