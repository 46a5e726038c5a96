"""A file that comes in parts: put together whole or not at all, by who began it and nobody else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from everloop import access, tracking
from everloop.workspace import Workspace
from tests.api.test_app import serve

MPU = "/api/2.0/mlflow-artifacts/mpu"
PARTS = [os.urandom(1_500_000), b"", b"the end"]


class Upload:
    """A client that sends a file `big.bin` of a run in parts."""

    def __init__(self, client: httpx.Client, ws: Workspace) -> None:
        self.client, self.ws = client, ws
        self.run = tracking.start_client_run(ws, 0)
        self.folder = f"0/{self.run.mlflow_id}/artifacts/models"

    def ask(self, act: str, *, status: int = 200, **said: Any) -> Any:
        answer = self.client.post(f"{MPU}/{act}/{self.folder}", json={"path": "/home/ann/big.bin", **said})
        assert answer.status_code == status, answer.text
        return answer.json()

    def begin(self, parts: int = len(PARTS), **said: Any) -> Any:
        return self.ask("create", num_parts=parts, **said)

    def send(self, told: dict[str, Any], content: bytes) -> dict[str, Any]:
        answer = self.client.put(told["url"], content=content, headers=told["headers"])
        assert answer.status_code == 200, answer.text
        return {"part_number": told["part_number"], "etag": answer.headers["etag"], "url": told["url"]}

    def files(self) -> dict[str, bytes]:
        found = tracking.artifacts(self.ws, self.run.id)
        return {one.path: tracking.read_artifact(self.ws, self.run.id, one.path) for one in found}

    def waiting(self) -> list[Path]:
        return list((self.ws.home / "parts").iterdir())


@pytest.fixture
def upload(ws: Workspace) -> Iterator[Upload]:
    for client in serve(ws):
        yield Upload(client, ws)


def test_parts_sent_at_once_and_twice_become_the_file(upload: Upload) -> None:
    begun = upload.begin()
    upload.send(begun["credentials"][0], b"cut off")
    with ThreadPoolExecutor(3) as pool:
        parts = list(pool.map(upload.send, begun["credentials"], PARTS))
    upload.ask("complete", upload_id=begun["upload_id"], parts=parts[::-1])
    assert upload.files() == {"models/big.bin": b"".join(PARTS)}
    assert upload.waiting() == []


def test_what_is_not_whole_is_not_kept_and_may_be_mended(upload: Upload) -> None:
    begun = upload.begin()
    upload_id, (first, second, third) = begun["upload_id"], begun["credentials"]
    parts = [upload.send(first, PARTS[0]), upload.send(second, PARTS[1])]
    wrong = {**parts[0], "part_number": 3}
    for said, words in (
        (parts, "2 parts are named of an upload of 3"),
        ([*parts, wrong], "part 3 did not come whole"),
    ):
        answer = upload.ask("complete", upload_id=upload_id, parts=said, status=400)
        assert words in answer["message"]
    assert upload.files() == {}
    upload.ask("complete", upload_id=upload_id, parts=[*parts, upload.send(third, PARTS[2])])
    assert upload.files() == {"models/big.bin": b"".join(PARTS)}


def test_an_upload_that_is_let_go_leaves_nothing(upload: Upload) -> None:
    begun = upload.begin()
    upload.send(begun["credentials"][0], PARTS[0])
    upload.ask("abort", upload_id=begun["upload_id"])
    assert (upload.waiting(), upload.files(), list(upload.ws.blobs)) == ([], {}, [])
    assert (
        "Begin the file anew" in upload.ask("complete", upload_id=begun["upload_id"], status=404)["message"]
    )


@pytest.mark.parametrize("path", ["../../../../etc/big.bin", "C:\\data\\big.bin", "big.bin"])
def test_the_name_alone_of_a_clients_path_counts(upload: Upload, path: str) -> None:
    begun = upload.begin(1, path=path)
    upload.ask("complete", upload_id=begun["upload_id"], parts=[upload.send(begun["credentials"][0], b"x")])
    assert upload.files() == {"models/big.bin": b"x"}


def test_what_leads_elsewhere_or_is_no_part_is_refused(upload: Upload) -> None:
    for said in ({"path": "models/.."}, {"path": ""}, {"num_parts": 0}, {"num_parts": 10_001}):
        upload.ask("create", **{"num_parts": 1, **said}, status=400)
    place = upload.folder
    for folder in ("versions/category/1", f"{place}/../../../1", f"{place}/%2e%2e/%2e%2e"):
        answer = upload.client.post(f"{MPU}/create/{folder}", json={"path": "x", "num_parts": 1})
        assert answer.status_code in (400, 403, 404), folder
    begun = upload.begin(1)
    address = begun["credentials"][0]["url"].removesuffix("/1")
    for number in ("0", "2", "-1", "1e0", "\u0661", "9" * 400):
        assert upload.client.put(f"{address}/{number}", content=b"x").status_code == 400, number
    other = address.replace(begun["upload_id"], "%2e%2e")
    assert upload.client.put(f"{other}/1", content=b"x").status_code == 404
    for name in ("..", ".", "about.json", begun["upload_id"].upper(), "0" * 32):
        upload.ask("complete", upload_id=name, parts=[], status=404)


def test_all_parts_together_may_be_as_large_as_a_file_may(ws: Workspace) -> None:
    for client in serve(replace(ws, settings=replace(ws.settings, artifact_max_mb=2))):
        upload = Upload(client, ws)
        first, second = upload.begin(2)["credentials"]
        upload.send(first, PARTS[0])
        upload.send(first, PARTS[0])  # in the place of the other
        answer = client.put(second["url"], content=PARTS[0])
        assert (answer.status_code, "which is the most" in answer.text) == (400, True)


def test_nobody_else_adds_to_an_upload_or_ends_it(ws: Workspace) -> None:
    secrets = []
    for name in ("ann", "bob"):
        access.add_account(ws, name, role="owner")
        secrets.append({"Authorization": f"Bearer {access.create_token(ws, name)[1]}"})
    ann, bob = secrets
    for client in serve(replace(ws, settings=replace(ws.settings, auth="token"))):
        upload = Upload(client, ws)
        client.headers.update(ann)
        begun = upload.begin(1)
        (told,) = begun["credentials"]
        assert told["headers"] == ann  # parts are sent as the upload was begun
        client.headers.pop("Authorization")
        assert client.put(told["url"], content=b"mine").status_code == 401
        assert client.put(told["url"], content=b"mine", headers=bob).status_code == 404
        parts = [upload.send(told, b"hers")]
        client.headers.update(bob)
        for act in ("complete", "abort"):
            upload.ask(act, upload_id=begun["upload_id"], parts=parts, status=404)
        client.headers.update(ann)
        upload.ask("complete", upload_id=begun["upload_id"], parts=parts)
        assert upload.files() == {"models/big.bin": b"hers"}


def test_what_was_left_for_a_day_is_removed_and_a_hundred_at_once_are_enough(upload: Upload) -> None:
    left = upload.begin(1)["upload_id"]
    os.utime(upload.ws.home / "parts" / left, (1, 1))
    for _ in range(100):
        upload.begin(1)
    assert len(upload.waiting()) == 100
    assert left not in {one.name for one in upload.waiting()}
    assert "Try again" in upload.ask("create", num_parts=1, status=503)["message"]
