from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import everloop as el
from everloop.errors import Invalid
from everloop.loop.declare import collecting, dataset, duration, feature, label_set, retrain


def test_declarations_are_gathered_while_collecting_and_nowhere_else() -> None:
    dataset("elsewhere", key="id", inputs=["title"])
    with collecting() as found:
        listings = dataset("listings", key="id", inputs=["title"])
        label_set("category", of=listings, classes=["a", "b"])
    assert [(one.kind, one.name) for one in found.declared] == [
        ("dataset", "listings"),
        ("labels", "category"),
    ]


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda _: el.label_set("l", of="goods", classes=["a"]), "labels 'l' has of='goods'.*el.dataset"),  # type: ignore[arg-type]  # wrong on purpose, as those below
        (lambda _: el.model("m", "train"), "model 'm' has pipeline='train'.*@el.pipeline"),  # type: ignore[arg-type]
        (lambda it: el.retrain(it["model"], when=5), "has when=5.*a condition"),  # type: ignore[arg-type]
        (lambda it: el.scoring("m", it["goods"], to="x", cron="0 4 * * *"), "'x' has of='m'.*el.endpoint"),  # type: ignore[arg-type]
        (lambda it: el.scoring(it["model"], it["kinds"], to="x", cron="0 4 * * *"), "has rows=.*el.dataset"),
        (lambda it: el.scoring(it["model"], "goods", to="x", cron="0 4 * * *"), "'goods', which is no query"),
        (lambda it: el.scoring(it["model"], it["goods"], to="x", cron="at four"), "not a cron expression"),
    ],
)
def test_what_a_declaration_cannot_refer_to_is_refused_where_it_stands(
    declare: Callable[[dict[str, Any]], object], told: str
) -> None:
    with collecting():
        goods = dataset("goods", key="id", inputs=["title"])
        kinds = label_set("kinds", of=goods, classes=["a", "b"])
        given = {"goods": goods, "kinds": kinds, "model": el.model("kind", el.pipeline(train))}
        with pytest.raises(Invalid, match=told):
            declare(given)


def train() -> None:
    """A pipeline of nothing."""


def test_a_name_stands_once() -> None:
    with collecting():
        dataset("listings", key="id", inputs=["title"])
        with pytest.raises(Invalid, match="declares the dataset 'listings' twice"):
            dataset("listings", key="id", inputs=["title"])


@pytest.mark.parametrize("name", ["", "Listings", "two words", "../up", "a" * 61, "1st"])
def test_a_name_is_plain(name: str) -> None:
    with pytest.raises(Invalid, match="cannot be a name"):
        dataset(name, key="id", inputs=["title"])


def test_a_dataset_without_inputs_is_refused() -> None:
    with pytest.raises(Invalid, match="no inputs"):
        dataset("listings", key="id", inputs=[])


def test_a_feature_stays_the_function_that_it_decorates() -> None:
    listings = dataset("listings", key="id", time="at", inputs=["title", "merchant"])

    @feature(of=listings, by="merchant", window="7d")
    def volume(past: list[int]) -> int:
        return len(past)

    assert volume([1, 2, 3]) == 3
    assert (volume.name, volume.window) == ("volume", timedelta(days=7))
    assert listings.features == [volume]


def test_a_feature_needs_a_time() -> None:
    listings = dataset("listings", key="id", inputs=["title", "merchant"])
    with pytest.raises(Invalid, match="no time column"):
        feature(of=listings, by="merchant", window="7d")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30m", timedelta(minutes=30)),
        ("7d", timedelta(days=7)),
        ("2 w", timedelta(weeks=2)),
        (timedelta(1), timedelta(1)),
    ],
)
def test_spans_are_read(text: str | timedelta, expected: timedelta) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize("text", ["", "7", "d7", "0d", "-1d", "1.5h", "7 days"])
def test_other_spans_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="not a span of time"):
        duration(text)


def test_a_retraining_that_never_happens_is_refused() -> None:
    class Model:
        name = "category"

    with pytest.raises(Invalid, match="never happen"):
        retrain(Model())  # type: ignore[arg-type]  # only its name is looked at


def test_a_declaration_has_no_rows_of_its_own() -> None:
    listings = dataset("listings", key="id", inputs=["title"])
    with pytest.raises(AttributeError, match=r"has no 'num_rows': .* inside a function with @el\.step"):
        _ = listings.num_rows


def test_a_log_that_keeps_less_than_is_audited_is_refused() -> None:
    @el.pipeline
    def train() -> el.Model:
        raise NotImplementedError

    model = el.model("kind", train)
    watch = [el.accuracy(audit=0.02)]
    with pytest.raises(Invalid, match=r"logs 0\.01 of its predictions and audits 0\.02"):
        el.endpoint("kind", model, rollout=el.canary(100), watch=watch, log=el.prediction_log(sample=0.01))
    kept = el.endpoint("kind", model, rollout=el.canary(100), watch=watch, log=el.prediction_log(sample=0.02))
    assert kept.log.sample == 0.02


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sample": 0}, "sample is 0; it is a share above 0"),
        ({"sample_failed": 1.5}, "sample_failed is 1.5"),
        ({"keep_days": -1}, "keep_days is -1"),
        ({"inputs": "encrypt"}, "inputs is 'keep', 'hash' or 'drop'"),
        ({"when_full": "panic"}, "when_full 'refuse' or 'serve'"),
    ],
)
def test_a_log_that_cannot_be_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        el.prediction_log(**given)
