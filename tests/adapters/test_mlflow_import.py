"""Moving in from MLflow: what comes over, once, and what is said of the rest."""

from __future__ import annotations

import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from everloop import registry, tracking
from everloop.adapters import Carried, import_mlflow
from everloop.errors import Denied, Invalid, NotFound, NotReady
from everloop.tracking import Run
from everloop.workspace import Workspace
from tests.adapters.sources import MLFLOW, mlflow_folder, mlflow_run, write, written_by
from tests.conftest import simulation
from tests.peer import peer


def told(carried: Carried, what: str) -> str:
    """Why something was left out."""
    return " ".join(one.why for one in carried.left_out if one.what == what)


# of each run by its id: the run, its points, its files with their digests
Whole = dict[str, tuple[Run, list[tuple[object, ...]], list[tuple[str, str]]]]


def everything(ws: Workspace) -> Whole:
    """All that is here of runs."""
    found: Whole = {}
    for run in tracking.runs(ws, limit=10_000):
        points: list[tuple[object, ...]] = [
            (one.name, repr(one.value), one.step, one.at)
            for name in run.metrics
            for one in tracking.metric_history(ws, run.id, name, limit=100_000)
        ]
        files = [(one.path, one.digest) for one in tracking.artifacts(ws, run.id)]
        found[run.id] = (replace(run, actor=""), points, files)
    return found


def test_a_run_comes_over_as_it_was(any_ws: Workspace, tmp_path: Path) -> None:
    carried = import_mlflow(any_ws, str(mlflow_folder(tmp_path, 1)))
    (run,) = tracking.runs(any_ws)
    assert (carried.new_runs, carried.points, carried.files, carried.left_out) == (1, 3, 1, ())
    assert run.mlflow_id == f"{0:032x}"
    assert (run.experiment, run.name, run.status, run.client_user) == ("prices", "run 0", "finished", "ana")
    assert run.started_at.timestamp() == 1_700_000_000
    assert run.ended_at is not None
    assert (run.ended_at - run.started_at).total_seconds() == 5
    assert run.params == {"lr": "0.0"}
    assert run.tags["owner"] == "ana"
    assert [point.step for point in tracking.metric_history(any_ws, run.id, "loss")] == [0, 1, 2]
    assert tracking.read_artifact(any_ws, run.id, "notes/hello.txt") == b"hello 0"


def test_what_was_deleted_there_comes_only_when_asked_for_and_stays_deleted(
    any_ws: Workspace, tmp_path: Path
) -> None:
    source = mlflow_folder(tmp_path, 2)
    about = source / "1" / f"{0:032x}" / "meta.yaml"
    about.write_text(about.read_text().replace("lifecycle_stage: active", "lifecycle_stage: deleted"))
    assert import_mlflow(any_ws, str(source)).new_runs == 1
    assert import_mlflow(any_ws, str(source), with_deleted=True).new_runs == 1
    assert [one.mlflow_id for one in tracking.runs(any_ws)] == [f"{1:032x}"]
    gone = tracking.run(any_ws, f"run_{0:032x}")
    assert (gone.deleted_at is not None, gone.params) == (True, {"lr": "0.0"})
    assert import_mlflow(any_ws, str(source), with_deleted=True).new_runs == 0


def test_a_second_import_changes_nothing(any_ws: Workspace, tmp_path: Path) -> None:
    source = str(mlflow_folder(tmp_path, 3))
    import_mlflow(any_ws, source)
    before = everything(any_ws)
    again = import_mlflow(any_ws, source)
    assert (again.new_runs, again.changed_runs, again.known_runs, again.points, again.files) == (
        0,
        0,
        3,
        0,
        0,
    )
    assert everything(any_ws) == before


