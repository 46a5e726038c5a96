"""An ingest that is killed, or meets a full disk, leaves no version and nothing that is in the way."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from everloop import data
from everloop.settings import load_settings
from everloop.workspace import Workspace, open_workspace
from tests.data.tables import items, known

INGEST_MANY = """
import sys
import numpy as np
import pyarrow as pa
from everloop import data
from everloop.settings import load_settings
from everloop.workspace import open_workspace

with open_workspace(settings=load_settings(sys.argv[1], environ={}, actor="tester")) as ws:
    n = 1_000_000
    rng = np.random.default_rng(1)
    data.ingest(ws, "items", pa.table({"id": np.arange(n), "price": rng.random(n), "title": rng.random(n)}))
"""

FULL_DISK = """
import sys
import numpy as np
import pyarrow as pa
from everloop import data
from everloop.errors import StorageFailed
from everloop.settings import load_settings
from everloop.workspace import open_workspace

with open_workspace(settings=load_settings(sys.argv[1], environ={}, actor="tester")) as ws:
    data.define(ws, "items", key="id")
    small = pa.table({"id": [1], "title": ["a"]})
    first = data.ingest(ws, "items", small)
    n = 400_000
    noise = np.random.default_rng(1).integers(0, 256, (n, 16), dtype=np.uint8)
    large = pa.table({"id": np.arange(n), "title": [row.tobytes().hex() for row in noise]})
    try:
        data.ingest(ws, "items", large)
    except StorageFailed as error:
        print(error)
    assert data.versions(ws, "items") == [first]
    assert not [path for path in ws.home.rglob(".*") if path.is_file()], "a half-written file is left"
    print(data.ingest(ws, "items", pa.table({"id": [2], "title": ["b"]})).rows)
"""


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_no_version(tmp_path: Path) -> None:
    with open_workspace(settings=load_settings(tmp_path / "home", environ={}, actor="tester")) as ws:
        data.define(ws, "items", key="id")
        child = subprocess.Popen([sys.executable, "-c", INGEST_MANY, str(ws.home)])
        try:
            _wait_for_first_part(ws, child)
        finally:
            child.kill()
            child.wait()
        assert data.versions(ws, "items") == []
        assert data.dataset(ws, "items").schema.names == ()
        data.ingest(ws, "items", items((1, "a", 1.0)))
        assert known(ws) == {0: (1, "a", 1.0)}


def _wait_for_first_part(ws: Workspace, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not list(ws.blobs):
        assert child.poll() is None, "the child ended before it could be killed"
        assert time.monotonic() < deadline, "the child wrote nothing"


@pytest.mark.slow
def test_a_full_disk_is_a_clear_error_and_keeps_nothing(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    mount = "mount -t tmpfs -o size=8m tmpfs"
    probe = [unshare or "", "-m", "sh", "-c", f"{mount} {tmp_path}"]
    if unshare is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("a small file system needs the right to mount one (unshare -m)")
    script = tmp_path / "full.py"
    script.write_text(FULL_DISK)
    home = tmp_path / "home"
    home.mkdir()
    command = f'{mount} {home} && exec "{sys.executable}" {script} {home}'
    done = subprocess.run([unshare, "-m", "sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told, rows = done.stdout.splitlines()
    assert "No space left on device" in told
    assert "Free space" in told
    assert rows == "2"
