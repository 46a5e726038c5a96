"""A history in few points covers the same values as the whole one."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from everloop.tracking.records import RawPoint
from everloop.tracking.thinning import thin

VALUES = st.lists(st.floats(allow_nan=True, width=32), min_size=1, max_size=300)


@given(VALUES, st.integers(1, 20))
def test_each_stretch_keeps_its_extremes_and_the_history_its_ends(
    values: list[float], stretches: int
) -> None:
    points = [RawPoint("loss", value, step, step) for step, value in enumerate(values)]
    last = len(points) - 1
    found = thin(points, over="step", first=0, last=last, stretches=stretches)
    steps = [one.step for one in found.points]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, last)
    assert len(found.points) <= 2 * stretches + 2
    for stretch in range(stretches):
        own = [one.value for one in points if one.step * stretches // (last + 1) == stretch]
        kept = [one.value for one in found.points if one.step * stretches // (last + 1) == stretch]
        finite, drawn = ([one for one in some if math.isfinite(one)] for some in (own, kept))
        assert bool(own) == bool(kept)
        assert not finite or (min(finite), max(finite)) == (min(drawn), max(drawn))
