"""Writes the reference pages that are made from the code: `make docs`. A test fails when one is out of date."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from everloop import errors
from everloop.settings import FILE_NAME, Settings

DOCS = Path(__file__).resolve().parent


def settings_page() -> str:
    """One line a setting, in the order of the code."""
    rows = [
        (f"`{one.name}`", f"`EVERLOOP_{one.name.upper()}`", _shown(one.default), one.metadata["doc"])
        for one in dataclasses.fields(Settings)
    ]
    return _page(
        "Settings",
        "everloop.settings",
        "Every setting has a default that works on a laptop with nothing else installed. A value is taken from the "
        f"command line, else from the environment, else from `{FILE_NAME}` in the workspace's home, else from the "
        "default. A name that is no setting is an error.",
        _table(("setting", "environment variable", "default", "meaning"), rows),
    )


def errors_page() -> str:
    """One line an error code, with the meanings that the tree at the top of errors.py gives."""
    meanings = dict(re.findall(r"[├└]── (\w+) +(.+)", errors.__doc__ or ""))
    rows = [(f"`{one.code}`", f"`{one.__name__}`", meanings[one.__name__]) for one in error_classes()]
    return _page(
        "Error codes",
        "everloop.errors",
        "Every error that everloop raises on purpose is an `EverloopError` with a stable code. Its message says "
        "what was found, what the rule is and what to do next.",
        _table(("code", "class", "meaning"), rows),
    )


def error_classes() -> list[type[errors.EverloopError]]:
    """All that can be raised, in the order of the code."""
    return [
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.EverloopError) and one is not errors.EverloopError
    ]


PAGES: dict[str, Callable[[], str]] = {
    "reference/errors.md": errors_page,
    "reference/settings.md": settings_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


def _page(title: str, module: str, introduction: str, body: str) -> str:
    return f"# {title}\n\n<!-- made from {module} by `make docs` -->\n\n{introduction}\n\n{body}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(map(_row, (head, ["---"] * len(head), *rows)))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "`true`" if default else "`false`"
    return f"`{default}`" if default != "" else "empty"


if __name__ == "__main__":
    main()
