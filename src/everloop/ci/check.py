"""Checking a change: look at both sides, run what is touched on both, compare."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import msgspec
from blake3 import blake3

from everloop import data, labels
from everloop.ci import homes, repository
from everloop.ci.data_files import NAME, Sources, located, read_sources
from everloop.ci.records import FORMAT, Answer, Asked, Look, Outcome, Report, Revision
from everloop.ci.reporting import Found, report_of
from everloop.ci.repository import Base, Repository
from everloop.ci.touched import touched
from everloop.errors import EverloopError, Invalid, NotFound
from everloop.settings import Settings, child_environment, load_settings, outside_variables
from everloop.workspace import open_workspace

Say = Callable[[str], None]


def check(
    file: Path,
    settings: Settings,
    *,
    base: str | None = None,
    run_all: bool = False,
    say: Say = lambda _: None,
) -> Report:
    """Compare a project as it is in its folder with the commit that the change starts from.

    What the change touches is run on both sides, each in a process of its own, in homes below `ci` in the workspace's home;
    the workspace itself is not changed. The base's results are kept by commit. Rows and labels come from the files that
    everloop-ci.toml names, else from the workspace. Without a base, or on the base itself, all of it is run.

    Parameters
    ----------
    base
        The branch or commit that the change goes to; None: what the CI service says, else the main branch.
    run_all
        Run all pipelines, touched or not.

    Raises
    ------
    Invalid, NotFound
        There is no loop file, no repository, no base, or no data; nothing was run.
    NotReady, StorageFailed
        git does not answer, or the disk does not take it.
    """
    if not file.is_file():
        raise NotFound(
            f"there is no loop file {file}. Name one with --file, or let 'everloop init FILE.csv' write it."
        )
    file = file.resolve()
    repo = repository.repository_of(file.parent)
    found = repository.base_of(repo, base, outside_variables(repository.VARIABLES))
    uncommitted = repository.changed_files(repo, None, beside=settings.home)
    is_base = not uncommitted and (found is None or found.commit == repo.commit)
    with ExitStack() as stack:
        checkout = None
        if found is not None and not is_base:
            checkout = stack.enter_context(repository.checked_out(repo, found.commit))
        return _Check(
            file, repo, None if is_base else found, checkout, uncommitted, settings, run_all, say
        ).report()


@dataclass(frozen=True)
class _Side:
    """A checkout: the loop file in it, where its data come from, and what it declares or why that is not known."""

    file: Path
    sources: Sources | None
    look: Look | None
    problem: str | None


@dataclass(frozen=True)
class _Check:
    """One check, with all that it was told. Without a base and with nothing uncommitted it is one of the base itself."""

    file: Path
    repo: Repository
    base: Base | None
    checkout: Path | None
    uncommitted: tuple[str, ...]
    settings: Settings
    run_all: bool
    say: Say

    @property
    def place(self) -> str:
        """The loop file's path in the repository."""
        return self.file.relative_to(self.repo.root).as_posix()

    @property
    def ci(self) -> Path:
        return self.settings.home / homes.FOLDER

    def report(self) -> Report:
        began = time.perf_counter()
        found = self._found()
        return report_of(replace(found, seconds=time.perf_counter() - began))

    def _found(self) -> Found:
        home = self.settings.home
        changed = repository.changed_files(self.repo, self.base.commit if self.base else None, beside=home)
        found = Found(
            file=self.place,
            head=Revision(self.repo.name, self.repo.commit, is_dirty=bool(self.uncommitted)),
            base=None if self.base is None else Revision(self.base.name, self.base.commit),
            uncommitted=self.uncommitted,
            changed_files=changed,
        )
        head = self._looked_at(self.file, read_sources(self.file.parent))
        before = self._base_side()
        found = replace(
            found,
            look=head.look,
            data_files=_paths(head.sources, self.repo.root),
            head_problem=head.problem,
            base_problem=None if before is None else before.problem,
            has_base_loop=before is not None,
        )
        if head.look is None:
            return found
        return self._run_touched(found, head, before, head.look)

    def _run_touched(self, found: Found, head: _Side, before: _Side | None, look: Look) -> Found:
        kept = None
        if before is not None and before.look is not None and self.base is not None:
            try:
                kept = self._kept(before, before.look, self.base.commit)
            except EverloopError as error:  # told in the report; the change is run all the same
                found = replace(found, base_problem=str(error))
        old = None if kept is None else kept.look  # with the packages that were installed when it was run
        moved = {} if before is None else _moved(before.sources, head.sources)
        what = touched(old, look, moved, run_all=self.run_all)
        names = [one.pipeline for one in what if one.is_run]
        found = replace(found, touched=what)
        if not names:
            return found
        if head.sources is not None:
            _check_complete(head.sources, look, self.place)
        if self.base is None and not self.uncommitted:
            own = self._run_base(self._kept(head, look, self.repo.commit), head, names)
            return replace(found, head_outcomes=own.outcomes, is_kept=True)
        is_cached = kept is not None and set(names) & set(kept.names) <= set(kept.outcomes)
        if kept is not None and before is not None:
            kept = self._run_base(kept, before, names)
            found = replace(found, base_outcomes=kept.outcomes, is_cached=is_cached)
        answer = self._run_head(kept, head, names)
        outcomes = answer.outcomes or tuple(Outcome(one, "failed", failure=answer.problem) for one in names)
        homes.forget_old(self.ci)
        return replace(
            found, head_outcomes={one.pipeline: one for one in outcomes}, compared=dict(answer.compared)
        )

    def _base_side(self) -> _Side | None:
        """The base's checkout; None where there is no base, or it has no loop file yet."""
        if self.checkout is None or not (self.checkout / self.place).is_file():
            return None
        file = self.checkout / self.place
        return self._looked_at(file, read_sources(file.parent) or read_sources(self.file.parent))

    def _looked_at(self, file: Path, sources: Sources | None) -> _Side:
        here = None if sources is None else located(sources, file.parent, self.file.parent)
        self.say(f"Looking at {'the change' if file == self.file else 'the base'} ...")
        answer = self._ask(Asked("look", str(file)))
        return _Side(file, here, answer.look, answer.problem)

    def _kept(self, side: _Side, look: Look, commit: str) -> homes.Kept:
        """What earlier checks left of a base; with what it declares now where they left nothing."""
        if side.sources is None:
            stated = self._in_workspace(look)
        else:
            _check_complete(side.sources, look, self.place)
            stated = side.sources.digests()
        told = [FORMAT, metadata.version("everloop"), self.place]
        told += [f"{name} {value}" for name, value in sorted(stated.items())]
        kept = homes.kept_base(self.ci, commit, blake3("\0".join(told).encode()).hexdigest())
        return kept if kept.look is not None else replace(kept, look=look)

    def _in_workspace(self, look: Look) -> dict[str, str]:
        """What the workspace holds of the declared datasets and label sets; raises Invalid when it holds none."""
        declared = [key.split(":", 1) for key in look.declared if key.startswith(("dataset:", "labels:"))]
        if declared and not (self.settings.database_url or (self.settings.home / "everloop.db").exists()):
            raise Invalid(
                self._no_data(declared[0][0], declared[0][1], f"{self.settings.home} is no workspace")
            )
        found: dict[str, str] = {}
        if not declared:
            return found
        with open_workspace(settings=self.settings) as ws:
            for kind, name in declared:
                try:
                    if kind == "dataset":
                        found[f"dataset {name}"] = data.version(ws, name).digest
                    else:
                        newest = labels.history(ws, name, limit=1)
                        found[f"labels {name}"] = newest[0].id if newest else "none"
                except NotFound as error:
                    raise Invalid(
                        self._no_data(kind, name, f"the workspace {self.settings.home} has no rows of it")
                    ) from error
        return found

    def _no_data(self, kind: str, name: str, found: str) -> str:
        return (
            f"{self.place} declares the {kind} {name!r}, and {found}. A check trains on the files that {NAME} names, else on "
            f"what is in the workspace. Write {NAME} beside {self.file.name} ('everloop init --ci github' begins one), or name "
            "the workspace with --home DIR."
        )

    def _run_base(self, kept: homes.Kept, side: _Side, names: list[str]) -> homes.Kept:
        """Run what earlier checks did not leave of a base, and keep it."""
        look = side.look
        missing = [
            one for one in names if one not in kept.outcomes and look is not None and look.pipeline(one)
        ]
        if not missing or look is None:
            return homes.keep(kept, look=kept.look, outcomes=())
        if not kept.home.exists():
            self._fresh(kept.home, side)
        self.say(f"Running the base: {', '.join(missing)} ...")
        answer = self._run(kept.home, side, missing, {})
        outcomes = answer.outcomes or tuple(Outcome(one, "failed", failure=answer.problem) for one in missing)
        return homes.keep(kept, look=look, outcomes=outcomes)

    def _run_head(self, kept: homes.Kept | None, head: _Side, names: list[str]) -> Answer:
        home = homes.head_home(self.ci)
        if kept is not None and kept.home.exists():
            homes.new_home(home, copy_of=kept.home)
        else:
            if head.look is not None and head.sources is None:
                self._in_workspace(head.look)
            self._fresh(home, head)
        base = {} if kept is None else {name: one for name, one in kept.outcomes.items() if one.run}
        self.say(f"Running the change: {', '.join(names)} ...")
        return self._run(home, head, names, base)

    def _fresh(self, home: Path, side: _Side) -> None:
        """A home that holds the workspace's data, or nothing where files are named or no data are declared."""
        declared = {} if side.look is None else side.look.declared
        if side.sources is None and any(key.startswith(("dataset:", "labels:")) for key in declared):
            with open_workspace(settings=self.settings) as ws:
                homes.copied_home(ws, home)
        else:
            homes.new_home(home)

    def _run(self, home: Path, side: _Side, names: list[str], base: Mapping[str, Outcome]) -> Answer:
        is_head = side.file == self.file
        title = "change" if is_head else "base"
        commit = self.repo.commit if is_head or self.base is None else self.base.commit
        return self._ask(
            Asked(
                "run",
                str(side.file),
                title=title,
                home=str(home),
                actor=self.settings.actor,
                reason=f"everloop ci, {title} {commit[:12]}",
                pipelines=tuple(names),
                sources=side.sources or Sources(),
                base=base,
            )
        )

    def _ask(self, asked: Asked) -> Answer:
        """Let a process of its own look at or run a side."""
        home = Path(asked.home) if asked.home else self.settings.home
        answer = subprocess.run(
            [sys.executable, "-P", "-m", "everloop.ci.side"],
            input=msgspec.json.encode(asked),
            cwd=Path(asked.file).parent,
            env=child_environment(load_settings(home, environ={}, actor=self.settings.actor)),
            stdout=subprocess.PIPE,
            check=False,
        )
        if answer.returncode != 0:
            how = (
                f"was killed by signal {-answer.returncode}"
                if answer.returncode < 0
                else f"ended with {answer.returncode}"
            )
            if asked.act == "run":  # the user's code can bring a process down, or take all memory
                problem = f"the process that ran {', '.join(asked.pipelines)} {how}; its last words are in the log above."
                return Answer(problem=problem)
            raise EverloopError(
                f"the process that looks at {asked.file} {how}; its last words are above. Load the file by hand to see why: "
                f"everloop apply {asked.file} --dry-run"
            )
        return msgspec.json.decode(answer.stdout, type=Answer)