def test_a_second_import_adds_what_is_new(ws: Workspace, tmp_path: Path) -> None:
    source = mlflow_folder(tmp_path, 2)
    import_mlflow(ws, str(source))
    run = source / "1" / f"{1:032x}"
    with (run / "metrics" / "loss").open("a") as file:
        file.write("1700000009000 0.01 9\n")
    write(run / "artifacts" / "more.txt", "more")
    write(run / "tags" / "owner", "ben")
    mlflow_run(source / "1", 2)
    again = import_mlflow(ws, str(source))
    assert (again.new_runs, again.changed_runs, again.known_runs, again.points, again.files) == (
        1,
        1,
        1,
        4,
        2,
    )
    changed = tracking.run(ws, f"run_{run.name}")
    assert changed.tags["owner"] == "ben"
    assert changed.metrics["loss"] == 0.01


def test_a_file_that_came_late_is_found_though_its_run_says_nothing(ws: Workspace, tmp_path: Path) -> None:
    source = mlflow_folder(tmp_path, 1)
    import_mlflow(ws, str(source))
    write(source / "1" / f"{0:032x}" / "artifacts" / "late.txt", "late")
    assert import_mlflow(ws, str(source)).files == 1


def test_a_dry_run_counts_and_changes_nothing(ws: Workspace, tmp_path: Path) -> None:
    would = import_mlflow(ws, str(mlflow_folder(tmp_path, 2)), is_dry_run=True)
    assert (would.new_runs, would.files, would.is_dry_run) == (2, 2, True)
    assert tracking.runs(ws) == []


def test_a_part_finds_the_run_that_it_is_part_of_though_it_comes_first(ws: Workspace, tmp_path: Path) -> None:
    source = mlflow_folder(tmp_path, 3)
    write(source / "1" / f"{0:032x}" / "tags" / "mlflow.parentRunId", f"{2:032x}")
    write(source / "1" / f"{1:032x}" / "tags" / "mlflow.parentRunId", "f" * 32)
    carried = import_mlflow(ws, str(source))
    assert tracking.run(ws, f"run_{0:032x}").parent == f"run_{2:032x}"
    assert "was not imported" in told(carried, "parent of a run")


def test_runs_that_are_part_of_each_other_do_not_close_a_circle(ws: Workspace, tmp_path: Path) -> None:
    source = mlflow_folder(tmp_path, 2)
    for one, other in ((0, 1), (1, 0)):
        write(source / "1" / f"{one:032x}" / "tags" / "mlflow.parentRunId", f"{other:032x}")
    carried = import_mlflow(ws, str(source))
    assert "part of itself" in told(carried, "parent of a run")
    assert sorted(run.parent is None for run in tracking.runs(ws)) == [False, True]


def test_a_run_that_was_made_here_is_left_alone(ws: Workspace, tmp_path: Path) -> None:
    tracking.start_run(ws, name="ours", run_id=f"run_{0:032x}")
    carried = import_mlflow(ws, str(mlflow_folder(tmp_path, 1)))
    assert "made here" in told(carried, "run")
    assert tracking.run(ws, f"run_{0:032x}").name == "ours"


def test_what_is_too_long_is_kept_as_a_file_and_told(ws: Workspace, tmp_path: Path) -> None:
    source = mlflow_folder(tmp_path, 1)
    write(source / "1" / f"{0:032x}" / "params" / "long", "x" * 7_000)
    carried = import_mlflow(ws, str(source))
    assert "import/too-long.json" in told(carried, "parameter")
    assert b"x" * 7_000 in tracking.read_artifact(ws, f"run_{0:032x}", "import/too-long.json")


def test_files_outside_of_the_store_are_not_read(ws: Workspace, tmp_path: Path) -> None:
    write(tmp_path / "secret" / "key.txt", "secret")
    source = mlflow_folder(tmp_path / "store", 2)
    outside, linked = source / "1" / f"{0:032x}", source / "1" / f"{1:032x}"
    (outside / "artifacts" / "notes" / "hello.txt").unlink()
    (outside / "artifacts" / "notes").rmdir()
    (outside / "artifacts").rmdir()
    meta = (outside / "meta.yaml").read_text()
    (outside / "meta.yaml").write_text(
        meta.replace(f"artifact_uri: {outside}/artifacts", f"artifact_uri: {tmp_path}/secret")
    )
    (linked / "artifacts" / "link").symlink_to(tmp_path / "secret" / "key.txt")
    carried = import_mlflow(ws, str(source))
    assert carried.files == 1
    assert "outside of the store" in told(carried, "files")
    assert "symbolic link" in told(carried, "file")
    named = import_mlflow(ws, str(source), artifacts=tmp_path / "secret")
    assert named.files == 1


