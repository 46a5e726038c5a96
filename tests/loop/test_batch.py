"""Batch scoring: the endpoint's answers for a file or a dataset, in parts, traced, and begun again after a kill."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop import data, governance, ledger, loop, pipelines, registry
from everloop.errors import Conflict, Invalid, NotFound
from everloop.features.images import ImageFeatures
from everloop.ledger import Node
from everloop.serving import Field, Signature
from everloop.workspace import Workspace
from tests.flows.running import wait_for
from tests.loop import living
from tests.loop import shop as goods_of
from tests.loop.living import Shop
from tests.registry.versions import check, servable
from tests.serving.home import object_array
from tests.serving.test_images import photo


def given(ws: Workspace, folder: Path, n: int = 40, **columns: Any) -> Path:
    """A file of new goods, with some columns replaced."""
    rows = goods_of.goods(ws, n, seed=5, first=1_000).drop_columns(["kind"])
    for name, values in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values))
    pq.write_table(rows, folder / "new.parquet")
    return folder / "new.parquet"


def test_every_row_has_the_answer_its_scores_and_who_gave_it(shop: Shop, tmp_path: Path) -> None:
    file = given(shop.ws, tmp_path)
    made = loop.score_batch(shop.ws, "kind@1", file, output=tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    rows = pq.read_table(file)
    assert found.column_names == ["sku", "output", "score", "scores", "error", "version"]
    assert found["sku"].equals(rows["sku"])
    assert found["output"].to_pylist() == loop.score(shop.ws, "kind@1", rows)["output"].to_pylist()
    first = found.slice(0, 1).to_pylist()[0]
    assert first["scores"][0] == {"class": first["output"], "score": first["score"]}
    assert (first["error"], first["version"], made.failed) == (None, "kind@1", 0)


def test_parts_and_processes_change_no_byte(shop: Shop, tmp_path: Path) -> None:
    file = given(shop.ws, tmp_path)
    whole = loop.score_batch(shop.ws, "kind@1", file, output=tmp_path / "whole")
    parts = loop.score_batch(
        shop.ws, "kind@1", file, part_rows=7, executor="processes", output=tmp_path / "parts"
    )
    assert [len(calls(shop.ws, one.run)) for one in (whole, parts)] == [1, 6]
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()
    assert whole.digest == parts.digest


def test_it_is_traced_to_the_file_or_the_version_and_to_the_release(shop: Shop, tmp_path: Path) -> None:
    file = given(shop.ws, tmp_path)
    digest = (data.load(file, key=None, file_format=None).file or {})["digest"]
    of_file = loop.score_batch(shop.ws, "kind@1", file)
    of_version = loop.score_batch(shop.ws, "kind@1", "goods@1")
    assert came_from(shop.ws, of_file.run) >= {Node("file", digest), Node("release", of_file.release)}
    assert Node("dataset_version", "goods@1") in came_from(shop.ws, of_file.run)  # the past of its feature
    assert came_from(shop.ws, of_version.run) >= {Node("dataset_version", "goods@1")}
    assert (of_version.rows, of_version.answers.column_names[0]) == (240, "sku")


def test_a_folder_and_a_query_are_scored_as_a_file_is(shop: Shop, tmp_path: Path) -> None:
    file = given(shop.ws, tmp_path)
    rows = pq.read_table(file)
    (tmp_path / "parts").mkdir()
    for number, start in enumerate((0, 25)):
        pq.write_table(rows.slice(start, 25), tmp_path / "parts" / f"{number}.parquet")
    of_file = loop.score_batch(shop.ws, "kind@1", file)
    assert loop.score_batch(shop.ws, "kind@1", tmp_path / "parts").digest == of_file.digest
    query = loop.Query(
        'SELECT sku AS id, title, g.seller, g.listed_at FROM goods g JOIN "goods@1" USING (sku, title) WHERE sku < 9'
    )
    of_query = loop.score_batch(shop.ws, "kind@1", query)
    of_version = loop.score_batch(shop.ws, "kind@1", "goods@1").answers
    assert of_query.answers["id"].to_pylist() == list(range(9))
    assert of_query.answers["scores"].to_pylist() == of_version["scores"].to_pylist()[:9]
    run = pipelines.pipeline_run(shop.ws, of_query.run)
    assert {(name, one.ref) for name, one in run.pins.items() if one.kind == "dataset_version"} >= {
        ("goods@1", "goods@1")
    }


def test_a_folder_of_images_is_scored_and_a_row_is_named_by_its_path(ws: Workspace, tmp_path: Path) -> None:
    import skops.io
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    photos = [[photo("red")], [photo("green")]] * 3
    model = make_pipeline(ColumnTransformer([("photo", ImageFeatures(), 0)]), LogisticRegression(C=100))
    model.fit(object_array(photos), ["red", "green"] * 3)
    signature = Signature((Field("photo", "image", most_pixels=600),), "class", ("green", "red"))
    version = servable(ws, skops.io.dumps(model), name="colour", signature=signature, code=None)
    check(ws, version)
    registry.release(ws, version.ref)
    given = {"one/a.png": photo("red"), "one/b.jpg": photo("green", "JPEG"), "c.webp": photo("red", "WEBP")}
    given["large.png"] = photo("red", size=(40, 30))
    (tmp_path / "photos" / "one").mkdir(parents=True)
    for place, content in given.items():
        (tmp_path / "photos" / place).write_bytes(content)
    made = loop.score_batch(ws, "colour@1", tmp_path / "photos", part_rows=3)
    answers = {one.pop("path"): one for one in made.answers.to_pylist()}
    assert {place: one["output"] for place, one in answers.items()} == {
        "one/a.png": "red",
        "one/b.jpg": "green",
        "c.webp": "red",
        "large.png": None,
    }
    assert "has 40 x 30 pixels; the most allowed are 600" in answers["large.png"]["error"]
    expected = model.predict_proba(object_array([[given["one/b.jpg"]]])).max()
    assert answers["one/b.jpg"]["score"] == expected


def test_a_query_of_an_outside_database_is_asked_anew_each_time(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE", f"sqlite:///{tmp_path / 'shop.db'}")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as outside:
        outside.execute("CREATE TABLE goods (sku INTEGER, title TEXT, seller INTEGER, listed_at TEXT)")
        outside.execute("INSERT INTO goods VALUES (1, 'red leaf', 2, '2026-09-01T12:00:00Z')")
        outside.commit()
        query = loop.Query("SELECT * FROM goods", "WAREHOUSE")
        assert loop.score_batch(shop.ws, "kind@1", query).answers["output"].to_pylist() == ["Tea"]
        outside.execute("UPDATE goods SET title = 'small chain'")
        outside.commit()
        again = loop.score_batch(shop.ws, "kind@1", query)
    assert again.answers["output"].to_pylist() == ["Bikes"]
    assert "sqlite" not in str(pipelines.pipeline_run(shop.ws, again.run).params)


def test_answers_become_a_version_and_changed_rows_a_further_one(shop: Shop, tmp_path: Path) -> None:
    first = loop.score_batch(shop.ws, "kind", given(shop.ws, tmp_path), to="answers")
    again = loop.score_batch(shop.ws, "kind", given(shop.ws, tmp_path), to="answers")
    changed = loop.score_batch(shop.ws, "kind", given(shop.ws, tmp_path, 30), to="answers")
    assert (first.version, first.kept, again.kept, changed.kept) == (
        "kind@1",
        "answers@1",
        "answers@1",
        "answers@2",
    )
    kept = data.read(shop.ws, "answers@2")
    assert kept.drop_columns(["_row_id", "scores"]).equals(
        changed.answers.drop_columns(["scores"]).cast(kept.drop_columns(["_row_id", "scores"]).schema)
    )
    assert str(kept["scores"][0]).startswith('[{"class":')
    release = Node("release", changed.release)
    made_from = {one.source for one in ledger.upstream(shop.ws, Node("dataset_version", "answers@2"))}
    assert made_from >= {Node("run", changed.run), release, Node("dataset_version", "goods@1")}
    assert "answers" not in {one.target.id for one in ledger.downstream(shop.ws, release)}


def test_only_rows_without_an_answer_are_asked_where_that_is_wanted(shop: Shop, tmp_path: Path) -> None:
    loop.score_batch(shop.ws, "kind@1", given(shop.ws, tmp_path, 30), to="answers")
    more = loop.score_batch(shop.ws, "kind@1", given(shop.ws, tmp_path, 40), to="answers", only_new=True)
    assert (more.rows, more.answers["sku"].to_pylist()) == (10, list(range(1_030, 1_040)))
    assert data.read(shop.ws, "answers@2").num_rows == 40
    none = loop.score_batch(shop.ws, "kind@1", given(shop.ws, tmp_path, 40), to="answers", only_new=True)
    assert (none.rows, none.kept) == (0, "answers@2")


def test_an_answer_is_traced_to_its_row_the_data_the_code_and_the_model(shop: Shop) -> None:
    made = loop.score_batch(shop.ws, "kind@1", "goods@1", to="answers")
    found = governance.trace(shop.ws, "answers:17")
    told = {one.node: one.facts for one in reversed(found.steps)}
    row = data.rows_by_key(shop.ws, "goods@1", [17])
    assert found.gaps == ()
    assert told[Node("row", "answers:17")]["values"]["version"] == "kind@1"
    assert told[Node("row", f"goods:{row['_row_id'][0]}")]["values"]["title"] == row["title"][0].as_py()
    run = registry.version(shop.ws, "kind@1").run
    nodes = [
        Node("dataset_version", "answers@1"),
        Node("run", made.run),
        Node("run", str(run)),
        Node("dataset_version", "goods@1"),
        Node("release", made.release),
    ]
    assert all(one in told for one in nodes)
    assert {"code", "environment", "label_snapshot", "gate_report"} <= {one.kind for one in told}
    assert [one.title for one in found.steps].count("label of this row") == 1


def test_answers_take_no_other_rows_place(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="'goods' holds rows that no scoring made"):
        loop.score_batch(shop.ws, "kind@1", given(shop.ws, tmp_path), to="goods")
    assert pipelines.pipeline_runs(shop.ws, pipeline="batch_scoring") == []


def test_a_row_that_the_endpoint_would_refuse_has_an_error_in_its_place(shop: Shop, tmp_path: Path) -> None:
    file = given(shop.ws, tmp_path, 3, title=["red leaf", None, "small chain"])
    made = loop.score_batch(shop.ws, "kind@1", file)
    assert made.failed == 1
    assert made.answers["error"].to_pylist() == [None, "title is null; it must be a text", None]
    assert [output is None for output in made.answers["output"].to_pylist()] == [False, True, False]


def test_a_table_is_scored_without_loading_the_model(shop: Shop, tmp_path: Path) -> None:
    file = given(shop.ws, tmp_path)
    command = [
        "--home",
        str(shop.ws.home),
        "score",
        "kind@1",
        str(file),
        "--out",
        str(tmp_path / "out.parquet"),
    ]
    said = subprocess.run(
        [sys.executable, "-c", _LIBRARIES, *command], capture_output=True, check=True, text=True
    )
    assert said.stdout.splitlines()[-1] == "loads models: False"
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == 40


_LIBRARIES = """
import sys
from everloop.cli import main
try:
    main()
