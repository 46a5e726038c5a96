from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from everloop import tracking
from everloop.errors import Invalid, NotFound
from everloop.workspace import Workspace

Git = Callable[..., str]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "shop" / "project"
    (folder / "parts").mkdir(parents=True)
    (folder / "loop.py").write_text("C = 1\n")
    (folder / "parts" / "steps.py").write_text("def fit(): ...\n")
    (folder / "kpi.sql").write_text("SELECT 1\n")
    (folder / "secrets.toml").write_text("password = 'x'\n")
    return folder


@pytest.fixture
def git(project: Path) -> Git:
    """Run git in the repository that holds the project; it has one commit."""

    def run(*words: str) -> str:
        identity = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        command = ["git", *identity, "-C", str(project.parent), *words]
        return subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout.strip()

    run("init", "--quiet")
    run("add", ".")
    run("commit", "--quiet", "--message", "first")
    return run


ALL = ["kpi.sql", "loop.py", "parts/steps.py"]


def test_outside_git_the_files_are_the_code(any_ws: Workspace, project: Path) -> None:
    code = tracking.capture_code(any_ws, project)
    assert (code.commit, code.diff, code.is_dirty, code.folder, code.problem) == (
        None,
        None,
        False,
        None,
        None,
    )
    assert sorted(code.files) == ALL
    assert any_ws.blobs.get(code.files["loop.py"]) == b"C = 1\n"
    assert tracking.code(any_ws, code.digest) == code


def test_a_clean_checkout_is_its_commit(ws: Workspace, project: Path, git: Git) -> None:
    code = tracking.capture_code(ws, project)
    assert (code.commit, code.diff, code.is_dirty) == (git("rev-parse", "HEAD"), None, False)
    assert (sorted(code.files), code.folder) == (ALL, "project")


def test_the_difference_to_the_commit_is_kept(ws: Workspace, project: Path, git: Git) -> None:
    clean = tracking.capture_code(ws, project)
    (project / "loop.py").write_text("C = 2\n")
    dirty = tracking.capture_code(ws, project)
    assert dirty.is_dirty
    assert dirty.commit == clean.commit
    assert dirty.digest != clean.digest
    assert dirty.diff is not None
    diff = ws.blobs.get(dirty.diff).decode()
    assert "--- a/loop.py\n+++ b/loop.py" in diff
    assert "-C = 1\n+C = 2\n" in diff


def test_a_changed_file_that_is_not_source_is_in_the_difference(
    ws: Workspace, project: Path, git: Git
) -> None:
    clean = tracking.capture_code(ws, project)
    (project / "secrets.toml").write_text("password = 'y'\n")
    dirty = tracking.capture_code(ws, project)
    assert dirty.is_dirty
    assert dirty.files == clean.files
    assert dirty.digest != clean.digest


def test_the_commit_and_the_difference_give_the_files_again(
    ws: Workspace, project: Path, git: Git, tmp_path: Path
) -> None:
    (project / "loop.py").write_text("C = 3\n")
    (project / "kpi.sql").unlink()
    git("add", "project/kpi.sql")  # staged or not makes no difference
    code = tracking.capture_code(ws, project)
    assert code.diff is not None
    git("reset", "--hard", "--quiet")
    (tmp_path / "diff").write_bytes(ws.blobs.get(code.diff))
    git("apply", "--directory=project", str(tmp_path / "diff"))
    assert (project / "loop.py").read_text() == "C = 3\n"
    assert not (project / "kpi.sql").exists()


def test_a_file_that_git_does_not_know_yet_is_code_too(ws: Workspace, project: Path, git: Git) -> None:
    (project / "new.py").write_text("")
    code = tracking.capture_code(ws, project)
    assert "new.py" in code.files
    assert code.is_dirty
    assert code.diff is None


def test_what_git_ignores_is_no_code(ws: Workspace, project: Path, git: Git) -> None:
    (project / ".gitignore").write_text("made.py\n")
    (project / "made.py").write_text("")
    assert "made.py" not in tracking.capture_code(ws, project).files


def test_changes_beside_the_project_do_not_count(ws: Workspace, project: Path, git: Git) -> None:
    before = tracking.capture_code(ws, project)
    (project.parent / "other.py").write_text("")
    assert tracking.capture_code(ws, project) == before


def test_a_repository_without_a_commit_is_only_files(ws: Workspace, project: Path, git: Git) -> None:
    git("update-ref", "-d", "HEAD")
    code = tracking.capture_code(ws, project)
    assert (code.commit, code.diff, sorted(code.files)) == (None, None, ALL)


