"""Whole checks: real repositories, real processes, pipelines that need neither data nor a library."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from everloop import ci
from everloop.ci import homes
from everloop.errors import Invalid, NotFound, NotReady
from everloop.settings import load_settings
from everloop.workspace import Workspace, open_workspace
from tests.ci.project import STEPS, Project, begun

DATASET = (
    STEPS
    + '\nrows = el.dataset("rows", key="id", inputs=["x"])\n\n\n@el.pipeline\ndef train() -> str:\n    return told(rows)\n'
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return begun(tmp_path / "repo", {"loop.py": STEPS, "README.md": "hello"})


def states(report: ci.Report, pipeline: str = "report") -> dict[str, str]:
    one = next(each for each in report.pipelines if each.name == pipeline)
    return {} if one.head is None else {step.name: step.state for step in one.head.steps}


def test_a_change_runs_what_it_touches_and_takes_the_rest_from_the_base(project: Project) -> None:
    project.branch("topic", {"loop.py": STEPS.replace("things", "parts")})
    report = project.check()
    assert (report.verdict, report.sentence) == ("passed", "report ran.")
    assert states(report) == {"count": "cached", "told": "done"}
    assert states(report, "beside") == {}
    assert report.pipelines[0].touched.steps[0].reasons == ("source loop:told was rewritten",)
    assert report.base is not None
    assert (report.base.name, report.base.is_cached) == ("main", False)
    assert not (project.root / ".everloop" / "everloop.db").exists()  # the workspace is not touched
    assert project.git("status", "--porcelain") == ""


def test_the_base_itself_is_run_whole_and_its_results_are_kept_by_commit(project: Project) -> None:
    report = project.check()
    assert report.base is None
    assert (states(report), states(report, "beside")) == (
        {"count": "done", "told": "done"},
        {"other": "done"},
    )
    assert "main was checked by itself" in report.notes[0]
    project.branch("one", {"loop.py": STEPS.replace("START = 3", "START = 4")})
    after = project.check()
    assert after.base is not None
    assert after.base.is_cached
    project.git("checkout", "--quiet", "main")
    project.commit({"loop.py": STEPS.replace("2 * number", "3 * number")})
    project.branch("two", {"loop.py": STEPS.replace("2 * number", "4 * number")})
    moved_on = project.check()
    assert moved_on.base is not None
    assert not moved_on.base.is_cached


def test_a_change_of_no_step_runs_nothing_and_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = STEPS.replace("START = 3", "# how many\nSTART = 3")
    project.branch("topic", {"README.md": "other", "loop.py": quiet, "notes.txt": "new"})
    project.git("checkout", "--quiet", "--detach")
    monkeypatch.setenv("GITHUB_HEAD_REF", "somebodys-branch")
    report = project.check()
    assert report.head.name == "somebodys-branch"
    assert report.verdict == "passed"
    assert report.sentence == "The change touches no step, no gate and no data: nothing had to run."
    assert report.changed_files == ("README.md", "loop.py", "notes.txt")
    assert report.unreached == ("README.md", "notes.txt")
    assert not (project.root / ".everloop" / "ci" / "head").exists()


def test_a_step_that_fails_is_told_where_it_failed(tmp_path: Path) -> None:
    text = STEPS.replace("import everloop as el", "import everloop as el\n\nimport helper")
    files = {
        "ml/loop.py": text.replace("return doubled(start)", "return helper.halved(start)"),
        "ml/helper.py": "def halved(number: int) -> int:\n    return number // 0\n",
    }
    project = begun(tmp_path / "repo", files)
    report = project.check(file="ml/loop.py")
    assert (report.verdict, report.sentence) == ("failed", "report failed in step count.")
    (remark,) = report.annotations
    assert (remark.level, remark.file, remark.line) == ("error", "ml/helper.py", 2)
    assert "ZeroDivisionError" in remark.message
    assert str(project.root) not in remark.message
    (project.root / "ml" / "helper.py").write_text("def halved(\n")
    assert (project.check(file="ml/loop.py").annotations[0].file) == "ml/helper.py"


def test_a_step_that_takes_its_process_down_fails_the_check_alone(tmp_path: Path) -> None:
    killed = STEPS.replace("return doubled(start)", "import os\n    os.kill(os.getpid(), 9)\n    return 1")
    report = begun(tmp_path / "repo", {"loop.py": killed}).check()
    assert report.verdict == "failed"
    assert report.pipelines[0].head is not None
    assert "was killed by signal 9" in str(report.pipelines[0].head.failure)


def test_code_that_reads_or_prints_does_not_get_between_the_processes(tmp_path: Path) -> None:
    talking = STEPS.replace(
        "return doubled(start)", "import sys\n    print('{}', sys.stdin.read())\n    return 1"
    )
    assert begun(tmp_path / "repo", {"loop.py": "print('{}')\n" + talking}).check().verdict == "passed"


def test_a_base_that_fails_is_reported_and_does_not_fail_the_change(project: Project) -> None:
    project.commit({"loop.py": STEPS.replace("return doubled(start)", 'raise ValueError("broken before")')})
    project.branch("mended", {"loop.py": STEPS})
    report = project.check()
    assert report.verdict == "passed"
    assert states(report) == {"count": "done", "told": "done"}
    assert "There is no comparison of report, as it failed on the base main" in report.problems[0]
    assert "broken before" in report.problems[0]


def test_a_loop_file_that_cannot_be_loaded_fails_the_change_but_not_as_a_base(project: Project) -> None:
    project.branch("topic", {"loop.py": "import everloop\ndef (:\n"})
    report = project.check()
    assert (report.verdict, report.sentence) == ("failed", "loop.py cannot be loaded.")
    assert "line 2: invalid syntax" in report.problems[0]
    assert (report.annotations[0].file, report.annotations[0].line) == ("loop.py", 2)
    project.git("checkout", "--quiet", "main")
    project.commit({"loop.py": "import nothing_of_this_name\n"})
    project.branch("mended", {"loop.py": STEPS})
    mended = project.check()
    assert mended.verdict == "passed"
    assert "there is no module 'nothing_of_this_name'" in mended.problems[0]


def test_a_base_without_a_loop_file_leaves_nothing_to_compare_with(tmp_path: Path) -> None:
    project = begun(tmp_path / "repo", {"README.md": "hello"})
    project.branch("first", {"loop.py": STEPS})
    report = project.check()
    assert (report.verdict, states(report)) == ("passed", {"count": "done", "told": "done"})
    assert "The base main has no loop.py yet" in report.notes[0]


def test_uncommitted_changes_are_checked_and_named(project: Project) -> None:
    (project.root / "loop.py").write_text(STEPS.replace("things", "parts"))
    report = project.check()
    assert report.head.is_dirty
    assert report.notes[0] == "Uncommitted changes are part of what was checked: loop.py."
    assert states(report) == {"count": "cached", "told": "done"}


def test_the_two_sides_do_not_meet_in_one_process(project: Project) -> None:
    """What the base leaves behind when it is imported is not there when the change is."""
    project.commit({"loop.py": STEPS + "\nimport os\nos.environ['LEFT_BY'] = 'base'\n"})
    project.branch("topic", {"loop.py": STEPS + "\nimport os\nassert 'LEFT_BY' not in os.environ\n"})
    assert project.check().verdict == "passed"


def test_data_that_are_nowhere_are_told_before_anything_runs(tmp_path: Path) -> None:
    project = begun(tmp_path / "repo", {"loop.py": STEPS})
    project.branch("topic", {"loop.py": DATASET})
    with pytest.raises(
        Invalid, match=r"loop.py declares the dataset 'rows', and .* is no workspace.*everloop-ci.toml"
    ):
        project.check()


def test_a_file_that_is_not_there_and_a_dataset_without_a_file_are_told(tmp_path: Path) -> None:
    project = begun(
        tmp_path / "repo", {"loop.py": DATASET, "everloop-ci.toml": "[data.rows]\nfile = 'rows.csv'\n"}
    )
    with pytest.raises(NotFound, match=r"names rows.csv, which is not in .*has to be fetched"):
        project.check()
    project.commit({"everloop-ci.toml": "[data.others]\nfile = 'loop.py'\n"})
    with pytest.raises(
        Invalid, match=r"declares the dataset 'rows', for which everloop-ci.toml names no file.*\[data.rows\]"
    ):
        project.check()


def test_there_has_to_be_a_loop_file(tmp_path: Path) -> None:
    project = begun(tmp_path / "repo", {"README.md": "hello"})
    with pytest.raises(NotFound, match=r"there is no loop file .*everloop init"):
        project.check()


def test_only_the_bases_used_last_are_kept(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / "base" / f"old{number}").mkdir(parents=True)
        os.utime(tmp_path / "base" / f"old{number}", (number, number))
    homes.forget_old(tmp_path)
    assert sorted(one.name for one in (tmp_path / "base").iterdir()) == [
        "old3",
        "old4",
        "old5",
        "old6",
        "old7",
    ]


def test_two_checks_do_not_work_in_one_home_at_a_time(project: Project) -> None:
    with (
        homes.only_check(project.root / ".everloop" / "ci"),
        pytest.raises(NotReady, match="another check is running"),
    ):
        project.check()


def test_parameters_come_from_the_file_and_a_pipeline_that_lacks_one_is_told(tmp_path: Path) -> None:
    needing = STEPS.replace("def report() -> str:", "def report(start: int) -> str:").replace(
        "count(START)", "count(start)"
    )
    given = "[params.report]\nstart = 5\n"
    project = begun(tmp_path / "repo", {"loop.py": needing, "everloop-ci.toml": given})
    head = project.check().pipelines[0].head
    assert head is not None
    assert [step.label for step in head.steps] == ["count(start=5)", "told"]
    project.commit({"everloop-ci.toml": ""})
    lacking = project.check()
    assert (lacking.verdict, lacking.sentence) == ("failed", "report failed.")
    assert "needs the parameter 'start'" in lacking.annotations[0].message
    project.commit({"everloop-ci.toml": "[params.reprot]\nstart = 5\n"})
    with pytest.raises(Invalid, match="gives parameters for 'reprot', which is no pipeline"):
        project.check()


def test_a_workspace_on_sqlite_is_copied_and_one_on_postgres_is_told(
    any_ws: Workspace, tmp_path: Path
) -> None:
    if any_ws.database.dialect == "postgresql":
        with pytest.raises(
            Invalid, match=r"on PostgreSQL.*Name the files with rows and labels in everloop-ci.toml"
        ):
            homes.copied_home(any_ws, tmp_path / "ci" / "copy")
        return
    digest = any_ws.blobs.put(b"rows")
    copy = homes.copied_home(any_ws, tmp_path / "ci" / "copy")
    with open_workspace(settings=load_settings(copy, environ={}, actor="tester")) as ws:
        assert (ws.id, ws.is_simulation, ws.blobs.get(digest)) == (any_ws.id, True, b"rows")


def test_a_new_home_is_no_part_of_the_repository_around_it(tmp_path: Path) -> None:
    project = begun(tmp_path / "repo", {"README.md": "hello"})
    open_workspace(settings=load_settings(project.root / ".everloop", environ={}, actor="tester")).close()
    assert project.git("status", "--porcelain") == ""
