"""What the judge looks at: counts of bad and all requests in both arms, stretch by stretch.

A *stretch* is a time during which one traffic split was in force. Counts are kept apart by stretch because
the judge's test compares where bad requests came from with where traffic was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from everloop.errors import Invalid


@dataclass(frozen=True)
class Split:
    """Which share of the traffic the canary was sent, in which stage of the plan."""

    stage: int
    canary_share: float  # 0 to 1; 1 leaves no control and therefore nothing to compare with

    def __post_init__(self) -> None:
        if not 0.0 <= self.canary_share <= 1.0:
            raise Invalid(
                f"the canary's share is {self.canary_share}; it is a share from 0 to 1. "
                "Divide a percentage by 100."
            )


@dataclass(frozen=True)
class Counts:
    """Bad and all requests (or keys, where assignment is sticky) of both arms."""

    canary_bad: int = 0
    canary_total: int = 0
    control_bad: int = 0
    control_total: int = 0

    def __post_init__(self) -> None:
        for arm, bad, total in (
            ("canary", self.canary_bad, self.canary_total),
            ("control", self.control_bad, self.control_total),
        ):
            if not 0 <= bad <= total:
                raise Invalid(
                    f"{bad} bad of {total} requests in the {arm}; bad ones are a part of all, and neither is negative. "
                    "Count both over the same requests."
                )

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.canary_bad + other.canary_bad,
            self.canary_total + other.canary_total,
            self.control_bad + other.control_bad,
            self.control_total + other.control_total,
        )

    @property
    def canary_rate(self) -> float | None:
        return self.canary_bad / self.canary_total if self.canary_total else None

    @property
    def control_rate(self) -> float | None:
        return self.control_bad / self.control_total if self.control_total else None


@dataclass(frozen=True)
class Stretch:
    """What was counted of the requests that *arrived* under one split.

    A report that comes later, when the split is another, still belongs to the stretch of its request.
    """

    split: Split
    counts: Counts


@dataclass(frozen=True)
class MetricEvidence:
    """All counts of one metric since the rollout began, in the order of the stretches.

    `before_bad` of `before_total` is what the control did before the rollout. It only tells the judge which
    rates to expect, which makes a clean canary pass sooner; a wrong guess costs time, never validity.
    """

    metric: str
    stretches: tuple[Stretch, ...]
    before_bad: int = 0
    before_total: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.before_bad <= self.before_total:
            raise Invalid(
                f"{self.before_bad} bad of {self.before_total} requests before the rollout; bad ones are a part of all. "
                "Count both over the same requests."
            )
        stages = [stretch.split.stage for stretch in self.stretches]
        if stages != sorted(stages):
            raise Invalid(
                f"the stretches of {self.metric} are of stages {stages}; they come in the order in which they happened. "
                "Sort them by time."
            )

    @property
    def total(self) -> Counts:
        """Counts of the whole rollout, for display: splits differ, so their sum is not comparable as it stands."""
        return _sum(self.stretches)

    @property
    def latest_stage(self) -> tuple[Stretch, ...]:
        """The stretches of the stage that is running."""
        if not self.stretches:
            return ()
        stage = self.stretches[-1].split.stage
        return tuple(stretch for stretch in self.stretches if stretch.split.stage == stage)

    @property
    def stage_total(self) -> Counts:
        """Counts of the stage that is running."""
        return _sum(self.latest_stage)


def _sum(stretches: Sequence[Stretch]) -> Counts:
    return sum((stretch.counts for stretch in stretches), Counts())


def count_requests(
    is_bad: ArrayLike, in_canary: ArrayLike, *, stretch: ArrayLike, splits: Sequence[Split]
) -> tuple[Stretch, ...]:
    """Count requests one by one: right when each request was assigned on its own.

    Parameters
    ----------
    is_bad, in_canary : (n_requests,) bool
    stretch : (n_requests,) int
        Which of `splits` was in force when the request arrived.

    Examples
    --------
    >>> counted = count_requests([True, False, False], [True, True, False], stretch=[0, 0, 0], splits=[Split(0, 0.5)])
    >>> counted[0].counts
    Counts(canary_bad=1, canary_total=2, control_bad=0, control_total=1)
    """
    bad, canary, at = _columns(is_bad, in_canary, stretch, n_stretches=len(splits))
    return _tally(bad, canary, at, splits)


def first_of_each_request(
    ids: Sequence[str], requests: Sequence[str | None]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which row stands for each HTTP request, and which request each row belongs to.

    The rows of a request that asked for several are assigned together, fail together and are slow together:
    counted one by one, one slow request of 25 rows would look like 25 pieces of evidence.

    Parameters
    ----------
    ids : (n_rows,)
        Prediction ids, each once.
    requests : (n_rows,)
        None where the row came alone.

    Returns
    -------
    first : (n_requests,) int64
        The position of each request's first row, rising.
    request : (n_rows,) int64
        A position in `first` for each row.

    Examples
    --------
    >>> first, request = first_of_each_request(["a", "b", "c"], [None, "r", "r"])
    >>> first.tolist(), request.tolist()
    ([0, 1], [0, 1, 1])
    """
    unit = [request or row for row, request in zip(ids, requests, strict=True)]
    _, first, request = np.unique(np.asarray(unit, dtype=str), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[request]


def units_of(
    ids: Sequence[str], requests: Sequence[str | None], keys: Sequence[str | None], *, sticky: bool
) -> NDArray[np.str_]:
    """What chance dealt, row by row: a key where keys stick and there is one, else a request.

    Examples
    --------
    >>> units_of(["a", "b"], [None, "r"], ["k", None], sticky=True).tolist()
    ['key k', 'r']
    """
    rows = zip(ids, requests, keys, strict=True)
    units = [f"key {key}" if sticky and key is not None else request or one for one, request, key in rows]
    return np.asarray(units, dtype=str)


def of_units(units: ArrayLike, values: ArrayLike, *, sticky: bool) -> NDArray[np.float64]:
    """One number for each unit that chance dealt, in the order of arrival: a request's mean, a key's first where keys stick.

    Parameters
    ----------
    units : (n_rows,) of str
    values : (n_rows,) float64 or bool

    Examples
    --------
    >>> of_units(["a", "b", "a"], [True, False, False], sticky=False).tolist()
    [0.5, 0.0]
    >>> of_units(["a", "b", "a"], [True, False, False], sticky=True).tolist()
    [1.0, 0.0]
    """
    numbers = np.asarray(values, dtype=np.float64)
    _, first, unit = np.unique(np.asarray(units, dtype=str), return_index=True, return_inverse=True)
    order = np.argsort(first)
    if sticky:
        return numbers[first[order]]
    size = np.bincount(unit, minlength=len(first))
    return np.asarray(np.bincount(unit, weights=numbers, minlength=len(first)) / size, dtype=np.float64)[
        order
    ]


def count_keys(
    keys: ArrayLike, is_bad: ArrayLike, *, in_canary: ArrayLike, stretch: ArrayLike, splits: Sequence[Split]
) -> tuple[Stretch, ...]:
    """Count keys instead of requests: needed when assignment is sticky, so that a key stays in its arm.

    Chance then acts once per key, not once per request, and a few heavy keys would make request counts lie. A key
    is bad at its first bad request, once in the whole rollout; until then it counts once in each stretch in which
    it is seen; afterwards it counts in neither arm any more.

    When the canary's share has grown, chance has dealt anew only the keys that were not in the canary before. So a
    stretch is counted in parts: new keys, and keys that were last seen in the control at a smaller share v, of which
    ``(w - v) / (1 - v)`` have moved. Keys that the canary had already are left out, for who is left over would decide:
    where a fault hits some keys at each request, the control has soon lost all of them, and a canary that has it half as
    often goes on losing its own.

    Parameters
    ----------
    keys : (n_requests,) of str or int
        In the order of arrival.
    is_bad, in_canary : (n_requests,) bool
    stretch : (n_requests,) int
        Which of `splits`, whose shares never fall, was in force when the request arrived; never decreasing.

    Returns
    -------
    One stretch for each split, followed by those of its other parts.

    Examples
    --------
    >>> count_keys(["a", "a", "b"], [True, True, False], in_canary=[True, True, False], stretch=[0, 0, 0],
    ...            splits=[Split(0, 0.5)])[0].counts
    Counts(canary_bad=1, canary_total=1, control_bad=0, control_total=1)
    """
    bad, canary, at = _columns(is_bad, in_canary, stretch, n_stretches=len(splits))
    _, key = np.unique(np.asarray(keys), return_inverse=True)
    if len(key) != len(bad):
        raise Invalid(
            f"{len(key)} keys for {len(bad)} requests; each request has one key. Pass both from the same records."
        )
    shares, share = np.unique([split.canary_share for split in splits], return_inverse=True)
    if (np.diff(share) < 0).any():
        raise Invalid(
            f"the canary's shares are {[split.canary_share for split in splits]}; keys stay in their arm only while they "
            "never fall. Begin another rollout for a smaller share."
        )
    first_bad = np.full(key.max(initial=-1) + 1, len(key))  # (n_keys,), position of the first bad request
    np.minimum.at(first_bad, key[bad], np.flatnonzero(bad))
    counted = np.flatnonzero(np.arange(len(key)) <= first_bad[key])
    # A key's bad request is the last that counts: reading backwards, unique keeps it as the key's record there.
    backwards = counted[::-1]
    _, kept = np.unique(key[backwards] * len(splits) + at[backwards], return_index=True)
    rows = backwards[kept]  # by key, then by stretch
    before, was_in_canary = _dealt_before(key[rows], share[at[rows]], canary[rows])
    rows, before = rows[~was_in_canary], before[~was_in_canary]
    part = at[rows] * (len(shares) + 1) + before + 1
    parts = np.union1d(part, np.arange(len(splits)) * (len(shares) + 1))
    return _tally(
        bad[rows],
        canary[rows],
        np.searchsorted(parts, part),
        [
            _part_of(splits[one // (len(shares) + 1)], [0.0, *shares][one % (len(shares) + 1)])
            for one in parts
        ],
    )


def _dealt_before(
    key: NDArray[np.int64], share: NDArray[np.int64], canary: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """At which smaller share each record's key was last seen (-1: at none), and whether in the canary; sorted by key and share."""
    begins = np.ones(len(key), dtype=bool)
    begins[1:] = (np.diff(key) != 0) | (np.diff(share) != 0)
    first = np.flatnonzero(begins)
    is_known = np.zeros(len(first), dtype=bool)
    is_known[1:] = key[first[1:]] == key[first[1:] - 1]
    before = np.where(is_known, share[first - 1], -1)
    group = np.cumsum(begins) - 1
    return before[group], (is_known & canary[first - 1])[group]


def _part_of(split: Split, seen_at: float) -> Split:
    """The split as it was for keys that the control had at a smaller share."""
    return Split(split.stage, (split.canary_share - seen_at) / (1.0 - seen_at))


def _columns(
    is_bad: ArrayLike, in_canary: ArrayLike, stretch: ArrayLike, *, n_stretches: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    bad, canary = np.asarray(is_bad, dtype=bool), np.asarray(in_canary, dtype=bool)
    at = np.asarray(stretch, dtype=np.int64)
    if not bad.shape == canary.shape == at.shape:
        raise Invalid(
            f"columns of {bad.size}, {canary.size} and {at.size} requests; they describe the same requests. "
            "Pass is_bad, in_canary and stretch from the same records."
        )
    if at.size and not 0 <= at.min() <= at.max() < n_stretches:
        raise Invalid(
            f"stretches {at.min()} to {at.max()} for {n_stretches} splits; a stretch is a position in splits. "
            "Pass one split for each stretch."
        )
    return bad, canary, at


def _tally(
    bad: NDArray[np.bool_], canary: NDArray[np.bool_], at: NDArray[np.int64], splits: Sequence[Split]
) -> tuple[Stretch, ...]:
    cell = at * 4 + canary * 2 + bad
    table = np.bincount(cell, minlength=4 * len(splits)).reshape(-1, 2, 2)  # (n_stretches, arm, is_bad)
    return tuple(
        Stretch(
            split,
            Counts(
                canary_bad=int(of[1, 1]),
                canary_total=int(of[1].sum()),
                control_bad=int(of[0, 1]),
                control_total=int(of[0].sum()),
            ),
        )
        for split, of in zip(splits, table, strict=True)
    )


def slow_above_ms(latencies_ms: ArrayLike, *, quantile: float = 0.95) -> float:
    """The latency above which a request counts as slow: a quantile of the control's, before the rollout began.

    Fix it once, from requests that are not judged: a threshold taken from the judged control requests would make
    exactly 5 % of them slow, whatever happens to both arms.

    Parameters
    ----------
    latencies_ms : (n_requests,) float64
        NaN is left out.

    Examples
    --------
    >>> slow_above_ms([1.0, 2.0, 3.0, 4.0, 5.0], quantile=0.5)
    3.0
    """
    known = np.asarray(latencies_ms, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not known.size:
        raise Invalid(
            "no latency of the control is known; slow means slower than most of the control's requests. "
            "Serve the control first, or state a limit in milliseconds."
        )
    return float(np.quantile(known, quantile))


def is_slow(latencies_ms: ArrayLike, *, above_ms: float) -> NDArray[np.bool_]:
    """Which requests took longer than the threshold; an unknown latency (NaN) counts as slow, it never answered.

    Examples
    --------
    >>> is_slow([3.0, 12.0, float("nan")], above_ms=10.0).tolist()
    [False, True, True]
    """
    latencies = np.asarray(latencies_ms, dtype=np.float64)
    return ~(latencies <= above_ms)
