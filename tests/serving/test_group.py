"""Several serving processes on one port: who answers, who dies, who is started again."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from everloop.clock import wall
from everloop.ids import writer_of
from everloop.predictions import log
from everloop.serving import Worker, acknowledged, workers
from tests.serving.home import go_live
from tests.serving.records import route
from tests.serving.server import Server, wait_for
from tests.serving.traffic import Traffic

Serve = Callable[..., Server]


@pytest.fixture
def together(home: Path, serve: Serve) -> Server:
    """Two processes that share a port."""
    return serve(home, settings={"serving_workers": 2})


def living(server: Server) -> dict[int, Worker]:
    return {worker.pid: worker for worker in workers(server.folder)}


def test_two_processes_answer_on_one_port_and_log_apart(together: Server) -> None:
    ids = []
    for _ in range(40):
        with httpx.Client(base_url=together.client.base_url, timeout=60) as client:  # a connection of its own
            reply = client.post("/endpoints/category/predict", json={"inputs": {"title": "a fridge"}})
            ids.append(reply.json()["prediction_id"])
    by_writer = Counter(writer_of(one) for one in ids)
    assert by_writer.keys() == {one.writer for one in living(together).values()}
    assert len(by_writer) == 2
    assert set(ids) == {one.id for one in together.records()}
    assert together.client.get("/ready").json() == {"ready": True, "epoch": 1, "workers": 2}


def test_two_processes_mirror_each_request_once_and_a_reader_who_comes_again_counts_once(
    home: Path, together: Server
) -> None:
    epoch = go_live(home, ("control", 100), shadow=route(("canary", 100)).variants)
    wait_for(lambda: acknowledged(together.folder) == epoch)
    known: dict[str, int] = {}
    looked_at, counted, ids = wall() - timedelta(minutes=1), Counter[str | None](), list[str]()
    for _ in range(4):
        for _ in range(15):
            with httpx.Client(base_url=together.client.base_url, timeout=60) as client:
                reply = client.post("/endpoints/category/predict", json={"inputs": {"title": "a fridge"}})
                ids.append(reply.json()["prediction_id"])
        wait_for(lambda: log.read(together.folder).num_rows == 2 * len(ids))
        end = wall()
        passed = log.Passed(known, until=end)
        for batch in log.batches(
            together.folder, start=looked_at, end=end, columns=["shadow_of"], passed=passed
        ):
            counted.update(batch["shadow_of"].to_pylist())
        looked_at, known = end, passed.found
    assert counted.pop(None) == len(ids)
    assert counted == Counter(ids), "each was copied once, by the process that answered it"
    assert {writer_of(one) for one in ids} == {one.writer for one in living(together).values()}


def test_switching_versions_and_weights_loses_no_request(home: Path, together: Server) -> None:
    traffic = Traffic(together)
    with traffic.flowing():
        for variants in ([("canary", 100)], [("control", 50), ("canary", 50)], [("control", 100)]):
            epoch = go_live(home, *variants)
            wait_for(lambda epoch=epoch: acknowledged(together.folder) == epoch)  # type: ignore[misc]  # bound per turn
            said = {together.predict().json()["variant"] for _ in range(20)}
            assert said <= {name for name, _ in variants}
    assert (traffic.errors, traffic.lost) == ([], 0)
    assert {one["prediction_id"] for one in traffic.answered} <= {
        str(one) for one in log.read(together.folder)["id"].to_pylist()
    }


def test_a_killed_process_takes_its_requests_in_flight_and_no_answer(home: Path, together: Server) -> None:
    before = living(together)
    first, second = before
    traffic = Traffic(together, clients=8)
    with traffic.flowing():
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: living(together).keys() - {first, second})
        new = next(iter(living(together).keys() - {first, second}))
        wait_for(lambda: living(together)[new].epoch == 1)
        traffic.wait_for_more(50)
    assert traffic.lost < 8, "the other process went on"
    assert traffic.errors == [], "a process that is not ready takes no connection"
    logged = log.read(together.folder)["id"].to_pylist()
    assert len(logged) == len(set(logged))
    assert {one["prediction_id"] for one in traffic.answered} <= set(logged)
    assert living(together)[new].writer not in {one.writer for one in before.values()}
    assert living(together)[new].starts == 2
    assert "ended with -9 and is started again" in together.said


def test_nothing_counts_before_each_process_has_acknowledged_it(home: Path, together: Server) -> None:
    first, second = living(together)
    os.kill(first, signal.SIGSTOP)
    try:
        epoch = go_live(home, ("canary", 100))
        wait_for(lambda: living(together)[second].epoch == epoch)
        assert acknowledged(together.folder) == 1
    finally:
        os.kill(first, signal.SIGCONT)
    wait_for(lambda: acknowledged(together.folder) == epoch)


def test_a_stop_drains_each_process_and_leaves_none(together: Server) -> None:
    pids = list(living(together))
    traffic = Traffic(together)
    with traffic.flowing():
        assert together.stop() == 0
    logged = set(log.read(together.folder)["id"].to_pylist())
    assert {one["prediction_id"] for one in traffic.answered} <= logged
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list((together.folder / "workers").glob("*.json")) == []


def test_processes_whose_parent_is_killed_end_by_themselves(together: Server) -> None:
    pids = list(living(together))
    together.kill()
    wait_for(lambda: not any(_runs(pid) for pid in pids))
    assert workers(together.folder) == []


def test_ready_is_said_when_all_are(home: Path, serve: Serve) -> None:
    server = serve(home, ready=False, settings={"serving_workers": 2})
    reply: Any = wait_for(lambda: (got := server.client.get("/ready")).status_code == 200 and got)
    assert reply.json()["workers"] == 2
    assert {one.epoch for one in living(server).values()} == {1}
    assert len(living(server)) == 2


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
