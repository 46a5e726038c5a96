"""A metric's history in as many points as a plot has room for, so that what sticks out is still seen.

The axis is cut into stretches of equal length, about one for a pixel; of each its lowest and its highest point are kept.
A line through them covers the same pixels as one through all points, which a choice of every n-th point does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import groupby

from everloop.tracking.records import Axis, RawPoint, Thinned

_PLACE: dict[Axis, Callable[[RawPoint], int]] = {
    "step": lambda point: point.step,
    "time": lambda point: point.at_us,
}


def thin(points: Iterable[RawPoint], *, over: Axis, first: int, last: int, stretches: int) -> Thinned:
    """The lowest and the highest point of each stretch from `first` to `last`, with both ends, and each mean at its middle.

    `points` come in order of the axis. One that is not finite is kept where its stretch has no other.

    >>> from everloop.tracking.records import RawPoint
    >>> history = [RawPoint("loss", value, step, 0) for step, value in enumerate([3.0, 1.0, 9.0, 2.0, 4.0, 4.0])]
    >>> found = thin(history, over="step", first=0, last=5, stretches=2)
    >>> [(one.step, one.value) for one in found.points], [(one.step, one.value) for one in found.means]
    ([(0, 3.0), (1, 1.0), (2, 9.0), (3, 2.0), (4, 4.0), (5, 4.0)], [(1, 4.333333333333333), (4, 3.3333333333333335)])
    """
    place, width = _PLACE[over], last - first + 1
    kept: list[RawPoint] = []
    means: list[RawPoint] = []
    ends: list[RawPoint] = []
    for _, group in groupby(points, lambda point: (place(point) - first) * stretches // width):
        every = list(group)
        ends = [*ends[:1], every[-1]] if ends else [every[0], every[-1]]
        finite = [one for one in every if math.isfinite(one.value)]
        if not finite:
            kept.append(every[0])
            continue
        lowest = min(finite, key=lambda one: one.value)
        highest = max(finite, key=lambda one: one.value)
        kept += sorted({lowest, highest}, key=every.index)
        middle = (every[0].step + every[-1].step) // 2, (every[0].at_us + every[-1].at_us) // 2
        means.append(RawPoint(every[0].name, sum(one.value for one in finite) / len(finite), *middle))
    before = [one for one in ends[:1] if one not in kept[:2]]
    after = [one for one in ends[1:] if one not in kept[-2:]]
    return Thinned([*before, *kept, *after], means)