def test_a_project_that_the_store_lies_in_is_not_read(ws: Workspace, tmp_path: Path) -> None:
    write(tmp_path / ".env", "PASSWORD=secret")
    source = mlflow_folder(tmp_path, 1)
    run = source / "1" / f"{0:032x}"
    (run / "artifacts").rename(run / "moved")
    meta = (run / "meta.yaml").read_text()
    for place in (str(tmp_path), "..", f"file://{tmp_path}", f"{tmp_path}/mlruns/../."):
        (run / "meta.yaml").write_text(
            meta.replace(f"artifact_uri: {run}/artifacts", f"artifact_uri: {place}")
        )
        assert import_mlflow(ws, str(source)).files == 0


@pytest.mark.parametrize("place", ["s3://bucket/a", "file://host/a", "http://[", '"\\0"', "x" * 5_000])
def test_an_address_that_cannot_be_read_here_is_told(ws: Workspace, tmp_path: Path, place: str) -> None:
    source = mlflow_folder(tmp_path, 1)
    run = source / "1" / f"{0:032x}"
    (run / "artifacts").rename(run / "moved")
    meta = (run / "meta.yaml").read_text()
    (run / "meta.yaml").write_text(meta.replace(f"artifact_uri: {run}/artifacts", f"artifact_uri: {place}"))
    carried = import_mlflow(ws, str(source))
    assert (carried.new_runs, carried.points, carried.files) == (1, 3, 0)
    assert [one.what for one in carried.left_out] in (["files"], [])


def test_versions_keep_their_numbers_and_what_was_decided_here_stays(ws: Workspace, tmp_path: Path) -> None:
    source = mlflow_folder(tmp_path, 2)
    model = source / "models" / "price"
    write(model / "meta.yaml", "name: price\n")
    for number, run in ((3, 0), (7, 1)):
        files = source / "1" / f"{run:032x}" / "artifacts"
        write(
            model / f"version-{number}" / "meta.yaml",
            f"version: {number}\nsource: {files}/notes\nrun_id: {run:032x}\n",
        )
    write(model / "aliases" / "champion", "7")
    carried = import_mlflow(ws, str(source))
    assert (carried.models, carried.versions) == (1, 2)
    assert [(one.number, one.run, list(one.files)) for one in registry.versions(ws, "price")] == [
        (7, f"run_{1:032x}", ["hello.txt"]),
        (3, f"run_{0:032x}", ["hello.txt"]),
    ]
    registry.alias(ws, "price", "champion", "price@3")
    again = import_mlflow(ws, str(source))
    assert (again.models, again.versions) == (0, 0)
    assert "it means version 3 here" in told(again, "alias")
    assert registry.aliases(ws, "price") == {"champion": 3}


def test_a_number_that_another_version_has_here_is_told(ws: Workspace, tmp_path: Path) -> None:
    source = mlflow_folder(tmp_path, 1)
    files = {"model.bin": ws.blobs.put(b"ours")}
    registry.register(ws, "price", run=None, files=files, signature=None, metrics={})
    write(source / "models" / "price" / "meta.yaml", "name: price\n")
    place = source / "1" / f"{0:032x}" / "artifacts"
    write(source / "models" / "price" / "version-1" / "meta.yaml", f"version: 1\nsource: {place}\n")
    carried = import_mlflow(ws, str(source))
    assert "price@1 is another model here" in told(carried, "version of a model")
    assert dict(registry.version(ws, "price@1").files) == files


