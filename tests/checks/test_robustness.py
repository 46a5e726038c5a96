"""Disturbed inputs: models that are known to mind them, or not to."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from everloop.checks import CheckInput, CheckResult, gate, run_checks
from everloop.checks.photos import CHANGES, disturbed
from everloop.checks.robustness import robustness
from everloop.errors import Invalid
from everloop.serving import Field, Signature
from tests.checks.tables import labels, shop, with_column

Answer = Callable[[pa.Table], list[Any]]
SHOP = shop(400)


def by_words(rows: pa.Table) -> list[str]:
    """Minds every letter: it knows `tea` in small letters only."""
    return ["drink" if "tea" in str(one).split() else "other" for one in rows["text"].to_pylist()]


def by_lower_words(rows: pa.Table) -> list[str]:
    return ["drink" if "tea" in str(one).lower().split() else "other" for one in rows["text"].to_pylist()]


def by_price(rows: pa.Table) -> Any:
    return np.where(rows["price"].to_numpy() > 0.5, "drink", "other").tolist()


def always(rows: pa.Table) -> list[str]:
    return ["drink"] * rows.num_rows


def judged(answer: Answer, given: CheckInput = SHOP, **options: Any) -> CheckResult:
    return run_checks(replace(given, answer=answer), [gate("robustness", **options)])[-1]


def test_a_model_that_minds_capitals_loses_by_case_and_one_that_does_not_loses_nothing() -> None:
    careless, careful = judged(by_words, at_most=0.05), judged(by_lower_words, at_most=0.05)
    assert careless.verdict == "failed"
    assert "The worst is changed case" in careless.found
    assert careful.numbers["lost_by_case"] == 0.0


def test_the_loss_is_that_of_a_count_by_hand() -> None:
    truth = SHOP.test["label"].to_pylist()
    right = np.mean([one == answer for one, answer in zip(truth, by_words(SHOP.test), strict=True)])
    in_capitals = np.mean([one == "other" for one in truth])  # no word is known any more
    numbers = judged(by_words).numbers
    assert numbers["quality"] == pytest.approx(right)
    assert numbers["lost_by_case"] == pytest.approx(right - in_capitals)


def test_a_model_that_looks_at_nothing_loses_nothing() -> None:
    result = judged(always, at_most=0.0)
    assert result.verdict == "passed"
    assert {row["by"]: row["lost"] for row in result.details} == dict.fromkeys(
        ("typos", "case", "missing", "noise"), 0.0
    )


def test_noise_in_a_number_costs_those_near_the_border() -> None:
    result = judged(by_price, measure="noise")
    assert result.numbers["value"] == result.numbers["lost_by_noise"]
    assert abs(result.numbers["lost_by_noise"] or 0) < 0.05
    assert result.numbers["lost_by_typos"] is None


def test_the_seed_is_recorded_and_the_same_rows_are_disturbed_again() -> None:
    seen: list[list[Any]] = []

    def watching(rows: pa.Table) -> list[str]:
        seen.append(rows["text"].to_pylist())
        return always(rows)

    first, second = judged(watching, measure="typos"), judged(watching, measure="typos")
    assert first.numbers["seed"] == second.numbers["seed"] == 0
    plain, disturbed, _, again = seen
    assert disturbed == again
    assert all(one != other for one, other in zip(plain, disturbed, strict=True) if "thing" in str(one))


def test_a_typo_leaves_the_first_letter_and_most_of_the_word() -> None:
    seen: list[str] = []

    def watching(rows: pa.Table) -> list[str]:
        seen[:] = [str(one).split()[0] for one in rows["text"].to_pylist()]
        return always(rows)

    judged(watching, measure="typos")
    assert {one for one in seen if one not in ("thing", "tea")} <= {
        "tihng", "thnig", "thign", "ting", "thng", "thig", "thhing", "thiing", "thinng",
    }  # fmt: skip


def test_the_worst_of_small_disturbances_finds_what_one_of_them_misses() -> None:
    """Noise of a tenth of a deviation turns over some answers near the border, eight tries more of them."""
    result = judged(by_price, measure="worst", at_most=0.01)
    assert result.verdict == "failed"
    assert (result.numbers["value"] or 0) > 2 * abs(judged(by_price).numbers["lost_by_noise"] or 0)
    prices = dict(zip(SHOP.test["_row_id"].to_pylist(), SHOP.test["price"].to_pylist(), strict=True))
    assert result.evidence
    assert all(abs((prices[row] or 0) - 0.5) < 0.5 for row in result.evidence)


def test_the_worst_of_small_disturbances_decides_only_where_a_gate_names_it() -> None:
    shown = judged(by_price, at_most=0.01)
    assert shown.verdict == "passed"
    assert "By the worst of 8 small disturbances of each row 0." in shown.found
    named = judged(by_price, measure="worst", at_most=0.01)
    assert named.numbers["value"] == named.numbers["lost_by_worst"] == shown.numbers["lost_by_worst"]
    assert judged(always, measure="worst", at_most=0.0).verdict == "passed"


def test_a_model_that_raises_on_disturbed_rows_has_failed() -> None:
    def picky(rows: pa.Table) -> list[str]:
        return [{"t": "drink"}[str(one)[0]] for one in rows["text"].to_pylist()]

    result = judged(picky, measure="case")
    assert result.verdict == "failed"
    assert result.found == "With changed case, the model raised KeyError."


def test_only_fields_that_a_request_may_leave_empty_are_emptied() -> None:
    signature = Signature(
        (Field("text", "string"), Field("price", "number", nullable=True), Field("shade", "string")),
        "class",
        ("drink", "other"),
    )
    seen: list[pa.Table] = []

    def watching(rows: pa.Table) -> list[str]:
        seen.append(rows)
        return always(rows)

    judged(watching, replace(SHOP, signature=signature), measure="missing")
    gone = seen[1]
    assert 0 < gone["price"].null_count < 30
    assert gone["text"].null_count == gone["shade"].null_count == 0
    assert 0 < gone["text"].to_pylist().count("") < 30
    assert "" not in gone["shade"].to_pylist()


def test_whole_numbers_stay_whole_and_within_their_type() -> None:
    given = with_column(SHOP, "count", [number % 250 for number in range(400)])
    small = given.test.set_column(5, "count", given.test["count"].cast(pa.uint8()))
    given = replace(given, test=small)
    seen: list[pa.Table] = []

    def watching(rows: pa.Table) -> list[str]:
        seen.append(rows)
        return always(rows)

    judged(watching, given, measure="noise")
    assert seen[1]["count"].type == pa.uint8()
    assert seen[1]["count"] != seen[0]["count"]


def test_for_numbers_the_loss_is_of_the_explained_error() -> None:
    truth = np.arange(400) / 100
    given = replace(with_column(SHOP, "size", truth.tolist()), label="size", inputs=("price", "size"))
    result = judged(lambda rows: rows["size"].to_pylist(), given, measure="noise")
    # quality 1 is lost by mean |noise| / mean |size - median|, as test rows run from 3 to 4
    noise = 0.1 * float(np.std(truth[300:])) * float(np.sqrt(2 / np.pi))
    assert result.numbers["value"] == pytest.approx(noise / 0.25, rel=0.2)


@pytest.mark.parametrize("answer", [None, lambda rows: ["drink"]])
def test_what_cannot_be_judged_does_not_pass(answer: Answer | None) -> None:
    assert run_checks(replace(SHOP, answer=answer), [gate("robustness")])[-1].verdict == "failed"


def test_the_rows_shown_are_those_that_turned_wrong() -> None:
    given = shop(60)
    rows = zip(*(given.test[name].to_pylist() for name in ("_row_id", "label", "text")), strict=True)
    result = judged(by_words, given, measure="case", at_most=0.0)
    assert set(result.evidence) == {
        row for row, label, text in rows if label == "drink" and "tea" in str(text)
    }


def test_keys_and_groups_are_no_measurements() -> None:
    given = replace(SHOP, inputs=("price",))
    assert judged(by_price, replace(given, key="price"), measure="noise").found.startswith(
        "No input can be disturbed"
    )
    assert judged(by_price, replace(given, group="price"), measure="noise").found.startswith(
        "No input can be"
    )


def test_rows_beyond_two_thousand_are_spread_evenly() -> None:
    given = shop(10_000)
    assert judged(always, given).numbers["rows"] == 2000
    assert len(labels(given)) == 10_000


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"measure": "luck"}, "has the measure 'luck'"), ({"confidence": 0.9}, "has no limit")],
)
def test_a_gate_that_makes_no_sense_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        gate("robustness", **options)


def test_the_check_alone_answers_as_its_gate() -> None:
    given = replace(SHOP, answer=by_words)
    assert robustness(given, at_most=0.1) == judged(by_words, at_most=0.1)


def photo(brightness: int, size: int = 24) -> bytes:
    """A grey photo with a lighter square in its middle."""
    pixels = np.full((size, size, 3), brightness, np.uint8)
    pixels[8:16, 8:16] += 40
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def photos() -> CheckInput:
    """Bright photos are drinks, dark ones are not."""
    pictures = [photo(150 if one == "drink" else 60) for one in labels(SHOP)]
    return replace(with_column(SHOP, "picture", pictures), inputs=("picture",))


def by_light(rows: pa.Table) -> list[str]:
    means = [np.asarray(Image.open(io.BytesIO(one or b""))).mean() for one in rows["picture"].to_pylist()]
    return ["drink" if mean > 110 else "other" for mean in means]


def test_a_model_that_minds_the_light_of_photos_loses_by_brightness_and_not_by_a_turn() -> None:
    numbers = judged(by_light, photos()).numbers
    assert numbers["quality"] == 1.0
    assert (numbers["lost_by_brightness"] or 0) > 0.2
    assert numbers["lost_by_rotation"] == numbers["lost_by_blur"] == numbers["lost_by_jpeg"] == 0.0
    assert numbers["lost_by_typos"] is None


def test_a_model_that_does_not_look_at_photos_loses_by_none() -> None:
    numbers = judged(always, photos()).numbers
    assert {by: numbers[f"lost_by_{by}"] for by in CHANGES} == dict.fromkeys(CHANGES, 0.0)


@pytest.mark.parametrize("by", CHANGES)
def test_a_disturbed_photo_is_another_of_the_same_size_each_time_the_same(by: str) -> None:
    column = pa.chunked_array([pa.array([photo(100), None, b"no photo"])])
    one, missing, other = disturbed(column, by, np.random.default_rng(3))
    assert one is not None
    assert one != photo(100)
    assert (missing, other) == (None, b"no photo")
    assert Image.open(io.BytesIO(one)).size == (24, 24)
    assert disturbed(column, by, np.random.default_rng(3))[0] == one


def test_bytes_that_are_no_photos_are_not_disturbed() -> None:
    given = replace(with_column(SHOP, "blob", [b"\0\xff"] * 400), inputs=("blob",))
    assert judged(always, given, measure="blur").found.startswith("No input can be disturbed")
