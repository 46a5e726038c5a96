from __future__ import annotations

import json
from pathlib import Path

import pytest

from everloop.cli import main


def run(*arguments: str) -> int:
    try:
        main(list(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_an_answer_goes_to_stdout_and_talk_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--home", str(tmp_path), "access", "add", "alice", "--role", "viewer")
    capsys.readouterr()
    assert run("access", "token", "alice", "--home", str(tmp_path)) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("el_")
    assert "not kept" in printed.err


def test_json_may_be_asked_for_anywhere_on_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--home", str(tmp_path), "access", "add", "alice", "--role", "viewer")
    capsys.readouterr()
    assert run("access", "list", "--json", "--home", str(tmp_path)) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["alice"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["acess"], 2, "Did you mean 'everloop access'?"),
        (["access", "add", "x"], 2, "Missing option '--role'"),
        (["access", "add", "x", "--role", "king"], 2, "the roles are"),
        (["jobs", "show", "job_none"], 2, "there is no job"),
    ],
)
def test_a_mistake_gets_a_message_and_an_exit_code_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert run("--home", str(tmp_path), *arguments) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err


def test_a_home_that_cannot_be_made_is_everloops_failure_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run("--home", str(tmp_path / "file" / "home"), "access", "list") == 1
    assert "--home or EVERLOOP_HOME" in capsys.readouterr().err


def test_nothing_found_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--home", str(tmp_path), "access", "list") == 0
    assert "everloop access add NAME" in capsys.readouterr().err


@pytest.mark.parametrize("who", [[], ["--reporter", "agent", "--reporter-column", "who"]])
def test_an_import_of_corrections_says_in_one_way_who_reports(
    who: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["feedback", "import", "team", "said.csv", "--key", "id", "--value", "team", *who]
    assert run(*command, "--home", str(tmp_path)) == 2
    assert "--reporter NAME, or --reporter-column COLUMN" in capsys.readouterr().err
