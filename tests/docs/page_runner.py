"""Does what a page tells its reader to do, in the page's order, and compares what the page shows with what is seen.

A page's fenced blocks are the script. The first word after the fence is the language, as a browser needs it; the next
ones are for this runner:

    python NAME       a file of the reader's, written as it stands; json NAME likewise
    sh                commands; whatever they print, a `text` block after them shows it
    sh fails          commands of which the last one is refused
    sh wait           a command that is repeated until it prints what the `text` block after it shows
    sh background     a command that goes on running; its `text` block shows how it begins
    text              what the block before it printed: `…` stands for anything within a line, and alone for any lines

In a command, `pred_…` is the first identifier of that kind in what was printed last, as a reader would paste it.
The ports 8400 and 8401 of a page are free ones here.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_FENCE = re.compile(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_IDENTIFIER = re.compile(r"\b([a-z]{2,5}_)[0-9a-f]{32}\b")
_WAIT_S = 240
_PORTS = ("8400", "8401")


@dataclass(frozen=True)
class Block:
    """One fenced block: `line` is where it begins on the page."""

    language: str
    mark: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2].strip(), found[3], text[: found.start()].count("\n") + 1)
        for found in _FENCE.finditer(text)
    ]


def files_of(page: Path) -> dict[str, str]:
    """The files that a page has its reader write, by name."""
    return {block.mark: block.text for block in blocks_of(page) if block.language == "python" and block.mark}


def run_page(page: Path, folder: Path) -> None:
    """Follow a page in an empty folder. Raises AssertionError at the first line that is not as the page says."""
    with ExitStack() as running:
        reader = _Reader(page, folder, free_port(), running)
        blocks = blocks_of(page)
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            reader.follow(block, after.text if after is not None and after.language == "text" else None)


@dataclass
class _Reader:
    page: Path
    folder: Path
    port: int
    running: ExitStack
    seen: dict[str, str] = field(default_factory=dict)

    def follow(self, block: Block, expected: str | None) -> None:
        where = f"{self.page.name}, line {block.line}"
        match block.language, block.mark:
            case "python" | "json", name if name:
                (self.folder / name).write_text(self._here(block.text), encoding="utf-8")
            case "sh", "background":
                self._start(block, expected, where)
            case "sh", mark:
                self._run(block, expected, where, mark)
            case "text", "":
                pass  # compared with the block before it
            case _:
                raise AssertionError(f"{where}: a page has no blocks of {block.language} {block.mark}")

    def _run(self, block: Block, expected: str | None, where: str, mark: str) -> None:
        assert mark in ("", "fails", "wait"), f"{where}: unknown mark {mark}"
        assert expected is not None or mark != "wait", f"{where}: what is waited for?"
        deadline = time.monotonic() + _WAIT_S
        while True:
            ended = subprocess.run(
                ["sh", "-e", "-c", self._with_identifiers(self._here(block.text), where)],  # noqa: S607  (the reader's shell)
                cwd=self.folder,
                env=_environment(self.port),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_WAIT_S,
                check=False,
            )
            said = ended.stdout
            is_as_shown = expected is None or matches(said, self._here(expected))
            is_right = is_as_shown and (ended.returncode != 0) == (mark == "fails")
            if is_right or mark != "wait" or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        assert is_right, (
            f"{where}: ended with {ended.returncode} and said\n{said}\nthe page shows\n{expected or '(nothing)'}"
        )
        self.seen |= {found[1]: found[0] for found in reversed(list(_IDENTIFIER.finditer(said)))}

    def _start(self, block: Block, expected: str | None, where: str) -> None:
        log = self.folder / f"line-{block.line}.log"
        self.running.enter_context(_background(self._here(block.text).split(), self.folder, self.port, log))
        deadline = time.monotonic() + _WAIT_S
        while expected is not None and not matches(log.read_text(), self._here(expected) + "…\n"):
            assert time.monotonic() < deadline, (
                f"{where}: said\n{log.read_text()}\nthe page shows\n{expected}"
            )
            time.sleep(0.1)

    def _here(self, text: str) -> str:
        for number, shown in enumerate(_PORTS):
            text = text.replace(shown, str(self.port + number))
        return text

    def _with_identifiers(self, command: str, where: str) -> str:
        def newest(found: re.Match[str]) -> str:
            assert found[1] in self.seen, f"{where}: no {found[0]} was seen yet"
            return self.seen[found[1]]

        return re.sub(r"\b([a-z]{2,5}_)…", newest, command)


def free_port() -> int:
    """A port that is free, and the next one too."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def matches(said: str, shown: str) -> bool:
    """Whether what was said is what a page shows."""
    lines = [
        r"(?:.*\n)*?"
        if line == "…"
        else "[^\n]*".join(map(re.escape, line.rstrip().split("…"))) + r"[ \t]*\n"
        for line in shown.splitlines()
    ]
    return re.fullmatch("".join(lines), said if said.endswith("\n") else f"{said}\n") is not None


@contextmanager
def _background(command: Sequence[str], folder: Path, port: int, log: Path) -> Iterator[None]:
    with log.open("w") as output, _process(command, folder, port, output) as process:
        try:
            yield
        finally:
            process.terminate()


def _process(command: Sequence[str], folder: Path, port: int, output: IO[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, cwd=folder, env=_environment(port), stdout=output, stderr=output, stdin=subprocess.DEVNULL
    )


def _environment(port: int) -> dict[str, str]:
    """The reader's: the installed everloop on PATH, no settings of ours, no proxy between us and ourselves."""
    kept = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251  (not a setting)
        if not name.startswith("EVERLOOP_") and not name.lower().endswith("_proxy")
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    # numerical libraries that start a thread a core and spin make a shared machine many times slower
    own = {"PATH": path, "EVERLOOP_PORT": str(port), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**kept, **own}
