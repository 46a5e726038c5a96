"""Checking a change: look at both sides, run what is touched on both, compare."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from everloop.ci import homes, repository
from everloop.ci.checkouts import Checkout
from everloop.ci.data_files import Sources, located, read_sources
from everloop.ci.known_data import check_complete, declared_data, digest_of_data, moved, paths_in
from everloop.ci.records import Answer, Look, Report, Revision
from everloop.ci.reporting import Found, report_of
from everloop.ci.repository import Base, Repository
from everloop.ci.touched import touched
from everloop.errors import EverloopError, NotFound
from everloop.settings import Settings, outside_variables
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
        git does not answer, another check runs in this home, or the disk does not take it.
    """
    if not file.is_file():
        raise NotFound(
            f"there is no loop file {file}. Name one with --file, or let 'everloop init FILE.csv' write it."
        )
    began = time.perf_counter()
    file = file.resolve()
    repo = repository.repository_of(file.parent)
    start = repository.base_of(repo, base, outside_variables(repository.VARIABLES))
    uncommitted = repository.changed_files(repo, None, beside=settings.home)
    if not uncommitted and start is not None and start.commit == repo.commit:
        start = None
    with ExitStack() as stack:
        stack.enter_context(homes.only_check(settings.home / homes.FOLDER))
        one = _Check(file, repo, start, uncommitted, settings, run_all, say, stack)
        found = one.found()
    return report_of(replace(found, seconds=time.perf_counter() - began))