def test_a_project_in_a_folder_that_git_ignores_is_captured_all_the_same(
    ws: Workspace, project: Path, git: Git
) -> None:
    (project.parent / ".gitignore").write_text("play/\n")
    play = project.parent / "play"
    play.mkdir()
    (play / "loop.py").write_text("")
    code = tracking.capture_code(ws, play)
    assert list(code.files) == ["loop.py"]
    assert code.is_dirty


def test_a_broken_repository_is_told_and_does_not_stop_the_run(ws: Workspace, project: Path) -> None:
    (project / ".git").write_text("gitdir: /nowhere\n")
    code = tracking.capture_code(ws, project)
    assert sorted(code.files) == ALL
    assert code.problem is not None
    assert "nowhere" in code.problem


def test_a_huge_difference_is_summed_up(ws: Workspace, project: Path, git: Git) -> None:
    (project / "data.csv").write_text("")
    git("add", "project/data.csv")
    git("commit", "--quiet", "--message", "data in git")
    (project / "data.csv").write_text("x" * 99 + "\n" + "a line of data\n" * 400_000)
    code = tracking.capture_code(ws, project)
    assert code.diff is not None
    summary = ws.blobs.get(code.diff)
    assert b"data.csv | 400001 +" in summary
    assert len(summary) < 1_000


def test_the_users_own_settings_of_git_do_not_change_the_code(ws: Workspace, project: Path, git: Git) -> None:
    (project / "loop.py").write_text("C = 2\n")
    before = tracking.capture_code(ws, project)
    for setting in (
        "diff.noprefix=true",
        "color.diff=always",
        "diff.external=/bin/false",
        "diff.renames=copies",
    ):
        git("config", *setting.split("="))
    assert tracking.capture_code(ws, project) == before


def test_environments_and_the_workspace_are_no_code(ws: Workspace, project: Path) -> None:
    for place in (".hidden/a.py", "env/lib/a.py", "parts/__pycache__/a.py", "node_modules/a.py", ".b.py"):
        (project / place).parent.mkdir(parents=True, exist_ok=True)
        (project / place).write_text("")
    (project / "env" / "pyvenv.cfg").write_text("")
    (project / "loop").symlink_to(project)  # a way around in a circle
    assert sorted(tracking.capture_code(ws, project).files) == ALL


def test_the_workspace_inside_the_project_is_no_code(ws: Workspace) -> None:
    (ws.home / "snapshot.py").write_text("")
    (ws.home.parent / "loop.py").write_text("")
    assert list(tracking.capture_code(ws, ws.home.parent).files) == ["loop.py"]


def test_named_files_alone_are_captured(ws: Workspace, project: Path) -> None:
    code = tracking.capture_code(ws, project, [project / "loop.py", Path("secrets.toml")])
    assert list(code.files) == ["loop.py", "secrets.toml"]


@pytest.mark.parametrize("name", ["../elsewhere.py", "/etc/passwd", "missing.py", "parts"])
def test_a_file_that_is_not_below_the_project_is_refused(ws: Workspace, project: Path, name: str) -> None:
    (project.parent / "elsewhere.py").write_text("")
    with pytest.raises(Invalid, match="is not a file below"):
        tracking.capture_code(ws, project, [Path(name)])


def test_a_folder_that_is_not_there_is_refused(ws: Workspace, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is no folder"):
        tracking.capture_code(ws, tmp_path / "nothing")


def test_a_folder_with_everything_in_it_is_refused(ws: Workspace, project: Path) -> None:
    for number in range(5_000):
        (project / f"s{number}.py").touch()
    with pytest.raises(Invalid, match="a folder of its own"):
        tracking.capture_code(ws, project)


def test_a_name_that_is_not_utf8_is_refused(ws: Workspace, project: Path) -> None:
    Path(str(project).encode().decode() + "/caf\udce9.py").write_text("")
    with pytest.raises(Invalid, match="not UTF-8"):
        tracking.capture_code(ws, project)


def test_a_snapshot_is_checked_out_as_it_was(ws: Workspace, project: Path, tmp_path: Path) -> None:
    code = tracking.capture_code(ws, project)
    (project / "loop.py").write_text("C = 9\n")
    folder = tracking.check_out(ws, code.digest, tmp_path / "code" / code.digest)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == ALL
    assert (folder / "loop.py").read_text() == "C = 1\n"
    assert tracking.check_out(ws, code.digest, folder) == folder


def test_a_check_out_that_fails_leaves_nothing(ws: Workspace, project: Path, tmp_path: Path) -> None:
    code = tracking.capture_code(ws, project)
    ws.blobs.delete(code.files["parts/steps.py"])
    with pytest.raises(NotFound, match="blob"):
        tracking.check_out(ws, code.digest, tmp_path / "code" / "x")
    assert list((tmp_path / "code").iterdir()) == []


def test_unknown_code_is_not_found(ws: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no code"):
        tracking.check_out(ws, "0" * 64, tmp_path / "x")
