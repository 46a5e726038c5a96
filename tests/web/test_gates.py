"""Gate reports and the calendar over HTTP: what blocks, which rows prove it, what fired."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from everloop import access, checks, data, jobs, registry
from everloop.checks import CheckResult, GateReport
from everloop.clock import SimulatedClock
from everloop.ids import new_id
from everloop.storage import Tx
from everloop.workspace import Workspace
from tests.registry.versions import check, register
from tests.web.conftest import Site
from tests.web.test_pages import check_page
from tests.web.test_runs import shown

NASTY = "<img src=x onerror=alert(1)>"


def kept(ws: Workspace, version: str, *results: CheckResult) -> GateReport:
    """A report as the room keeps it, of results that no check of ours gives."""
    report = GateReport(
        id=new_id("gr"),
        model_version=version,
        evidence=checks.Evidence(),
        gates=(),
        results=results,
        verdict="failed" if any(one.verdict == "failed" for one in results) else "passed",
        at=ws.now(),
        by=ws.actor,
    )

    def change(tx: Tx) -> None:
        checks.store.insert_report(tx, report)

    ws.write(change)
    return report


def test_what_blocks_stands_first_and_what_to_do_beside_it(empty: Site) -> None:
    report = check(empty.ws, register(empty.ws, name="elsewhere"), leaks=True)
    found = shown(empty, f"/gates/{report.id}")
    assert found["blocking"] == ["leakage"]
    assert found["judged"][0]["result"]["name"] == "leakage"
    text = empty.get(f"/gates/{report.id}").text
    assert text.index("What to do") < text.index("<strong>schema</strong>")


def test_rows_that_prove_it_lead_to_their_pages_and_those_that_are_gone_to_none(story: Site) -> None:
    rows = data.row_ids_by_key(story.ws, "goods@1", [7, 9])
    evidence = (rows["7"], rows["9"], 10_000_000)
    report = kept(story.ws, "kind@3", CheckResult("odd", "failed", "Odd.", evidence=evidence))
    (one,) = shown(story, f"/gates/{report.id}")["judged"]
    assert [proof["place"] for proof in one["proofs"]] == ["/rows/goods:7", "/rows/goods:9", None]
    assert story.get("/rows/goods:7").status_code == 200


def test_a_check_that_the_page_knows_nothing_of_shows_its_numbers_its_table_and_no_markup(
    empty: Site,
) -> None:
    result = CheckResult(
        NASTY,
        "failed",
        NASTY,
        NASTY,
        NASTY,
        numbers={"megabytes": 31.25, NASTY: None},
        details=({"layer": NASTY, "weights": 12}, {"other": 3}),
    )
    report = kept(empty.ws, "elsewhere@1", result)
    answer = empty.get(f"/gates/{report.id}")
    check_page(answer)
    assert "31.25" in answer.text
    assert "<img src=x" not in answer.text
    assert answer.text.count("&lt;img src=x") >= 5


@pytest.mark.parametrize(("role", "may"), [("viewer", False), ("reviewer", True)])
def test_a_waiver_is_offered_to_who_may_approve(closed: Site, role: Any, may: bool) -> None:
    report = check(closed.ws, register(closed.ws, name="elsewhere"), leaks=True)
    access.add_account(closed.ws, "somebody", role=role)
    _, secret = access.create_token(closed.ws, "somebody")
    answer = closed.get(f"/gates/{report.id}", Authorization=f"Bearer {secret}")
    assert ("Waive for 7 days" in answer.text) == may


def test_a_waiver_that_ended_blocks_again_and_is_still_told(empty: Site) -> None:
    assert isinstance(empty.ws.clock, SimulatedClock)
    report = check(empty.ws, register(empty.ws, name="elsewhere"), leaks=True)
    until = empty.ws.now() + timedelta(days=1)
    checks.waive(empty.ws, report.id, "leakage", reason="for a day", until=until)
    assert shown(empty, f"/gates/{report.id}")["is_clear"]
    empty.ws.clock.advance(timedelta(days=2))
    found = shown(empty, f"/gates/{report.id}")
    assert (found["is_clear"], found["blocking"]) == (False, ["leakage"])
    text = empty.get(f"/gates/{report.id}").text
    assert "Was waived" in text
    assert "for a day" in text


def test_the_confusion_of_the_classes_is_that_of_the_versions_run(story: Site) -> None:
    report = checks.reports_of(story.ws, "kind@1", limit=1)[0]
    found = shown(story, f"/gates/{report.id}")["confusion"]
    assert sorted(found["classes"]) == ["Bikes", "Lamps", "Tea"]
    assert registry.version(story.ws, "kind@1").run


def test_a_schedule_that_fires_often_is_one_entry_a_day(empty: Site) -> None:
    ws = empty.ws
    ws.write(
        lambda tx: jobs.schedule(
            ws,
            tx,
            "often",
            cron="*/30 8-18 * * 1-5",
            kind="train",
            payload={},
            time_zone="America/New_York",
        )
    )
    weeks = shown(empty, "/calendar?on=2026-09-14&span=week&zone=America/New_York")["weeks"]
    monday = weeks[0][0]["entries"]
    assert [(one["what"], one["times"], one["clock"], one["until"]) for one in monday] == [
        ("often", 22, "08:00", "18:30")
    ]
    assert weeks[0][5]["entries"] == []
    assert len(shown(empty, "/calendar?on=2026-09-14")["weeks"]) == 5