finally:
    print("loads models:", "skops" in sys.modules)  # scikit-learn itself is what the shop's loop file imports for its features
"""


def test_a_row_on_which_the_model_fails_costs_the_others_nothing(shop: Shop, tmp_path: Path) -> None:

    living.release(shop.ws, "kind@2")  # it fails on sellers that it does not know
    made = loop.score_batch(shop.ws, "kind@2", given(shop.ws, tmp_path, 3, seller=[1, 99, 2]))
    errors = made.answers["error"].to_pylist()
    assert [error is None for error in errors] == [True, False, True]
    assert (errors[1] or "").startswith("ValueError: Found unknown categories")


def test_a_part_that_was_scored_before_is_not_scored_again(shop: Shop, tmp_path: Path) -> None:
    loop.score_batch(shop.ws, "kind@1", given(shop.ws, tmp_path, 20), part_rows=10)
    more = loop.score_batch(shop.ws, "kind@1", given(shop.ws, tmp_path, 30), part_rows=10)
    assert [one.state for one in calls(shop.ws, more.run)] == ["cached", "cached", "done"]


@pytest.mark.long
def test_after_a_kill_the_same_command_goes_on_and_scores_no_part_twice(shop: Shop, tmp_path: Path) -> None:
    file, out = given(shop.ws, tmp_path, 160), tmp_path / "out.parquet"
    command = [sys.executable, "-m", "everloop", "--home", str(shop.ws.home), "score", "kind@1", str(file)]
    command += ["--part-rows", "2", "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as killed:
        try:
            run = wait_for(lambda: cut_off(shop.ws), "five parts that were scored")
        finally:
            killed.send_signal(signal.SIGKILL)
    before = {one.node: one.id for one in calls(shop.ws, run) if one.state == "done"}
    assert 5 <= len(before) < 80
    assert not out.exists()
    subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
    done = [one for one in calls(shop.ws, run) if one.state == "done"]
    assert len(done) == len({one.node for one in done}) == 80
    assert before.items() <= {one.node: one.id for one in done}.items()
    assert pq.read_metadata(out).num_rows == 160


def test_what_cannot_be_scored_is_told_before_anything_is_written(shop: Shop, tmp_path: Path) -> None:
    file = given(shop.ws, tmp_path)
    with pytest.raises(NotFound, match="kind@2 is not released"):
        loop.score_batch(shop.ws, "kind@2", file)
    with pytest.raises(Invalid, match="is 'size'; it is one of sku, title"):
        loop.score_batch(shop.ws, "kind@1", file, key="size")
    with pytest.raises(NotFound, match="there is no endpoint 'kinds'"):
        loop.score_batch(shop.ws, "kinds", file)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(photo("red"))
    with pytest.raises(Invalid, match="holds images, and kind@1 takes no images a row"):
        loop.score_batch(shop.ws, "kind@1", tmp_path / "photos")
    with pytest.raises(Invalid, match="the rows lack title"):
        loop.score_batch(shop.ws, "kind@1", loop.Query("SELECT sku, seller FROM goods"))
    with pytest.raises(Invalid, match="gone does not exist"):
        loop.score_batch(shop.ws, "kind@1", loop.Query("SELECT * FROM gone"))
    with pytest.raises(Invalid, match="there is no secret WAREHOUSE"):
        loop.score_batch(shop.ws, "kind@1", loop.Query("SELECT 1", "WAREHOUSE"))
    with pytest.raises(Invalid, match="Name it with --to"):
        loop.score_batch(shop.ws, "kind@1", file, only_new=True)
    with pytest.raises(NotFound, match="there is no executor 'nowhere'"):
        loop.score_batch(shop.ws, "kind@1", file, executor="nowhere")
    assert pipelines.pipeline_runs(shop.ws, pipeline="batch_scoring") == []


def calls(ws: Workspace, run: str) -> list[pipelines.StepRun]:
    return [one for one in pipelines.pipeline_run(ws, run).steps if one.is_call]


def came_from(ws: Workspace, run: str) -> set[Node]:
    return {one.source for one in ledger.upstream(ws, Node("run", run)) if one.target == Node("run", run)}


def cut_off(ws: Workspace) -> str | None:
    """The run that scores, once it has scored some parts."""
    for run in pipelines.pipeline_runs(ws, pipeline="batch_scoring"):
        if sum(one.state == "done" for one in calls(ws, run.id)) >= 5:
            return run.id
    return None
