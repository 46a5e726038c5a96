"""What git says: which commits are compared, which files differ, and a checkout of the base."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from everloop.errors import Invalid, NotReady
from everloop.settings import environment_without

# What a CI service tells of a pull request: the branch that it goes to, and on GitLab, which does not fetch that branch, the
# commit that it starts from.
_BRANCHES = ("GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
_START = "CI_MERGE_REQUEST_DIFF_BASE_SHA"
VARIABLES = (*_BRANCHES, _START)
HEADS = ("GITHUB_HEAD_REF", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME")  # the branch of the request
_GUESSES = ("origin/main", "origin/master", "main", "master")  # after what the remote says
# What git sets for its hooks; commands for another folder would follow it.
_OF_A_HOOK = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
)
_TIMEOUT_S = 300  # a checkout of a large repository
_FETCH = "On GitHub: actions/checkout with 'fetch-depth: 0'; on GitLab: GIT_DEPTH: 0; by hand: git fetch --unshallow origin."


@dataclass(frozen=True)
class Base:
    """The commit that a change starts from, and how it was named."""

    name: str
    commit: str


@dataclass(frozen=True)
class Repository:
    """A git repository's folder and the commit that is checked out in it, on `branch` unless HEAD is detached."""

    root: Path
    commit: str
    branch: str | None

    @property
    def name(self) -> str:
        return self.branch or self.commit[:12]


def repository_of(folder: Path) -> Repository:
    """The repository around a folder.

    Raises
    ------
    Invalid
        git is not installed, the folder is in no repository, or nothing was committed yet.
    """
    if shutil.which("git") is None:
        raise Invalid(
            "git is not installed, and 'everloop ci' compares commits. Install git, or train and gate without a comparison: "
            "everloop run PIPELINE."
        )
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top.returncode != 0:
        told = _told(top)
        hint = "" if "not a git repository" in told else f" (git says: {told})"
        raise Invalid(
            f"{folder} is in no git repository{hint}; 'everloop ci' compares a change with the commit that it starts from. "
            "Make one (git init, git add, git commit), or train and gate without a comparison: everloop run PIPELINE."
        )
    root = Path(os.fsdecode(top.stdout).rstrip("\n"))
    commit = _commit(root, "HEAD")
    if commit is None:
        raise Invalid(
            f"nothing is committed in {root} yet; 'everloop ci' compares commits. Commit what is there first: git commit."
        )
    branch = _git(root, "symbolic-ref", "--short", "--quiet", "HEAD").stdout.decode().strip() or None
    return Repository(root, commit, branch)


def root_of(folder: Path) -> Path | None:
    """The root of the repository around a folder, as far as there is git and one."""
    if shutil.which("git") is None:
        return None
    folder = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    top = _git(folder, "rev-parse", "--show-toplevel")
    return Path(os.fsdecode(top.stdout).rstrip("\n")) if top.returncode == 0 else None


def main_branch_of(root: Path) -> str:
    """The branch that changes go to: what the remote says, else the first guess that is there, else main."""
    remote = (
        _git(root, "symbolic-ref", "--short", "--quiet", "refs/remotes/origin/HEAD").stdout.decode().strip()
    )
    if remote:
        return remote.removeprefix("origin/")
    return next((name for name in ("main", "master") if _commit(root, name)), "main")


def base_of(repository: Repository, wanted: str | None, variables: Mapping[str, str]) -> Base | None:
    """The commit that the checked-out one starts from; None when no base branch is there, as before a first push.

    Parameters
    ----------
    wanted
        A branch, tag or commit; None: what the CI service says (`variables`), else the main branch.

    Raises
    ------
    Invalid
        The base is not there, or has no commit in common with the checked-out one, most often since the clone is shallow.
    """
    root = repository.root
    asked = wanted or next((variables[name] for name in _BRANCHES if name in variables), None)
    if asked is None:
        found = next(((name, commit) for name in _guesses(root) if (commit := _commit(root, name))), None)
    else:
        names = (asked,) if wanted and _commit(root, asked) else (f"origin/{asked}", asked)
        found = next(((name, commit) for name in names if (commit := _commit(root, name))), None)
    if found is None and asked is None:
        return None
    if found is None:
        start = _commit(root, variables.get(_START, "-")) or _parent_of_merge(repository)
        if wanted is None and start is not None:
            return Base(str(asked), start)
        raise Invalid(_unknown_base(root, str(asked)))
    name, tip = found
    common = _git(root, "merge-base", repository.commit, tip)
    if common.returncode != 0:
        raise Invalid(_nothing_in_common(repository, name))
    return Base(name, common.stdout.decode().strip())


