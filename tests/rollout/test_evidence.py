from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.errors import Invalid
from everloop.rollout import (
    Counts,
    MetricEvidence,
    Split,
    Stretch,
    count_keys,
    count_requests,
    first_of_each_request,
    is_slow,
    slow_above_ms,
)

ONE = [Split(0, 0.5)]
TWO = [Split(0, 0.1), Split(1, 0.25)]


def test_requests_are_counted_by_arm_and_stretch() -> None:
    first, second = count_requests(
        [True, False, True, False], [True, True, False, False], stretch=[0, 0, 1, 1], splits=TWO
    )
    assert first == Stretch(TWO[0], Counts(canary_bad=1, canary_total=2))
    assert second == Stretch(TWO[1], Counts(control_bad=1, control_total=2))


def test_a_key_is_bad_once_however_many_bad_requests_it_has() -> None:
    counted = count_keys(["a"] * 5, [True] * 5, in_canary=[True] * 5, stretch=[0] * 5, splits=ONE)
    assert counted[0].counts == Counts(canary_bad=1, canary_total=1)


def test_a_key_that_turns_bad_later_in_a_stretch_is_bad_in_it() -> None:
    counted = count_keys(["a", "a"], [False, True], in_canary=[False, False], stretch=[0, 0], splits=ONE)
    assert counted[0].counts == Counts(control_bad=1, control_total=1)


def test_a_bad_key_leaves_the_count_after_its_stretch() -> None:
    counted = count_keys(
        ["a", "b", "a", "b"],
        [True, False, True, False],
        in_canary=[False] * 4,
        stretch=[0, 0, 1, 1],
        splits=TWO,
    )
    assert [one.counts for one in counted] == [
        Counts(control_bad=1, control_total=2),
        Counts(),
        Counts(control_total=1),
    ]


def test_when_the_share_has_grown_a_key_counts_by_where_it_was_before() -> None:
    """a was in the canary, which says nothing now; b moved to it, c did not, and d is new."""
    counted = count_keys(
        ["a", "b", "c", "a", "b", "c", "d"],
        [False, False, False, True, True, False, False],
        in_canary=[True, False, False, True, True, False, True],
        stretch=[0, 0, 0, 1, 1, 1, 1],
        splits=TWO,
    )
    assert counted[1] == Stretch(TWO[1], Counts(canary_total=1))
    assert counted[2].split.canary_share == pytest.approx((0.25 - 0.1) / 0.9)
    assert counted[2].counts == Counts(canary_bad=1, canary_total=1, control_total=1)
    assert len(counted) == 3


def test_a_share_that_falls_is_refused_where_keys_stick() -> None:
    with pytest.raises(Invalid, match="never fall"):
        count_keys(["a"], [True], in_canary=[True], stretch=[0], splits=[Split(0, 0.5), Split(1, 0.1)])


requests = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 2)), max_size=60)


@given(requests)
def test_keys_are_counted_as_by_walking_through_the_requests(rows: list[tuple[int, bool, int]]) -> None:
    rows = sorted(rows, key=lambda row: row[2])
    splits = [Split(stage, 0.5) for stage in range(3)]
    seen: set[tuple[int, int]] = set()
    gone: set[int] = set()
    bad_by_stretch = [0, 0, 0]
    total_by_stretch = [0, 0, 0]
    for key, is_bad, stretch in rows:
        if key in gone:
            continue
        total_by_stretch[stretch] += (stretch, key) not in seen
        seen.add((stretch, key))
        if is_bad:
            gone.add(key)
            bad_by_stretch[stretch] += 1
    counted = count_keys(
        [row[0] for row in rows],
        [row[1] for row in rows],
        in_canary=[True] * len(rows),
        stretch=[row[2] for row in rows],
        splits=splits,
    )
    assert [stretch.counts.canary_bad for stretch in counted] == bad_by_stretch
    assert [stretch.counts.canary_total for stretch in counted] == total_by_stretch


def test_slow_is_above_a_quantile_of_known_latencies() -> None:
    latencies = np.append(np.arange(1.0, 102.0), np.nan)
    assert slow_above_ms(latencies) == 96.0
    assert is_slow([96.0, 96.1, np.nan], above_ms=96.0).tolist() == [False, True, True]


def test_the_latest_stage_keeps_its_pauses_and_nothing_older() -> None:
    stretches = tuple(
        Stretch(Split(stage, 0.1), Counts(canary_total=n)) for stage, n in [(0, 1), (1, 2), (1, 3)]
    )
    evidence = MetricEvidence("errors", stretches)
    assert evidence.stage_total == Counts(canary_total=5)
    assert evidence.total == Counts(canary_total=6)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: Split(0, 10), "share is 10"),
        (lambda: Counts(canary_bad=2, canary_total=1), "2 bad of 1 requests in the canary"),
        (lambda: Counts(control_bad=-1), "-1 bad of 0 requests in the control"),
        (lambda: MetricEvidence("errors", (), before_bad=2), "2 bad of 0 requests before"),
        (
            lambda: MetricEvidence("errors", tuple(Stretch(s, Counts()) for s in TWO[::-1])),
            r"stages \[1, 0\]",
        ),
        (lambda: count_requests([True], [True, False], stretch=[0], splits=ONE), "columns of 1, 2 and 1"),
        (lambda: count_requests([True], [True], stretch=[1], splits=ONE), "stretches 1 to 1 for 1 splits"),
        (
            lambda: count_keys(["a"], [True] * 2, in_canary=[True] * 2, stretch=[0, 0], splits=ONE),
            "1 keys for 2",
        ),
        (lambda: slow_above_ms([np.nan]), "no latency of the control"),
    ],
)
def test_impossible_evidence_is_refused(make: object, found: str) -> None:
    assert callable(make)
    with pytest.raises(Invalid, match=found):
        make()


def test_a_request_for_several_rows_is_one_unit_where_its_first_row_was() -> None:
    first, request = first_of_each_request(["c", "a", "b", "d"], ["r2", None, "r1", "r2"])
    assert first.tolist() == [0, 1, 2]
    assert request.tolist() == [0, 1, 2, 0]
