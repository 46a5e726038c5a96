from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.running import free_port, wait_for

STARTS_AND_DIES = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "everloop", *sys.argv[1:], "--with-parent", str(os.getpid())],
                         stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
"""


@pytest.mark.parametrize(
    "command", [["work", "--linger", "60"], ["up", "--port", "PORT"]], ids=["work", "up"]
)
def test_a_child_whose_parent_died_before_the_child_was_up_stops_too(
    tmp_path: Path, command: list[str]
) -> None:
    arguments = [str(free_port()) if part == "PORT" else part for part in command]
    parent = subprocess.run(
        [sys.executable, "-c", STARTS_AND_DIES, *arguments, "--home", str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )
    child = Path("/proc") / parent.stdout.strip()
    assert child.exists()
    wait_for(lambda: not child.exists(), "the child ended", within_s=20)
