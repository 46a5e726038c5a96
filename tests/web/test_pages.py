"""What holds for every page: who may see it, what a browser is told, where its links lead."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import quote, urljoin

import httpx
import msgspec
import pytest

from everloop import access, background, checks, events, jobs, registry, rollout
from everloop.cli.entry import main
from everloop.clock import wall
from everloop.ledger import Node
from everloop.predictions import LogWriter
from everloop.serving import Worker
from everloop.serving.files import write_worker
from everloop.storage import Tx
from everloop.web import Page, all_pages
from everloop.web.words import place_of
from tests.servers import tls
from tests.web.conftest import Site
from tests.web.story import Shop

PLACES = [
    "/",
    "/endpoints",
    "/predictions",
    "/predictions?status=failed&slower_than_ms=often",
    "/experiments",
    "/experiments/0",
    "/models",
    "/pipelines",
    "/pipelines/runs",
    "/compare",
    "/calendar",
    "/trace",
    "/review",
    "/audit",
    "/search",
    "/search?q=zebra",
    "/nothing-here",
]
TOLD_PLACES = [
    *(path for path in PLACES if path != "/endpoints"),  # leads on to the only one
    "/endpoints/kind",
    "/endpoints/kind?span=24h",
    "/endpoints/kind?span=1y",
    "/endpoints/kind/predictions",
    "/endpoints/kind/predictions?said=contradicted",
    "/endpoints/kind/try",
    "/endpoints/kind/plan?version=kind@3",
    "/endpoints/kind/split",
    "/models/kind",
    "/models/kind/1",
    "/models/kind/3",
    "/pipelines/runs?state=done&order=longest",
    "/compare?runs=kind@1,kind@2,kind@3",
    "/calendar?span=week&zone=Europe/Vienna",
    "/trace/kind@1",
    "/trace/goods@1",
    "/rows/goods:7",
]


class Seen(HTMLParser):
    """The tags and links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @property
    def links(self) -> set[str]:
        found = {given.get("href") or "" for tag, given in self.tags if tag == "a"}
        return {link.partition("#")[0] for link in found if not link.startswith("#")} - {""}

    @property
    def ids(self) -> list[str]:
        return [given["id"] or "" for _, given in self.tags if "id" in given]


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: page.path)
def test_every_page_names_a_permission(page: Page) -> None:
    assert page.permission is not None


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: page.path)
def test_every_page_sends_an_unknown_person_to_sign_in(closed: Site, page: Page) -> None:
    path = re.sub(r"{.*?}", "7", page.path)
    answer = closed.get(f"{path}?q=x")
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        f"/sign-in?next={path.replace('/', '%2F')}%3Fq%3Dx",
    )
    assert closed.get(f"{path}?as=json").status_code == 401


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: page.path)
def test_every_page_is_refused_to_a_role_without_its_permission(closed: Site, page: Page) -> None:
    access.add_account(closed.ws, "shop", role="client")
    _, secret = access.create_token(closed.ws, "shop")
    answer = closed.get(re.sub(r"{.*?}", "7", page.path), Authorization=f"Bearer {secret}")
    assert answer.status_code == 403
    assert "may not see" in answer.text


@pytest.mark.parametrize("path", PLACES)
def test_a_page_of_an_empty_workspace_teaches(empty: Site, path: str) -> None:
    answer = empty.get(path)
    assert answer.status_code == (404 if path == "/nothing-here" else 200)
    assert 'class="empty"' in answer.text or path in ("/audit", "/nothing-here") or "often" in path
    check_page(answer)


def test_pages_with_history_keep_the_policy_and_their_links_resolve(story: Site) -> None:
    """Each page that can be reached from the loop and the places a person types, two clicks deep."""
    known: dict[str, httpx.Response] = {}
    alike: Counter[str] = Counter()  # the hundredth prediction is shown as the tenth is
    waiting = [(path, 0) for path in TOLD_PLACES]
    while waiting:
        path, depth = waiting.pop(0)
        shape = re.sub(r"[0-9a-f]{32}|\d+", "", path)
        alike[shape] += 1
        if path in known or alike[shape] > 5 or "prospects=" in path:  # which says that it takes seconds
            continue
        answer = known[path] = story.get(path)
        assert answer.status_code in (200, 303) or path == "/nothing-here", path
        if "text/html" not in answer.headers.get("content-type", "") or depth > 1:
            continue
        check_page(answer)
        waiting += [(urljoin(path, link), depth + 1) for link in Seen(answer.text).links]
    reached = {re.sub(r"(?<=/)(pred_|run_|ro_|gr_)\w+", r"\1", path) for path in known}
    assert {
        "/pipelines/runs/run_",
        "/gates/gr_",
        "/rollouts/ro_",
        "/trace/run_",
        "/models/kind/2",
        "/trace/kind@3",
    } <= reached


