"""`everloop search`: what a loop file declares is run, listed, shown and gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from everloop import loop
from everloop.workspace import Workspace
from tests.cli.test_triggers import Shell
from tests.searches.made_up import loaded


@pytest.fixture
def everloop(ws: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    log = tmp_path / "log"
    declared = f"""
el.search(tune, space={{"x": el.choice(1.0, 3.0), "y": el.between(1, 2)}}, by="score", method="grid", params={{"log": {str(log)!r}}})
el.search(tune, name="hopeless", space={{"y": el.choice(13)}}, by="score", method="grid", params={{"log": {str(log)!r}}})
"""
    loop.apply(ws, loaded(tmp_path, declared))
    return Shell(ws, capsys)


def test_a_declared_search_is_run_listed_shown_and_stays_as_it_is(everloop: Shell) -> None:
    made = everloop("search", "run", "tune", "--parallel", "2")
    assert (made["state"], made["best"]["params"]) == ("done", {"x": 3.0, "y": 2})
    assert [one["id"] for one in everloop("search", "list")] == [made["id"]]
    assert [one["state"] for one in everloop("search", "show", made["id"])] == ["done"] * 4
    assert everloop("search", "resume", made["id"]) == made
    assert len(everloop("search", "show", everloop("search", "run", "tune", "--trials", "1")["id"])) == 1


def test_mistakes_are_told(everloop: Shell) -> None:
    assert "13 does not work" in everloop("search", "run", "hopeless", code=2)
    assert "declares no search 'best'; it has tune, hopeless" in everloop("search", "run", "best", code=2)
    assert "'everloop search list' shows the newest" in everloop("search", "show", "srch_1", code=2)
    assert "there is no search" in everloop("search", "resume", "srch_1", code=2)
