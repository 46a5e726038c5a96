"""`everloop triggers` and what `everloop jobs` says of limits and pauses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from everloop.cli import main
from everloop.workspace import Workspace
from tests.triggers.made_up import applied

DECLARED = """
gpu = el.pool("gpu", 1)
el.limit(report, 1, pool=gpu)
el.trigger(report, cron="0 3 * * *", params={"month": "May"})
el.trigger(send, when=el.called() & el.finished(report))
"""


class Shell:
    def __init__(self, ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
        self._home, self._capsys = str(ws.home), capsys

    def __call__(self, *words: str, code: int = 0) -> Any:
        """The JSON answer, or what was said on stderr when it must fail."""
        self._capsys.readouterr()
        ended = 0
        try:
            main([*words, "--home", self._home, "--actor", "alice", "--json"])
        except SystemExit as stop:
            ended = int(stop.code or 0)
        printed = self._capsys.readouterr()
        assert ended == code, printed
        return printed.err if code else json.loads(printed.out)


@pytest.fixture
def everloop(ws: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    applied(ws, tmp_path, DECLARED)
    return Shell(ws, capsys)


def test_triggers_are_listed_fired_paused_and_resumed(everloop: Shell) -> None:
    assert [one["name"] for one in everloop("triggers", "list")] == ["report", "send"]
    job = everloop("triggers", "fire", "report", "--param", "rows=4", "--key", "k")["firing"]["job"]
    assert everloop("triggers", "fire", "report", "--param", "rows=4", "--key", "k")["is_known"]
    assert everloop("triggers", "firings", "report")[0]["params"] == {"month": "May", "rows": 4}
    assert everloop("jobs", "show", job)["waits_for"].startswith("waits for a worker")
    assert everloop("triggers", "fire", "send")["waits"].startswith("not enough: 1 calls and 0 runs")
    everloop("triggers", "pause", "report", "--reason", "moving")
    assert "by alice: moving" in everloop("triggers", "fire", "report", code=2)
    (schedule,) = everloop("jobs", "schedules")
    assert (schedule["due_at"], schedule["paused_by"]) == (None, "alice")
    everloop("triggers", "resume", "report")
    everloop("jobs", "pause", "trigger report", "--reason", "the clock is wrong")
    everloop("jobs", "resume", "trigger report")
    assert len(everloop("triggers", "secret", "report")["secret"]) == 64


def test_limits_are_listed(everloop: Shell) -> None:
    assert everloop("jobs", "limits") == [
        {"name": "pipeline:report", "at_most": 1, "when_full": "queue", "pool": "gpu"}
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("triggers fire nightly", "there is no trigger 'nightly'. 'everloop triggers list' shows them"),
        ("triggers firings nightly", "there is no trigger 'nightly'"),
        ("triggers fire report --param rows", "write NAME=VALUE"),
        ("triggers fire report --param rows=many", "takes rows as int and got 'many'"),
        ("triggers resume report", "is not paused. 'everloop triggers list' shows how far each is"),
        ("triggers secret nightly", "there is no trigger"),
        ("jobs pause nightly --reason x", "'everloop jobs schedules' shows them"),
        ("jobs resume nightly", "there is no schedule 'nightly'"),
    ],
)
def test_a_mistake_is_told(everloop: Shell, line: str, told: str) -> None:
    assert told in everloop(*line.split(), code=2)
