"""A secret reaches the step that takes it, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from everloop import tracking
from everloop.errors import Invalid, StepFailed
from everloop.ledger import Node, upstream
from everloop.pipelines import (
    Executor,
    Inline,
    PipelineRun,
    Processes,
    Progress,
    pipeline_run,
    pipeline_runs,
    result,
    run_pipeline,
    secret,
    why,
)
from everloop.pipelines.secrets import Hidden
from everloop.settings import child_environment
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

VALUE = 'tok-"Zq9/x é5+7bWm2'

LOOP = """
    import os
    import subprocess
    import sys
    import warnings
    from pathlib import Path

    import numpy
    import pyarrow as pa

    from everloop.pipelines import pipeline, secret, step

    @step
    def length(token: str, tokens: list) -> int:
        return len(token) + len(tokens[0]) + len(tokens[1]["x"])

    @step
    def second(value: int, token: str) -> int:
        return value

    @step
    def prints(token: str) -> None:
        print("token", token)
        print(token * 3, file=sys.stderr)
        sys.stdout.write(token[:5]); sys.stdout.flush(); print(token[5:])
        os.write(1, token.encode())
        subprocess.run(["/bin/echo", "from a program:", token], check=True)
        warnings.warn(f"beware of {token}")

    @step
    def floods(token: str) -> None:
        for number in range(20_000):
            print(number, "x" * 50, token, "y" * 50)

    @step
    def crashes(token: str) -> None:
        print("before", token, flush=True)
        os.abort()

    @step
    def raises(token: str) -> None:
        raise ValueError(f"cannot log in with {token!r}")

    @step
    def leaks(token: str, form: str) -> object:
        return {
            "text": lambda: {"a": ["Bearer " + token]},
            "list": lambda: [b"x", {"k": token}],
            "bytes": lambda: b"\\0" + token.encode(),
            "table": lambda: pa.table({"a": [1] * 2000, "b": [{"c": ["x", token]}] * 2000}),
            "dictionary": lambda: pa.table({"a": pa.array([token]).dictionary_encode()}),
            "column": lambda: pa.table({token: [1]}),
            "array": lambda: numpy.array([token]),
            "file": lambda: written("f.txt", token),
            "name": lambda: written(token.replace("/", "-"), "x"),
        }[form]()

    def written(name, text):
        Path(name).write_text(text)
        return Path(name)

    @step
    def reads(token: str) -> None:
        Path("notes-" + token.replace("/", "_")).exists()

    @pipeline
    def lengths() -> int:
        token = secret("TOKEN")
        return second(length(token, [secret("TOKEN"), {"x": token}]), token)

    @pipeline
    def mapped() -> list:
        return second.map([1, 2], token=secret("TOKEN"))

    @pipeline
    def printing() -> None:
        return prints(secret("TOKEN"))

    @pipeline
    def flooding() -> None:
        return floods(secret("TOKEN"))

    @pipeline
    def crashing() -> None:
        return crashes(secret("TOKEN"))

    @pipeline
    def raising() -> None:
        return raises(secret("TOKEN"))

    @pipeline
    def leaking(form: str) -> object:
        return leaks(secret("TOKEN"), form)

    @pipeline
    def returns_it() -> object:
        prints(secret("TOKEN"))
        return secret("TOKEN")
"""


@pytest.fixture(params=["inline", "processes", "fresh"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "inline":
        return Inline()
    return Processes(forked=request.param == "processes")


@pytest.fixture
def loop(project: UserProject, monkeypatch: pytest.MonkeyPatch) -> Any:
    project.write({"loop": LOOP})
    monkeypatch.setenv("TOKEN", VALUE)
    monkeypatch.chdir(project.root)
    return project.load()


def ran(ws: Workspace, body: Any, executor: Executor, **params: Any) -> tuple[PipelineRun, list[Progress]]:
    heard: list[Progress] = []
    try:
        run = run_pipeline(
            ws, body, params=params, reason="test", executor=executor, on_progress=heard.append
        )
    except StepFailed as error:
        run = pipeline_run(ws, error.run_id)
        run = replace(run, error=str(error))
    return run, heard


def is_anywhere(ws: Workspace, value: str = VALUE) -> list[str]:
    """Where the value is, of all bytes in the home and all values in the database."""
    forms = [value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    found = [
        str(file)
        for file in ws.home.rglob("*")
        if file.is_file() and any(form.encode() in file.read_bytes() for form in forms)
    ]
    with ws.read() as connection:
        for table in sa.inspect(connection).get_table_names():
            rows = connection.execute(sa.text(f'SELECT * FROM "{table}"')).all()  # noqa: S608  (our own tables)
            found += [table for row in rows if any(form in str(tuple(row)) for form in forms)]
    return found


def test_a_step_gets_its_value_and_nothing_keeps_it(any_ws: Workspace, loop: Any, executor: Executor) -> None:
    run, heard = ran(any_ws, loop.lengths, executor)
    assert (run.state, result(any_ws, run.id)) == ("done", 3 * len(VALUE))
    assert is_anywhere(any_ws) == []
    assert VALUE not in str((run, heard))
    assert "secret TOKEN" in str(run.steps[0].parts["inputs"])
    assert upstream(any_ws, Node("step", run.steps[0].id)) == []


def test_the_name_is_part_of_the_cache_key_and_the_value_is_not(
    ws: Workspace, loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(ws, loop.mapped, Inline())
    monkeypatch.setenv("TOKEN", "another value")
    again, _ = ran(ws, loop.mapped, Inline())
    assert [one.state for one in again.steps] == ["cached"]
    assert why(ws, again.id, "second").answer == "cached"


def test_calls_of_a_map_get_it_too(ws: Workspace, loop: Any) -> None:
    run, _ = ran(ws, loop.mapped, Processes())
    assert result(ws, run.id) == [1, 2]


def log_of(ws: Workspace, run: PipelineRun) -> str:
    return tracking.read_artifact(ws, run.id, str(run.steps[0].log)).decode()


@pytest.mark.parametrize("forked", [True, False])
def test_what_a_step_prints_is_masked_whoever_prints_it(ws: Workspace, loop: Any, forked: bool) -> None:
    run, _ = ran(ws, loop.printing, Processes(forked=forked))
    assert run.state == "done"
    log = log_of(ws, run)
    assert "token ***\n" in log
    assert "*********\n" in log
    assert "from a program: ***\n" in log
    assert "beware of ***" in log
    assert is_anywhere(ws) == []


def test_what_it_prints_in_a_process_that_goes_on_is_masked_too(
    ws: Workspace, loop: Any, project: UserProject
) -> None:
    script = """
