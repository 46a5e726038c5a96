"""What a model may take: time, memory, cores, a batch, a queue; and what a model that crashes, hangs or is too large can do."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from everloop.errors import Invalid
from everloop.serving import Limits, Route, RouteTable, read_routes, write_routes
from tests.serving.home import (
    CLASSES,
    CRASHES,
    GOOD,
    HANGS,
    SIZE,
    go_live,
    object_array,
    title_model,
    trap,
    write_release,
)
from tests.serving.records import route
from tests.serving.server import Server, wait_for

Serve = Callable[..., Server]
QUEUE = 4
APART = Limits(own_process=True, hang_s=4.0, queue=QUEUE)


@pytest.fixture
def trapped(home: Path) -> Path:
    """The home with an endpoint `size` beside the one that it has; its model is the trap, in a process of its own."""
    write_release(home, "rel_trap", trap(), inputs=(SIZE,), version=3)
    also_live(home, "size", "trap", APART)
    return home


def also_live(home: Path, endpoint: str, release: str, limits: Limits) -> int:
    table = read_routes(home / "serving")
    assert table is not None
    new = msgspec.structs.replace(route((release, 100), limits=limits), endpoint=endpoint)
    write_routes(home / "serving", RouteTable(table.epoch + 1, {**table.endpoints, endpoint: new}))
    return table.epoch + 1


def size(server: Server, value: float, **headers: str) -> httpx.Response:
    body = {"inputs": {"size": value}}
    return server.client.post("/endpoints/size/predict", json=body, headers=headers)


def children(server: Server) -> set[int]:
    """The processes of models that the server started."""
    tasks = Path(f"/proc/{server.worker().pid}/task")
    return {int(one) for task in tasks.iterdir() for one in (task / "children").read_text().split()}


def test_a_model_that_crashes_takes_only_its_own_requests_and_is_started_again(
    trapped: Path, serve: Serve
) -> None:
    server = serve(trapped)
    (before,) = children(server)
    assert size(server, GOOD).status_code == 200
    with ThreadPoolExecutor(2) as pool:
        crash = pool.submit(size, server, CRASHES)
        others = [pool.submit(server.predict) for _ in range(20)]
        reply = crash.result()
    assert {other.result().status_code for other in others} == {200}
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_stopped")
    assert "retry-after" in reply.headers
    record = server.record(reply)
    assert record.status == "failed"
    assert "SIGSEGV" in str(record.error)
    assert "Segmentation fault" in str(
        record.error
    )  # and where in the code, for whoever looks for the reason
    again = [str(server.record(size(server, CRASHES)).error) for _ in range(2)]
    assert "SIGSEGV" in again[0]  # it was started again at once
    assert "ended 2 times in a row; it is started again in 0." in again[1]
    wait_for(lambda: size(server, GOOD).status_code == 200)
    assert children(server).isdisjoint({before})


def test_memory_is_limited_and_a_model_that_takes_more_is_started_again(home: Path, serve: Serve) -> None:
    """Phrases of up to a hundred words: 2 million of them in one text of 20,000, which are 800 MB."""
    phrases = ColumnTransformer([("title", CountVectorizer(ngram_range=(1, 100)), 0)])
    model = make_pipeline(phrases, LogisticRegression()).fit(object_array([["fridge"], ["freezer"]]), CLASSES)
    write_release(home, "rel_greedy", model, version=3)
    server = serve(home)
    server.wait_for_epoch(also_live(home, "greedy", "greedy", Limits(memory_mb=400)))
    assert server.predict(endpoint="greedy").status_code == 200
    (child,) = children(server)
    reply = server.predict("fridge " * 20_000, endpoint="greedy")
    assert reply.json()["error"]["code"] == "model_stopped"
    assert "MemoryError" in str(server.record(reply).error)
    assert "memory_mb=400" in str(server.record(reply).error)
    assert server.predict(endpoint="greedy").status_code == 200
    assert children(server).isdisjoint({child})
    assert server.predict().status_code == 200


def test_a_model_that_needs_more_memory_than_its_limit_is_not_loaded_and_nothing_else_changes(
    home: Path, serve: Serve
) -> None:
    server = serve(home)
    write_release(home, "rel_other", title_model(reverse=True), version=4)
    go_live(home, ("other", 100), limits=Limits(memory_mb=64))
    wait_for(lambda: "cannot be loaded in its own process" in str(server.worker().error))
    assert server.predict().json()["variant"] == "control"


def test_a_model_apart_answers_as_it_does_here_on_its_cores(home: Path, serve: Serve) -> None:
    here = serve(home)
    expected = here.predict().json()
    here.wait_for_epoch(go_live(home, ("control", 100), limits=Limits(cores=1)))
    found = here.predict().json()
    assert (found["output"], found["scores"]) == (expected["output"], expected["scores"])
    (child,) = children(here)
    assert len(os.sched_getaffinity(child)) == 1
    threads = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    assert b"OMP_NUM_THREADS=1" in threads
    assert "in a process of its own" in here.worker().paths["rel_control"]
    here.wait_for_epoch(go_live(home, ("control", 100)))
    wait_for(lambda: not children(here))


def test_a_model_that_hangs_ends_with_the_process_that_asked_it(trapped: Path, serve: Serve) -> None:
    server = serve(trapped)
    (child,) = children(server)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(size, server, HANGS)
        wait_for(lambda: state(child) == "R")
        server.kill()
        assert isinstance(asked.exception(), httpx.HTTPError)
    wait_for(lambda: state(child) in (None, "Z"))


def state(process: int) -> str | None:
    """How a process does, as ps shows it; None when there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return None


