"""Predictions as they are looked through, tried by hand and compared in a split."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import blake3
import msgspec
import pyarrow as pa
import pytest
from playwright.sync_api import Page, expect

from everloop import data, feedback, predictions, rollout, serving
from everloop.predictions import LogPolicy, LogWriter
from everloop.serving import Field, Signature, write_manifest
from tests.loop.living import Shop
from tests.rollout.test_split import shared
from tests.serving.home import title_model, write_release
from tests.serving.records import record
from tests.serving.server import Server
from tests.web.conftest import Site, serve

ROW = re.compile(r"<tr>\s*<th scope=\"row\"><a href=\"/trace/(pred_\w+)\"")


def rows(site: Site, query: str) -> list[str]:
    return ROW.findall(site.get(f"/endpoints/kind/predictions?{query}").text)


def test_the_list_of_a_sampled_log_says_of_how_much_it_is_a_sample(small: Shop) -> None:
    known = rollout.endpoint(small.ws, "kind")
    small.ws.write(
        lambda tx: rollout.define_endpoint(
            small.ws, tx, "kind", model="kind", canary=known.canary, log=LogPolicy(sample=0.2)
        )
    )
    with serve(small.ws) as site:
        page = site.get("/endpoints/kind/predictions").text
    assert "keeps 20 % of what is answered and 100 % of what fails or is refused" in page


def test_each_filter_narrows_to_what_fits(small: Shop) -> None:
    asked: tuple[dict[str, Any], ...] = (
        {"key": "7", "inputs": {"title": "Brass <b>bulb</b>"}},
        {"status": "failed", "output": None, "scores": {}, "error": "model_failed: x"},
        {"latency_us": 90_000, "output": "Lamps", "scores": {"Lamps": 0.4}},
        {"shadow_of": "pred_1"},
    )
    plain, failed, slow, shadow = (small.ask(1, **given)[0].id for given in asked)
    feedback.correct(small.ws, endpoint="kind", value="Lamps", reporter="moderator", prediction_id=plain)
    with serve(small.ws) as site:
        assert rows(site, "") == [shadow, slow, failed, plain]
        for query, found in (
            ("status=failed", [failed]),
            ("output=Lamps", [slow]),
            ("text=brass+%3CB%3E", [plain]),
            ("key=7", [plain]),
            ("slower_than_ms=50", [slow]),
            ("score_below=0.5", [slow]),
            ("kind=shadow", [shadow]),
            ("said=contradicted", [plain]),
            ("version=kind@2", []),
            ("start=2020-01-01T00:00&end=2020-01-02T00:00", []),
        ):
            assert rows(site, query) == found, query
        page = site.get("/predictions?text=brass").text
        assert "Brass &lt;b&gt;bulb" in page
        assert re.search(r"contradicted</span>\s+Lamps", page)
        assert "a filter cannot be read" in site.get("/predictions?score_below=low").text


def test_pages_lead_back_through_all_of_them(small: Shop) -> None:
    every = [one.id for one in small.ask(120)][::-1]
    found: list[str] = []
    with serve(small.ws) as site:
        query: str | None = ""
        while query is not None:
            page = site.get(f"/endpoints/kind/predictions{query}").text
            found += ROW.findall(page)
            earlier = re.search(r'href="(\?before=[^"]+)">Earlier ones', page)
            query = earlier[1] if earlier else None
    assert found == every


def test_the_list_is_a_file_of_the_same_filters(small: Shop) -> None:
    small.ask(60)
    small.ask(2, status="failed", output=None, scores={}, error="=1+1")
    with serve(small.ws) as site:
        answer = site.get("/endpoints/kind/predictions?status=failed&as=csv")
        assert len(site.get("/predictions?as=csv").text.splitlines()) == 63
    assert answer.headers["content-type"].startswith("text/csv")
    head, *lines = csv.reader(io.StringIO(answer.text))
    assert [dict(zip(head, line, strict=True))["error"] for line in lines] == ["'=1+1"] * 2


def test_a_picture_is_shown_where_a_dataset_keeps_it(empty: Site) -> None:
    ws = empty.ws
    photo = Field("photo", "image")
    (content,) = serving.example_row(Signature((photo,), "number"))
    data.define(ws, "photos", key="id")
    data.ingest(ws, "photos", pa.table({"id": [7], "photo": pa.array([content], pa.binary())}))
    manifest = write_release(ws.home, "rel_1", title_model(), inputs=(photo,))
    write_manifest(
        ws.home / "serving", msgspec.structs.replace(manifest, id="rel_2", data_version="photos@1")
    )
    writer = LogWriter.claim(ws.home / "serving")
    for key, digest in (("7", blake3.blake3(content).hexdigest()), ("8", "0" * 64)):
        writer.write([record(key=key, release="rel_2", inputs={"photo": f"blake3:{digest}"})])
    page = empty.get("/predictions").text
    writer.close()
    assert page.count('<img class="thumb" src="data:image/png;base64,') == 1
    assert "image or bytes 000000000000" in page


@pytest.mark.browser
def test_somebody_looks_corrects_tries_again_and_compares(page: Page, small: Shop) -> None:
    """The whole way on the endpoint of a split: to a failure, to a correction, to the form, to what the arms did."""
    ws = small.ws
    made = shared(small)
    small.ask(80, fails={"kind@2": 0.3})
    server = Server(ws.home)
    try:
        with serve(ws, predictions_url=str(server.client.base_url)) as site:
            page.goto(f"{site.url}/endpoints/kind")
            page.get_by_role("link", name="Predictions").click()
            page.get_by_label("Status").select_option("failed")
            page.get_by_role("button", name="Show").click()
            page.wait_for_url("**status=failed**")
            assert set(page.locator(".answered .state").all_inner_texts()) == {"failed"}
            page.get_by_role("link", name="Without status failed").click()
            correct_newest(page, small)
            page.locator(".prediction-list th a").first.click()
            page.get_by_role("link", name="Try it again").click()
            expect(page.get_by_label("title")).to_have_value("red leaf")
            try_it(page, ws.home, "tester")
            page.goto(f"{site.url}/endpoints/kind/split")
            expect(page.get_by_role("row", name=re.compile("^kind@2 b"))).to_contain_text("50 %")
            page.get_by_role("button", name="Keep kind@2").click()
            expect(page.get_by_role("dialog")).to_contain_text("All of kind's traffic goes to kind@2")
        assert sum(one.n for one in rollout.split_results(ws, made).arms) == 80, (
            "what was tried does not count"
        )
    finally:
        server.kill()


def correct_newest(page: Page, small: Shop) -> None:
    page.get_by_role("button", name="Correct").first.click()
    page.get_by_role("dialog").get_by_label("The right answer").fill("Lamps")
    page.get_by_role("dialog").get_by_role("button", name="Correct").click()
    expect(page.locator(".said").filter(has_text="Lamps")).to_contain_text("tester")
    (correction,) = feedback.corrections(small.ws, "kind")
    assert (correction.value, correction.contradicts) == ("Lamps", True)


def try_it(page: Page, home: Path, who: str) -> None:
    expect(page.locator("[data-curl]")).to_contain_text('"title": "red leaf"')
    page.get_by_label("seller").fill("many")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("[data-field=seller] [data-problem]")).to_contain_text("it must be a whole number")
    page.get_by_label("seller").fill("3")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("[data-answer] .answer")).to_have_text(re.compile("Tea|Bikes|Lamps"))
    expect(page.locator("[data-answer] .score")).to_have_count(3)
    prediction = page.locator("[data-answer] a").inner_text()
    page.locator("[data-answer] a").click()
    expect(page.locator("h1")).to_contain_text("Where prediction")
    record = predictions.find(home / "serving", prediction)
    assert record is not None
    assert (record.replay, record.key) == (True, f"try:{who}")
