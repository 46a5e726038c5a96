"""The tables of the judge's two benchmarks: how a share, a time and a row are written, and where they are put."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from scipy import stats

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "judge.md"
Row = tuple[str, ...]


def make(makers: Mapping[str, Callable[[], str]], about: str) -> list[str] | None:
    """Print the tables, or put them into the page and return all that stand there now."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    parser.add_argument("--only", choices=makers, help="one table")
    given = parser.parse_args()
    tables = {name: maker() for name, maker in makers.items() if given.only in (None, name)}
    if not given.write:
        print("\n\n".join(tables.values()))
        return None
    text = PAGE.read_text(encoding="utf-8")
    for name, made in tables.items():
        text = text.replace(_between(text, name), made)
    PAGE.write_text(text, encoding="utf-8")
    return [_between(text, name) for name in makers]


def _between(text: str, name: str) -> str:
    """What stands in the page between a table's marks."""
    return text.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- /{name} -->")[0]


def percent(part: float) -> str:
    return "0 %" if part == 0 else f"{100 * part:.2g} %" if part < 0.1 else f"{100 * part:.1f} %"


def share(k: int, n: int) -> str:
    """A share with its exact interval, Clopper and Pearson's."""
    exact = stats.binomtest(k, n).proportion_ci(0.95)
    return f"{percent(k / n)} ({100 * exact.low:.1f} to {100 * exact.high:.1f})"


def in_requests(median_and_p90: tuple[float | None, float | None]) -> tuple[str, str]:
    median, p90 = ("" if time is None else f"{time:,.0f}" for time in median_and_p90)
    return median, p90


def table(head: Sequence[str], rows: Iterable[Row]) -> str:
    lines = [tuple(head), ("---", *["--:"] * (len(head) - 1)), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