def test_a_damaged_line_is_told_and_the_others_come(ws: Workspace, tmp_path: Path) -> None:
    source = mlflow_folder(tmp_path, 1)
    with (source / "1" / f"{0:032x}" / "metrics" / "loss").open("a") as file:
        file.write("17000000")
    carried = import_mlflow(ws, str(source))
    assert carried.points == 3
    assert "damaged" in told(carried, "point of a metric")


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nothing.db", NotFound, "there is no file or folder"),
        ("empty", Invalid, "none of its folders has a meta.yaml"),
        ("text.db", Invalid, "no sound SQLite database"),
        ("other.db", Invalid, "without MLflow's tables"),
        ("postgresql://host/db", Invalid, "is no source of an import"),
        ("http://127.0.0.1:9", NotReady, "does not answer"),
    ],
)
def test_what_is_nothing_of_mlflows_is_refused(
    ws: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.db").write_text("no database" * 100)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE other (x)").connection.close()
    with pytest.raises(error, match=message):
        import_mlflow(ws, source)
    assert tracking.runs(ws) == []


def test_an_experiment_that_is_not_there_is_named(ws: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no experiment 'other'.*prices"):
        import_mlflow(ws, str(mlflow_folder(tmp_path, 1)), experiments=["other"])


class _Refuses(BaseHTTPRequestHandler):
    """A server that wants a token, and with one sends on to another."""

    def do_POST(self) -> None:
        knows = self.headers.get("Authorization") in ("Bearer right", "Basic YW5hOnJpZ2h0")
        self.send_response(302 if knows else 401)
        self.send_header("Location", "http://169.254.169.254/latest")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name there)
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_server_that_wants_to_know_who_asks_is_told_by_the_remedy(ws: Workspace, refusing: str) -> None:
    with pytest.raises(Denied, match="MLFLOW_TRACKING_TOKEN"):
        import_mlflow(ws, refusing)


@pytest.mark.parametrize("who", [{"token": "right"}, {"username": "ana", "password": "right"}])
def test_another_host_is_never_asked(ws: Workspace, refusing: str, who: dict[str, str]) -> None:
    with pytest.raises(Invalid, match=r"sends on to 'http://169\.254"):
        import_mlflow(ws, refusing, **who)  # type: ignore[arg-type]  # names of arguments


@pytest.mark.slow
def test_an_import_that_is_killed_again_and_again_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    source = mlflow_folder(tmp_path, 200, points=40)
    mlflow_run(source / "1", 100, points=20_000)  # several transactions
    with simulation(tmp_path / "whole") as ws:
        import_mlflow(ws, str(source))
        expected = everything(ws)
    with simulation(tmp_path / "home") as ws:
        for runs in (5, 90, 102, 150):
            command = [
                sys.executable,
                "-m",
                "everloop",
                "--home",
                str(ws.home),
                "import",
                "mlflow",
                str(source),
            ]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                deadline = time.monotonic() + 60
                while len(tracking.runs(ws, limit=10_000)) < runs and time.monotonic() < deadline:
                    time.sleep(0.002)
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
                assert process.returncode == -signal.SIGKILL
        import_mlflow(ws, str(source))
        assert everything(ws) == expected


