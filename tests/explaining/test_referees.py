"""Our explanations against those of treeinterpreter and shap, which run in an environment of their own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.peer import REPOSITORY, peer

CALLS = Path(__file__).parents[1] / "peers" / "explainers_calls.py"


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_others_who_explain_find_the_same() -> None:
    python = peer("explainers") / "python"
    done = subprocess.run(
        [python, "-W", "ignore", CALLS],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1", "PATH": os.defpath},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert len(found) == 16
    assert max(found.values()) < 1e-9, found
