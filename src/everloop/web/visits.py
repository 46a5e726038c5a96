"""What a page is given and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from everloop.access import Principal
from everloop.workspace import Workspace


@dataclass(frozen=True)
class Visit:
    """Somebody who may see a page asks for it."""

    ws: Workspace
    principal: Principal
    path: dict[str, str]
    query: dict[str, str]


@dataclass(frozen=True)
class Moved:
    """The answer is on another page."""

    to: str


Shown = dict[str, Any]
Rows = Callable[[Shown], Iterable[Sequence[object]]]
"""The rows of a page's table with all their columns, names first."""
View = Callable[[Visit], Shown | Moved]
"""Reads what a page shows: records and plain values, which the template draws and `?as=json` gives as they are."""
