"""A serving process among changes: routes move, processes die, disks fill up. Real processes, real signals."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from everloop.predictions import LogPolicy, log
from everloop.serving import Segment, Variant, acknowledged, not_loaded, read_routes, workers
from everloop.serving.records import Worker
from tests.serving.home import go_live, picky_model, title_model, write_release
from tests.serving.records import route
from tests.serving.server import Server, wait_for
from tests.serving.traffic import Traffic

Serve = Callable[..., Server]


@pytest.mark.parametrize("durable", [False, True])
def test_after_a_kill_no_answered_prediction_is_missing(home: Path, serve: Serve, durable: bool) -> None:
    answered: list[str] = []
    for _ in range(3):
        server = serve(home, settings={"log_fsync": durable})
        traffic = Traffic(server)
        with traffic.flowing():
            server.kill()
        answered += [one["prediction_id"] for one in traffic.answered]
        assert traffic.lost  # it was killed in the middle of traffic
    table = log.read(home / "serving")
    logged = table["id"].to_pylist()
    assert len(logged) == len(set(logged))
    assert set(answered) <= set(logged)
    assert set(table["status"].to_pylist()) == {"ok"}
    log.seal(home / "serving")
    assert Counter(log.read(home / "serving")["id"].to_pylist()) == Counter(logged)


def test_a_change_of_routes_under_load_loses_no_request(home: Path, serve: Serve) -> None:
    server = serve(home)
    traffic = Traffic(server)
    with traffic.flowing():
        for _ in range(4):
            for release in ("canary", "control"):
                epoch = go_live(home, (release, 100))
                server.wait_for_epoch(epoch)
                asked = server.predict().json()  # whoever asks after the acknowledgement gets the new route
                assert asked["variant"] == release
                assert asked["output"] == ("Freezers" if release == "canary" else "Fridges")
    assert (traffic.errors, traffic.lost) == ([], 0)
    assert {one["variant"] for one in traffic.answered} == {"control", "canary"}
    for one in traffic.answered:
        assert one["version"] == (1 if one["variant"] == "control" else 2)
        assert one["output"] == ("Fridges" if one["variant"] == "control" else "Freezers")
    epochs = (
        log.read(home / "serving", columns=["epoch", "variant"]).group_by(["epoch", "variant"]).aggregate([])
    )
    assert Counter(epochs["epoch"].to_pylist()) == Counter(range(1, 10))  # one variant an epoch, none mixed


def test_a_canary_gets_its_share_and_keys_stay(home: Path, serve: Serve) -> None:
    server = serve(home)
    server.wait_for_epoch(go_live(home, ("control", 80), ("canary", 20), stickiness="key"))
    keys = [f"merchant {number}" for number in range(1000)]

    def dealt() -> dict[str, str]:
        instances = [{"inputs": {"title": "a fridge"}, "key": key} for key in keys]
        reply = server.client.post("/endpoints/category/predict", json={"instances": instances})
        return dict(zip(keys, [one["variant"] for one in reply.json()["predictions"]], strict=True))

    first = dealt()
    assert 150 < Counter(first.values())["canary"] < 250
    assert dealt() == first
    server.wait_for_epoch(go_live(home, ("control", 50), ("canary", 50), stickiness="key"))
    second = dealt()
    assert {key for key in keys if first[key] == "canary"} < {key for key in keys if second[key] == "canary"}


def test_an_input_is_the_key_of_a_request_that_names_none(home: Path, serve: Serve) -> None:
    server = serve(home)
    split = {"stickiness": "key", "key": "title"}
    server.wait_for_epoch(go_live(home, ("control", 50), ("canary", 50), **split))
    dealt = {title: {server.predict(title).json()["variant"] for _ in range(5)} for title in "abcdefghij"}
    assert {len(variants) for variants in dealt.values()} == {1}
    assert set().union(*dealt.values()) == {"control", "canary"}
    assert server.record(server.predict("a")).key == "a"
    assert server.record(server.predict("a", key="named")).key == "named"


def test_the_rows_of_a_request_are_dealt_together(home: Path, serve: Serve) -> None:
    server = serve(home)
    server.wait_for_epoch(go_live(home, ("control", 50), ("canary", 50)))
    body = {"instances": [{"inputs": {"title": "a fridge"}, "key": key} for key in range(20)]}
    dealt = []
    for _ in range(20):
        answers = server.client.post("/endpoints/category/predict", json=body).json()["predictions"]
        dealt.append({answer["variant"] for answer in answers})
    assert {len(variants) for variants in dealt} == {1}
    assert set().union(*dealt) == {"control", "canary"}
    requests = log.read(home / "serving", columns=["request", "variant"]).group_by("request").aggregate([])
    assert requests.num_rows == 20


def test_a_shadow_answers_into_the_log_only(home: Path, serve: Serve) -> None:
    server = serve(home)
    server.wait_for_epoch(go_live(home, ("control", 100), shadow=route(("canary", 100)).variants))
    reply = server.predict(key=7)
    assert reply.json()["output"] == "Fridges"
    wait_for(lambda: log.read(server.folder).num_rows == 2)
    answered, shadow = server.records()
    assert (answered.variant, answered.shadow_of) == ("control", None)
    assert (shadow.variant, shadow.output, shadow.shadow_of, shadow.key) == (
        "canary",
        "Freezers",
        answered.id,
        "7",
    )


def test_copies_that_wait_are_answered_before_their_version_is_let_go(home: Path, serve: Serve) -> None:
    server = serve(home)
    server.wait_for_epoch(go_live(home, ("control", 100), shadow=route(("canary", 100)).variants))
    traffic = Traffic(server, clients=8)
    with traffic.flowing():
        traffic.wait_for_more(100)
        server.wait_for_epoch(go_live(home, ("control", 100)))
    server.stop()
    assert traffic.errors == []
    copies = Counter(one.shadow_of for one in server.records() if one.shadow_of is not None)
    answered = [one for one in server.records() if one.shadow_of is None]
    assert set(copies.values()) == {1}
    assert len(copies) >= 100
    assert copies.keys() <= {one.id for one in answered}
    assert {one.status for one in server.records()} == {"ok"}


def test_a_version_that_is_kept_warm_is_loaded_before_the_epoch_counts_and_answers_nobody(
    home: Path, serve: Serve
) -> None:
    write_release(home, "rel_broken", picky_model(), classes=("Freezers", "Fridges"))
    server = serve(home)
    server.wait_for_epoch(go_live(home, ("control", 100), shadow=route(("canary", 0)).variants))
    for _ in range(5):
        server.predict()
    assert {(one.variant, one.shadow_of) for one in server.records()} == {("control", None)}
    go_live(home, ("control", 100), shadow=route(("broken", 0)).variants)
    wait_for(lambda: server.worker().error is not None)
    assert acknowledged(server.folder) == server.worker().epoch == 2


def test_requests_outside_a_segment_are_answered_by_the_rest(home: Path, serve: Serve) -> None:
    server = serve(home)
    segment = {"segments": (Segment("title", ("a fridge",)),), "rest": Variant("rest", "rel_control", 0)}
    server.wait_for_epoch(go_live(home, ("canary", 100), **segment))
    titles = ("a fridge", "a kettle", "a fridge")
    said = [server.predict(title).json()["variant"] for title in titles]
    assert said == ["canary", "rest", "canary"]


def test_a_shadow_that_fails_harms_nobody(home: Path, serve: Serve) -> None:
    write_release(home, "rel_picky", title_model(columns=1), classes=("Freezers", "Fridges"), version=3)
    server = serve(home, queue_limit=1)
    server.wait_for_epoch(go_live(home, ("control", 100), shadow=route(("picky", 100)).variants))
    with ThreadPoolExecutor(4) as pool:
        codes = Counter(reply.status_code for reply in pool.map(lambda _: server.predict(), range(20)))
    assert codes[200]
    wait_for(lambda: log.read(server.folder).num_rows == 40)
    shadows = [one for one in server.records() if one.shadow_of]
    assert len(shadows) == 20


def test_a_release_that_cannot_be_loaded_leaves_the_old_one_serving(home: Path, serve: Serve) -> None:
    server = serve(home)
    broken = write_release(
        home, "rel_broken", picky_model(), classes=("Freezers", "Fridges")
    )  # takes two columns
    go_live(home, ("broken", 100))
    wait_for(lambda: server.worker().error is not None)
    assert "takes 2 columns" in str(server.worker().error)
    assert "takes 2 columns" in server.said
    assert (server.worker().epoch, acknowledged(server.folder)) == (1, 1)
    assert server.predict().json()["variant"] == "control"
    assert server.client.get("/ready").status_code == 503
    epoch = go_live(home, ("canary", 100))
    server.wait_for_epoch(epoch)
    assert server.worker().error is None
    assert server.predict().json()["variant"] == "canary"
    assert broken.id not in {one.release for one in server.records()}


def test_a_blob_that_comes_late_is_tried_again(home: Path, serve: Serve) -> None:
    server = serve(home)
    manifest = write_release(home, "rel_late", title_model(reverse=True), version=4)
    digest = manifest.digest
    blob = home / "blobs" / digest[:2] / digest[2:]
    content = blob.read_bytes()
    blob.unlink()
    epoch = go_live(home, ("late", 100))
    wait_for(lambda: "is not among the blobs" in str(server.worker().error))
    blob.write_bytes(content)
    server.wait_for_epoch(epoch)


def test_one_broken_endpoint_does_not_keep_the_others_from_starting(home: Path, serve: Serve) -> None:
    table = read_routes(home / "serving")
    assert table is not None
    spoilt = msgspec.structs.replace(
        table,
        endpoints={
            **table.endpoints,
            "price": msgspec.structs.replace(route(("gone", 100)), endpoint="price"),
        },
    )
    (home / "serving" / "routes.json").write_bytes(msgspec.json.encode(spoilt))
    server = serve(home, ready=False)
    wait_for(lambda: server.worker().error is not None)
    assert server.predict().status_code == 200
    reply = server.predict(endpoint="price")
    assert reply.status_code == 503
    assert "no release 'rel_gone'" in reply.json()["error"]["message"]
    assert server.worker().epoch is None
    assert "no release 'rel_gone'" in str(not_loaded(server.folder, "price", epoch=1))
    assert not_loaded(server.folder, "category", epoch=1) is None


def test_a_broken_route_file_changes_nothing(home: Path, serve: Serve) -> None:
    server = serve(home)
    (home / "serving" / "routes.json").write_text("{")
    wait_for(lambda: server.worker().error is not None)
    assert server.predict().status_code == 200
    assert server.worker().epoch == 1


def test_a_route_file_that_is_gone_stops_nothing(home: Path, serve: Serve) -> None:
    server = serve(home)
    (home / "serving" / "routes.json").unlink()
    wait_for(lambda: "is gone" in str(server.worker().error))
    assert server.predict().status_code == 200


def test_two_processes_serve_one_home_side_by_side(home: Path, serve: Serve) -> None:
    first, second = serve(home), serve(home)
    asked = [server.record(server.predict()) for _ in range(5) for server in (first, second)]
    assert first.writer != second.writer
    assert len(first.records()) == len({one.id for one in asked}) == 10
    epoch = go_live(home, ("canary", 100))
    wait_for(lambda: acknowledged(home / "serving") == epoch)
    assert {server.predict().json()["variant"] for server in (first, second)} == {"canary"}
    first.kill()
    assert [worker.writer for worker in workers(home / "serving")] == [second.writer]


def test_a_disk_that_fills_up_gives_errors_and_no_unlogged_answer(home: Path) -> None:
    with full_disk(home) as (client, log_folder):
        replies = [ask(client) for _ in range(400)]
        logged = set(log.read(log_folder)["id"].to_pylist())
    assert Counter(reply.status_code for reply in replies).keys() == {200, 503}
    answered = {reply.json()["prediction_id"] for reply in replies if reply.status_code == 200}
    assert answered == logged
    refusal = replies[-1].json()["error"]
    assert refusal["code"] == "storage_failed"
    assert "Free space" in refusal["message"]


def test_a_disk_that_fills_up_is_served_without_where_that_is_asked_for_and_said_everywhere(
    home: Path,
) -> None:
    go_live(home, ("control", 100), log=LogPolicy(when_full="serve"))
    with full_disk(home) as (client, log_folder):
        replies = [ask(client) for _ in range(400)]
        logged = set(log.read(log_folder)["id"].to_pylist())
        unlogged = [reply for reply in replies if "x-everloop-not-logged" in reply.headers]
        assert {reply.status_code for reply in replies} == {200}
        assert logged == {reply.json()["prediction_id"] for reply in replies if reply not in unlogged}
        assert "Free space" in client.get("/ready").json()["log_error"]
        told = {"category": len(unlogged)}
        wait_for(lambda: [one.unlogged for one in _workers(home)] == [told])
        next(log_folder.glob("log/*/*.log")).write_bytes(b"")  # somebody makes room
        assert "x-everloop-not-logged" not in ask(client).headers
        wait_for(lambda: all(one.log_error is None for one in _workers(home)))


def ask(client: httpx.Client) -> httpx.Response:
    return client.post("/endpoints/category/predict", json={"inputs": {"title": "a fridge"}})


@contextmanager
def full_disk(home: Path) -> Iterator[tuple[httpx.Client, Path]]:
    """A server whose log is on a small disk of its own, mounted for that one process; and where others see it."""
    unshare = shutil.which("unshare")
    if unshare is None or not _can_mount(unshare):
        pytest.skip(
            "mounting a small disk needs root and unshare; the full disk is tested in test_segments too"
        )
    (home / "serving" / "log").mkdir()
    code = (
        "import sys; from everloop.serving import run; from everloop.settings import load_settings\n"
        "run(load_settings(sys.argv[1]), port=0)"
    )
    mount = f"mount -t tmpfs -o size=64k none {home}/serving/log && exec {sys.executable} -c '{code}' {home}"
    with (home / "stderr.txt").open("wb") as stderr:
        process = subprocess.Popen([unshare, "-m", "sh", "-c", mount], stderr=stderr)
    try:
        worker = wait_for(lambda: _worker_of(home))
        with httpx.Client(base_url=f"http://127.0.0.1:{worker.port}", timeout=60) as client:
            wait_for(lambda: client.get("/ready").status_code == 200)
            yield client, Path(f"/proc/{process.pid}/root{home}/serving")
    finally:
        process.kill()
        process.wait()


def _can_mount(unshare: str) -> bool:
    probe = [unshare, "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0


def _workers(home: Path) -> list[Worker]:
    """What the processes say: whether they live is known by their locks, which are on the disk of their own."""
    found = (home / "serving" / "workers").glob("[0-9]*.json")
    return [msgspec.json.decode(path.read_bytes(), type=Worker) for path in found]


def _worker_of(home: Path) -> Worker | None:
    return next(iter(_workers(home)), None)


def test_a_slow_body_is_answered_by_the_routes_at_its_end(home: Path, serve: Serve) -> None:
    server = serve(home)
    switched = threading.Event()

    def body() -> Iterator[bytes]:
        yield b'{"inputs": '
        switched.wait(60)
        yield b'{"title": "a fridge"}}'

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.client.post, "/endpoints/category/predict", content=body())
        server.wait_for_epoch(go_live(home, ("canary", 100)))
        switched.set()
        assert asked.result().json()["variant"] == "canary"


def test_a_heartbeat_shows_that_a_process_is_not_stuck(home: Path, serve: Serve) -> None:
    server = serve(home)
    first = server.worker().seen_at
    wait_for(lambda: server.worker().seen_at > first)
    assert server.worker().started_at <= first
    assert time.time() - server.worker().seen_at.timestamp() < 60
