"""A side of a comparison, seen from the process that compares: its loop file, its data, and a process of its own for both."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import msgspec

from everloop.ci.data_files import Sources
from everloop.ci.records import Answer, Asked, Outcome
from everloop.errors import EverloopError
from everloop.settings import Settings, child_environment, load_settings

_ENDS_WITHIN_S = 5.0


@dataclass
class Checkout:
    """The files of one side, in a repository at `root`. `title` is what it is called; `home` is what its process takes for
    the workspace's.

    The process is started when it is first asked, and stays until the checkout is left: what the user's code imports,
    defines or breaks on one side does not reach the other.
    """

    title: str
    root: Path
    file: Path
    sources: Sources
    settings: Settings
    home: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Checkout:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            return
        self._process.stdin.close()  # it ends when nothing more can be asked
        self._process.stdout.close()
        try:
            self._process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:  # a thread of the user's keeps it
            self._process.kill()
            self._process.wait()

    def look(self) -> Answer:
        """What the loop file declares, or why that is not known. Raises EverloopError when its process dies of it."""
        answer, how = self._ask(Asked("look", str(self.file), sources=self.sources))
        if answer is None:
            raise EverloopError(
                f"the process that looks at {self.file} {how}; its last words are above. Load the file by hand to see why: "
                f"everloop apply {self.file} --dry-run"
            )
        return replace(answer, problem=None if answer.problem is None else self._from_root(answer.problem))

    def run(
        self, home: Path, pipelines: tuple[str, ...], *, reason: str, base: Mapping[str, Outcome]
    ) -> Answer:
        """Run pipelines in a home, which may hold the other side's runs too; that the process dies of it is a result."""
        asked = Asked(
            "run",
            str(self.file),
            title=self.title,
            home=str(home),
            actor=self.settings.actor,
            reason=reason,
            pipelines=pipelines,
            sources=self.sources,
            base=base,
        )
        answer, how = self._ask(asked)
        if answer is not None and answer.problem is None:
            told = (
                replace(one, failure=None if one.failure is None else self._from_root(one.failure))
                for one in answer.outcomes
            )
            return replace(answer, outcomes=tuple(told))
        # the user's code can bring a process down, or take all memory
        problem = (
            f"the process that ran it {how}; its last words are in the log above."
            if answer is None
            else answer.problem
        )
        return Answer(outcomes=tuple(Outcome(name, "failed", failure=problem) for name in pipelines))

    def _from_root(self, text: str) -> str:
        """A message with the paths of this side's files as they are in the repository."""
        return text.replace(f"{self.root}/", "")

    def _ask(self, asked: Asked) -> tuple[Answer | None, str]:
        """The answer, or None and how the process ended."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "everloop.ci.side"],
                cwd=self.file.parent,
                env=child_environment(load_settings(self.home, environ={}, actor=self.settings.actor)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        process = self._process
        assert process.stdin is not None  # noqa: S101  (both are pipes)
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(msgspec.json.encode(asked) + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if line:
            return msgspec.json.decode(line, type=Answer), ""
        code = process.wait()
        return None, f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