@dataclass(frozen=True)
class _Check:
    """One check, with all that it was told. Without a base and with nothing uncommitted it is one of the base itself."""

    file: Path
    repo: Repository
    base: Base | None
    uncommitted: tuple[str, ...]
    settings: Settings
    run_all: bool
    say: Say
    stack: ExitStack

    @property
    def place(self) -> str:
        """The loop file's path in the repository."""
        return self.file.relative_to(self.repo.root).as_posix()

    @property
    def ci(self) -> Path:
        return self.settings.home / homes.FOLDER

    @property
    def _head_name(self) -> str:
        """The branch; of a detached head what the CI service calls it, else the commit."""
        told = outside_variables(repository.HEADS)
        return self.repo.branch or next(iter(told.values()), self.repo.name)

    def found(self) -> Found:
        changed = repository.changed_files(
            self.repo, self.base.commit if self.base else None, beside=self.settings.home
        )
        found = Found(
            file=self.place,
            head=Revision(self._head_name, self.repo.commit, is_dirty=bool(self.uncommitted)),
            base=None if self.base is None else Revision(self.base.name, self.base.commit),
            uncommitted=self.uncommitted,
            changed_files=changed,
        )
        head = self._checkout("change", self.repo.root, read_sources(self.file.parent))
        self.say("Looking at the change ...")
        answer = head.look()
        found = replace(
            found,
            look=answer.look,
            data_files=paths_in(head.sources, self.repo.root),
            head_problem=answer.problem,
        )
        if answer.look is None:
            return found
        check_complete(head.sources, answer.look, self.place)
        if self.base is None and not self.uncommitted:
            return self._base_itself(found, head, answer.look)
        return self._against_base(found, head, answer.look)

    def _base_itself(self, found: Found, head: Checkout, look: Look) -> Found:
        """All of it is run, and kept for the changes that start here."""
        what = touched(None, look, {}, run_all=True)
        found = replace(found, touched=what)
        if not what:
            return found
        kept = homes.kept_base(self.ci, self.repo.commit, self._digest(head, look))
        if kept.look is None or kept.look.packages != look.packages:
            kept = replace(
                kept, look=look, outcomes={}
            )  # what other packages gave is no result of this check
        kept = self._run_base(kept, head, tuple(one.pipeline for one in what))
        return replace(found, head_outcomes=kept.outcomes, is_kept=True)

    def _against_base(self, found: Found, head: Checkout, look: Look) -> Found:
        before = self._base_checkout()
        kept = None
        if before is not None:
            kept, problem = self._looked_at(before, look)
            found = replace(found, has_base_loop=True, base_problem=problem)
        what = touched(
            None if kept is None else kept.look,
            look,
            {} if before is None else moved(before.sources, head.sources),
            run_all=self.run_all,
        )
        found = replace(found, touched=what)
        names = tuple(one.pipeline for one in what if one.is_run)
        if not names:
            return found
        if kept is not None and before is not None:
            shared = set(names) & set(kept.names)
            is_cached = bool(shared) and shared <= set(kept.outcomes)
            kept = self._run_base(kept, before, names)
            found = replace(found, base_outcomes=kept.outcomes, is_cached=is_cached)
        answer = self._run_head(kept, head, look, names)
        homes.forget_old(self.ci)
        return replace(
            found,
            head_outcomes={one.pipeline: one for one in answer.outcomes},
            compared=dict(answer.compared),
            side_notes=answer.notes,
        )

    def _base_checkout(self) -> Checkout | None:
        """The base's files in a folder of their own; None where there is no base, or it has no loop file yet."""
        if self.base is None:
            return None
        folder = self.stack.enter_context(repository.checked_out(self.repo, self.base.commit))
        file = folder / self.place
        if not file.is_file():
            return None
        return self._checkout("base", folder, read_sources(file.parent) or read_sources(self.file.parent))

    def _checkout(self, title: str, root: Path, sources: Sources | None) -> Checkout:
        file = root / self.place
        here = located(sources or Sources(), file.parent, self.file.parent)
        home = homes.head_home(self.ci)
        return self.stack.enter_context(Checkout(title, root, file, here, self.settings, home))

    def _looked_at(self, before: Checkout, look: Look) -> tuple[homes.Kept | None, str | None]:
        """What is known of the base, from an earlier check or from a look at it, or why nothing is."""
        commit = "" if self.base is None else self.base.commit
        kept = homes.kept_base(self.ci, commit, self._digest(before, look))
        if kept.look is not None:
            return kept, None
        self.say("Looking at the base ...")
        try:
            answer = before.look()
        except EverloopError as error:  # told in the report; the change is run all the same
            return None, str(error)
        return (None, answer.problem) if answer.look is None else (replace(kept, look=answer.look), None)

    def _digest(self, side: Checkout, look: Look) -> str:
        return digest_of_data(side.sources, look, self.settings, self.place)

    def _run_base(self, kept: homes.Kept, side: Checkout, names: tuple[str, ...]) -> homes.Kept:
        """Run what earlier checks did not leave of a base, and keep it."""
        missing = tuple(one for one in names if one in kept.names and one not in kept.outcomes)
        if not missing:
            return homes.keep(kept, outcomes=())
        if not kept.home.exists():
            self._fresh(kept.home, side, kept.look)
        self.say(f"Running the {side.title}: {', '.join(missing)} ...")
        commit = self.repo.commit if self.base is None else self.base.commit
        answer = side.run(kept.home, missing, reason=f"everloop ci, base {commit[:12]}", base={})
        return homes.keep(kept, outcomes=answer.outcomes)

    def _run_head(
        self, kept: homes.Kept | None, head: Checkout, look: Look, names: tuple[str, ...]
    ) -> Answer:
        """Run the change in a home that holds the base's runs, as far as there are any."""
        home = homes.head_home(self.ci)
        if kept is not None and kept.home.exists():
            homes.new_home(home, copy_of=kept.home)
        else:
            self._digest(head, look)  # raises when there are no data
            self._fresh(home, head, look)
        base = {} if kept is None else {name: one for name, one in kept.outcomes.items() if one.run}
        self.say(f"Running the change: {', '.join(names)} ...")
        return head.run(home, names, reason=f"everloop ci, change {self.repo.commit[:12]}", base=base)

    def _fresh(self, home: Path, side: Checkout, look: Look | None) -> None:
        """A home that holds the workspace's data, or nothing where files are named or no data are declared."""
        if not side.sources.has_files and look is not None and declared_data(look):
            with open_workspace(settings=self.settings) as ws:
                homes.copied_home(ws, home)
        else:
            homes.new_home(home)
