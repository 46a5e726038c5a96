"""What is S3's own: conditions, parts, a network that fails, errors. What every store does: tests/conformance/test_blobs.py."""

from __future__ import annotations

import http.server
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import obstore
import pytest
from blake3 import blake3
from obstore.store import S3Store

from everloop.adapters.s3 import S3Blobs
from everloop.errors import EverloopError, Invalid, NotReady, StorageFailed
from everloop.settings import Settings
from everloop.storage import open_blobs, place_of
from everloop.workspace import open_workspace
from tests.s3 import SECRET, S3Server, Wire

LARGE = 40_000_000


@pytest.fixture
def wire(s3: S3Server) -> Iterator[Wire]:
    wire = Wire(s3.port)
    yield wire
    wire.close()


def objects(settings: Settings) -> S3Store:
    """The bucket as an outsider sees it."""
    bucket, _, prefix = settings.blobs.removeprefix("s3://").partition("/")
    return S3Store(
        bucket,
        prefix=prefix,
        config={"endpoint": settings.blobs_endpoint},
        client_options={"allow_http": True},
    )


def random_file(tmp_path: Path, size: int = LARGE) -> tuple[Path, str]:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    return tmp_path / "file", blake3(data).hexdigest()


def test_a_blob_that_is_there_is_never_written_over(s3_settings: Settings) -> None:
    digest = blake3(b"right").hexdigest()
    obstore.put(objects(s3_settings), place_of(digest), b"wrong")
    blobs = open_blobs(s3_settings)
    assert blobs.put(b"right") == digest
    assert not blobs.verify(digest)


def test_damaged_bytes_are_not_handed_out(s3_settings: Settings) -> None:
    digest = open_blobs(s3_settings).put(b"right")
    obstore.put(objects(s3_settings), place_of(digest), b"wrong")
    with pytest.raises(StorageFailed, match=f"blob {digest[:12]} have another digest"):
        open_blobs(replace(s3_settings, home=s3_settings.home / "other")).path(digest)


@pytest.mark.parametrize("size", [1_000, LARGE])
def test_what_was_written_here_is_read_without_the_network(
    s3_settings: Settings, tmp_path: Path, size: int
) -> None:
    file, digest = random_file(tmp_path, size)
    open_blobs(s3_settings).put_file(file)
    unplugged = replace(s3_settings, blobs_endpoint="http://127.0.0.1:9")
    assert open_blobs(unplugged, only_reads=True).get(digest) == file.read_bytes()


