"""`everloop up` serves the pages, and its children know nothing of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.flows.running import free_port


@pytest.fixture
def running(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "everloop", "up", "--home", str(tmp_path / "home"), "--port", str(port)]
    command += ["--with-parent", str(os.getpid())]  # so that no test that is killed leaves it behind
    with subprocess.Popen(command) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGINT)


@pytest.mark.slow
def test_the_loop_is_at_the_root(running: str) -> None:
    page = first_answer(running)
    assert page.status_code == 200
    assert "No loop is declared yet" in page.text
    assert "made up or is replayed" not in page.text
    address = re.search(r'href="(/static/[^"]+css)"', page.text)
    assert address
    assert httpx.get(f"{running}{address[1]}", trust_env=False).status_code == 200


def first_answer(url: str) -> httpx.Response:
    deadline = time.monotonic() + 30
    while True:
        try:
            return httpx.get(url, headers={"Accept": "text/html"}, trust_env=False, timeout=10)
        except httpx.ConnectError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
