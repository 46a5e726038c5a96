"""The pages about experiments, runs and models in a real browser: a scientist finds which run is better, and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from everloop import access, registry, tracking
from everloop.clock import SimulatedClock
from everloop.tracking import MetricPoint
from everloop.workspace import Workspace
from tests.registry.versions import check, register
from tests.web.conftest import Site

pytestmark = pytest.mark.browser
NASTY = "<script>document.title='owned'</script>"


@pytest.fixture
def quiet(page: Page) -> Iterator[Page]:
    """A page on which no script may fail."""
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    assert failures == []


def measured(ws: Workspace, name: str, steps: int = 3, *, is_done: bool = True, **params: str) -> str:
    begun = tracking.start_run(ws, experiment="sweep", name=name, params=params)
    at = ws.now()
    points = [
        MetricPoint("loss", 1 / (step + 1), step, at + timedelta(seconds=step)) for step in range(steps)
    ]
    tracking.log_points(ws, begun.id, points)
    if is_done:
        tracking.finish_run(ws, begun.id)
    return begun.id


def test_two_runs_are_chosen_from_the_table_and_compared(quiet: Page, empty: Site) -> None:
    for name, depth in (("shallow", "2"), (NASTY, "9"), ("deep", "8")):
        measured(empty.ws, name, depth=depth, model="tree")
    quiet.goto(f"{empty.url}/experiments/1")
    compare = quiet.get_by_role("button", name="Compare the chosen")
    quiet.get_by_label("Choose shallow").check()
    expect(compare).to_be_disabled()
    quiet.get_by_label(f"Choose {NASTY}").check()
    compare.click()
    expect(quiet.locator("h1")).to_have_text("Compare runs")
    row = quiet.get_by_role("region", name="Parameters").locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row.locator("td")).to_have_text(["2", "9"])
    expect(quiet.locator(".beside li")).to_contain_text(["shallow", NASTY])
    expect(quiet.locator(".drawn .scatterlayer .trace")).to_have_count(2, timeout=20_000)
    colours = quiet.locator(".drawn .scatterlayer .js-line").evaluate_all(
        "all => all.map((one) => getComputedStyle(one).stroke)"
    )
    assert len(set(colours)) == 2
    assert "owned" not in quiet.title()


def test_zooming_into_a_long_history_asks_for_its_finer_steps(quiet: Page, empty: Site) -> None:
    run = measured(empty.ws, "long", 5_000)
    quiet.goto(f"{empty.url}/runs/{run}")
    plot = quiet.locator(".drawn .nsewdrag")
    box = plot.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    with quiet.expect_response(lambda one: "metric=loss&over=step&from=" in one.url):
        quiet.mouse.move(x, y)
        quiet.mouse.down()
        quiet.mouse.move(x + box["width"] / 10, y, steps=4)
        quiet.mouse.up()
    until(quiet, lambda: missing_steps(quiet) == 0)
    with quiet.expect_response(lambda one: one.url.endswith("metric=loss&over=step")):
        plot.dblclick()
    until(quiet, lambda: missing_steps(quiet) > 1_000)


def missing_steps(page: Page) -> int:
    """How many steps between the first and the last that are drawn are not."""
    missing: int = page.evaluate(
        "(() => { const { x } = document.querySelector('.js-plotly-plot').data[0];"
        " return x.at(-1) - x[0] + 1 - x.length; })()"
    )
    return missing


def until(page: Page, holds: Callable[[], bool]) -> None:
    """Look again and again: the pages' policy forbids the browser to wait for an expression itself."""
    deadline = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)


def test_a_run_is_pinned_noted_deleted_and_restored_from_its_page(quiet: Page, empty: Site) -> None:
    run = measured(empty.ws, "the one")
    quiet.goto(f"{empty.url}/runs/{run}")

    def do(name: str) -> None:
        quiet.get_by_role("button", name=name, exact=True).click()
        quiet.locator("#confirm [data-do]").click()

    do("Pin")
    expect(quiet.get_by_role("button", name="Unpin")).to_be_visible()
    quiet.get_by_role("button", name="Add a note").click()
    quiet.get_by_role("textbox", name="Note").fill(f"Keep it.\n{NASTY}")
    quiet.locator("#confirm [data-do]").click()
    expect(quiet.locator(".said-note")).to_have_text(f"Keep it.\n{NASTY}")
    quiet.get_by_role("button", name="Change the note").click()
    expect(quiet.get_by_role("textbox", name="Note")).to_have_value(f"Keep it.\n{NASTY}")
    quiet.locator("#confirm [data-cancel]").click()
    quiet.get_by_role("button", name="Tag", exact=True).click()
    quiet.get_by_role("textbox", name="Tags").fill("team=vision\nlr = 1e-3")
    quiet.locator("#confirm [data-do]").click()
    expect(quiet.get_by_role("region", name="Tags").locator("tbody tr")).to_contain_text(["1e-3", "vision"])
    quiet.get_by_role("button", name="Remove").first.click()
    quiet.locator("#confirm [data-do]").click()
    expect(quiet.get_by_role("region", name="Tags").locator("tbody tr")).to_have_count(1)
    do("Delete")
    expect(quiet.locator("main .sub")).to_contain_text("deleted")
    do("Restore")
    expect(quiet.locator("main .sub")).to_contain_text("finished")
    found = tracking.run(empty.ws, run)
    assert found.tags["everloop.pinned"] == "true"
    assert found.deleted_at is None


