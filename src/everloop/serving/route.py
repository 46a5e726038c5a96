"""Which variant answers: a pure function of the route and of the key or the request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import blake3

from everloop.serving.records import Route, Rule, Segment, Variant

HOLDBACK = "holdback"  # the variant that keeps the version before, after a rollout has finished
PINNED = "pinned"  # the request named its version
_UNIT = 2.0**-53


def assign(
    route: Route,
    *,
    key: str | None,
    request: str,
    inputs: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> tuple[Variant, str]:
    """The variant that answers, and what chose it: the first rule that the request meets, or else chance (`choose`).

    What a rule places is not random: whoever compares variants leaves it out. `headers` are those that the rules name,
    by small letters.
    """
    for rule in route.rules:
        if _meets(rule, inputs, headers or {}):
            return rule.variant, f"rule:{rule.name}"
    variant = choose(route, key=key, request=request, inputs=inputs)
    if variant is route.rest:
        return variant, "rest"
    if variant.name == HOLDBACK:
        return variant, HOLDBACK
    return variant, "key" if route.stickiness == "key" and key is not None else "weights"


def is_placed(assigned: str) -> bool:
    """Whether a rule or the request itself chose the variant, not chance: such a prediction is no evidence."""
    return assigned == PINNED or assigned.startswith("rule:")


def choose(
    route: Route, *, key: str | None, request: str, inputs: Mapping[str, Any] | None = None
) -> Variant:
    """The variant that answers.

    A sticky route deals by key, any other (and a row without a key) by `request`, an id that the rows of one HTTP
    request share: they fail and are slow together, so chance must act on them together. Shares are exactly
    proportional to the weights, do not depend on the order of the variants, and raising one variant's weight
    at the cost of another moves requests only to the one that was raised or from the one that was lowered: no
    key leaves a canary while it grows. Requests outside the route's segments, by their `inputs`, are not dealt.

    Notes
    -----
    Weighted rendezvous hashing: with u_v uniform in (0, 1) by BLAKE3 of salt, unit and variant, the variant
    with the least -ln(u_v) / weight_v wins; these are exponential variables of rate weight_v, so that each is
    the least with probability weight_v / sum of weights. (Thaler and Ravishankar 1998 for the hashing; the
    logarithm weights it exactly.)
    """
    variants = route.variants
    if route.rest is not None and not _is_within(route.segments, inputs or {}):
        return route.rest
    if len(variants) == 1:
        return variants[0]
    unit = key if route.stickiness == "key" and key is not None else request
    return min(
        (variant for variant in variants if variant.weight > 0),
        key=lambda variant: (
            -math.log(_uniform(route.salt, unit, variant.dealt_as or variant.name)) / variant.weight,
            variant.name,
        ),
    )


def shadows(route: Route, *, prediction_id: str) -> list[Variant]:
    """The shadow variants that get a copy of this request: each its weight in percent, independently; 0 gets none."""
    return [
        variant
        for variant in route.shadow
        if variant.weight > 0 and _uniform(route.salt, prediction_id, variant.name) * 100 < variant.weight
    ]


def _meets(rule: Rule, inputs: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    found = headers.get(rule.header) if rule.header is not None else inputs.get(rule.field or "")
    return found is not None and (not rule.values or found in rule.values)


def _is_within(segments: Sequence[Segment], inputs: Mapping[str, Any]) -> bool:
    return all(inputs.get(one.field) in one.values for one in segments)


def _uniform(salt: str, unit: str, name: str) -> float:
    """A number in (0, 1), never 0 or 1, that looks random and is always the same for the same three texts."""
    digest = blake3.blake3(f"{salt}\0{unit}\0{name}".encode()).digest(length=8)
    return ((int.from_bytes(digest, "little") >> 11) + 0.5) * _UNIT
