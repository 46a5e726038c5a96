"""What a step touches without declaring it is noticed and told, and what is nobody's business is not."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from everloop.errors import StepFailed
from everloop.pipelines import (
    Executor,
    Inline,
    PipelineRun,
    Processes,
    Progress,
    Touched,
    pipeline_run,
    reproduce,
    run_pipeline,
    why,
)
from everloop.pipelines.touched import listed, told, watched
from everloop.settings import child_environment
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    import os
    import socket
    import sqlite3
    import subprocess
    import sys
    import tempfile
    from pathlib import Path

    from everloop.pipelines import pipeline, step

    @step
    def load(name: str) -> int:
        return len(Path(name).read_text())

    @step(cache=False)
    def load_each_time(name: str) -> int:
        return len(Path(name).read_text())

    @step
    def write(name: str) -> None:
        Path(name).write_text("out")

    @step
    def ask(port: int) -> None:
        socket.create_connection(("localhost", port), timeout=5).close()

    @step
    def run() -> None:
        subprocess.run([sys.executable, "-c", ""], check=True)

    @step
    def make_and_read() -> Path:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["/bin/sh", "-c", f"true > {folder}/made"], check=True)
            Path(folder, "made").read_text()
        with tempfile.NamedTemporaryFile("w+") as file:
            file.write("x")
            Path(file.name).read_text()
        kept = Path(tempfile.mkdtemp(), "inner", "kept")
        kept.parent.mkdir()
        kept.write_text("x")
        kept.read_text()
        for missing in ("no_such.cfg", "/no/such.cfg"):
            try:
                Path(missing).read_text()
            except FileNotFoundError:
                pass
        return [__file__, Path(__file__).read_text()][0]

    @step
    def fails() -> None:
        Path("data.csv").read_text()
        raise ValueError("no")

    @pipeline
    def loads(name: str = "data.csv") -> int:
        return load(name)

    @pipeline
    def loads_many() -> list:
        return load.map(["data.csv", "other.csv"])

    @pipeline
    def loads_each_time() -> int:
        return load_each_time("data.csv")

    @pipeline
    def writes() -> None:
        return write("out.csv")

    @pipeline
    def asks(port: int) -> None:
        return ask(port)

    @pipeline
    def runs() -> None:
        return run()

    @pipeline
    def minds_its_business() -> str:
        return make_and_read()

    @pipeline
    def failing() -> None:
        return fails()
"""