def test_a_table_of_runs_follows_what_a_run_writes(quiet: Page, empty: Site) -> None:
    run = measured(empty.ws, "going on", is_done=False)
    quiet.goto(f"{empty.url}/experiments/1")
    quiet.evaluate("window.was = true")
    cell = quiet.locator(".found-runs tbody td.n").last
    expect(cell).to_have_text("0.3333")
    tracking.log_points(empty.ws, run, [MetricPoint("loss", 0.125, 9, empty.ws.now())])
    expect(cell).to_have_text("0.125", timeout=15_000)
    tracking.finish_run(empty.ws, run)
    expect(quiet.locator(".found-runs .state")).to_have_text("finished", timeout=15_000)
    assert quiet.evaluate("window.was"), "without loading the page again"


def test_a_run_is_found_by_the_key_of_search(quiet: Page, empty: Site) -> None:
    run = measured(empty.ws, "needle-7")
    quiet.goto(f"{empty.url}/")
    quiet.keyboard.press("/")
    quiet.keyboard.type("needle")
    quiet.keyboard.press("Enter")
    quiet.locator(".tiles").get_by_role("link", name="needle-7").click()
    quiet.wait_for_url(f"**/runs/{run}")


def test_an_owner_reads_which_version_an_alias_had(quiet: Page, empty: Site) -> None:
    assert isinstance(empty.ws.clock, SimulatedClock)
    for number in (1, 2):
        register(empty.ws, f"model {number}".encode())
        registry.alias(empty.ws, "category", "champion", f"category@{number}")
        empty.ws.clock.advance(timedelta(days=2))
    quiet.goto(f"{empty.url}/models")
    quiet.get_by_role("link", name="category", exact=True).click()
    expect(quiet.locator(".lanes a")).to_have_count(2)
    expect(quiet.get_by_role("region", name="What happened").locator("li").first).to_contain_text(
        "category@2"
    )
    quiet.locator(".lanes a").first.click()
    quiet.wait_for_url("**/models/category/1")


@pytest.mark.parametrize("width", [360, 375])
def test_a_phone_never_scrolls_sideways(page: Page, empty: Site, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 780})
    runs = [measured(empty.ws, f"a rather long name of a run that goes on {i}", depth="3") for i in range(2)]
    check(empty.ws, register(empty.ws))
    registry.alias(empty.ws, "category", "champion", "category@1")
    for path in (
        "/experiments",
        "/experiments/0",
        "/experiments/1",
        f"/runs/{runs[0]}",
        f"/compare?runs={','.join(runs)}",
        "/compare",
        "/models",
        "/models/category",
        "/models/category/1",
    ):
        page.goto(f"{empty.url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_links_that_mlflow_clients_print_open_our_pages(quiet: Page, empty: Site) -> None:
    run = measured(empty.ws, "linked")
    other = measured(empty.ws, "other")
    register(empty.ws, b"one")
    hexes = [one.removeprefix("run_") for one in (run, other)]
    leads = {
        f"#/experiments/1/runs/{hexes[0]}": f"/runs/{run}",
        f"#/experiments/1/runs/{hexes[0]}/artifacts": f"/runs/{run}",
        "#/experiments/1": "/experiments/1",
        "#/models/category/versions/1": "/models/category/1",
        "#/models/category": "/models/category",
        f'#/compare-runs?runs=["{hexes[0]}","{hexes[1]}"]&experiments=["1"]': f"/compare?runs={run},{other}",
        "#//elsewhere.example/": "/",
        "#/experiments/1/../../sign-out": "/experiments/1",
        "#/models/..%2F..%2Fx": "/models/..%2F..%2Fx",
    }
    for link, place in leads.items():
        quiet.goto("about:blank")
        quiet.goto(f"{empty.url}/{link}")
        expect(quiet).to_have_url(f"{empty.url}{place}" if place != "/" else f"{empty.url}/{link}")


def test_a_link_of_an_mlflow_client_outlives_the_sign_in(quiet: Page, closed: Site) -> None:
    run = measured(closed.ws, "linked")
    access.add_account(closed.ws, "ann", role="owner")
    token = access.create_token(closed.ws, "ann")[1]
    quiet.goto(f"{closed.url}/#/experiments/1/runs/{run.removeprefix('run_')}")
    quiet.get_by_label("Token").fill(token)
    quiet.get_by_role("button", name="Sign in").click()
    expect(quiet.locator("h1")).to_have_text("linked")
