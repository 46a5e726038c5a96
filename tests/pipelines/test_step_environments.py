"""A step with a lock file runs in an environment of its own, built once. From wheels in a folder: no network is used."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from everloop import tracking
from everloop.errors import Invalid, StepFailed
from everloop.pipelines import (
    Inline,
    PipelineRun,
    Processes,
    Progress,
    output_of,
    pipeline,
    pipeline_runs,
    reproduce,
    result,
    run_pipeline,
    step,
    why,
)
from everloop.settings import child_environment
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject
from tests.tracking.test_rebuilding import offline as offline

__all__ = ["offline"]  # the fixture: installers that have steadyhand 1.0 and nothing else

with_installer = pytest.mark.parametrize(
    "offline", ["pip" if shutil.which("uv") is None else "uv"], indirect=True
)

LOOP = """
    import sys

    import pyarrow as pa

    from everloop.pipelines import pipeline, step

    @step
    def rows() -> pa.Table:
        return pa.table({"x": [1.0, 2.0]})

    @step(environment="locks/steady.txt")
    def shifted(rows: pa.Table) -> pa.Table:
        import steadyhand

        print("python", sys.executable)
        return pa.table({"x": [x.as_py() + steadyhand.shift() for x in rows["x"]]})

    @step(environment="locks/steady.txt")
    def one(value: int) -> int:
        import steadyhand

        return value

    @step
    def has_it() -> bool:
        try:
            import steadyhand
        except ImportError:
            return False
        return True

    @pipeline
    def shifts() -> list:
        return [shifted(rows()), has_it()]

    @pipeline
    def many() -> list:
        return one.map([1, 2, 3])
