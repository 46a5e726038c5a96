"""Runs, progress and results as HTML for notebooks: small, escaped, and in the colours of whatever is around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_LISTED = 200  # rows of a table; a map counts as one
_CELL = "padding:.15em .8em .15em 0;text-align:left;vertical-align:top"
# Words and signs, not colours alone: readable on light and dark, and by who sees no red.
_SIGNS = {
    "running": "\u2026",
    "done": "\u2713",
    "cached": "\u21ba",
    "failed": "\u2717",
    "skipped": "\u2013",
    "retried": "\u21bb",
    "cancelled": "\u2717",
    "interrupted": "\u2017",
}


def table(heading: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, note: str = "") -> str:
    """A heading, a table and a note below it; everything is escaped."""
    listed = list(rows)
    head = "".join(
        f'<th style="{_CELL};opacity:.65;font-weight:normal">{escape(one)}</th>' for one in columns
    )
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(shown(cell))}</td>' for cell in row) + "</tr>"
        for row in listed[:_LISTED]
    )
    more = f"{len(listed) - _LISTED:,} more are not shown. " if len(listed) > _LISTED else ""
    below = f'<div style="opacity:.65">{escape(more + note)}</div>' if more or note else ""
    return (
        '<div style="color:inherit;background:transparent;font-family:system-ui,sans-serif">'
        f"<div><b>{escape(heading)}</b></div>"
        '<table style="border-collapse:collapse;color:inherit;background:transparent">'
        f'<thead><tr style="border-bottom:1px solid currentColor;background:transparent">{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>{below}</div>"
    )


def state(name: str) -> str:
    """A state with its sign."""
    return f"{_SIGNS.get(name, '')} {name}".strip()


def facts(heading: str, values: Mapping[str, Any]) -> str:
    """Named values, one a row."""
    return table(
        heading, ("", ""), [(name, value) for name, value in values.items() if value not in (None, "")]
    )


def shown(value: Any) -> str:
    """A value as text, as short as it can be read."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
