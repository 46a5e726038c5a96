"""What the commands of a run that is conducted from outside answer, and with which exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from everloop.cli import main
from everloop.pipelines import pipeline_run, run_of
from tests.adapters.elsewhere import opened, project


class Outside:
    """`everloop ...` on a home of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> str:
        """What was printed last, or what was said when something else than 0 is expected."""
        self._capsys.readouterr()
        ended = 0
        try:
            main([*words, "--home", str(self.folder / "home"), "--actor", "airflow"])
        except SystemExit as stop:
            ended = int(stop.code or 0)
        printed = self._capsys.readouterr()
        assert ended == code, printed
        return printed.err if code else printed.out.splitlines()[-1]

    def step(self, name: str, *words: str, code: int = 0) -> str:
        return self("step", "run", "--run", "night-7", "--step", name, *words, code=code)


@pytest.fixture
def everloop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Outside:
    file = project(tmp_path / "project")
    found = Outside(tmp_path, capsys)
    found("apply", str(file))
    return found


def test_a_run_goes_its_way_command_by_command(everloop: Outside) -> None:
    run = everloop("step", "begin", "train", "--key", "night-7", "--param", "count=1")
    assert run == everloop("step", "begin", "train", "--key", "night-7", "--param", "count=1")
    assert "waits for square" in everloop.step("total", code=75)
    assert everloop.step("numbers").startswith("numbers done.  json ")
    assert json.loads(everloop("step", "items", "--run", run, "--step", "square")) == [0]
    for name in ("square", "total"):
        everloop.step(name)
    told = everloop.folder / "holds"
    everloop.step("is_big", "--value", str(told))
    assert told.read_text() == "false"
    everloop.step("praise", code=3)
    for name in ("is_nothing", "blame", "choice", "choice-2", "written.luck", "written.letter"):
        everloop.step(name)
    assert "is no JSON value" in everloop.step("written.letter", "--value", str(told), code=2)
    everloop.step("sent")
    assert everloop("step", "end", "--run", "night-7") == f"{run} done."


def test_a_run_that_was_not_finished_ends_with_1(everloop: Outside) -> None:
    everloop("step", "begin", "train", "--key", "night-7")
    assert "was not run before the run was ended" in everloop("step", "end", "--run", "night-7", code=1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("begin nix --key k", "has no pipeline 'nix'; it has written, train"),
        ("begin written --key k --text text", "has no value; write NAME=VALUE"),
        ("run --run nix --step total", "none was begun under this key"),
        ("items --run nix --step total", "none was begun under this key"),
        ("end --run nix", "none was begun under this key"),
    ],
)
def test_wrong_use_is_told_with_2(everloop: Outside, words: str, said: str) -> None:
    assert said in everloop("step", *words.split(), code=2)


def test_a_text_is_a_text_whatever_it_looks_like(everloop: Outside) -> None:
    everloop("step", "begin", "written", "--key", "night-7", "--text", "text=17")
    with opened(everloop.folder / "home") as ws:
        assert pipeline_run(ws, run_of(ws, "night-7")).params == {"text": "17"}