@pytest.fixture(params=["inline", "processes", "fresh"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "inline":
        return Inline()
    return Processes(forked=request.param == "processes")


@pytest.fixture
def loop(project: UserProject, monkeypatch: pytest.MonkeyPatch) -> Any:
    project.write({"loop": LOOP})
    for name in ("data.csv", "other.csv"):
        (project.root / name).write_text("a,b\n")
    monkeypatch.chdir(project.root)
    return project.load()


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("localhost", 0)) as server:
        yield server.getsockname()[1]


def ran(ws: Workspace, body: Any, executor: Executor, **params: Any) -> tuple[PipelineRun, list[str]]:
    heard: list[Progress] = []
    run = run_pipeline(ws, body, params=params, reason="test", executor=executor, on_progress=heard.append)
    return run, [one.message for one in heard if one.kind == "step_touched"]


def named(run: PipelineRun) -> list[tuple[str, str]]:
    return [(one.what, one.name) for step in run.steps for one in step.touched]


def test_a_file_that_a_step_reads_is_told_once_and_kept_with_the_step_run(
    ws: Workspace, loop: Any, executor: Executor
) -> None:
    run, said = ran(ws, loop.loads, executor)
    assert named(run) == [("read", "data.csv")]
    assert said == [
        "step load read data.csv without declaring it: its cache key does not see changes of it; use cache=False or a dataset"
    ]


def test_of_a_map_it_is_told_once_and_kept_for_each_call(
    any_ws: Workspace, loop: Any, executor: Executor
) -> None:
    run, said = ran(any_ws, loop.loads_many, executor)
    assert sorted(named(run)) == [("read", "data.csv"), ("read", "other.csv")]
    assert len(said) == 1


def test_of_a_step_that_is_never_cached_nothing_is_told(ws: Workspace, loop: Any) -> None:
    run, said = ran(ws, loop.loads_each_time, Inline())
    assert (named(run), said) == ([("read", "data.csv")], [])


def test_what_a_step_writes_connects_to_and_runs_is_noticed(
    ws: Workspace, loop: Any, port: int, executor: Executor
) -> None:
    assert named(ran(ws, loop.writes, executor)[0]) == [("wrote", "out.csv")]
    assert named(ran(ws, loop.asks, executor, port=port)[0]) == [("connected", f"localhost:{port}")]
    assert named(ran(ws, loop.runs, executor)[0]) == [("ran", Path(sys.executable).name)]


def test_own_temporary_files_code_and_files_that_are_not_there_are_not_told(
    ws: Workspace, loop: Any, executor: Executor
) -> None:
    assert named(ran(ws, loop.minds_its_business, executor)[0]) == [("ran", "true")]


def test_a_step_that_fails_has_touched_too(ws: Workspace, loop: Any) -> None:
    with pytest.raises(StepFailed, match="no") as failed:
        ran(ws, loop.failing, Processes())
    assert named(pipeline_run(ws, failed.value.run_id)) == [("read", "data.csv")]


def test_why_says_that_a_cached_result_rests_on_a_file_that_changed(ws: Workspace, loop: Any) -> None:
    first, _ = ran(ws, loop.loads, Inline())
    assert why(ws, first.id, "load").sentence.endswith(" Undeclared, it read data.csv.")
    again, _ = ran(ws, loop.loads, Inline())
    assert again.steps[0].state == "cached"
    assert why(ws, again.id, "load").sentence.endswith("changed. Undeclared, it read data.csv.")
    Path("data.csv").write_text("a,b,c\n")
    assert (
        "Since then data.csv changed, which its cache key does not see" in why(ws, again.id, "load").sentence
    )


def test_the_commands_show_it(ws: Workspace, loop: Any) -> None:
    run, _ = ran(ws, loop.loads, Inline())

    def said(*command: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "everloop", *command],
            env=child_environment(ws.settings),
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert said("runs", "steps", run.id).splitlines()[1].endswith("read data.csv")
    assert "load read data.csv" in said("runs", "show", run.id)
    assert "Undeclared, it read data.csv." in said("why", f"{run.id}/load")


def test_a_rerun_that_differs_names_what_was_touched(ws: Workspace, loop: Any, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.csv"
    elsewhere.write_text("a")
    run, _ = ran(ws, loop.loads, Inline(), name=str(elsewhere))
    elsewhere.write_text("ab")
    assert f"Undeclared, it read {elsewhere}." in reproduce(ws, run.id).sentence


def touched_by(code: str, tmp_path: Path) -> list[Touched]:
    """What a function touches in a fresh process, whose temporary folder is its own."""
    (tmp_path / "data").mkdir()
    script = f"""
import json, os, sys
from pathlib import Path
from everloop.pipelines.touched import watched
os.chdir({str(tmp_path / "data")!r})
def function():
{code}
with watched([Path("/no/home")]) as found:
    function()
print("touched:", json.dumps([vars(one) for one in found()]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Touched(**one) for one in json.loads(done.stdout.rpartition("touched: ")[2])]


@pytest.mark.parametrize(
    "code",
    [
        """
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV
    x, y = load_iris(return_X_y=True)
    GridSearchCV(RandomForestClassifier(5), {"max_depth": [1, 2]}, cv=2, n_jobs=2).fit(x, y)
""",
        """
    import zoneinfo, ssl, locale, urllib.request, httpx, platform, ctypes.util, uuid, logging, multiprocessing
    zoneinfo.ZoneInfo("Europe/Berlin"); ssl.create_default_context(); locale.setlocale(locale.LC_ALL, "")
    httpx.Client().close(); platform.processor(); platform.platform(); ctypes.util.find_library("m"); uuid.getnode()
    with multiprocessing.Pool(1) as pool: pool.map(abs, [1])
""",
        """
    import duckdb, pyarrow as pa, pyarrow.compute, tempfile, pathlib
    with tempfile.TemporaryDirectory() as folder:
        duckdb.sql("copy (select 1 as x) to '" + folder + "/x.parquet'")
        assert duckdb.sql("select count(*) from '" + folder + "/x.parquet'").fetchall() == [(1,)]
    pathlib.Path("/dev/null").write_text("")
""",
        """
    from PIL import Image, ImageDraw, ImageFont
    ImageDraw.Draw(Image.new("L", (9, 9))).text((0, 0), "x", font=ImageFont.load_default())
    import plotly.express, joblib, skops.io, rich.console, jinja2
    joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(one) for one in range(3))
""",
    ],
    ids=["scikit-learn", "standard library", "duckdb", "others"],
)
def test_libraries_give_no_false_alarm(code: str, tmp_path: Path) -> None:
    assert touched_by(code, tmp_path) == []


def test_many_files_of_a_folder_are_told_as_the_folder(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.txt").touch()
    with watched([]) as found:
        for file in tmp_path.iterdir():
            file.read_bytes()
    assert [(one.what, one.name, one.count) for one in found()] == [("read", f"{tmp_path}/*", 30)]
    assert listed(found()) == f"read {tmp_path}/* (30 files)"


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    with watched([]) as found:
        for number in range(100):
            folder = tmp_path / str(number)
            subprocess.run(["/bin/mkdir", str(folder)], check=True)
            (folder / "x").write_text("")
    assert len(found()) == 20


def test_other_threads_and_what_comes_after_are_not_listened_to(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as before:
        before.submit(int).result()  # its thread is there before the step begins
        with watched([]) as found, ThreadPoolExecutor(1) as of_step:
            before.submit((tmp_path / "another's").write_text, "").result()
            of_step.submit((tmp_path / "the step's").write_text, "").result()
    (tmp_path / "after").write_text("")
    assert [one.name for one in found()] == [str(tmp_path / "the step's")]


def test_the_sentence_says_what_to_do_about_each() -> None:
    said = told(
        "load",
        [
            Touched("read", "a.csv"),
            Touched("connected", "h:80"),
            Touched("wrote", "b"),
            Touched("ran", "git"),
        ],
    )
    assert said == (
        "step load read a.csv and connected to h:80 without declaring it: its cache key does not see changes of it; use "
        "cache=False or a dataset. It wrote b: from the cache it will not be written again; return its Path instead. It "
        "ran git, and what that uses is not seen"
    )
