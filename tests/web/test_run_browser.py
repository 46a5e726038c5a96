"""The pages about runs, gates and the calendar in a real browser: each person does what they came for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from everloop import background, checks, jobs, loop, pipelines, searches, triggers
from everloop.checks import GateReport
from everloop.pipelines import Inline, run_pipeline
from everloop.searches import Plan, choice
from tests.registry.versions import check, register
from tests.searches.made_up import loaded
from tests.triggers.made_up import applied, ended, later, look
from tests.web.conftest import Site
from tests.web.runs import NASTY, branching, failing, going_on, left, ran, waiting, wide

pytestmark = pytest.mark.browser


@pytest.fixture
def quiet(page: Page) -> Iterator[Page]:
    """A page on which no script may fail."""
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    assert failures == []


def test_a_scientist_finds_out_where_a_run_failed(quiet: Page, empty: Site) -> None:
    run = ran(empty.ws, failing, in_processes=True)
    quiet.goto(f"{empty.url}/pipelines")
    quiet.locator(".strip a").last.click()
    expect(quiet.locator("h1")).to_contain_text("failed")
    expect(quiet.locator(".problem").first).to_contain_text("13 is unlucky")
    quiet.locator(".box", has_text="square").click()
    quiet.wait_for_url("**?step=square")
    panel = quiet.get_by_role("region", name="square")
    expect(panel).to_contain_text("no earlier run of failing finished it")
    panel.get_by_role("link", name="square[13]").click()
    expect(quiet.get_by_role("region", name="square[13]")).to_contain_text(NASTY)
    assert quiet.locator("main script").count() == 0
    assert "owned" not in quiet.title()
    assert run in quiet.url
    quiet.go_back()
    quiet.go_back()
    expect(quiet.locator("[data-step]")).to_have_count(0)


def test_500_steps_are_searched_opened_and_made_larger(quiet: Page, empty: Site) -> None:
    run = ran(empty.ws, wide)
    quiet.goto(f"{empty.url}/pipelines/runs/{run}")
    expect(quiet.locator(".box")).to_have_count(3)
    quiet.get_by_role("link", name="Show all 500").click()
    expect(quiet.locator(".box")).to_have_count(500)
    quiet.get_by_label("Find a step").fill("fit-33")
    expect(quiet.locator(".box:not(.dim)")).to_have_count(11)
    expect(quiet.locator("table.steps tbody tr")).to_have_count(11)
    found = quiet.locator("#box-fit-33")
    expect(found).to_be_in_viewport()
    before = found.bounding_box()
    quiet.get_by_role("button", name="Larger").click()
    after = found.bounding_box()
    assert before is not None
    assert after is not None
    assert after["width"] > 1.2 * before["width"]


def test_the_graph_is_read_by_keyboard(quiet: Page, empty: Site) -> None:
    run = ran(empty.ws, branching)
    quiet.goto(f"{empty.url}/pipelines/runs/{run}")
    quiet.get_by_role("region", name=re.compile("Graph of the steps")).focus()
    quiet.keyboard.press("Tab")
    expect(quiet.locator("#box-load")).to_be_focused()
    quiet.keyboard.press("Tab")
    quiet.keyboard.press("Enter")
    expect(quiet.locator("[data-step] h2")).to_contain_text("fit")
    expect(quiet.locator("#box-fit")).to_be_focused()  # though the graph was drawn anew
    names = quiet.locator("table.steps tbody th a").all_inner_texts()
    assert names == [one for one in quiet.locator(".box text:first-of-type").all_text_contents() if one]


def test_a_run_is_followed_while_it_goes_on(quiet: Page, empty: Site, tmp_path: Path) -> None:
    with going_on(empty.ws, tmp_path / "go") as run:
        quiet.goto(f"{empty.url}/pipelines/runs/{run}")
        quiet.evaluate("window.was = true")
        expect(quiet.locator("#box-wait_for")).to_contain_text("running")
        quiet.locator("#box-wait_for").click()
        expect(quiet.get_by_role("region", name="wait_for")).to_contain_text("nothing there yet")
        (tmp_path / "go").touch()
        expect(quiet.locator("h1")).to_contain_text("done", timeout=15_000)
        expect(quiet.locator("#box-wait_for")).to_contain_text("done")
        assert quiet.evaluate("window.was"), "without loading the page again"
        asked: list[str] = []
        quiet.on("request", lambda request: asked.append(request.url))
        quiet.wait_for_timeout(3_500)
        assert asked == [], "what has ended is not asked for again"


def test_a_run_is_cancelled_from_its_page(quiet: Page, empty: Site, tmp_path: Path) -> None:
    with going_on(empty.ws, tmp_path / "go") as run:
        quiet.goto(f"{empty.url}/pipelines/runs/{run}")
        quiet.get_by_role("button", name="Cancel").click()
        quiet.get_by_label("Reason").fill("wrong parameters")
        quiet.locator("#confirm [data-do]").click()
        expect(quiet.locator("h1")).to_contain_text("cancelled")
        expect(quiet.locator(".problem").first).to_contain_text("tester cancelled it: wrong parameters")
    assert pipelines.pipeline_run(empty.ws, run).state == "cancelled"


def test_a_run_is_reproduced_from_its_page(quiet: Page, empty: Site) -> None:
    run = ran(empty.ws, branching)
    quiet.goto(f"{empty.url}/pipelines/runs/{run}")
    quiet.get_by_role("button", name="Reproduce").click()
    quiet.get_by_label("Reason").fill("an auditor asked")
    quiet.locator("#confirm [data-do]").click()
    section = quiet.get_by_role("region", name="Measured")
    expect(section).to_contain_text("waits for a worker")
    background.run_jobs(empty.ws)
    expect(section).to_contain_text("identical: The rerun gave the same bits in all", timeout=15_000)
    section.get_by_role("link").first.click()
    expect(quiet.locator(".note")).to_contain_text("again, beside the cache")


def test_a_run_is_paused_from_its_page(quiet: Page, empty: Site, tmp_path: Path) -> None:
    with going_on(empty.ws, tmp_path / "go") as run:
        quiet.goto(f"{empty.url}/pipelines/runs/{run}")
        quiet.get_by_role("button", name="Pause").click()
        expect(quiet.get_by_label("Reason")).to_be_hidden()
        quiet.locator("#confirm [data-do]").click()
        expect(quiet.locator("h1")).to_contain_text("pausing")
        expect(quiet.locator(".note")).to_contain_text("begins no further step")
        assert pipelines.pipeline_run(empty.ws, run).state == "pausing"


def test_a_run_whose_process_died_is_resumed_from_its_page(quiet: Page, empty: Site) -> None:
    run = ran(empty.ws, branching)
    left(empty.ws, run)
    quiet.goto(f"{empty.url}/pipelines/runs/{run}")
    expect(quiet.locator(".note")).to_contain_text("Nobody runs it any more")
    assert quiet.get_by_role("button", name="Pause").count() == 0
    quiet.get_by_role("button", name="Resume").click()
    quiet.locator("#confirm [data-do]").click()
    expect(quiet.locator(".note")).to_contain_text("tester asked to go on with it; it waits for a worker")
    assert quiet.get_by_role("button", name="Resume").count() == 0
    assert [one.payload["run"] for one in jobs.jobs_of(empty.ws, kind=loop.GO_ON)] == [run]


def test_a_run_is_forked_from_a_step_with_another_parameter(quiet: Page, empty: Site, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    run = run_pipeline(
        empty.ws, waiting, params={"path": str(tmp_path / "go")}, reason="a test", executor=Inline()
    ).id
    quiet.goto(f"{empty.url}/pipelines/runs/{run}?step=wait_for")
    quiet.get_by_role("button", name="Fork from wait_for").click()
    quiet.get_by_label("Reason").fill("to wait for another")
    quiet.get_by_label("Changed parameters").fill("path")
    quiet.locator("#confirm [data-do]").click()
    expect(quiet.locator("#confirm [data-problem]")).to_contain_text("write NAME=VALUE")
    quiet.get_by_label("Changed parameters").fill(f"path={tmp_path}\n")
    quiet.locator("#confirm [data-do]").click()
    expect(quiet.get_by_role("region", name="Measured")).to_contain_text(
        re.compile(r"waits for a worker from wait_for, path = .*: to wait for another")
    )
    (job,) = jobs.jobs_of(empty.ws, kind=loop.FORK)
    assert (job.payload["start"], job.payload["params"]) == ("wait_for", {"path": str(tmp_path)})


def test_the_best_trial_of_a_search_leads_to_its_run_and_back(
    quiet: Page, empty: Site, tmp_path: Path
) -> None:
    plan = Plan(
        space={"x": choice(1.0, 3.5), "y": choice(2, 13)},
        by="score",
        method="grid",
        params={"log": str(tmp_path / "log")},
    )
    searches.run_search(empty.ws, loaded(tmp_path).pipelines["tune"], plan, name="tuned")
    quiet.goto(f"{empty.url}/pipelines")
    quiet.get_by_role("link", name="Searches").click()
    quiet.get_by_role("link", name="tuned").click()
    expect(quiet.locator(".outcome")).to_contain_text("-0.25 with x = 3.5, y = 2")
    expect(quiet.locator(".trial-list tbody tr")).to_have_count(4)
    expect(quiet.locator(".trial-list tbody tr").first).to_contain_text("-0.25")
    expect(quiet.locator(".trial-list tbody tr").last).to_contain_text("13 does not work")
    assert quiet.locator("figure.trials").count() == 3
    quiet.locator(".outcome a").click()
    expect(quiet.locator("h1")).to_contain_text("Run of tune")
    quiet.get_by_role("link", name="tuned").click()
    expect(quiet.locator("h1")).to_contain_text("Search tuned")


def test_a_trigger_is_paused_from_its_page_and_the_calendar_says_so(
    quiet: Page, empty: Site, tmp_path: Path
) -> None:
    applied(
        empty.ws,
        tmp_path,
        "el.trigger(send, when=el.finished(report))\nel.trigger(report, name='nightly', cron='0 3 * * *')",
    )
    ended(empty.ws, "report")
    look(empty.ws)
    later(empty.ws, minutes=2)
    quiet.goto(f"{empty.url}/triggers")
    expect(quiet.locator("#trigger-send")).to_contain_text("0 runs of report ended done")
    expect(quiet.locator(".firings")).to_contain_text("1 run of report ended done")
    quiet.locator("#trigger-nightly").get_by_role("button", name="Pause").click()
    quiet.get_by_label("Reason").fill("the source is down")
    quiet.locator("#confirm [data-do]").click()
    expect(quiet.locator("#trigger-nightly")).to_contain_text("paused by tester: the source is down")
    quiet.get_by_role("link", name="Calendar").click()
    waits = quiet.get_by_role("region", name="Waiting for events")
    expect(waits).to_contain_text("paused by tester: the source is down")
    expect(quiet.get_by_role("region", name="Schedules")).to_contain_text("the source is down")
    quiet.goto(f"{empty.url}/triggers")
    quiet.locator("#trigger-nightly").get_by_role("button", name="Resume").click()
    quiet.locator("#confirm [data-do]").click()
    expect(quiet.locator("#trigger-nightly")).to_contain_text("armed")
    assert all(one.paused_at is None for one in triggers.standings(empty.ws))


def test_an_owner_reads_why_a_gate_failed_and_waives_it(quiet: Page, empty: Site) -> None:
    report = leaking(empty)
    quiet.goto(f"{empty.url}/gates/{report.id}")
    expect(quiet.locator(".outcome")).to_contain_text("leakage blocks it")
    section = quiet.get_by_role("region", name=re.compile("^leakage"))
    expect(section).to_contain_text("What to do")
    assert section.locator("table.picture svg.mark :is(.value, .dot-mark)").count() >= 1
    section.get_by_role("button", name="Waive for 7 days").click()
    expect(quiet.get_by_role("dialog")).to_contain_text("The check has failed")
    quiet.get_by_label("Reason").fill("known and accepted for a week")
    quiet.locator("#confirm [data-do]").click()
    expect(quiet.locator(".outcome")).to_contain_text("leakage failed and is waived")
    expect(quiet.get_by_text("known and accepted for a week")).to_be_visible()
    assert checks.standing(empty.ws, report.id).is_clear


def leaking(site: Site) -> GateReport:
    return check(site.ws, register(site.ws, name="elsewhere"), leaks=True)


def test_two_runs_are_chosen_and_compared(quiet: Page, story: Site) -> None:
    quiet.goto(f"{story.url}/compare")
    newest = pipelines.run_lines(story.ws, limit=3)
    quiet.get_by_label("Before").select_option(newest[2].id)
    quiet.get_by_label("After").select_option(newest[0].id)
    quiet.get_by_role("button", name="Compare").click()
    expect(quiet.get_by_role("region", name="Measured")).to_contain_text("macro f1")
    expect(quiet.get_by_role("region", name="Answers that changed")).to_contain_text("rows that both tested")
    expect(quiet.locator(".outcome")).to_contain_text("They differ in labels. The same in both: code, data")


def test_a_version_is_compared_with_the_one_that_is_live(quiet: Page, story: Site) -> None:
    quiet.goto(f"{story.url}/models/kind/3")
    quiet.get_by_role("link", name="compare with kind@1, which is live").click()
    expect(quiet.locator("h1")).to_have_text("Compare runs")
    expect(quiet.locator(".beside li")).to_contain_text(["kind@1", "kind@3"])


def test_the_calendar_shows_what_fired_and_what_will(quiet: Page, story: Site) -> None:
    ws = story.ws
    ws.write(
        lambda tx: jobs.schedule(
            ws,
            tx,
            "train kind",
            cron="30 3 20 * *",
            kind="train",
            payload={"model": "kind"},
            time_zone="Europe/Vienna",
        )
    )
    quiet.goto(f"{story.url}/calendar")
    expect(quiet.locator("h1")).to_have_text("September 2026")
    expect(quiet.locator("td", has_text="train kind done")).to_have_count(1)
    expect(quiet.locator("td.today .date")).to_have_text(re.compile("16"))
    expect(quiet.locator("td", has_text=re.compile(r"01:30\s+train kind\s+next"))).to_contain_text("20")
    expect(quiet.get_by_role("region", name="Schedules")).to_contain_text("Sun 20 Sep 03:30 CEST")
    armed = quiet.get_by_role("region", name="Waiting for events")
    expect(armed).to_contain_text(re.compile(r"\d+ answers of kind contradicted \(needs 8\)"))
    expect(armed).to_contain_text("cooling down until 19 Sep")
    quiet.get_by_label("Time zone").select_option("Europe/Vienna")
    quiet.locator(".zone button").click()
    expect(quiet.locator("td", has_text=re.compile(r"03:30\s+train kind"))).to_have_count(1)
    quiet.get_by_role("link", name="The next month").click()
    expect(quiet.locator("h1")).to_have_text("October 2026")


@pytest.mark.parametrize("width", [360, 375])
def test_a_phone_never_scrolls_sideways(page: Page, empty: Site, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 780})
    run, failed, large = (ran(empty.ws, one) for one in (branching, failing, wide))
    report = leaking(empty)
    for path in (
        "/pipelines",
        "/pipelines/runs",
        f"/pipelines/runs/{run}?step=fit",
        f"/pipelines/runs/{failed}?step=square",
        f"/pipelines/runs/{large}?open=all",
        f"/compare?runs={run},{failed}",
        "/compare",
        "/calendar",
        "/calendar?span=week",
        "/searches",
        "/triggers",
        f"/gates/{report.id}",
        f"/models/{report.model_version.replace('@', '/')}",
    ):
        page.goto(f"{empty.url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