def _real(environment: str, folder: Path, kind: str) -> str:
    folder.mkdir()
    uri = f"sqlite:///{folder}/mlflow.db" if kind == "sqlite" else str(folder / "mlruns")
    # the store's default place for files is the folder that the client runs in
    written_by(
        environment, f"import os; os.chdir({str(folder)!r})" + MLFLOW.replace("\n    ", "\n"), uri, "model"
    )
    return uri


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Stores that MLflow itself made, by its version and their kind; made when they are asked for."""
    return {}


@pytest.fixture(
    params=["trackers sqlite", "trackers_oldest sqlite", "trackers folder", "trackers_oldest folder"]
)
def store(
    request: pytest.FixtureRequest, stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    if request.param not in stores:
        environment, kind = request.param.split()
        stores[request.param] = _real(environment, tmp_path_factory.mktemp("mlflow") / "store", kind)
    return stores[request.param]


def _check_all_is_here(ws: Workspace, carried: Carried) -> None:
    by_name = {run.name: run for run in tracking.runs(ws)}
    assert {name: run.status for name, run in by_name.items()} == {
        "parent": "finished", "child": "finished", "failed": "failed", "running": "running",
    }  # fmt: skip
    parent = by_name["parent"]
    assert by_name["child"].parent == parent.id
    assert parent.params == {"lr": "0.1", "depth": "4"}
    assert parent.tags["owner"] == "ana"
    assert parent.tags["mlflow.note.content"] == "the first try"
    assert [one.value for one in tracking.metric_history(ws, parent.id, "loss")] == [
        1 / step for step in range(1, 6)
    ]
    odd = [one.value for one in tracking.metric_history(ws, parent.id, "odd")]
    assert math.isnan(odd[0])
    assert odd[1] == math.inf
    assert tracking.read_artifact(ws, parent.id, "notes/hello.txt") == b"hello"
    read = tracking.found_run(ws, parent.id).datasets
    assert [(one.dataset.name, one.tags["mlflow.data.context"]) for one in read] == [("rows", "training")]
    assert tracking.experiment_named(ws, "prices").tags == {"team": "listings"}
    assert [one.number for one in registry.versions(ws, "price")] == [3, 1]
    assert registry.aliases(ws, "price") == {"champion": 3}
    version = registry.version(ws, "price@champion")
    assert version.run == parent.id
    assert "MLmodel" in version.files
    assert (carried.new_runs, carried.models, carried.versions) == (4, 1, 2)
    assert "gates" in told(carried, "stage of a version")
    assert (registry.model(ws, "price").description, registry.model(ws, "price").tags) == (
        "of listings",
        {"unit": "EUR"},
    )
    assert (version.description, version.tags) == ("the third", {"checked": "yes"})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_store_comes_over_whole_and_once(ws: Workspace, store: str) -> None:
    _check_all_is_here(ws, import_mlflow(ws, store))
    again = import_mlflow(ws, store)
    assert (again.new_runs, again.changed_runs, again.points, again.files, again.versions) == (0, 0, 0, 0, 0)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("environment", ["trackers", "trackers_oldest"])
def test_a_running_server_gives_what_its_database_holds(
    ws: Workspace, stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory, environment: str
) -> None:
    key = f"{environment} sqlite"
    if key not in stores:
        stores[key] = _real(environment, tmp_path_factory.mktemp("mlflow") / "store", "sqlite")
    with _served(environment, stores[key]) as address:
        _check_all_is_here(ws, import_mlflow(ws, address))
        again = import_mlflow(ws, address)
    assert (again.new_runs, again.changed_runs, again.points, again.files, again.versions) == (0, 0, 0, 0, 0)
    with simulation(ws.home.parent / "other") as other:
        import_mlflow(other, stores[key])
        assert _said(other) == _said(ws)


def _said(ws: Workspace) -> list[str]:
    """What is here of runs, without the state that their source was in, which is told differently."""
    found = []
    for run, points, files in everything(ws).values():
        tags = {name: text for name, text in run.tags.items() if name != "everloop.import.state"}
        own = [one for one in files if not one[0].startswith("import/")]
        found.append(repr((replace(run, tags=tags), points, own)))
    return sorted(found)


@contextmanager
def _served(environment: str, store: str) -> Iterator[str]:
    """The address of an MLflow server on a store, stopped afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands = peer(environment)
    command = [
        str(commands / "mlflow"),
        "server",
        "--backend-store-uri",
        store,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    settings = {
        "PATH": f"{commands}:/usr/bin:/bin",
        "HOME": str(Path(store.removeprefix("sqlite:///")).parent),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    process = subprocess.Popen(
        command, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not _answers(address):
            assert process.poll() is None, "MLflow's server ended"
            assert time.monotonic() < deadline, "MLflow's server does not answer"
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it and its workers
        process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
