"""A map while it runs: which items are left, and what came of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from everloop import clock
from everloop.pipelines.journal import Begun
from everloop.pipelines.plan import PlannedStep
from everloop.pipelines.records import Stored
from everloop.pipelines.results import Items

_NAMED = 20  # failed items that are told by name


@dataclass
class Fan:
    """The calls of one map. They are made when their turn comes, so that ten thousand are not held at once.

    `begun` is the map's own attempt. `items` is None when what it goes over is written in the pipeline's body. `only` names
    the items whose calls this process makes when others make the rest; it gathers nothing then.
    """

    begun: Begun
    items: Items | None
    results: list[Stored | None] = field(init=False)
    made: list[str] = field(init=False)
    running: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)
    begun_s: float = field(default_factory=clock.elapsed_s)
    only: frozenset[int] | None = None
    left: int = field(init=False)
    _next: int = 0

    def __post_init__(self) -> None:
        self.left = len(self._written if self.items is None else self.items)
        self.results = [None] * self.left
        self.made = [""] * self.left

    @property
    def step(self) -> PlannedStep:
        return self.begun.step

    @property
    def is_complete(self) -> bool:
        return self.left == 0 and self.only is None

    def take_over(self, known: Mapping[str, tuple[Stored, str]]) -> None:
        """Take what an earlier runner of the run finished, by name."""
        for index in range(len(self.results)) if known else ():
            if (found := known.get(f"{self.step.name}[{index}]")) is not None:
                self.finish(index, *found)

    def next_call(self) -> tuple[int, PlannedStep] | None:
        """The next call that nobody made yet; None: all have been."""
        while self._next < len(self.results) and not self._is_wanted(self._next):
            self._next += 1
        if self._next == len(self.results):
            return None
        index, self._next = self._next, self._next + 1
        return index, self.step.call(index, self._binding(index))

    def item(self, index: int) -> Stored | None:
        """What a call takes of the list that a step made."""
        return None if self.items is None else self.items[index]

    def finish(self, index: int, stored: Stored, made_by: str) -> None:
        self.left -= 1
        self.results[index], self.made[index] = stored, made_by

    def gathered(self) -> list[Stored]:
        """All results, once it is complete."""
        return [one for one in self.results if one is not None]

    def failure(self) -> str:
        """Which items failed, and how the first of them."""
        names = [f"{self.step.name}[{index}]" for index in sorted(self.failed)]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        first = self.failed[min(self.failed)]
        return (
            f"{len(names)} of {len(self.results)} items failed: {', '.join(names[:_NAMED])}{more}. "
            f"{names[0]}: {first}"
        )

    def _is_wanted(self, index: int) -> bool:
        return self.results[index] is None and (self.only is None or index in self.only)

    @property
    def _written(self) -> list[object]:
        listed: list[object] = self._each["list"]
        return listed

    @property
    def _each(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.step.bindings[self.step.over or ""]["each"]
        return found

    def _binding(self, index: int) -> Mapping[str, str] | None:
        if self.items is None:
            return None
        return {**self.items.binding(index), "of": self._each["node"]}