def test_what_hangs_is_stopped_and_whoever_waits_is_told_when_its_time_is_over(
    trapped: Path, serve: Serve
) -> None:
    server = serve(trapped)
    with ThreadPoolExecutor(QUEUE + 2) as pool:
        begun = time.monotonic()
        hanging = pool.submit(size, server, HANGS)
        wait_for(lambda: _is_asked(server))
        late = [pool.submit(size, server, CRASHES, **{"X-Everloop-Timeout-Ms": "300"}) for _ in range(2)]
        for reply in [one.result() for one in late]:
            assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
            record = server.record(reply)
            assert (record.status, record.error) == ("failed", "deadline_exceeded: no answer within 300 ms")
        more = [pool.submit(size, server, GOOD) for _ in range(QUEUE + 1)]
        assert server.predict().status_code == 200
        assert time.monotonic() - begun < APART.hang_s
        assert "did not answer in time" in str(server.record(hanging.result()).error)
        # the queue had room for all but one beside what hung; and nobody asked what would have crashed
        answers = Counter(one.result().json().get("error", {}).get("code") for one in more)
        assert answers == {None: QUEUE - 1, "overloaded": 2}


def _is_asked(server: Server) -> bool:
    """Whether the model's process is at work, and for longer than a good answer takes."""
    (child,) = children(server)
    for _ in range(5):
        if state(child) != "R":
            return False
        time.sleep(0.05)
    return True


def test_an_endpoint_has_a_deadline_of_its_own_and_a_client_cannot_ask_for_more(
    home: Path, serve: Serve
) -> None:
    server = serve(home)
    server.wait_for_epoch(go_live(home, ("control", 100), limits=Limits(deadline_ms=200, wait_ms=9_000)))
    begun = time.monotonic()
    body = {"inputs": {"title": "a fridge"}}
    headers = {"X-Everloop-Timeout-Ms": "60000"}
    reply = server.client.post("/endpoints/category/predict", json=body, headers=headers)
    record = server.record(reply)
    assert (reply.status_code, record.error) == (504, "deadline_exceeded: no answer within 200 ms")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan"])
def test_a_timeout_that_is_none_is_refused(home: Path, serve: Serve, text: str) -> None:
    server = serve(home)
    reply = server.client.post(
        "/endpoints/category/predict",
        json={"inputs": {"title": "a fridge"}},
        headers={"X-Everloop-Timeout-Ms": text},
    )
    assert reply.status_code == 422
    assert "number of milliseconds above 0" in reply.json()["error"]["message"]


def test_changing_limits_under_load_loses_no_request(home: Path, serve: Serve) -> None:
    server = serve(home)
    done = False

    def ask() -> Counter[int]:
        codes: Counter[int] = Counter()
        while not done:
            codes[server.predict().status_code] += 1
        return codes

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for limits in (APART, Limits(batch_rows=2), Limits(deadline_ms=5_000), Limits()):
            server.wait_for_epoch(go_live(home, ("control", 100), limits=limits))
        done = True
        assert sum((one.result() for one in asking), Counter[int]()).keys() == {200}


@pytest.mark.parametrize(
    "limits", [{"queue": 0}, {"memory_mb": 1}, {"deadline_ms": -5}, {"batch_rows": 0}, {"wait_ms": 1e9}]
)
def test_a_limit_that_makes_no_sense_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=f"{next(iter(limits))} is .*; it is .*Give another"):
        Limits(**limits)


def test_routes_from_before_there_were_limits_are_read() -> None:
    old = b'{"endpoint":"a","salt":"s","variants":[]}'
    assert msgspec.json.decode(old, type=Route).limits == Limits()
