"""Batch scoring beside the endpoint that serves the same version, and beside itself after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop import data, loop, pipelines
from everloop.workspace import Workspace
from tests.flows.running import wait_for
from tests.loop import living
from tests.loop import shop as goods_of
from tests.loop.living import Shop
from tests.serving.server import Server


def test_the_answers_are_those_of_the_endpoint_features_of_their_time_included(shop: Shop) -> None:
    rows = data.read(shop.ws, "goods@1").take(pa.array(range(0, 240, 3)))
    pq.write_table(rows, shop.ws.home / "rows.parquet")
    made = loop.score_batch(shop.ws, "kind", shop.ws.home / "rows.parquet", key="sku").answers
    asked = [
        {
            "inputs": {"title": one["title"], "seller": one["seller"]},
            "at": one["listed_at"].isoformat(),
            "replay": True,
        }
        for one in rows.to_pylist()
    ]
    with ExitStack() as stack:
        server = Server(shop.ws.home)
        stack.callback(server.kill)
        found = server.client.post("/endpoints/kind/predict", json={"instances": asked}).json()["predictions"]
        records = {one.id: one for one in server.records()}
    assert made["output"].to_pylist() == [one["output"] for one in found]
    for scores, one in zip(made["scores"].to_pylist(), found, strict=True):
        assert {each["class"]: each["score"] for each in scores or []} == pytest.approx(
            one["scores"], abs=1e-12
        )
    volumes = [records[one["prediction_id"]].features["seller_volume"][0] for one in found]
    assert len(set(volumes)) > 5


COUNTED = goods_of.LOOP.replace("return past.num_rows", 'return told(past, "PLACE")').replace(
    '@el.feature(of=goods, by="seller"',
    '''
def told(past: el.Table, place: str) -> int:
    """Tell which seller a row is of, with one write for each row that is asked."""
    import os

    with open(place, "ab", buffering=0) as file:
        file.write(b"".join(b"%d " % one for one in past["seller"].to_pylist()[:1]))
    return past.num_rows


@el.feature(of=goods, by="seller"''',
)


def test_after_a_kill_no_row_of_a_finished_part_is_asked_again(ws: Workspace, tmp_path: Path) -> None:
    """Each row has a seller of its own with one row in the past, so that a feature tells which row is asked."""
    living_shop(ws, tmp_path)
    rows, parts = 96, 24
    file, out, told = new_rows(ws, tmp_path, rows), tmp_path / "out.parquet", tmp_path / "told"
    told.unlink(missing_ok=True)
    command = [sys.executable, "-m", "everloop", "--home", str(ws.home), "score", "kind@1", str(file)]
    command += ["--part-rows", str(rows // parts), "--out", str(out), "--processes", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as killed:
        try:
            run = wait_for(lambda: begun(ws), "parts that were scored")
        finally:
            killed.send_signal(signal.SIGKILL)
    done = {one.node for one in calls(ws, run) if one.state == "done"}
    subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
    often = Counter(map(int, told.read_text().split()))
    again = {seller for seller, times in often.items() if times > 1}
    assert len(done) < parts
    assert set(often) == set(range(rows))
    assert len(again) <= 2 * rows // parts  # those of the parts that two processes had in hand
    assert not {f"answers[{seller * parts // rows}]" for seller in again} & done
    assert pq.read_table(out)["sku"].to_pylist() == list(range(1_000, 1_000 + rows))


def living_shop(ws: Workspace, folder: Path) -> None:
    text = COUNTED.replace("PLACE", str(folder / "told"))
    found = goods_of.set_up(ws, folder, text=text)
    assert goods_of.train(ws, found).passed
    living.approve(ws, "kind@1")
    loop.deliver(ws)


def new_rows(ws: Workspace, folder: Path, n: int) -> Path:
    """Goods whose sellers listed one thing before, which is in the newest version of the dataset."""
    sellers = pa.array(range(n), pa.int64())
    past = goods_of.goods(ws, n, seed=6).drop_columns(["kind"])
    known = past.set_column(past.column_names.index("seller"), "seller", sellers)
    data.ingest(ws, "goods", known, mode="replace")
    new = goods_of.goods(ws, n, seed=5, first=1_000).drop_columns(["kind"])
    new = new.set_column(new.column_names.index("seller"), "seller", sellers)
    at = pa.array([one["listed_at"] for one in known.to_pylist()])
    later = pa.compute.add(at, pa.scalar(60_000_000, pa.duration("us")))
    pq.write_table(
        new.set_column(new.column_names.index("listed_at"), "listed_at", later), folder / "new.parquet"
    )
    return folder / "new.parquet"


def calls(ws: Workspace, run: str) -> list[pipelines.StepRun]:
    return [one for one in pipelines.pipeline_run(ws, run).steps if one.is_call]


def begun(ws: Workspace) -> str | None:
    """The run that scores, once it has scored some parts."""
    for run in pipelines.pipeline_runs(ws, pipeline="batch_scoring"):
        if sum(one.state == "done" for one in calls(ws, run.id)) >= 3:
            return run.id
    return None