def test_a_put_that_both_writers_lost_is_not_taken_for_done(s3_settings: Settings) -> None:
    with answering(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>") as endpoint:
        blobs = open_blobs(replace(s3_settings, blobs_endpoint=endpoint), only_reads=True)
        with pytest.raises(NotReady, match="by another, who has not ended"):
            blobs.put(b"x")


def test_an_upload_that_is_cut_in_the_middle_leaves_nothing_with_a_name(
    s3_settings: Settings, wire: Wire, tmp_path: Path, quick: None
) -> None:
    file, digest = random_file(tmp_path)
    cut = open_blobs(replace(s3_settings, blobs_endpoint=wire.endpoint))
    wire.left_bytes = LARGE // 2
    with pytest.raises(
        NotReady, match=r"could not be written: .* does not answer.* Nothing half-written has a name"
    ):
        cut.put_file(file)
    assert not open_blobs(s3_settings).has(digest)
    wire.left_bytes = None
    assert cut.put_file(file) == digest
    assert open_blobs(s3_settings).verify(digest)


def test_a_download_that_is_cut_in_the_middle_leaves_no_file(
    s3_settings: Settings, wire: Wire, tmp_path: Path, quick: None
) -> None:
    file, digest = random_file(tmp_path)
    open_blobs(s3_settings).put_file(file)
    other = replace(s3_settings, home=tmp_path / "other", blobs_endpoint=wire.endpoint)
    cut = open_blobs(other)
    wire.left_bytes = LARGE // 2
    with pytest.raises(NotReady, match="could not be read"):
        cut.path(digest)
    assert list((other.home / "cache" / "blobs").glob("*/*")) == []


def test_a_short_failure_of_the_network_is_not_noticed(
    s3_settings: Settings, wire: Wire, tmp_path: Path
) -> None:
    file, digest = random_file(tmp_path)
    blobs = open_blobs(replace(s3_settings, blobs_endpoint=wire.endpoint))
    wire.left_bytes, wire.cuts = LARGE // 2, 2
    assert blobs.put_file(file) == digest
    assert wire.cuts == 0
    assert open_blobs(s3_settings).verify(digest)


def test_a_file_that_changes_while_it_goes_up_is_not_kept(
    s3_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, digest = random_file(tmp_path)
    blobs = open_blobs(s3_settings)
    has = blobs.has

    def changed_meanwhile(digest: str) -> bool:
        with file.open("r+b") as content:
            content.write(b"changed")
        return has(digest)

    monkeypatch.setattr(blobs, "has", changed_meanwhile)
    with pytest.raises(StorageFailed, match="was changed while it was read"):
        blobs.put_file(file)
    assert not has(digest)


def test_a_server_that_takes_a_second_put_is_refused(s3_settings: Settings) -> None:
    with (
        careless_server() as endpoint,
        pytest.raises(Invalid, match=r"needs? one that refuses it \(If-None-Match\)"),
    ):
        open_blobs(replace(s3_settings, blobs_endpoint=endpoint))


def test_a_server_is_asked_once_a_day(s3_settings: Settings) -> None:
    open_blobs(s3_settings)
    with careless_server() as endpoint:
        open_blobs(s3_settings)  # asked already: nothing is sent
        with pytest.raises(Invalid):
            open_blobs(replace(s3_settings, blobs_endpoint=endpoint))
    (note,) = (s3_settings.home / "cache" / "blobs").glob(".probed-*")
    os.utime(note, (time.time() - 90_000,) * 2)
    open_blobs(s3_settings)
    assert time.time() - note.stat().st_mtime < 60


def test_a_machine_that_was_not_told_of_the_bucket_is_refused(s3_settings: Settings) -> None:
    open_workspace(settings=s3_settings).close()
    url = s3_settings.database
    untold = Settings(home=s3_settings.home / "other", database_url=url)
    with pytest.raises(Invalid, match=f"Set EVERLOOP_BLOBS={s3_settings.blobs}, or EVERLOOP_BLOBS=blobs if"):
        open_workspace(settings=untold)
    open_workspace(settings=replace(untold, blobs="blobs")).close()


def test_who_only_reads_does_not_write(s3_settings: Settings) -> None:
    open_blobs(s3_settings, only_reads=True)
    assert list(obstore.list(objects(s3_settings))) == []


def _no_bucket(settings: Settings) -> Settings:
    return replace(settings, blobs="s3://no-such-bucket/prefix")


def _nobody_there(settings: Settings) -> Settings:
    return replace(settings, blobs_endpoint="http://127.0.0.1:9")


def _credentials_in_endpoint(settings: Settings) -> Settings:
    return replace(settings, blobs_endpoint=f"http://tester:{SECRET}@127.0.0.1")


def _credentials_in_address(settings: Settings) -> Settings:
    return replace(settings, blobs=f"s3://tester:{SECRET}@bucket/prefix")


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (_no_bucket, StorageFailed, "there is no bucket of s3://no-such-bucket/prefix"),
        (_nobody_there, NotReady, "does not answer"),
        (_credentials_in_endpoint, Invalid, "without credentials"),
        (_credentials_in_address, Invalid, "without credentials"),
    ],
)
def test_what_is_wrong_is_said_without_secrets(
    s3_settings: Settings,
    quick: None,
    change: Callable[[Settings], Settings],
    kind: type[EverloopError],
    said: str,
) -> None:
    with pytest.raises(kind, match=said) as raised:
        open_blobs(change(s3_settings))
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_refusal_says_which_rights_are_needed(s3_settings: Settings) -> None:
    with (
        answering(403, b"<Error><Code>AccessDenied</Code></Error>") as endpoint,
        pytest.raises(
            StorageFailed, match=r"refuses with AccessDenied\. Blobs need the rights to get, put, list"
        ),
    ):
        open_blobs(replace(s3_settings, blobs_endpoint=endpoint))


def test_without_credentials_it_says_where_they_are_looked_for(
    s3_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StorageFailed, match=r"Set AWS_ACCESS_KEY_ID and .* profiles of ~/.aws are not read"):
        open_blobs(s3_settings)


def test_a_forked_process_is_told_instead_of_hanging(s3_settings: Settings, tmp_path: Path) -> None:
    blobs = open_blobs(s3_settings)
    assert isinstance(blobs, S3Blobs)
    told = tmp_path / "told"
    if (pid := os.fork()) == 0:
        try:
            blobs.has("0" * 64)
        except StorageFailed as error:
            told.write_text(str(error))
        os._exit(0)
    os.waitpid(pid, 0)
    assert "was forked from one that used s3://" in told.read_text()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up sooner: what is tested is what comes after the last attempt."""
    monkeypatch.setattr("everloop.adapters.s3._RETRIES", {"max_retries": 1})


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that has nothing and answers all else that is asked in one way; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_GET = do_POST = do_DELETE = _answer  # noqa: N815  (the server looks for these names)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name)
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def careless_server() -> AbstractContextManager[str]:
    """A server that takes every put, whatever its conditions."""
    return answering(200, b"")
