"""Which commits are compared, in the states of a repository that CI services and people leave it in."""

from __future__ import annotations

from pathlib import Path

import pytest

from everloop.ci.repository import base_of, changed_files, checked_out, repository_of
from everloop.errors import Invalid
from tests.ci.project import Project, begun


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A branch `topic`, two commits on from main, which went on by one."""
    made = begun(tmp_path / "repo", {"a.txt": "1"})
    made.branch("topic", {"b.txt": "1"})
    made.commit({"c.txt": "1"})
    made.git("checkout", "--quiet", "main")
    made.commit({"a.txt": "2"})
    made.git("checkout", "--quiet", "topic")
    return made


def base(project: Project, wanted: str | None = None, **variables: str) -> tuple[str, str] | None:
    found = base_of(repository_of(project.root), wanted, variables)
    return None if found is None else (found.name, found.commit)


def test_the_base_is_the_commit_that_the_branch_starts_from(project: Project) -> None:
    start = project.git("rev-parse", "main~1")
    assert base(project) == ("main", start)
    assert base(project, "main") == ("main", start)
    assert base(project, start[:10]) == (start[:10], start)


def test_a_detached_head_is_compared_as_a_branch_is(project: Project) -> None:
    start = project.git("rev-parse", "main~1")
    project.git("checkout", "--quiet", "--detach")
    assert repository_of(project.root).name == project.git("rev-parse", "HEAD")[:12]
    assert base(project) == ("main", start)


def test_the_branch_that_a_ci_service_names_is_the_base(project: Project) -> None:
    project.git("branch", "release", "topic~1")
    wanted = project.git("rev-parse", "topic~1")
    assert base(project, GITHUB_BASE_REF="release") == ("release", wanted)
    assert base(project, CI_MERGE_REQUEST_TARGET_BRANCH_NAME="release") == ("release", wanted)


def test_a_branch_of_the_remote_is_found_by_its_name(project: Project, tmp_path: Path) -> None:
    clone = Project(tmp_path / "clone")
    project.git("clone", "--quiet", str(project.root), str(clone.root))
    assert base(clone, "main") == ("origin/main", project.git("rev-parse", "main~1"))


def test_a_merge_commit_of_a_pull_request_starts_from_its_first_parent(
    project: Project, tmp_path: Path
) -> None:
    """As GitHub checks a pull request out: detached, a merge of it into its base, of which no branch is fetched."""
    project.git("checkout", "--quiet", "--detach", "main")
    project.git("merge", "--quiet", "--no-ff", "-m", "merged", "topic")
    merged, parent = project.git("rev-parse", "HEAD"), project.git("rev-parse", "HEAD^1")
    service = begun(tmp_path / "service", {"x": "x"})
    service.git("fetch", "--quiet", str(project.root), merged)
    service.git("checkout", "--quiet", "--detach", merged)
    service.git("branch", "-D", "main")
    assert base(service, GITHUB_BASE_REF="main") == ("main", parent)


def test_gitlab_tells_the_commit_where_it_does_not_fetch_the_branch(project: Project) -> None:
    start = project.git("rev-parse", "main~1")
    told = {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "not-fetched", "CI_MERGE_REQUEST_DIFF_BASE_SHA": start}
    assert base(project, **told) == ("not-fetched", start)


def test_a_shallow_clone_is_told_how_to_fetch_the_history(project: Project, tmp_path: Path) -> None:
    clone = Project(tmp_path / "clone")
    address = f"file://{project.root}"
    project.git(
        "clone", "--quiet", "--depth=1", "--no-single-branch", "--branch", "topic", address, str(clone.root)
    )
    with pytest.raises(
        Invalid, match=r"shallow.*no commit in common.*fetch-depth: 0.*GIT_DEPTH: 0.*git fetch --unshallow"
    ):
        base(clone, "main")
    with pytest.raises(Invalid, match=r"shallow and has no 'release'.*fetch-depth: 0"):
        base(clone, GITHUB_BASE_REF="release")


@pytest.mark.parametrize("name", ["nowhere", "--upload-pack=touch x", "main; rm -rf /", "HEAD:a.txt"])
def test_a_base_that_is_not_there_is_told(project: Project, name: str) -> None:
    with pytest.raises(Invalid, match=r"there is no branch, tag or commit .* here;.*--base NAME"):
        base(project, name)


def test_a_branch_without_a_common_commit_is_told(project: Project) -> None:
    project.git("checkout", "--quiet", "--orphan", "alone")
    project.commit({"z.txt": "1"})
    with pytest.raises(Invalid, match="alone and main have no commit in common"):
        base(project)


def test_without_a_main_branch_there_is_no_base(tmp_path: Path) -> None:
    project = begun(tmp_path / "repo", {"a.txt": "1"})
    project.git("branch", "--quiet", "--move", "trunk")
    assert base(project) is None


def test_a_folder_without_git_and_one_without_a_commit_are_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"in no git repository.*;.*git init"):
        repository_of(tmp_path)
    Project(tmp_path).git("init", "--quiet")
    with pytest.raises(Invalid, match="nothing is committed"):
        repository_of(tmp_path)


def test_changed_files_are_those_of_the_branch_and_of_the_folder_but_not_our_own(project: Project) -> None:
    (project.root / "a.txt").write_text("not committed")
    (project.root / "new \u00e9.txt").write_text("not known to git")
    (project.root / ".everloop").mkdir()
    (project.root / ".everloop" / "everloop.db").write_text("ours")
    repository = repository_of(project.root)
    start = project.git("rev-parse", "main~1")
    ours = project.root / ".everloop"
    assert changed_files(repository, start, beside=ours) == ("a.txt", "b.txt", "c.txt", "new \u00e9.txt")
    assert changed_files(repository, None, beside=ours) == ("a.txt", "new \u00e9.txt")


def test_the_base_is_checked_out_beside_and_leaves_nothing_behind(project: Project) -> None:
    before = (project.git("status", "--porcelain", "--branch"), project.git("branch", "--list"))
    hook = project.root / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch '{project.root}/hooked'\n")
    hook.chmod(0o755)
    with checked_out(repository_of(project.root), project.git("rev-parse", "main")) as folder:
        assert (folder / "a.txt").read_text() == "2"
        assert not (folder / "b.txt").exists()
    assert not folder.exists()
    assert (project.git("status", "--porcelain", "--branch"), project.git("branch", "--list")) == before
    assert project.git("worktree", "list").count("\n") == 0


def test_a_hook_of_git_may_run_a_check(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git tells its hooks a folder and an index of its own by variables, which another folder's commands would follow."""
    commit = project.git("rev-parse", "main")
    monkeypatch.setenv("GIT_DIR", str(project.root / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    with checked_out(repository_of(project.root), commit) as folder:
        assert (folder / "a.txt").read_text() == "2"
    assert not (tmp_path / "index").exists()
