"""Which steps may begin beside those that run: each is given the cores, memory and whatever else it asks for, or waits."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from everloop.errors import Invalid

if TYPE_CHECKING:
    from everloop.pipelines.executors import Executor
    from everloop.pipelines.plan import PlannedStep

CPUS, MEMORY, GPUS = "cpus", "memory_gb", "gpus"
_ANY: tuple[str, Callable[[float], bool]] = ("a number above zero", lambda amount: amount > 0)
_RULES: dict[str, tuple[str, Callable[[float], bool]]] = {
    CPUS: ("a whole number of at least 1", lambda amount: amount >= 1 and amount == int(amount)),
    GPUS: ("a whole number", lambda amount: amount >= 0 and amount == int(amount)),
}


class Room:
    """What an executor has left beside the steps that run.

    Steps are asked for in the order in which they became ready. What one lacks is kept for it: no later step that takes
    of the same begins before it, so that small ones do not keep a large one waiting for ever; the others may overtake it.
    One that asks for more cores than there are gets all of them: it is slower there, not wrong.

    Parameters
    ----------
    places
        How many steps run at once, one for each core.
    capacity
        What there is of everything else; None: it is not counted.
    """

    def __init__(
        self, places: int, capacity: Mapping[str, float] | None, running: Iterable[PlannedStep]
    ) -> None:
        self._places = places
        self._left: dict[str, float] = {**(capacity or {}), CPUS: places}
        self._waited_for: set[str] = set()
        for step in running:
            self.take(step)

    def admits(self, step: PlannedStep) -> bool:
        """Whether a step may begin; if not, what it lacks is kept for it."""
        asked = self._asked(step)
        lacking = {name for name, amount in asked.items() if amount > self._left[name]}
        is_behind = not self._waited_for.isdisjoint(asked)
        self._waited_for |= lacking
        return not lacking and not is_behind

    def take(self, step: PlannedStep) -> None:
        """A step begins, or runs already."""
        for name, amount in self._asked(step).items():
            self._left[name] -= amount

    @property
    def is_full(self) -> bool:
        """Whether no step at all may begin, as each takes a core."""
        return self._left[CPUS] < 1 or CPUS in self._waited_for

    def _asked(self, step: PlannedStep) -> dict[str, float]:
        cpus = min(step.resources.get(CPUS, 1), self._places)
        return {**{name: one for name, one in step.resources.items() if name in self._left}, CPUS: cpus}


def capacity_here() -> dict[str, float]:
    """This machine's memory, in 10^9 bytes."""
    return {MEMORY: os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9}


def resources_of(text: str) -> dict[str, float]:
    """The setting `resources`, read: `gpus=1,license=2`.

    Raises
    ------
    Invalid
        It is written otherwise.
    """
    found = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, amount = part.partition("=")
        try:
            found[name.strip()] = float(amount)
        except ValueError:
            raise Invalid(
                f"the setting resources is {text!r}; it names what steps may use of this machine with amounts, such as "
                "gpus=1,license=2."
            ) from None
    return found


def check_fits(steps: Iterable[PlannedStep], executor: Executor) -> None:
    """Refuse steps that would wait for ever.

    Raises
    ------
    Invalid
        A step asks for more memory, or whatever else but cores, than the executor has.
    """
    capacity = executor.capacity
    for step in steps if capacity is not None else ():
        for name, amount in step.resources.items():
            has = (capacity or {}).get(name, 0)
            if name != CPUS and amount > has:
                raise Invalid(
                    f"step {step.name} asks for {name}={amount:g}, and there is {has:g} of it here: it could never begin. Ask "
                    "for less, run where there is more, or say what this machine has by the setting resources, such as "
                    f'resources = "{name}={amount:g}".'
                )


def asked_for(
    name: str, *, cpus: int, memory_gb: float | None, gpus: int, others: Mapping[str, float] | None
) -> dict[str, float]:
    """What a step is declared to need, by name; a single core, which each has, is left out.

    Raises
    ------
    Invalid
        An amount is no positive number, or cores or GPUs are no whole number.
    """
    if not {CPUS, MEMORY, GPUS}.isdisjoint(others or {}):
        raise Invalid(
            f"step {name} names cpus, memory_gb or gpus among its resources; they are options of @step themselves."
        )
    asked = {CPUS: cpus, GPUS: gpus, **(others or {})}
    if memory_gb is not None:
        asked[MEMORY] = memory_gb
    for what, amount in asked.items():
        rule, holds = _RULES.get(what, _ANY)
        is_number = type(amount) in (int, float) and math.isfinite(amount)
        if not (is_number and holds(amount)):
            raise Invalid(f"step {name} asks for {what}={amount!r}; that is {rule}.")
    return {what: amount for what, amount in asked.items() if amount and (what, amount) != (CPUS, 1)}
