"""What of a plan is settled while it runs, and what waits for what: order and conditions, and nothing of how steps run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from everloop.pipelines.plan import Plan, PlannedStep
from everloop.pipelines.records import Stored
from everloop.pipelines.results import Results


class Skipped(NamedTuple):
    """A step in a branch that is not taken: what made its condition, and what that was (None: no truth)."""

    step: PlannedStep
    condition: str
    was: bool | None


class Flow:
    """The steps of one plan. A step is settled when it made something or was skipped.

    `ready` and `skipped` are queues that the runner empties: what can begin, and what turned out not to. With a `part`
    only that step gets into them; "" is no step, and all that is skipped.
    """

    def __init__(self, plan: Plan, results: Results, *, part: str | None = None) -> None:
        self.outputs: dict[str, Stored] = {}
        self.made: dict[str, str] = {}
        self.ready: deque[PlannedStep] = deque()
        self.skipped: deque[Skipped] = deque()
        self._steps = plan.by_name
        self._results = results
        self._part = part
        self._passed_over: set[str] = set()
        self._truths: dict[str, bool | None] = {}
        self._missing: dict[str, int] = {}
        self._followers: dict[str, list[str]] = {}

    def take_over(self, node: str, output: Stored, made_by: str) -> None:
        """What an earlier runner of the run finished; before `arrange`."""
        self.outputs[node], self.made[node] = output, made_by

    def pass_over(self, node: str) -> None:
        """What an earlier runner of the run skipped; before `arrange`."""
        self._passed_over.add(node)

    def arrange(self) -> None:
        """Find out what waits for what, and what can begin."""
        unsettled = [step for step in self._steps.values() if not self.is_settled(step.name)]
        for step in unsettled:
            missing = [node for node in step.waits_for if not self.is_settled(node)]
            self._missing[step.name] = len(missing)
            for node in missing:
                self._followers.setdefault(node, []).append(step.name)
        self._admit([step for step in unsettled if self._missing[step.name] == 0])

    @property
    def settled(self) -> int:
        """How many steps are."""
        return len(self.outputs) + len(self._passed_over)

    def is_settled(self, node: str) -> bool:
        return node in self.outputs or node in self._passed_over

    def finish(self, node: str, output: Stored, made_by: str) -> None:
        """A step made something: what waited for that alone can begin, or is skipped."""
        self.outputs[node], self.made[node] = output, made_by
        self._admit(self._freed_by(node))

    def holds(self, step: PlannedStep) -> bool:
        """Whether a step is in branches that are all taken, as far as is known."""
        return all(self.truth(node) is holds for node, holds in step.guards)

    def truth(self, node: str) -> bool | None:
        """What a condition came to; None: its step made nothing, or neither True nor False."""
        if node not in self.outputs:
            return None
        if node not in self._truths:
            stored = self.outputs[node]
            value = self._results.bring(stored) if stored.kind == "json" else None
            self._truths[node] = value if type(value) is bool else None
        return self._truths[node]

    def _admit(self, steps: Iterable[PlannedStep]) -> None:
        """All that these wait for is settled."""
        waiting = deque(steps)
        while waiting:
            step = waiting.popleft()
            if self.holds(step):
                if self._part in (None, step.name):
                    self.ready.append(step)
                continue
            condition = next(node for node, holds in step.guards if self.truth(node) is not holds)
            if self._part in (None, step.name, ""):
                self.skipped.append(Skipped(step, condition, self.truth(condition)))
            self._passed_over.add(step.name)
            waiting.extend(self._freed_by(step.name))

    def _freed_by(self, node: str) -> Iterator[PlannedStep]:
        """The steps that waited for nothing but this one, which is settled now."""
        for follower in self._followers.get(node, ()):
            self._missing[follower] -= 1
            if self._missing[follower] == 0:
                yield self._steps[follower]
