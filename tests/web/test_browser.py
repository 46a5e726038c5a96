"""Pages in a real browser: each person does what they came for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from everloop import access, feedback, ledger, monitoring, registry, rollout
from everloop.clock import SimulatedClock, to_micros
from everloop.ids import new_prediction_id
from everloop.predictions import PredictionRecord
from tests.web.conftest import Site, serve
from tests.web.story import Shop

pytestmark = pytest.mark.browser

NASTY = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
STAGES = ["Data", "Labels", "Training", "Gates", "Rollout", "Serving", "Monitoring", "Feedback"]


@pytest.fixture
def quiet(page: Page) -> Iterator[Page]:
    """A page on which no script may fail."""
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    assert failures == []


def test_the_loop_is_seen_at_a_glance(quiet: Page, shop: Shop, story: Site) -> None:
    quiet.goto(story.url)
    for name in STAGES:
        stage = quiet.locator(f"[data-stage={name}]")
        expect(stage.locator(".state")).not_to_be_empty()
        expect(stage.locator(".next")).to_contain_text("Next")
    assert quiet.locator("[data-stage=Gates] .state").inner_text() == "waits for approval"
    assert quiet.locator("[data-stage=Rollout] .state").inner_text() == "canary 10 %"
    assert quiet.locator("[data-stage=Serving] .state").inner_text() == "live"
    needs = quiet.get_by_role("region", name="Needs you")
    for what in ("May kind@3 go live?", "kind: accuracy", "wait", "kind@2 is on hold at 10 % of kind"):
        expect(needs).to_contain_text(what)


def test_an_owner_approves_a_version_from_the_inbox(quiet: Page, story: Site) -> None:
    with serve(story.ws.acting_as("alice")) as site:
        approve_from_inbox(quiet, site)
    assert registry.decisions(story.ws, "kind@3")[0].reason == "better on lamps"


def approve_from_inbox(quiet: Page, site: Site) -> None:
    quiet.goto(site.url)
    quiet.get_by_role("link", name="Decide: May kind@3 go live?").click()
    expect(quiet.locator("h1")).to_contain_text("waits for approval")
    expect(quiet.get_by_role("listitem").filter(has_text="macro_f1:at_least")).to_contain_text("passed")
    quiet.get_by_role("button", name="Approve").click()
    dialog = quiet.get_by_role("dialog")
    expect(dialog).to_contain_text("10 % of kind's traffic will go to it")
    dialog.get_by_role("button", name="Approve").click()
    expect(dialog).to_be_visible()  # a reason is asked for
    dialog.get_by_label("Reason").fill("better on lamps")
    dialog.get_by_role("button", name="Approve").click()
    expect(quiet.get_by_role("region", name="What people said")).to_contain_text("alice: better on lamps")


def test_an_act_that_is_refused_says_why_and_changes_nothing(quiet: Page, story: Site) -> None:
    (running,) = rollout.rollouts(story.ws, states=("running",))
    quiet.goto(f"{story.url}/endpoints/kind")
    rollout.pause(story.ws, running.id, reason="somebody was quicker")
    quiet.get_by_role("button", name="Pause").click()
    quiet.get_by_label("Reason").fill("me too")
    quiet.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(quiet.get_by_role("alert")).to_contain_text("is paused; only one that is running can be paused")


def test_the_one_on_call_pauses_and_rolls_back(quiet: Page, story: Site) -> None:
    quiet.goto(f"{story.url}/endpoints/kind")
    quiet.get_by_role("button", name="Pause").click()
    expect(quiet.get_by_role("dialog")).to_contain_text("keeps its 10 % of the traffic")
    quiet.get_by_label("Reason").fill("the shop called")
    quiet.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(quiet.get_by_role("button", name="Resume")).to_be_visible()
    quiet.get_by_role("button", name="Roll back").click()
    expect(quiet.get_by_role("dialog")).to_contain_text("traffic goes back to kind@1")
    quiet.get_by_label("Reason").fill("wrong on lamps")
    quiet.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(quiet.get_by_text("tester decided: wrong on lamps").first).to_be_visible()
    assert [one.version for one in rollout.live(story.ws, "kind")] == ["kind@1"]
    assert ledger.entries(story.ws, limit=1)[0].act == "rollout.rolled_back"


def test_the_judges_numbers_stand_beside_their_bounds(quiet: Page, story: Site) -> None:
    (running,) = rollout.rollouts(story.ws, states=("running",))
    quiet.goto(f"{story.url}/rollouts/{running.id}")
    errors = quiet.get_by_role("row", name=re.compile("^errors"))
    expect(errors).to_contain_text("rolls back at 60")
    expect(errors).to_contain_text("goes on under 2")
    looks = [one for one in rollout.history(story.ws, rollout=running.id) if one.act == "look"]
    assert quiet.locator(".log .state", has_text="look").count() == len(looks) > 0


def test_everything_is_drawn_on_one_time_axis_with_what_happened(quiet: Page, story: Site) -> None:
    quiet.goto(f"{story.url}/endpoints/kind")
    plot = quiet.locator("[data-timeline].js-plotly-plot")
    expect(plot).to_be_visible(timeout=20_000)
    drawn = plot.evaluate(
        "plot => ({axes: new Set(plot.data.map(one => one.xaxis ?? 'x')).size, rows: new Set(plot.data.map(one => one.yaxis)).size,"
        " names: plot.data.map(one => one.name), marks: plot.data.at(-1).text, lines: plot.layout.shapes.length})"
    )
    assert drawn["axes"] == 1
    assert drawn["rows"] == 6
    assert {"kind@1", "kind@2", "answer"} <= set(drawn["names"])
    kinds = {re.findall("<b>(.*?)</b>", mark)[0] for mark in drawn["marks"]}
    assert {"accuracy", "input drift", "retrain", "rollout first", "rollout started"} <= kinds
    assert drawn["lines"] >= len(drawn["marks"])
    box = plot.evaluate(
        "plot => { const at = [...plot.querySelectorAll('.xy6 .point')].at(-1).getBoundingClientRect();"
        " return {x: at.x + at.width / 2, y: at.y + at.height / 2} }"
    )
    quiet.mouse.move(box["x"], box["y"])
    quiet.mouse.click(box["x"], box["y"])
    quiet.wait_for_url(re.compile("#re_"))


def test_a_version_is_judged_by_numbers_with_their_intervals(quiet: Page, story: Site) -> None:
    quiet.goto(f"{story.url}/endpoints/kind")
    row = quiet.get_by_role("region", name="Versions").get_by_role("row", name=re.compile("kind@1"))
    (newest,) = [
        one
        for one in monitoring.measures(story.ws, "kind", names=("accuracy",))[-20:]
        if one.variant == "kind@1"
    ][-1:]
    assert newest.value is not None
    expect(row).to_contain_text(f"{100 * newest.value:.1f} %")
    expect(row).to_contain_text(f"{newest.n} audited")


def test_an_auditor_pastes_an_id_and_reads_back_to_the_people(quiet: Page, story: Site) -> None:
    (correction, *_) = feedback.corrections(story.ws, "kind", limit=1)
    quiet.goto(f"{story.url}/trace")
    quiet.get_by_label("A prediction (pred_").fill(correction.prediction_id)
    quiet.keyboard.press("Enter")
    expect(quiet.locator("h1")).to_contain_text("Where prediction")
    titles = quiet.locator(".link h2").all_inner_texts()
    assert titles[:4] == ["Prediction", "Correction", "What was live", "Model version"]
    assert {"Gates", "Approval", "Run", "Code", "Environment", "Data", "Labels", "Label of this row"} <= set(
        titles
    )
    expect(quiet.locator(".sub")).to_contain_text("none missing")
    expect(quiet.locator(".sub")).to_contain_text("catalogue")
    quiet.locator(".label-of-this-row").first.get_by_role("link").click()
    expect(quiet.locator("h1")).to_contain_text("Row")
    expect(quiet.get_by_text("moderator").first).to_be_visible()


def test_a_reviewer_settles_items_by_key(quiet: Page, shop: Shop, story: Site) -> None:
    shop.day()
    waiting = feedback.open_reviews(story.ws)["kind"]
    quiet.goto(f"{story.url}/review")
    (first,) = feedback.review_queue(story.ws, limit=1)
    quiet.keyboard.press("2")
    expect(quiet.locator(f"[data-review='/api/review/{first.id}']")).to_have_count(0)
    assert feedback.review_item(story.ws, first.id).value == "Bikes"
    assert feedback.open_reviews(story.ws).get("kind", 0) == waiting - 1


def test_the_audit_chain_is_verified_and_a_change_is_shown(quiet: Page, story: Site) -> None:
    quiet.goto(f"{story.url}/audit")
    quiet.get_by_role("button", name="Verify the chain").click()
    expect(quiet.locator("[data-verdict]")).to_contain_text("Intact")
    change = sa.text("UPDATE audit SET actor = 'mallory' WHERE seq = 3")
    story.ws.write(lambda tx: tx.execute(change))
    quiet.get_by_role("button", name="Verify the chain").click()
    expect(quiet.locator("[data-verdict]")).to_contain_text("entry 3 was changed")


def test_a_page_follows_what_happens_and_says_when_it_cannot(quiet: Page, story: Site) -> None:
    quiet.goto(story.url)
    expect(quiet.locator("[data-age]")).to_have_text(re.compile(r"\d s ago"))
    quiet.evaluate("window.was = true")
    (running,) = rollout.rollouts(story.ws, states=("running",))
    rollout.roll_back(story.ws, running.id, reason="seen elsewhere")
    expect(quiet.locator("[data-stage=Rollout] .state")).to_have_text("rolled back", timeout=15_000)
    assert quiet.evaluate("window.was"), "without loading the page again"
    quiet.context.set_offline(True)
    expect(quiet.locator("[data-lost]")).to_contain_text("Connection lost", timeout=15_000)
    quiet.context.set_offline(False)
    expect(quiet.locator("[data-lost]")).to_be_empty(timeout=15_000)


def test_the_keyboard_searches_goes_and_helps(quiet: Page, story: Site) -> None:
    quiet.goto(story.url)
    quiet.keyboard.press("?")
    expect(quiet.get_by_role("dialog", name="Keyboard")).to_be_visible()
    quiet.keyboard.press("Escape")
    quiet.keyboard.press("g")
    quiet.keyboard.press("a")
    quiet.wait_for_url("**/audit")
    quiet.keyboard.press("/")
    quiet.keyboard.type("kind@2 g a ?")
    quiet.keyboard.press("Escape")
    expect(quiet.get_by_role("dialog")).to_have_count(0)
    quiet.keyboard.press("/")
    quiet.keyboard.press("Control+a")
    quiet.keyboard.type("kind@2")
    quiet.keyboard.press("Enter")
    quiet.wait_for_url("**/models/kind/2")


def test_the_theme_that_was_chosen_stays(quiet: Page, story: Site) -> None:
    quiet.emulate_media(color_scheme="light")
    quiet.goto(story.url)
    before = quiet.evaluate("getComputedStyle(document.body).backgroundColor")
    quiet.get_by_role("button", name="Change to dark colours").click()
    dark = quiet.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != before
    quiet.goto(f"{story.url}/audit")
    assert quiet.evaluate("getComputedStyle(document.body).backgroundColor") == dark


@pytest.mark.parametrize("width", [360, 640])
def test_a_phone_never_scrolls_sideways(page: Page, story: Site, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 780})
    (correction, *_) = feedback.corrections(story.ws, "kind", limit=1)
    (running,) = rollout.rollouts(story.ws, states=("running",))
    paths = [
        "/",
        "/endpoints/kind",
        f"/rollouts/{running.id}",
        "/endpoints/kind/predictions",
        "/endpoints/kind/try",
        "/endpoints/kind/plan?version=kind@3",
        "/trace",
        f"/trace/{correction.prediction_id}",
    ]
    for path in [*paths, "/models/kind/3", "/review", "/audit", "/rows/goods:7", "/search?q=x", "/nothing"]:
        page.goto(f"{story.url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_what_strangers_wrote_is_shown_as_text_everywhere(quiet: Page, shop: Shop, story: Site) -> None:
    ws = story.ws
    variant = rollout.live(ws, "kind")[0]
    made = PredictionRecord(
        id=new_prediction_id(shop.log.writer),
        endpoint="kind",
        variant=variant.name,
        release=variant.release,
        model="kind",
        version=1,
        epoch=1,
        at=to_micros(ws.now()),
        key="7",
        inputs={"title": NASTY, "seller": 3},
        features={},
        output="Tea",
        scores={"Tea": 1.0},
        status="failed",
        error=NASTY,
        latency_us=100,
    )
    shop.log.write([made])
    answered = (
        next(one for one in shop.truth) if shop.truth else feedback.corrections(ws, "kind")[0].prediction_id
    )
    feedback.correct(ws, endpoint="kind", value="Lamps", reporter=NASTY, prediction_id=answered)
    registry.reject(ws.acting_as(NASTY[:60]), "kind@3", reason=NASTY)
    (running,) = rollout.rollouts(ws, states=("running",))
    rollout.pause(ws, running.id, reason=NASTY)
    paths = ["/", "/endpoints/kind", f"/rollouts/{running.id}", f"/trace/{made.id}", f"/trace/{answered}"]
    paths += ["/endpoints/kind/predictions", f"/endpoints/kind/try?like={made.id}"]
    for path in [*paths, "/models/kind/3", "/review", "/audit", f"/search?q={NASTY}", f"/trace/{NASTY}"]:
        quiet.goto(f"{story.url}{path}")
        if path == "/endpoints/kind":
            expect(quiet.locator(".js-plotly-plot")).to_be_visible(timeout=20_000)
        assert quiet.locator("main img, main script").count() == 0, path
        assert "owned" not in quiet.title(), path
    quiet.goto(f"{story.url}/trace/{made.id}")
    expect(quiet.locator(".prediction")).to_contain_text(NASTY)


def test_somebody_signs_in_acts_and_signs_out(quiet: Page, closed: Site) -> None:
    access.add_account(closed.ws, "alice", role="viewer")
    _, secret = access.create_token(closed.ws, "alice")
    quiet.goto(f"{closed.url}/audit")
    quiet.get_by_label("Token").fill("wrong")
    quiet.get_by_role("button", name="Sign in").click()
    expect(quiet.get_by_role("alert")).to_contain_text("unknown, revoked")
    quiet.get_by_label("Token").fill(secret)
    quiet.keyboard.press("Enter")
    quiet.wait_for_url("**/audit")
    expect(quiet.locator(".who")).to_contain_text("alice")
    assert quiet.evaluate("document.cookie") == ""
    quiet.get_by_role("button", name="Sign out").click()
    quiet.wait_for_url("**/sign-in")


def test_who_may_only_look_is_offered_nothing_to_press(page: Page, story: Site) -> None:
    """Also: the story's clock may go on while somebody looks."""
    assert isinstance(story.ws.clock, SimulatedClock)
    story.ws.clock.advance(timedelta(minutes=5))
    page.goto(f"{story.url}/models/kind/1")
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)  # released long ago
