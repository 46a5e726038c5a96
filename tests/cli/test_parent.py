from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.flows.running import wait_for

STARTS_AND_DIES = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "everloop", "work", "--linger", "60", "--with-parent", str(os.getpid()),
                          "--home", sys.argv[1]], stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
"""


def test_a_child_whose_parent_died_before_the_child_was_up_stops_too(tmp_path: Path) -> None:
    parent = subprocess.run(
        [sys.executable, "-c", STARTS_AND_DIES, str(tmp_path)], check=True, capture_output=True, text=True
    )
    child = Path("/proc") / parent.stdout.strip()
    assert child.exists()
    wait_for(lambda: not child.exists(), "the child ended", within_s=20)