def changed_files(repository: Repository, base: str | None, *, beside: Path) -> tuple[str, ...]:
    """The files that differ from `base` as they are in the folder, committed or not, by their path in the repository.

    What is below `beside`, everloop's own folder, does not count. Without a base: those not committed.
    """
    differ = _listed(_git(repository.root, "diff", "--name-only", "-z", "--no-renames", base or "HEAD"))
    new = _listed(_git(repository.root, "ls-files", "-z", "--others", "--exclude-standard"))
    return tuple(
        sorted(
            name for name in {*differ, *new} if not (repository.root / name).is_relative_to(beside.resolve())
        )
    )


@contextmanager
def checked_out(repository: Repository, commit: str) -> Iterator[Path]:
    """A fresh folder with a commit's files, gone afterwards. The user's folder and branch are left alone."""
    with tempfile.TemporaryDirectory(prefix="everloop-ci-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve() / "base"
        # no hook of the user's runs for it
        made = _git(
            repository.root,
            "-c",
            f"core.hooksPath={os.devnull}",
            "worktree",
            "add",
            "--quiet",
            "--detach",
            str(folder),
            commit,
        )
        if made.returncode != 0:
            raise NotReady(
                f"git cannot check out the base {commit[:12]}: {_told(made)}. Its files are needed to be compared with. {_FETCH}"
            )
        try:
            yield folder
        finally:
            _git(repository.root, "worktree", "remove", "--force", str(folder))


def _guesses(root: Path) -> tuple[str, ...]:
    remote = _git(root, "symbolic-ref", "--short", "--quiet", "refs/remotes/origin/HEAD")
    return (*remote.stdout.decode().split(), *_GUESSES)


def _parent_of_merge(repository: Repository) -> str | None:
    """The first parent of a merge commit that is there: of the commit that a CI service makes of a pull request, its base."""
    parents = _git(repository.root, "rev-list", "--parents", "--max-count=1", "HEAD").stdout.decode().split()
    return parents[1] if len(parents) > 2 and _commit(repository.root, parents[1]) else None


def _unknown_base(root: Path, name: str) -> str:
    if _is_shallow(root):
        return f"this clone is shallow and has no {name!r}; the base of a change is found in its history. Fetch all of it. {_FETCH}"
    return (
        f"there is no branch, tag or commit {name!r} here; the base is what a change is compared with. "
        f"Fetch it (git fetch origin {name}), or name another: --base NAME."
    )


def _nothing_in_common(repository: Repository, name: str) -> str:
    if _is_shallow(repository.root):
        return (
            f"this clone is shallow: {repository.name} and {name} have no commit in common in what was fetched of their "
            f"history, and a change is compared with the commit that it starts from. Fetch all of it. {_FETCH}"
        )
    return (
        f"{repository.name} and {name} have no commit in common; a change is compared with the commit that it starts from. "
        "Name the branch that it starts from: --base NAME."
    )


def _is_shallow(root: Path) -> bool:
    return _git(root, "rev-parse", "--is-shallow-repository").stdout.strip() == b"true"


def _commit(root: Path, name: str) -> str | None:
    if name.startswith("-"):  # git would take it for an option
        return None
    found = _git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    return found.stdout.decode().strip() if found.returncode == 0 else None


def _listed(answer: subprocess.CompletedProcess[bytes]) -> set[str]:
    return {os.fsdecode(name) for name in answer.stdout.split(b"\0") if name}


def _told(answer: subprocess.CompletedProcess[bytes]) -> str:
    lines = answer.stderr.decode(errors="replace").strip().splitlines()
    return (lines[-1] if lines else f"it ended with {answer.returncode}").removeprefix("fatal: ").rstrip(".")


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *words]
    try:
        return subprocess.run(
            command, capture_output=True, check=False, timeout=_TIMEOUT_S, env=environment_without(_OF_A_HOOK)
        )
    except subprocess.TimeoutExpired as error:
        raise NotReady(
            f"git {words[0]} in {folder} took more than {_TIMEOUT_S} s. Run it by hand to see why, then try again."
        ) from error
