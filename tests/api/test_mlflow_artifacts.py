"""Files over MLflow's protocol, and attacks on them: real HTTP whose paths nothing tidies up on the way."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from http.client import HTTPMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from everloop import access, tracking
from everloop.tracking import Run
from everloop.workspace import Workspace
from tests.api.test_app import serve
from tests.conftest import simulation
from tests.registry.versions import register

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
PRESIGNED = "/api/2.0/mlflow/artifacts/presigned-upload-url"


@dataclass(frozen=True)
class Server:
    """A server and a run in it, spoken to without anything that changes a path."""

    ws: Workspace
    port: int
    run: Run

    @property
    def place(self) -> str:
        """The run's files, as the proxy calls them."""
        return f"{PROXY}/0/{self.run.mlflow_id}/artifacts"

    def ask(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, target, body or None, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, method: str, target: str, given: Any = None, *, status: int = 200) -> Any:
        found, _, body = self.ask(method, target, b"" if given is None else json.dumps(given).encode())
        assert found == status, body
        return json.loads(body)

    def files(self) -> dict[str, bytes]:
        files = tracking.artifacts(self.ws, self.run.id)
        return {one.path: tracking.read_artifact(self.ws, self.run.id, one.path) for one in files}


def started(ws: Workspace) -> Iterator[Server]:
    for client in serve(ws):
        assert client.base_url.port is not None
        yield Server(ws, client.base_url.port, tracking.start_client_run(ws, 0))


