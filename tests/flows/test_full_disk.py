"""The disk of the home fills up in the middle of a run."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from everloop.ids import new_id
from tests.flows.test_bad_input import in_mount

LOOP = """
    import os
    import numpy
    from everloop.pipelines import pipeline, step

    @step
    def filled(number: int) -> numpy.ndarray:
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(f"{number}\\n")
        return numpy.random.default_rng(number).integers(0, 2**62, 25_000 * number)  # 200 kB each, and again as a blob

    @step
    def total(parts: list) -> int:
        return sum(len(one) for one in parts)

    @pipeline
    def train(count: int) -> int:
        return total([filled(number + 1) for number in range(count)])
"""
GO = """
    import sys
    from pathlib import Path
    from everloop.errors import EverloopError
    from everloop.pipelines import Inline, Processes, result, run_pipeline
    from everloop.settings import load_settings
    from everloop.workspace import open_workspace
    import loop

    run_id, how = sys.argv[1:]
    settings = load_settings(Path("small/home"), environ={}, actor="tester")
    try:
        with open_workspace(settings=settings) as ws:
            executor = Inline() if how == "inline" else Processes(2)
            run_pipeline(ws, loop.train, params={"count": 4}, reason="test", run_id=run_id, executor=executor)
            print("result", result(ws, run_id))
    except EverloopError as error:
        print("refused", type(error).__name__, error)
"""
SCRIPT = """
    mount -t tmpfs -o size={size}k none small
    PYTHON go.py {run} {how}
    find small -name '.*-*' -printf 'half written: %p\\n'
    mount -o remount,size=90m small
    PYTHON go.py {run} {how}
    PYTHON -c 'import sqlite3; print(sqlite3.connect("small/home/everloop.db").execute("pragma integrity_check").fetchone())'
    PYTHON -c 'import pathlib, blake3; print([p for p in pathlib.Path("small/home/blobs").glob("*/*")
        if blake3.blake3(p.read_bytes()).hexdigest() != p.parent.name + p.name])'
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["inline", "processes"])
@pytest.mark.parametrize(
    "size", [660, 1_400, 1_900]
)  # in the journal, amidst a blob, amidst what becomes one
def test_a_run_is_resumed_when_there_is_space_again(tmp_path: Path, size: int, how: str) -> None:
    notes = tmp_path / "notes"
    (tmp_path / "small").mkdir()
    (tmp_path / "loop.py").write_text(textwrap.dedent(LOOP))
    (tmp_path / "go.py").write_text(textwrap.dedent(GO))
    script = textwrap.dedent(SCRIPT).format(size=size, run=new_id("run"), how=how)
    done = in_mount(f"export NOTES={notes}\n{script}", tmp_path)
    assert done.stderr == ""
    refused, *_, last, integrity, damaged = done.stdout.splitlines()
    assert refused.startswith("refused ")
    assert "No space left" in refused or "disk is full" in refused or "requested and" in refused
    assert "ree space" in refused or "Check its disk" in refused
    assert "half written" not in done.stdout
    assert last == f"result {25_000 * (1 + 2 + 3 + 4)}"
    assert integrity == "('ok',)"
    assert damaged == "[]"
    assert {int(one) for one in notes.read_text().split()} == {1, 2, 3, 4}