def test_the_last_week_leads_to_the_hours_in_which_something_failed(story: Site) -> None:
    page = story.get("/endpoints/kind/predictions?status=failed").text
    bars = re.findall(r'<a href="([^"]+)" aria-label="(\d+) from', page)
    assert sum(int(n) for _, n in bars) > 0
    for link, n in bars:
        if int(n):
            there = story.get("/endpoints/kind/predictions" + link.replace("&amp;", "&")).text
            assert len(re.findall('<th scope="row"><a href="/trace/pred_', there)) == int(n)


def check_page(answer: httpx.Response) -> None:
    """What a strict policy asks of a page, and the policy itself."""
    assert answer.status_code != 500, answer.url
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    seen = Seen(answer.text)
    for tag, given in seen.tags:
        assert tag != "style", "a style sheet inside a page"
        assert tag != "script" or "src" in given, "a script inside a page"
        assert not [name for name in given if name == "style" or name.startswith("on")], (tag, given)
    assert len(seen.ids) == len(set(seen.ids)), "an id stands twice"


@pytest.mark.parametrize(
    "path", ["/", "/endpoints/kind", "/models/kind/2", "/trace/kind@1", "/rows/goods:7", "/audit"]
)
def test_a_page_is_json_at_its_own_address(story: Site, path: str) -> None:
    answer = story.get(f"{path}?as=json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()


def test_a_simulation_says_so_on_every_page(story: Site) -> None:
    for path in TOLD_PLACES:
        assert "what happens was made up or is replayed from the past" in story.get(path).text, path


def test_an_unknown_thing_is_a_page_with_what_to_do(story: Site) -> None:
    answer = story.get("/endpoints/nothing")
    assert answer.status_code == 404
    assert "Declare it in the loop file" in answer.text


def test_an_unknown_route_is_json_for_a_program(empty: Site) -> None:
    for path in ("/api/nothing", "/nothing"):
        answer = httpx.get(f"{empty.url}{path}", trust_env=False, verify=tls())
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_fault_is_a_page_that_says_what_is_safe(empty: Site) -> None:
    def spoil(tx: Tx) -> None:
        events.emit(empty.ws, tx, "x.y", Node("row", "1"), message="m", level="loud")  # type: ignore[arg-type]  # as a later version may write

    empty.ws.write(spoil)
    answer = empty.get("/")
    assert answer.status_code == 500
    assert "Nothing was half-written" in answer.text


def test_static_files_are_ours_alone_and_packed(empty: Site) -> None:
    address = re.search(r'href="(/static/[^"]+css)"', empty.get("/").text)
    assert address
    answer = empty.get(address[1])
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    assert ":root" in answer.text
    for name in ("../pages.py", "%2e%2e%2fpages.py", "pages.py", "..%5Cpages.py", "nothing.css"):
        assert empty.get(f"/static/1/{name}").status_code == 404


def test_plotly_is_loaded_where_something_is_plotted_and_nowhere_else(story: Site) -> None:
    has_plotly = {path for path in TOLD_PLACES if "plotly.min.js" in story.get(path).text}
    assert has_plotly == {path for path in TOLD_PLACES if path.partition("?")[0] == "/endpoints/kind"}


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ("kind", "/endpoints/kind"),
        ("kind@2", "/models/kind/2"),
        ("goods@1", "/trace/goods@1"),
        ("goods:7", "/rows/goods:7"),
        (" pred_019ab3d27c3a7000a1b2c3d4e5f60718 ", "/trace/pred_019ab3d27c3a7000a1b2c3d4e5f60718"),
    ],
)
def test_what_is_pasted_leads_to_its_page(story: Site, wanted: str, place: str) -> None:
    answer = httpx.get(f"{story.url}/search", params={"q": wanted}, trust_env=False)
    assert (answer.status_code, answer.headers["location"]) == (303, place)