@pytest.fixture
def server(ws: Workspace) -> Iterator[Server]:
    yield from started(ws)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for attacks that leave no trace, if they fail: starting one for each would take most of the time."""
    with simulation(tmp_path_factory.mktemp("attacked") / "home") as ws:
        yield from started(ws)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("not for clients")
    return tmp_path / "root"


@pytest.fixture
def rooted(ws: Workspace, root: Path) -> Iterator[Server]:
    """A server whose clients write their files below a folder by themselves."""
    yield from started(replace(ws, settings=replace(ws.settings, artifact_root=root.as_uri())))


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_a_file_comes_back_as_it_was_sent(server: Server, size: int) -> None:
    sent = os.urandom(size)
    assert server.ask("PUT", f"{server.place}/bins/some%20file%C3%A9.bin", sent)[0] == 200
    status, headers, body = server.ask("GET", f"{server.place}/bins/some%20file%C3%A9.bin")
    assert (status, body, headers["Content-Length"]) == (200, sent, str(size))
    assert server.files() == {"bins/some fileé.bin": sent}
    assert not list((server.ws.home / "uploads").glob("*"))


def test_folders_are_listed_as_clients_and_pages_ask(server: Server) -> None:
    for path in ("a.txt", "deep/b.txt", "deep/er/c.txt"):
        server.ask("PUT", f"{server.place}/{path}", b"xyz")
    run_id = server.run.mlflow_id
    top = server.json("GET", f"/ajax-api/2.0/mlflow/artifacts/list?run_id={run_id}")
    assert top["root_uri"] == f"mlflow-artifacts:/0/{run_id}/artifacts"
    assert top["files"] == [
        {"path": "a.txt", "is_dir": False, "file_size": 3},
        {"path": "deep", "is_dir": True},
    ]
    deep = server.json("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run_id}&path=deep")
    assert [one["path"] for one in deep["files"]] == ["deep/b.txt", "deep/er"]
    behind = server.json("GET", f"{PROXY}?path=0/{run_id}/artifacts/deep")
    assert [one["path"] for one in behind["files"]] == ["b.txt", "er"]
    assert server.ask("GET", f"/get-artifact?run_uuid={run_id}&path=deep/b.txt")[2] == b"xyz"


def test_files_and_folders_are_removed(server: Server) -> None:
    for path in ("a.txt", "deep/b.txt", "deep/er/c.txt", "deeper.txt"):
        server.ask("PUT", f"{server.place}/{path}", b"x")
    assert server.ask("DELETE", f"{server.place}/deep")[0] == 200
    assert set(server.files()) == {"a.txt", "deeper.txt"}
    server.json("DELETE", f"{server.place}/deep", status=404)
    assert server.ask("DELETE", f"{server.place}/")[0] == 200
    assert server.files() == {}


def test_signed_addresses_are_refused_so_that_clients_go_on(server: Server) -> None:
    for method, path in (("GET", server.place.replace("artifacts/0", "presigned/0")), ("POST", PRESIGNED)):
        assert server.json(method, path, {}, status=404)["error_code"] == "ENDPOINT_NOT_FOUND"


def test_a_registered_version_is_read_and_never_written(server: Server) -> None:
    register(server.ws, b"a model")
    place = f"{PROXY}/versions/category/1"
    assert server.ask("GET", f"{place}/model.skops.zip")[2] == b"a model"
    listed = server.json("GET", f"{PROXY}?path=versions/category/1")["files"]
    assert [(one["path"], one["file_size"]) for one in listed] == [("MLmodel", 11), ("model.skops.zip", 7)]
    page = "/model-versions/get-artifact?name=category&version=1&path=MLmodel"
    assert server.ask("GET", page)[2] == b"flavors: {}"
    for method in ("PUT", "DELETE"):
        answer = server.json(method, f"{place}/MLmodel", {"flavors": "mine"}, status=403)
        assert "never changes" in answer["message"]
    assert server.ask("GET", f"{place}/MLmodel")[2] == b"flavors: {}"
    for other in (
        "category/2/MLmodel",
        "category/1/other",
        "category@1/MLmodel",
        "category/-1/x",
        "nobody/1/x",
    ):
        server.json("GET", f"{PROXY}/versions/{other}", status=404)


# Ways to say "another place", most of which somebody's server once followed.
ELSEWHERE = [
    "../../../secret",
    "..%2f..%2f..%2fsecret",
    "%2e%2e/%2e%2e/secret",
    "%2e%2e%2fsecret",
    "%252e%252e%252fsecret",
    "%25252e%25252e/secret",
    "..%252f..%252fsecret",
    "a/../../secret",
    "a/./b",
    "./a",
    "a//b",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "//etc/passwd",
    "..%5c..%5csecret",
    "..\\..\\secret",
    "%255c..%255csecret",
    "a%00b",
    "a%2500b",
    "..%00/secret",
    "%c0%ae%c0%ae/secret",
    "%c0%ae%c0%ae%c0%afsecret",
    "%e0%80%ae%e0%80%ae/secret",
    "%ef%bc%8e%ef%bc%8e/secret",
    "%e2%80%a5/secret",
    "a%ef%bc%bcb",
    "C:/secret",
    "c:secret",
    "C%3a%5csecret",
    "a%0d%0ab",
    "a%0ab",
    "%ed%a0%80",
    "x" * 501,
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_a_path_that_could_lead_elsewhere_is_refused(untouched: Server, path: str) -> None:
    server = untouched
    for method, body in (("PUT", b"planted"), ("GET", b""), ("DELETE", b"")):
        status, _, answer = server.ask(method, f"{server.place}/{path}", body)
        assert status in (400, 404), answer
    once = quote(path, safe="%/")
    for target in (
        f"/get-artifact?run_id={server.run.mlflow_id}&path={once}",
        f"{PROXY}?path=0/{server.run.mlflow_id}/artifacts/{once}",
        f"/api/2.0/mlflow/artifacts/list?run_id={server.run.mlflow_id}&path={once}",
        f"/model-versions/get-artifact?name=category&version=1&path={once}",
        f"{PROXY}/versions/category/1/{once}",
    ):
        status, _, answer = server.ask("GET", target)
        assert status in (400, 404) or json.loads(answer)["files"] == [], answer
    assert server.files() == {}


@pytest.mark.parametrize(
    "place",
    [
        "",
        "0",
        "etc/passwd",
        "0/{run}",
        "0/{run}/artifacts/../../{other}/artifacts/a",
        "0/{run}%2fartifacts%2f..%2f..%2f{other}%2fartifacts%2fa",
        "1/{run}/artifacts/a",
        "00/{run}/artifacts/a",
        "0/{run}/x/a",
        "0/run_{run}/artifacts/a",
        "0/models/{run}/artifacts/a",
        "0/{run}%00/artifacts/a",
        "file:///etc/passwd",
        "file:/etc/passwd",
        "http://169.254.169.254/latest",
        "s3://bucket/0/{run}/artifacts/a",
        "mlflow-artifacts:/0/{run}/artifacts/a",
        "C:/",
        "dbfs:/etc",
    ],
)
def test_only_the_very_place_of_a_run_is_one(untouched: Server, place: str) -> None:
    server, other = untouched, tracking.start_client_run(untouched.ws, 0)
    tracking.log_artifact(server.ws, other.id, "a", b"")
    told = place.format(run=server.run.mlflow_id, other=other.mlflow_id)
    for method in ("GET", "PUT", "DELETE"):
        status, _, answer = server.ask(method, f"{PROXY}/{told}", b"planted" if method == "PUT" else b"")
        assert status in (400, 404), answer
    assert server.ask("GET", f"{PROXY}?path={quote(told, safe='%/:')}")[0] in (400, 404)
    assert tracking.read_artifact(server.ws, other.id, "a") == b""
    assert server.files() == {}


def test_an_id_that_is_no_run_or_model_is_not_found(server: Server) -> None:
    for run in ("..", "%2e%2e", "x" * 60, "0%2f1", "", "run_0"):
        server.json(
            "GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}", status=404 if run == "run_0" else 400
        )
    for model in ("..", "%2e%2e", "m-0", "x%00y"):
        status, _, _ = server.ask("GET", f"/api/2.0/mlflow/logged-models/{model}/artifacts/directories")
        assert status in (400, 404)


def test_what_clients_keep_below_the_root_is_listed_read_and_removed(rooted: Server, root: Path) -> None:
    folder = root / "0" / rooted.run.mlflow_id / "artifacts"
    assert rooted.run.artifact_uri == folder.as_uri()
    listed = f"/api/2.0/mlflow/artifacts/list?run_id={rooted.run.mlflow_id}"
    assert rooted.json("GET", listed)["files"] == []
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("by the client")
    assert [one["path"] for one in rooted.json("GET", f"{listed}&path=deep")["files"]] == ["deep/a.txt"]
    assert (
        rooted.ask("GET", f"/get-artifact?run_id={rooted.run.mlflow_id}&path=deep/a.txt")[2]
        == b"by the client"
    )
    taken = tracking.gathered(rooted.ws, rooted.run.id)
    assert [(one.path, rooted.ws.blobs.get(one.digest)) for one in taken] == [
        ("deep/a.txt", b"by the client")
    ]
    tracking.remove_artifacts(rooted.ws, rooted.run.id, "deep")
    assert not (folder / "deep").exists()


def test_links_below_the_root_lead_nowhere(rooted: Server, root: Path) -> None:
    folder = root / "0" / rooted.run.mlflow_id / "artifacts"
    folder.mkdir(parents=True)
    (folder / "file").symlink_to(root.parent / "secret")
    (folder / "folder").symlink_to(root.parent)
    os.mkfifo(folder / "pipe")
    listed = f"/api/2.0/mlflow/artifacts/list?run_id={rooted.run.mlflow_id}"
    assert [one["path"] for one in rooted.json("GET", listed)["files"]] == ["pipe"]
    assert rooted.json("GET", f"{listed}&path=folder")["files"] == []
    for path in ("file", "folder/secret", "folder", "pipe", *ELSEWHERE):
        target = f"/get-artifact?run_id={rooted.run.mlflow_id}&path={quote(path, safe='%/')}"
        status, _, body = rooted.ask("GET", target)
        assert status in (400, 404)
        assert b"not for clients" not in body
    for above in ("..", "../..", "../../../..", "x/../.."):
        assert tracking.gathered(rooted.ws, rooted.run.id, below=above) == []
    tracking.remove_artifacts(rooted.ws, rooted.run.id)
    assert (root.parent / "secret").read_text() == "not for clients"


def test_a_run_whose_folder_is_a_link_out_of_the_root_is_not_read(rooted: Server, root: Path) -> None:
    (root.parent / "outside" / "artifacts").mkdir(parents=True)
    (root.parent / "outside" / "artifacts" / "a").write_text("not for clients")
    (root / "0").mkdir()
    (root / "0" / rooted.run.mlflow_id).symlink_to(root.parent / "outside")
    answer = rooted.json("GET", f"/get-artifact?run_id={rooted.run.mlflow_id}&path=a", status=404)
    assert answer["error_code"] == "RESOURCE_DOES_NOT_EXIST"


@pytest.mark.parametrize(
    "elsewhere",
    [
        "file:///etc",
        "file:///",
        "{root}/..",
        "{root}x",
        "file://host{path}",
        "s3://bucket/x",
        "http://127.0.0.1:1/x",
        "/etc",
        "http:///#/../../../etc",
        "http:///?/../../../etc",
        "dbfs:/?/../../etc",
        "{root}/%2e%2e",
        "{root}/%252e%252e",
    ],
)
def test_a_place_that_a_client_names_outside_the_root_is_not_read(
    rooted: Server, root: Path, elsewhere: str
) -> None:
    given = elsewhere.format(root=root.as_uri(), path=root)
    made = rooted.ask(
        "POST",
        "/api/2.0/mlflow/experiments/create",
        json.dumps({"name": "theirs", "artifact_location": given}).encode(),
    )
    if made[0] == 400:  # refused at once
        return
    run = tracking.start_client_run(rooted.ws, int(json.loads(made[2])["experiment_id"]))
    for target in (
        f"/get-artifact?run_id={run.mlflow_id}&path=passwd",
        f"/api/2.0/mlflow/artifacts/list?run_id={run.mlflow_id}",
    ):
        answer = rooted.json("GET", target, status=403)
        assert answer["error_code"] == "PERMISSION_DENIED"


def test_without_a_root_no_folder_of_the_server_is_read(server: Server) -> None:
    made = server.json(
        "POST", "/api/2.0/mlflow/experiments/create", {"name": "theirs", "artifact_location": "file:///etc"}
    )
    run = tracking.start_client_run(server.ws, int(made["experiment_id"]))
    server.json("GET", f"/get-artifact?run_id={run.mlflow_id}&path=passwd", status=403)
    server.json("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run.mlflow_id}", status=403)


def test_a_stored_script_is_sent_as_a_file_that_no_browser_runs(server: Server) -> None:
    for name in ("page.html", "image.svg", "x.xhtml", "run.js", "no-ending", "feed.xml", "a.mht"):
        check_that_no_browser_runs(server, name)


def check_that_no_browser_runs(server: Server, name: str) -> None:
    server.ask("PUT", f"{server.place}/{name}", b"<script>alert(1)</script>", {"Content-Type": "text/html"})
    for target in (
        f"{server.place}/{name}",
        f"/get-artifact?run_id={server.run.mlflow_id}&path={name}",
        f"/ajax-api/2.0{server.place.removeprefix('/api/2.0')}/{name}",
    ):
        _, headers, _ = server.ask("GET", target)
        assert headers["Content-Type"].split(";")[0] in ("text/plain", "application/octet-stream")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Disposition"].startswith("attachment;")
        assert headers["Content-Security-Policy"].startswith("sandbox")


def test_a_name_cannot_write_headers_or_markup(server: Server) -> None:
    name = """a"; x='<script>.html"""
    assert server.ask("PUT", f"{server.place}/{quote(name)}", b"x")[0] == 200
    _, headers, _ = server.ask("GET", f"{server.place}/{quote(name)}")
    assert headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    _, headers, _ = server.ask("GET", f"/api/2.0/mlflow/artifacts/list?run_id={server.run.mlflow_id}")
    assert headers["Content-Type"] == "application/json"