def _moved(before: Sources | None, after: Sources | None) -> dict[str, tuple[str | None, str | None]]:
    """Digests of the sources of both sides, by their names; the workspace's data are the same on both."""
    if before is None or after is None:
        return {}
    old, new = before.digests(), after.digests()
    return {name: (old.get(name), new.get(name)) for name in old.keys() | new.keys()}


def _paths(sources: Sources | None, root: Path) -> tuple[str, ...]:
    """The files with data by their paths in the repository, as far as they are in it."""
    if sources is None:
        return ()
    files = {Path(one.file) for one in sources.data} | {Path(one.file) for one in sources.labels}
    return tuple(sorted(one.relative_to(root).as_posix() for one in files if one.is_relative_to(root)))


def _check_complete(sources: Sources, look: Look, place: str) -> None:
    """Raises Invalid when a declared dataset or label set has no file: half of the data would be another time's."""
    named = {f"dataset:{one.name}" for one in sources.data} | {f"labels:{one.name}" for one in sources.labels}
    wanted = [key for key in look.declared if key.startswith(("dataset:", "labels:"))]
    for key in wanted:
        if key not in named:
            kind, _, name = key.partition(":")
            table = f"[{'data' if kind == 'dataset' else 'labels'}.{name}]"
            raise Invalid(
                f"{place} declares the {kind} {name!r}, for which {NAME} names no file; where it is there it names one for "
                f"each dataset and label set. Add {table}."
            )