def test_part_of_a_name_lists_what_is_near(story: Site) -> None:
    text = story.get("/search?q=goo").text
    assert 'href="/trace/goods@1"' in text
    assert 'href="/pipelines/train"' in story.get("/search?q=trai").text
    assert story.get("/pipelines/train").headers["location"] == "/pipelines/runs?pipeline=train"


def test_a_review_shows_neither_the_answer_nor_what_a_reporter_said(story: Site) -> None:
    shown = story.get("/review?as=json").json()
    assert not {"answer", "suggested", "value"} & set(shown["item"])
    assert shown["inputs"]
    assert shown["classes"] == ["Tea", "Bikes", "Lamps"]


def test_an_open_rollout_may_be_acted_on_only_by_who_may_release(story: Site) -> None:
    (running,) = rollout.rollouts(story.ws, states=("running",))
    path = place_of(running.id)
    assert path
    assert "Roll back" in story.get(path).text


def test_what_is_stuck_needs_a_person(story: Site, shop: Shop) -> None:
    ws = story.ws
    (running,) = rollout.rollouts(ws, states=("running",))
    rollout.roll_back(ws, running.id, reason="wrong on lamps")
    ws.write(lambda tx: jobs.put(ws, tx, "train", {"model": "nothing"}, reason="a test", max_attempts=1))
    background.run_jobs(ws)
    stricter = (*registry.model(ws, "kind").gates, checks.gate("macro_f1", at_least=0.999))
    registry.define(ws, "kind", gates=stricter)
    needs = {one["kind"]: one for one in story.get("/?as=json").json()["needs"]}
    assert {"training", "blocked", "rolled back", "finding"} <= set(needs)
    assert "wrong on lamps" in needs["rolled back"]["why"]
    assert "must have been run" in needs["blocked"]["why"]
    for one in needs.values():
        assert story.get(one["link"].partition("#")[0]).status_code == 200, one


def test_a_rejected_version_needs_nobody(story: Site) -> None:
    registry.reject(story.ws, "kind@3", reason="not now")
    assert not {"approval", "blocked"} & {one["kind"] for one in story.get("/?as=json").json()["needs"]}


def test_versions_stand_with_their_state(story: Site) -> None:
    lines = story.get("/models/kind?as=json").json()["versions"]
    assert [(one["version"]["number"], one["state"], one["gates"]["word"]) for one in lines] == [
        (3, "waits for approval", "passed"),
        (2, "live on kind", "passed"),
        (1, "live on kind", "passed"),
    ]
    assert story.get("/models/nothing").status_code == 404


def test_the_only_endpoint_is_shown_at_once(story: Site) -> None:
    assert story.get("/endpoints").headers["location"] == "/endpoints/kind"


def test_an_endpoints_page_and_the_command_say_what_answers_and_why(
    story: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    live, *_ = rollout.endpoint(story.ws, "kind").variants
    reason = "original: the plan differs from the model in row 12, by 3e-08"
    log = LogWriter.claim(story.ws.home / "serving")
    worker = Worker(log.writer, 1, 1, wall(), wall(), "localhost", 1, paths={live.release: reason})
    write_worker(story.ws.home / "serving", msgspec.structs.replace(worker, log_error="the disk is full"))
    assert reason in story.get("/endpoints/kind").text
    main(["endpoints", "workers", "--home", str(story.ws.home)])
    said = capsys.readouterr().out
    assert f"{live.version} {reason}" in said
    assert "the disk is full" in said
    log.close()


def test_scripts_in_what_an_mlflow_client_stored_are_shown_and_not_run(empty: Site) -> None:
    script = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    name = script.replace("/", "")
    registry.create(empty.ws, name, description=script, tags={script: script})
    version = registry.register(
        empty.ws,
        name,
        run=None,
        files={"model": empty.ws.blobs.put(b"1")},
        signature=None,
        metrics={},
        said=registry.Said(source=script, description=script, tags={script: script}),
    )
    registry.approve(empty.ws, version.ref, reason=script)
    for path in (
        "/models",
        f"/models/{quote(name)}",
        f"/models/{quote(name)}/1",
        f"/trace/{quote(version.ref)}",
        "/audit",
    ):
        page = empty.get(path)
        assert page.status_code == 200, path
        tags = Seen(page.text).tags
        assert all(tag != "script" or "src" in given for tag, given in tags), path
        assert not any("onerror" in given for _, given in tags), path
        assert "default-src" in page.headers["content-security-policy"]
