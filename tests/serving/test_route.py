from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.serving import Route, Rule, Segment, Variant, assign, choose
from everloop.serving.route import shadows
from tests.serving.records import route

N = 20_000


def shares(given: Route, *, sticky: bool) -> Counter[str]:
    return Counter(
        choose(given, key=f"merchant {number}" if sticky else None, request=f"pred_{number}").name
        for number in range(N)
    )


@pytest.mark.parametrize("sticky", [True, False])
@pytest.mark.parametrize("weights", [(90, 10), (50, 30, 20), (99, 1)])
def test_shares_are_proportional_to_weights(weights: tuple[float, ...], sticky: bool) -> None:
    given = route(*((f"v{index}", weight) for index, weight in enumerate(weights)), stickiness="key")
    found = shares(given, sticky=sticky)
    for index, weight in enumerate(weights):
        share = weight / 100
        deviation = math.sqrt(N * share * (1 - share))
        assert (
            abs(found[f"v{index}"] - N * share) < 4 * deviation
        )  # 1 in 16,000 by chance; the keys are fixed


def test_a_key_stays_with_its_variant_whatever_the_request() -> None:
    given = route(("control", 50), ("canary", 50), stickiness="key")
    assert len({choose(given, key="merchant 7", request=f"pred_{n}").name for n in range(100)}) == 1


def test_without_stickiness_the_key_does_not_matter() -> None:
    given = route(("control", 50), ("canary", 50))
    assert len({choose(given, key="merchant 7", request=f"pred_{n}").name for n in range(100)}) == 2


@given(st.text(), st.floats(0.1, 49), st.floats(0.1, 50))
def test_a_key_on_the_canary_stays_when_the_canary_grows(key: str, before: float, more: float) -> None:
    small = route(("control", 100 - before), ("canary", before), stickiness="key")
    large = route(("control", 100 - before - more), ("canary", before + more), stickiness="key")
    if choose(small, key=key, request="pred_1").name == "canary":
        assert choose(large, key=key, request="pred_1").name == "canary"


@given(st.text(), st.permutations([("a", 20.0), ("b", 30.0), ("c", 50.0)]))
def test_the_order_of_variants_does_not_matter(key: str, order: list[tuple[str, float]]) -> None:
    plain = route(("a", 20), ("b", 30), ("c", 50), stickiness="key")
    assert choose(route(*order, stickiness="key"), key=key, request="x") == choose(
        plain, key=key, request="x"
    )


def test_another_salt_deals_anew() -> None:
    first, second = (
        Route("category", salt, route(("a", 50), ("b", 50)).variants, stickiness="key")
        for salt in ("one", "two")
    )
    moved = sum(
        choose(first, key=str(n), request="x") != choose(second, key=str(n), request="x") for n in range(1000)
    )
    assert 400 < moved < 600


def test_a_variant_of_weight_zero_gets_nothing() -> None:
    assert shares(route(("control", 100), ("canary", 0)), sticky=False) == {"control": N}


def test_shadows_get_their_percentage_of_requests() -> None:
    shadow = route(("next", 25), ("other", 100)).variants
    given = route(("control", 100), shadow=shadow)
    found = Counter(variant.name for n in range(N) for variant in shadows(given, prediction_id=f"pred_{n}"))
    assert found["other"] == N
    assert abs(found["next"] - N / 4) < 4 * math.sqrt(N * 3 / 16)


def test_a_shadow_of_nothing_gets_nothing() -> None:
    warm = Variant("previous", "rel_0", 0.0)
    given = Route("kind", "salt", (Variant("control", "rel_1", 100.0),), shadow=(warm,))
    assert shadows(given, prediction_id="pred_1") == []


def test_requests_outside_the_segments_are_answered_by_the_rest() -> None:
    rest = Variant("rest", "rel_1", 0.0)
    both = (Variant("control", "rel_1", 50.0), Variant("canary", "rel_2", 50.0))
    segments = (Segment("country", ("NO", "SE")), Segment("age", (3,)))
    given = Route("kind", "salt", both, segments=segments, rest=rest)

    def dealt(**inputs: object) -> set[str]:
        return {choose(given, key=None, request=str(n), inputs=inputs).name for n in range(40)}

    assert dealt(country="SE", age=3) == {"control", "canary"}
    assert dealt(country="SE", age=4) == dealt(country="SE") == dealt() == {"rest"}


STAFF = Rule("staff", Variant("canary", "rel_2", 0.0), header="x-staff", values=("yes", "1"))
NORTH = Rule("north", Variant("control", "rel_1", 0.0), field="country", values=("NO", 47))
ANY = Rule("beta", Variant("canary", "rel_2", 0.0), header="x-beta")


def ruled(*rules: Rule, headers: dict[str, str] | None = None, **inputs: object) -> tuple[str, str]:
    given = Route("kind", "salt", (Variant("control", "rel_1", 100.0),), rules=rules)
    variant, why = assign(given, key=None, request="pred_1", inputs=inputs, headers=headers)
    return variant.name, why


def test_the_first_rule_that_a_request_meets_places_it() -> None:
    assert ruled(STAFF, NORTH, headers={"x-staff": "yes"}, country="NO") == ("canary", "rule:staff")
    assert ruled(NORTH, STAFF, headers={"x-staff": "yes"}, country="NO") == ("control", "rule:north")
    assert ruled(STAFF, NORTH, headers={"x-staff": "no"}, country=47) == ("control", "rule:north")
    assert ruled(STAFF, NORTH, headers={"x-staff": "YES"}, country="SE") == ("control", "weights")
    assert ruled(STAFF, NORTH) == ("control", "weights")


def test_a_rule_without_values_wants_the_header_there() -> None:
    assert ruled(ANY, headers={"x-beta": ""}) == ("canary", "rule:beta")
    assert ruled(ANY) == ("control", "weights")


def test_what_chose_a_variant_is_told() -> None:
    rest = Variant("rest", "rel_1", 0.0)
    dealt = Route("kind", "salt", (Variant("holdback", "rel_1", 100.0),), stickiness="key")
    assert assign(dealt, key="7", request="x", inputs={})[1] == "holdback"
    sticky = route(("control", 100), stickiness="key")
    assert [assign(sticky, key=key, request="x", inputs={})[1] for key in ("7", None)] == ["key", "weights"]
    outside = Route("kind", "salt", sticky.variants, segments=(Segment("country", ("NO",)),), rest=rest)
    assert assign(outside, key=None, request="x", inputs={"country": "SE"}) == (rest, "rest")


@given(st.text(), st.floats(1, 40))
def test_a_key_that_met_the_canary_is_not_held_back_when_the_names_change(key: str, held: float) -> None:
    growing = route(("control", 50), ("canary", 50), stickiness="key")
    finished = Route(
        "category",
        "salt",
        (
            Variant("control", "rel_canary", 100 - held, "canary"),
            Variant("holdback", "rel_control", held, "control"),
        ),
        stickiness="key",
    )
    if choose(growing, key=key, request="x").release == "rel_canary":
        assert choose(finished, key=key, request="x").release == "rel_canary"