def test_another_host_or_a_page_of_another_site_gets_nothing(server: Server) -> None:
    server.ask("PUT", f"{server.place}/a", b"mine")
    foreign = {"Host": "evil.example"}
    listed = f"/api/2.0/mlflow/artifacts/list?run_id={server.run.mlflow_id}"
    for method, target in (
        ("GET", f"{server.place}/a"),
        ("GET", listed),
        ("PUT", f"{server.place}/a"),
        ("DELETE", f"{server.place}/a"),
    ):
        assert server.ask(method, target, b"x" if method == "PUT" else b"", foreign)[0] == 403
    for origin in ("http://evil.example", "null", "http://127.0.0.1.evil.example"):
        for method in ("PUT", "DELETE"):
            assert server.ask(method, f"{server.place}/a", b"x", {"Origin": origin})[0] == 403
    assert server.files() == {"a": b"mine"}


def test_who_may_only_see_cannot_write_and_strangers_see_nothing(ws: Workspace) -> None:
    for server in started(replace(ws, settings=replace(ws.settings, auth="token"))):
        tracking.log_artifact(ws, server.run.id, "a", b"x")
        access.add_account(ws, "viewer", role="viewer")
        _, secret = access.create_token(ws, "viewer")
        seeing = {"Authorization": f"Bearer {secret}"}
        targets = [f"{server.place}/a", f"/get-artifact?run_id={server.run.mlflow_id}&path=a"]
        targets.append(f"/api/2.0/mlflow/artifacts/list?run_id={server.run.mlflow_id}")
        for target in targets:
            assert server.ask("GET", target)[0] == 401
            assert server.ask("GET", target, headers=seeing)[0] == 200
        for method in ("PUT", "DELETE"):
            assert server.ask(method, f"{server.place}/a", b"y")[0] == 401
            assert server.ask(method, f"{server.place}/a", b"y", seeing)[0] == 403
        assert server.files() == {"a": b"x"}


