"""What the pages about experiments and runs show, as HTML, JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest

from everloop import registry, tracking
from everloop.tracking import MetricPoint
from everloop.workspace import Workspace
from tests.web.conftest import Site, serve

NASTY = "<script>document.title='owned'</script>"


def run(ws: Workspace, name: str, *, acc: float | None = None, **params: str) -> str:
    begun = tracking.start_run(ws, experiment="sweep", name=name, params=params)
    if acc is not None:
        tracking.log_metrics(ws, begun.id, {"acc": acc})
    tracking.finish_run(ws, begun.id)
    return begun.id


def shown(site: Site, address: str) -> Any:
    return site.get(f"{address}{'&' if '?' in address else '?'}as=json").json()


def names(site: Site, address: str) -> list[str]:
    return [one["run"]["name"] for one in shown(site, address)["runs"]]


@pytest.fixture
def sweep(empty: Site) -> Site:
    for number, acc in enumerate((0.7, 0.9, 0.8)):
        run(empty.ws, f"run-{number}", acc=acc, depth=str(number))
    return empty


def test_runs_are_ordered_and_filtered_as_the_address_says(sweep: Site) -> None:
    assert names(sweep, "/experiments/1") == ["run-0", "run-1", "run-2"]
    assert names(sweep, "/experiments/1?order=" + quote("metrics.`acc` DESC")) == ["run-1", "run-2", "run-0"]
    assert names(sweep, "/experiments/1?filter=" + quote("metrics.acc > 0.75 AND params.depth = '2'")) == [
        "run-2"
    ]


def test_a_filter_that_cannot_be_read_is_answered_beside_it(sweep: Site) -> None:
    page = sweep.get("/experiments/1?filter=" + quote("metrics.acc >"))
    assert page.status_code == 200
    assert 'aria-invalid="true"' in page.text
    assert "ends too early" in page.text


def test_pinned_runs_come_first_whatever_the_order(sweep: Site) -> None:
    worst = tracking.search_runs(sweep.ws, experiment_ids=[1], order_by=["metrics.acc ASC"]).found[0].run
    tracking.log_tags(sweep.ws, worst.id, {"everloop.pinned": "true"})
    assert names(sweep, "/experiments/1?order=" + quote("metrics.`acc` DESC")) == ["run-0", "run-1", "run-2"]


def test_chosen_columns_stand_in_the_address_and_in_the_csv(sweep: Site) -> None:
    text = sweep.get("/experiments/1?c.params.depth=1&as=csv").text
    header, *rows = csv.reader(io.StringIO(text))
    assert header[-1] == "params.depth"
    assert [row[-1] for row in rows] == ["0", "1", "2"]
    assert sweep.get("/experiments/1?c.nonsense=1").status_code == 422


def test_a_cell_of_the_csv_is_no_formula(empty: Site) -> None:
    run(empty.ws, "=HYPERLINK(1)")
    assert ",'=HYPERLINK(1)," in empty.get("/experiments/1?as=csv").text


def test_pages_follow_one_another_to_the_end(empty: Site) -> None:
    for number in range(51):
        run(empty.ws, f"run-{number}")
    first = shown(empty, "/experiments/1")
    assert len(names(empty, "/experiments/1")) == 50
    assert names(empty, f"/experiments/1?token={quote(first['next'])}") == ["run-50"]


def test_an_experiment_without_runs_says_how_to_begin(empty: Site) -> None:
    assert f"MLFLOW_TRACKING_URI={empty.url}" in empty.get("/experiments/0").text
    assert empty.get("/experiments/7").status_code == 404
    assert empty.get("/experiments/x").status_code == 422


def test_what_clients_wrote_stays_text(empty: Site) -> None:
    begun = tracking.start_run(
        empty.ws,
        experiment=NASTY,
        name=NASTY,
        params={NASTY: NASTY},
        tags={NASTY: NASTY, "mlflow.note.content": NASTY, "mlflow.source.name": NASTY},
    )
    tracking.log_metrics(empty.ws, begun.id, {NASTY: 1.0})
    tracking.log_artifact(empty.ws, begun.id, "page.html", NASTY.encode())
    for address in (
        "/experiments",
        "/experiments/1",
        f"/runs/{begun.id}",
        f"/runs/{begun.id}?file=page.html",
    ):
        page = empty.get(address)
        assert page.status_code == 200
        assert NASTY not in page.text


def test_a_long_history_is_thinned_and_told_whole_where_one_zooms_in(empty: Site) -> None:
    begun = tracking.start_run(empty.ws)
    at = empty.ws.now()
    points = [
        MetricPoint("loss", math.nan if step == 7 else 1.0 * step, step, at + timedelta(seconds=step))
        for step in range(5_000)
    ]
    tracking.log_points(empty.ws, begun.id, points)
    (curve,) = shown(empty, f"/runs/{begun.id}")["curves"]
    assert curve["is_thinned"]
    assert 900 < len(curve["steps"]) < 1_100
    assert (curve["steps"][0], curve["steps"][-1]) == (0, 4_999)
    (curve,) = shown(empty, f"/runs/{begun.id}?from=5&to=9")["curves"]
    assert curve["steps"] == [5, 6, 7, 8, 9]
    assert curve["values"] == [5.0, 6.0, None, 8.0, 9.0]
    assert empty.get(f"/runs/{begun.id}?from=x").status_code == 422


def test_what_sticks_out_of_a_long_history_is_drawn_and_smoothing_takes_its_means(empty: Site) -> None:
    begun = tracking.start_run(empty.ws)
    at = empty.ws.now()
    values = [1.0 + (step % 2) for step in range(5_000)]
    values[3_333] = 70.0
    points = [MetricPoint("loss", value, step, at) for step, value in enumerate(values)]
    tracking.log_points(empty.ws, begun.id, points)
    (curve,) = shown(empty, f"/runs/{begun.id}")["curves"]
    assert curve["values"][curve["steps"].index(3_333)] == 70.0
    assert set(curve["values"]) == {1.0, 2.0, 70.0}
    assert curve["count"] == 5_000
    assert curve["means"][0] == 1.5


def test_what_was_logged_at_one_step_over_time_is_drawn_over_time(empty: Site) -> None:
    begun = tracking.start_run(empty.ws)
    at = empty.ws.now()
    points = [
        MetricPoint("queue", 1.0 * second, 0, at + timedelta(seconds=second)) for second in range(5_000)
    ]
    points += [MetricPoint("loss", 1.0, step, at) for step in range(3)]
    tracking.log_points(empty.ws, begun.id, points)
    loss, queue = shown(empty, f"/runs/{begun.id}")["curves"]
    assert (loss["over"], queue["over"]) == ("steps", "times_s")
    assert (queue["times_s"][0], queue["times_s"][-1]) == (0.0, 4_999.0)
    assert queue["is_thinned"]
    (near,) = shown(empty, f"/runs/{begun.id}?metric=queue&over=time&from=2.5&to=4")["curves"]
    assert near["values"] == [3.0, 4.0]


def test_a_file_is_shown_as_text_or_not_at_all(empty: Site) -> None:
    begun = tracking.start_run(empty.ws)
    tracking.log_artifact(empty.ws, begun.id, "a.json", b'{"a": 1}')
    tracking.log_artifact(empty.ws, begun.id, "a.bin", b"\0\1")
    assert "&#34;a&#34;: 1" in empty.get(f"/runs/{begun.id}?file=a.json").text
    assert "that are no text" in empty.get(f"/runs/{begun.id}?file=a.bin").text
    assert empty.get(f"/runs/{begun.id}?file=b").status_code == 404


PNG = b"\x89PNG\r\n\x1a\n"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"


def test_a_file_is_shown_as_the_table_or_the_picture_that_it_is_and_nothing_in_it_runs(empty: Site) -> None:
    begun = tracking.start_run(empty.ws)
    files = {
        "a.csv": b'name,said\nann,"<b>1, 2</b>"\n',
        "log.json": b'{"columns": ["x", "y"], "data": [[1, null], [2, "<i>"]]}',
        "deep.json": b"[" * 100_000,
        "a.png": PNG,
        "a.svg": SVG,
        "a.html": b"<script>alert(1)</script>",
    }
    for path, content in files.items():
        tracking.log_artifact(empty.ws, begun.id, path, content)
    tables = {path: shown(empty, f"/runs/{begun.id}?file={path}")["preview"]["table"] for path in files}
    assert tables["a.csv"] == [["name", "said"], ["ann", "<b>1, 2</b>"]]
    assert tables["log.json"] == [["x", "y"], ["1", "null"], ["2", "<i>"]]
    for path in ("a.png", "a.svg"):
        page = empty.get(f"/runs/{begun.id}?file={path}")
        assert f'<img src="data:image/{"png" if path == "a.png" else "svg+xml"};base64,' in page.text
        assert "alert(1)" not in page.text
    assert "<script>alert(1)" not in empty.get(f"/runs/{begun.id}?file=a.html").text
    assert "[[[[[" in empty.get(f"/runs/{begun.id}?file=deep.json").text
    download = empty.get(f"/get-artifact?run_id={begun.mlflow_id}&path=a.html")
    assert download.headers["content-disposition"].startswith("attachment")


def test_files_that_a_client_keeps_below_the_artifact_root_are_listed_and_shown(
    empty: Site, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    site_ws = replace(empty.ws, settings=replace(empty.ws.settings, artifact_root=root.as_uri()))
    begun = tracking.start_client_run(site_ws, tracking.create_experiment(site_ws, "rooted").id)
    place = Path(unquote(urlsplit(tracking.artifact_uri(site_ws, begun.id)).path))
    (place / "deep").mkdir(parents=True)
    (place / "deep" / "a.csv").write_text("x\n1\n")
    with serve(site_ws) as site:
        told = shown(site, f"/runs/{begun.id}?file=deep/a.csv")
    assert [one["path"] for one in told["files"]] == ["deep/a.csv"]
    assert told["preview"]["table"] == [["x"], ["1"]]


def test_a_run_shows_the_models_that_it_logged_and_what_differs_in_the_runs_inside_it(empty: Site) -> None:
    outer = tracking.start_run(empty.ws, name="search")
    for depth in (2, 3):
        inner = tracking.start_run(
            empty.ws, name=f"depth-{depth}", parent=outer.id, params={"depth": depth, "model": "tree"}
        )
        tracking.log_metrics(empty.ws, inner.id, {"loss": 1 / depth})
    made = tracking.log_model(empty.ws, 0, name="tree", run=outer.id)
    registry.create(empty.ws, "trees")
    registry.register(
        empty.ws,
        "trees",
        run=None,
        files={},
        signature=None,
        metrics={},
        said=registry.Said(logged_model=made.id),
    )
    told = shown(empty, f"/runs/{outer.id}")
    assert told["inside"] == {"metrics": ["loss"], "params": ["depth"]}
    assert [(one["model"]["name"], one["versions"]) for one in told["models"]] == [("tree", ["trees@1"])]
    assert 'href="/models/trees/1"' in empty.get(f"/runs/{outer.id}").text


def curve(ws: Workspace, name: str, *losses: float, **params: str) -> str:
    begun = tracking.start_run(ws, experiment="sweep", name=name, params=params)
    at = ws.now()
    tracking.log_points(ws, begun.id, [MetricPoint("loss", one, step, at) for step, one in enumerate(losses)])
    return begun.id


def test_plain_runs_are_compared_with_what_differs_and_their_curves(empty: Site) -> None:
    first = curve(empty.ws, "first", 3.0, 2.0, depth="3", model="tree")
    middle = curve(empty.ws, "middle", 3.0, depth="4", model="tree")
    last = curve(empty.ws, NASTY, 3.0, 1.0, 0.5, depth="3", model="tree")
    told = shown(empty, f"/compare?runs={first},{middle},{last}")
    assert told["params"] == [{"name": "depth", "values": ["3", "4", "3"]}]
    assert [(one["name"], one["run"], one["values"]) for one in told["curves"]] == [
        ("loss", first, [3.0, 2.0]),
        ("loss", middle, [3.0]),
        ("loss", last, [3.0, 1.0, 0.5]),
    ]
    page = empty.get(f"/compare?runs={first},{middle},{last}").text
    assert f'href="/runs/{last}"' in page
    assert NASTY not in page
    assert "Not on record of both: environment, machine, data, labels" in page


def test_zooming_into_a_comparison_is_told_the_curves_alone(empty: Site) -> None:
    runs = [curve(empty.ws, "run", 3.0, 2.0, 1.0) for _ in range(2)]
    told = shown(empty, f"/compare?runs={','.join(runs)}&part=curves&metric=loss&from=1&to=1")
    assert list(told) == ["curves"]
    assert [one["values"] for one in told["curves"]] == [[2.0], [2.0]]
    assert shown(empty, f"/compare?runs={','.join(runs)}&part=curves&metric=los") == {"curves": []}


def test_plain_runs_are_there_to_be_chosen(empty: Site) -> None:
    ids = [run(empty.ws, name) for name in ("one", "two")]
    page = empty.get("/compare").text
    assert '<optgroup label="Other runs">' in page
    assert all(f'value="{one}"' in page for one in ids)


def test_search_finds_experiments_and_runs_by_name_and_by_either_id(empty: Site) -> None:
    begun = run(empty.ws, "Deep 100% tree's")
    assert empty.get(f"/search?q={begun}").headers["location"] == f"/runs/{begun}"
    assert empty.get(f"/search?q={begun.removeprefix('run_')}").headers["location"] == f"/runs/{begun}"
    for wanted, found in (
        ("weep", "/experiments/1"),
        ("deep", f"/runs/{begun}"),
        ("tree's", f"/runs/{begun}"),
    ):
        assert [one["link"] for one in shown(empty, f"/search?q={quote(wanted)}")["near"]] == [found]
    assert empty.get("/search?q=" + quote("'\"")).status_code == 200
    assert empty.get("/search?q=" + quote("'; DROP TABLE run; --")).status_code == 200


def test_one_value_is_a_number_and_no_curve(empty: Site) -> None:
    begun = tracking.start_run(empty.ws)
    at = empty.ws.now()
    tracking.log_points(empty.ws, begun.id, [MetricPoint("loss", 1.0, step, at) for step in (0, 1)])
    tracking.log_metrics(empty.ws, begun.id, {"a final score": 0.5})
    told = shown(empty, f"/runs/{begun.id}")
    assert [one["name"] for one in told["curves"]] == ["loss"]
    assert "a final score" in empty.get(f"/runs/{begun.id}").text
    (near,) = shown(empty, f"/runs/{begun.id}?metric=loss&from=1&to=1")["curves"]
    assert near["values"] == [1.0]
