"""What the pages refer to exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from everloop.cli.entry import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])


def _name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    """The file and the anchor of each link to a place in the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def _anchors(page: Path) -> set[str]:
    """What a heading is called in an address: small letters, hyphens for spaces, nothing else kept."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in _links(page):
        assert target.exists(), target
        assert not anchor or anchor in _anchors(target), f"{target}#{anchor}"


CLAIMS = sorted(REPOSITORY.glob("docs/claims/*.md"))


@pytest.mark.parametrize("page", CLAIMS, ids=_name)
def test_every_proof_that_a_claim_names_exists(page: Path) -> None:
    for file, test in _proofs(page):
        assert (REPOSITORY / file).exists(), file
        assert not test or f"def {test}(" in (REPOSITORY / file).read_text(), f"{file}::{test}"


def _proofs(page: Path) -> Iterator[tuple[str, str]]:
    """The files, with the tests in them, that the rows of a claims page name; `::name` is in the file named before it."""
    for row in page.read_text().splitlines():
        file = ""
        for named in re.findall(r"`((?:tests/|benchmarks/|::)[^`\s]*)", row) if row.startswith("|") else ():
            path, _, test = named.partition("::")
            file = path or file
            if "..." not in file:  # as the README says of a proof in general
                yield file, test.partition("[")[0]


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [REPOSITORY / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            waiting.extend(target for target, _ in _links(page))
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_make_has_the_targets_that_are_shown(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    assert _shown(page, "make") <= targets


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_everloop_has_the_commands_that_are_shown(page: Path) -> None:
    assert _shown(page, "everloop") <= COMMANDS.keys()


def _shown(page: Path, program: str) -> set[str]:
    """What follows the program's name in a shell block or between single backquotes."""
    kinds_and_blocks = re.findall(
        r"^```(\w*)[^\n]*\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL
    )
    in_blocks = "".join(block for kind, block in kinds_and_blocks if kind == "sh").splitlines()
    outside = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [*in_blocks, *re.findall(r"`([^`]+)`", outside)]
    words = (re.search(rf"^(?:[A-Z_]+=\S+ )*(?:\$ )?{program}\s+([a-z]+)", line) for line in lines)
    return {word.group(1) for word in words if word}