def test_a_file_over_the_limit_is_refused_told_or_untold(ws: Workspace) -> None:
    for server in started(replace(ws, settings=replace(ws.settings, artifact_max_mb=2))):
        status, _, answer = begun(server, f"Content-Length: {10**12}\r\n", b"x")
        assert (status, b"which is the most" in answer) == (400, True)
        status, _, answer = begun(
            server,
            "Transfer-Encoding: chunked\r\n",
            b"".join(b"100000\r\n" + b"x" * (1 << 20) + b"\r\n" for _ in range(3)),
        )
        assert (status, b"which is the most" in answer) == (400, True)
        assert server.files() == {}
        assert list(server.ws.blobs) == []
        assert not list((server.ws.home / "uploads").glob("*"))


@pytest.mark.parametrize("sent", [b"half", b"half" * 700_000])
def test_an_upload_that_is_cut_off_leaves_nothing(server: Server, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = (
            f"PUT {server.place}/cut HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(sent) + 1}\r\n\r\n"
        )
        connection.sendall(head.encode() + sent)
    server.ask("PUT", f"{server.place}/after", b"x")  # the server goes on
    assert server.files() == {"after": b"x"}
    assert len(list(server.ws.blobs)) == 1


def test_an_upload_that_stops_coming_is_given_up(ws: Workspace) -> None:
    for server in started(replace(ws, settings=replace(ws.settings, upload_idle_s=1))):
        status, _, answer = begun(server, "Content-Length: 2000000\r\n", b"x" * 1_500_000)
        assert (status, b"for 1 seconds" in answer) == (400, True)
        assert server.files() == {}
        assert not list((server.ws.home / "uploads").glob("*"))


def test_what_a_killed_server_left_of_an_upload_is_removed_by_a_later_one(server: Server) -> None:
    left, fresh = (server.ws.home / "uploads" / name for name in ("left", "fresh"))
    left.parent.mkdir()
    for file in (left, fresh):
        file.write_bytes(b"half")
    os.utime(left, (1, 1))
    server.ask("PUT", f"{server.place}/large", b"x" * 2_000_000)
    assert [one.name for one in left.parent.iterdir()] == ["fresh"]


def begun(server: Server, headers: str, body: bytes) -> tuple[int, HTTPMessage, bytes]:
    """The answer to an upload whose sender waits for it before sending the rest."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = f"PUT {server.place}/file HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
        connection.sendall(head.encode() + body)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.headers, answer.read()


def test_a_new_content_replaces_the_old_whole(server: Server) -> None:
    server.ask("PUT", f"{server.place}/a", b"old")
    server.ask("PUT", f"{server.place}/a", b"newer")
    assert server.files() == {"a": b"newer"}


def test_a_deleted_run_takes_no_files(server: Server) -> None:
    server.ask("PUT", f"{server.place}/a", b"x")
    tracking.delete_run(server.ws, server.run.id)
    for method in ("PUT", "DELETE"):
        server.json(method, f"{server.place}/a", {}, status=400)
    assert server.files() == {"a": b"x"}


def test_other_ways_to_write_files_are_refused_by_name(server: Server) -> None:
    for method, target, given in (
        ("POST", "/api/2.0/mlflow/traces", {"experiment_id": "0", "timestamp_ms": 1}),
        ("GET", "/api/2.0/mlflow/traces?experiment_ids=0", None),
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={server.run.mlflow_id}&path=a", {}),
    ):
        answer = server.json(method, target, given, status=404)
        assert answer["error_code"] == "ENDPOINT_NOT_FOUND"
        assert "is not supported by this server" in answer["message"]


LARGE = bytes(range(256)) * 9_000  # more than is held at once


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-", slice(0, None)),
        ("bytes=100-199", slice(100, 200)),
        ("bytes=2000000-", slice(2_000_000, None)),
        ("bytes=200-99999999999", slice(200, None)),
        ("bytes=-7", slice(-7, None)),
        ("Bytes=-99999999999", slice(0, None)),
    ],
)
def test_a_download_goes_on_from_where_it_was_cut_off(
    untouched: Server, asked: str, part: slice[int, int | None, None]
) -> None:
    untouched.ask("PUT", f"{untouched.place}/large", LARGE)
    status, headers, body = untouched.ask("GET", f"{untouched.place}/large", headers={"Range": asked})
    first, last, _ = part.indices(len(LARGE))
    assert (status, body) == (206, LARGE[part])
    assert headers["Content-Range"] == f"bytes {first}-{last - 1}/{len(LARGE)}"
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,5-6", "bytes=", "bytes=-", "bytes=9-3", "lines=1-2", "bytes=a-b", "bytes=1-2;", "0-5"],
)
def test_what_is_no_single_range_is_answered_with_the_whole_file(untouched: Server, asked: str) -> None:
    untouched.ask("PUT", f"{untouched.place}/small", b"0123456789")
    status, headers, body = untouched.ask("GET", f"{untouched.place}/small", headers={"Range": asked})
    assert (status, body, headers["Accept-Ranges"]) == (200, b"0123456789", "bytes")
    assert "Content-Range" not in headers


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=999999999999999999-"])
def test_a_range_beyond_the_end_is_told_the_size(untouched: Server, asked: str) -> None:
    untouched.ask("PUT", f"{untouched.place}/small", b"0123456789")
    status, headers, body = untouched.ask("GET", f"{untouched.place}/small", headers={"Range": asked})
    assert (status, headers["Content-Range"], body) == (416, "bytes */10", b"")


def test_a_file_that_was_replaced_meanwhile_is_sent_whole(server: Server) -> None:
    place = f"{server.place}/model"
    server.ask("PUT", place, b"0123456789")
    tag = str(server.ask("GET", place)[1]["ETag"])
    again = {"Range": "bytes=4-", "If-Range": tag}
    assert server.ask("GET", place, headers=again)[::2] == (206, b"456789")
    server.ask("PUT", place, b"abcdefghij")
    assert server.ask("GET", place, headers=again)[::2] == (200, b"abcdefghij")
    dated = {"Range": "bytes=4-", "If-Range": "Thu, 26 Nov 2026 00:00:00 GMT"}
    assert server.ask("GET", place, headers=dated)[::2] == (200, b"abcdefghij")


def test_a_part_of_a_file_below_the_root_is_sent_too(rooted: Server, root: Path) -> None:
    folder = root / "0" / rooted.run.mlflow_id / "artifacts"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"0123456789")
    place = f"/get-artifact?run_id={rooted.run.mlflow_id}&path=weights"
    status, headers, body = rooted.ask("GET", place, headers={"Range": "bytes=3-5"})
    assert (status, body, headers["Content-Range"]) == (206, b"345", "bytes 3-5/10")
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