import loop
from everloop.pipelines import Inline, run_pipeline
from everloop.workspace import open_workspace
with open_workspace() as ws:
    print(run_pipeline(ws, loop.printing, reason="test", executor=Inline()).state)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=child_environment(ws.settings, PYTHONPATH=str(project.root)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    assert VALUE not in done.stdout
    assert "from a program: ***\n" in done.stdout
    assert "beware of ***" in done.stdout
    assert done.stdout.endswith("done\n")


def test_megabytes_are_masked_and_a_crash_keeps_what_was_printed(ws: Workspace, loop: Any) -> None:
    run, _ = ran(ws, loop.flooding, Processes())
    log = log_of(ws, run)
    assert log.startswith(f"0 {'x' * 50} *** {'y' * 50}\n1 ")
    assert log.endswith(f"19999 {'x' * 50} *** {'y' * 50}\n")
    run, _ = ran(ws, loop.crashing, Processes())
    assert "SIGABRT" in str(run.error)
    assert is_anywhere(ws) == []


def test_what_a_step_raises_is_masked(ws: Workspace, loop: Any, executor: Executor) -> None:
    run, heard = ran(ws, loop.raising, executor)
    assert "cannot log in with '***'" in str(run.error)
    assert is_anywhere(ws) == []
    assert VALUE not in str((run, heard))


@pytest.mark.parametrize(
    "form", ["text", "list", "bytes", "table", "dictionary", "column", "array", "file", "name"]
)
def test_a_result_that_holds_it_is_refused(
    ws: Workspace, loop: Any, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = VALUE.replace("/", "_")  # a file's name has no slash
    monkeypatch.setenv("TOKEN", value)
    run, _ = ran(ws, loop.leaking, Inline(), form=form)
    assert "it holds the value of secret TOKEN. A result is kept and shown" in str(run.error)
    assert is_anywhere(ws, value) == []


def test_a_secret_that_is_missing_ends_nothing_because_nothing_begins(
    ws: Workspace, loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKEN")
    with pytest.raises(Invalid, match=r"secret TOKEN is not there.*Set the variable, or put it into a file"):
        run_pipeline(ws, loop.lengths, reason="test", executor=Inline())
    assert pipeline_runs(ws) == []
    assert tracking.runs(ws) == []


def test_a_file_of_the_configured_folder_gives_it(
    ws: Workspace, loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKEN")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "TOKEN").write_text("one of twenty-three ch.\n")
    told = replace(ws, settings=replace(ws.settings, secrets_dir=str(tmp_path / "secrets")))
    run, _ = ran(told, loop.lengths, Processes())
    assert result(told, run.id) == 3 * 23


def test_one_that_is_too_short_is_refused_by_the_step(
    ws: Workspace, loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "abc")
    run, _ = ran(ws, loop.lengths, Inline())
    assert "secret TOKEN has 3 characters; one of fewer than 6 cannot be told apart" in str(run.error)


@pytest.mark.parametrize("name", ["", "a-b", "../x", "1X", "EVERLOOP_HOME", "X" * 101])
def test_a_name_is_that_of_a_variable(name: str) -> None:
    with pytest.raises(Invalid, match="is no name of a secret"):
        secret(name)


def test_it_has_no_value_outside_a_pipeline_and_is_no_result(ws: Workspace, loop: Any) -> None:
    with pytest.raises(Invalid, match="has no value by itself"):
        loop.prints(secret("TOKEN"))
    with pytest.raises(Invalid, match="itself, or a secret;"):
        run_pipeline(ws, loop.returns_it, reason="test", executor=Inline())


def test_lines_of_a_key_and_common_encodings_are_masked() -> None:
    hidden = Hidden()
    hidden.add("KEY", "-----BEGIN KEY-----\nMIIEvgIBADANBgkqhkiG\nAAbbCCddEEffGGhhIIjj\n-----END KEY-----")
    assert hidden.masked("line MIIEvgIBADANBgkqhkiG.") == "line ***."
    hidden.add("PASSWORD", "p@ss word/1")
    assert hidden.masked("https://u:p%40ss%20word%2F1@h") == "https://u:***@h"
    assert hidden.masked("cEBzcyB3b3JkLzE=") == "***"