"""


@pytest.fixture
def loop(project: UserProject) -> Any:
    project.write({"loop": LOOP})
    (project.root / "locks").mkdir()
    (project.root / "locks" / "steady.txt").write_text("# by hand\nsteadyhand==1.0\n")
    return project.load()


def ran(ws: Workspace, body: Any) -> tuple[PipelineRun, list[str]]:
    heard: list[Progress] = []
    run = run_pipeline(ws, body, reason="test", executor=Processes(2), on_progress=heard.append)
    return run, [one.message for one in heard if one.kind == "environment_built"]


def environments(ws: Workspace) -> list[Path]:
    return [one for one in (ws.home / "environments").iterdir() if one.is_dir()]


@pytest.mark.usefixtures("offline")
def test_the_step_runs_there_and_the_others_do_not(ws: Workspace, loop: Any) -> None:
    run, said = ran(ws, loop.shifts)
    table, has_it = result(ws, run.id)
    assert (table["x"].to_pylist(), has_it) == ([1.5, 2.5], False)
    assert said == ["builds the environment of locks/steady.txt once; the step's log shows how far it is"]
    log = tracking.read_artifact(ws, run.id, "logs/shifted-1.log").decode()
    assert "steadyhand" in log
    assert f"python {ws.home}/environments/" in log


@with_installer
def test_it_is_built_once_and_its_packages_count_for_the_cache(
    ws: Workspace, loop: Any, project: UserProject, offline: None
) -> None:
    ran(ws, loop.shifts)
    again, said = ran(ws, loop.shifts)
    assert ({one.state for one in again.steps}, said) == ({"cached"}, [])
    (project.root / "locks" / "steady.txt").write_text("steadyhand==1.0  # the same\n")
    other, said = ran(ws, loop.shifts)
    assert [one.node for one in other.steps if one.state == "done"] == ["shifted"]
    assert "environment lock file went from" in why(ws, other.id, "shifted").sentence
    assert len(environments(ws)) == 2


@with_installer
def test_a_version_that_changed_is_named(
    ws: Workspace, loop: Any, project: UserProject, offline: None
) -> None:
    ran(ws, loop.shifts)
    (project.root / "locks" / "steady.txt").write_text("steadyhand==9.9\n")
    with pytest.raises(StepFailed) as failed:
        ran(ws, loop.shifts)
    told = str(failed.value)
    assert "the environment of locks/steady.txt cannot be built" in told
    assert "steadyhand==9.9" in told
    assert "Mend the lock, go online, or name a folder of wheels" in told
    assert why(ws, failed.value.run_id, "shifted").sentence.startswith(
        "shifted ran: environment steadyhand went from 1.0 to 9.9."
    )


@with_installer
def test_two_runs_at_once_build_it_once(
    ws: Workspace, loop: Any, project: UserProject, offline: None
) -> None:
    script = (
        "import loop; from everloop.pipelines import run_pipeline; from everloop.workspace import open_workspace\n"
        "with open_workspace() as ws: print(run_pipeline(ws, loop.many, reason='test').state)"
    )
    environment = child_environment(ws.settings, PYTHONPATH=str(project.root))

    def run() -> None:
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )
        states.append(done.stdout.strip() or done.stderr)

    states: list[str] = []
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == ["done", "done"]
    (made,) = environments(ws)
    assert not made.with_suffix(".txt").exists()
    logs = [
        tracking.read_artifact(ws, run.id, one.path).decode()
        for run in pipeline_runs(ws)
        for one in tracking.artifacts(ws, run.id, below="logs")
    ]
    assert sum("steadyhand" in log for log in logs) == 1


@with_installer
def test_one_that_was_cut_off_is_built_again(ws: Workspace, loop: Any, offline: None) -> None:
    ran(ws, loop.many)
    (made,) = environments(ws)
    (made / "everloop-ready").unlink()
    (made / "bin" / "python").unlink()
    run_pipeline(ws, loop.many, reason="test", executor=Processes(2), seed=1)
    assert (made / "everloop-ready").exists()


@with_installer
def test_a_rerun_builds_it_from_the_recorded_lock(
    ws: Workspace, loop: Any, project: UserProject, offline: None
) -> None:
    run, _ = ran(ws, loop.shifts)
    (project.root / "locks" / "steady.txt").unlink()
    found = reproduce(ws, run.id)
    assert (found.verdict, found.differences) == ("identical", ())
    assert output_of(ws, found.rerun, "shifted")["x"].to_pylist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, r"steady.txt cannot be read: .*Make it with 'uv pip compile"),
        ("", "names no package"),
        ("# nothing\n", "names no package"),
        ("steadyhand>=1.0", "has the line 'steadyhand>=1.0'; a lock names each package with one version"),
        ("steadyhand", "has the line 'steadyhand'"),
        ("-r other.txt", "has the line '-r other.txt'"),
        ("-e .", "has the line '-e .'"),
        ("steadyhand==1.*", "has the line"),
    ],
)
def test_what_is_no_lock_is_refused_before_anything_is_recorded(
    ws: Workspace, loop: Any, project: UserProject, text: str | None, found: str
) -> None:
    place = project.root / "locks" / "steady.txt"
    place.unlink() if text is None else place.write_text(text)
    with pytest.raises(Invalid, match=found):
        ran(ws, loop.shifts)
    assert pipeline_runs(ws) == []


@pytest.mark.parametrize("lock", ["", "/etc/lock.txt", "../lock.txt"])
def test_a_lock_is_in_the_project(lock: str) -> None:
    with pytest.raises(Invalid, match="is a lock file in the project's folder"):

        @step(environment=lock)
        def declared() -> int:
            return 1


@with_installer
def test_an_executor_in_this_process_gives_such_a_step_a_process(
    ws: Workspace, loop: Any, offline: None
) -> None:
    run = run_pipeline(ws, loop.shifts, reason="test", executor=Inline())
    assert result(ws, run.id)[1] is False
    assert output_of(ws, run.id, "shifted")["x"].to_pylist() == [1.5, 2.5]


def test_a_pipeline_that_is_in_no_file_cannot_have_one(
    ws: Workspace, loop: Any, project: UserProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)

    @step(environment="locks/steady.txt")
    def declared() -> int:
        return 1

    @pipeline
    def inner() -> int:
        return declared()

    with pytest.raises(StepFailed, match=r"declared with environment=.*Write it in a file"):
        run_pipeline(ws, inner, reason="test", executor=Inline())


def test_a_lock_with_hashes_markers_extras_and_addresses_is_read() -> None:
    lock = (
        b"--index-url https://example.org/simple\n"
        b"Torch[cuda] == 2.9.0 ; python_version > '3.10' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        b"mine @ https://example.org/mine-1.0.whl  # via me\n"
    )
    found = tracking.locked_environment("a.txt", lock)
    assert found.version_of("torch") == "2.9.0"
    assert found.version_of("mine") == "https://example.org/mine-1.0.whl"
    assert found.version_of("numpy") == tracking.installed().version_of("numpy")
    assert found.version_of("pytest") is None
