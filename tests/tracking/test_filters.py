from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from everloop.errors import Invalid
from everloop.tracking import Condition, Key, Order, parse_filter, parse_orders
from everloop.tracking.searching import RUN_GRAMMAR


def condition(text: str) -> Condition:
    (found,) = parse_filter(text, RUN_GRAMMAR)
    return found


@pytest.mark.parametrize(
    ("text", "key", "operator", "value"),
    [
        ("metrics.acc > 0.5", Key("metric", "acc"), ">", 0.5),
        ("metric.acc<=-1e3", Key("metric", "acc"), "<=", -1000.0),
        ("metrics.`a b` != 3", Key("metric", "a b"), "!=", 3),
        ('metrics."a.b" = .5', Key("metric", "a.b"), "=", 0.5),
        ("`metrics`.acc = 1", Key("metric", "acc"), "=", 1),
        ("metrics.a/b-c >= 1", Key("metric", "a/b-c"), ">=", 1),
        ("params.lr = 'it''s'", Key("param", "lr"), "=", "it's"),
        (r"parameters.lr = 'it\'s'", Key("param", "lr"), "=", "it's"),
        ('tags.mlflow.user = "ann"', Key("tag", "mlflow.user"), "=", "ann"),
        ("tag.team like 'vis%'", Key("tag", "team"), "LIKE", "vis%"),
        ("tags.team ILIKE 'VIS%'", Key("tag", "team"), "ILIKE", "VIS%"),
        ("tags.x IS NULL", Key("tag", "x"), "IS NULL", None),
        ("params.x is not null", Key("param", "x"), "IS NOT NULL", None),
        ("status = 'FINISHED'", Key("attribute", "status"), "=", "FINISHED"),
        ('attributes."Run name" = "x"', Key("attribute", "run_name"), "=", "x"),
        ("attr.run_id IN ('a', 'b')", Key("attribute", "run_id"), "IN", ("a", "b")),
        ("run_id NOT IN ('a')", Key("attribute", "run_id"), "NOT IN", ("a",)),
        ("start_time > 1700000000000", Key("attribute", "start_time"), ">", 1_700_000_000_000),
        ("dataset.name = 'rows'", Key("dataset", "name"), "=", "rows"),
        ("datasets.context IN ('train')", Key("dataset", "context"), "IN", ("train",)),
        ("metrics.and > 1", Key("metric", "and"), ">", 1),
    ],
)
def test_a_condition_is_read(text: str, key: Key, operator: str, value: object) -> None:
    assert condition(text) == Condition(key, operator, value)  # type: ignore[arg-type]  # of a table of cases


def test_conditions_are_joined_by_and() -> None:
    found = parse_filter("metrics.a > 1 AND params.b = 'x' and tags.`and` = ' AND '", RUN_GRAMMAR)
    assert [one.key.name for one in found] == ["a", "b", "and"]


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_no_filter_is_no_condition(text: str | None) -> None:
    assert parse_filter(text, RUN_GRAMMAR) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("metrics.acc", "ends too early"),
        ("metrics.acc > ", "ends too early"),
        ("metrics.acc > '1'", "something else is expected"),
        ("metrics.acc > nan", "a number is compared with a number"),
        ("metrics.acc LIKE 'a'", "does not compare metric"),
        ("metrics. > 1", "after metric. comes a name"),
        ("metric > 1", "is no attribute; the attributes are artifact_uri"),
        ("colour.x = 'a'", "is no kind of thing"),
        ("params.lr = 0.1", "something else is expected"),
        ("params.lr = `0.1`", "in single or double quotes"),
        ("params.lr IN ('a')", "does not compare param"),
        ("run_id IN ()", "something else is expected"),
        ("run_id IN ('a' 'b')", "something else is expected"),
        ("run_id IN 'a'", "something else is expected"),
        ("status > 'A'", "does not compare attribute"),
        ("start_time = 'now'", "something else is expected"),
        ("dataset.profile = 'x'", "a dataset is asked for by name, digest, context"),
        ("tags.a = 'x' OR tags.b = 'y'", "joined by AND alone"),
        ("tags.a = 'x' tags.b = 'y'", "joined by AND alone"),
        ("tags.a IS EMPTY", "after IS comes NULL"),
        ("tags.a = 'x", "a quote is not closed"),
        ("tags.a == 'x'", "something else is expected"),
        ("tags.a = 'x'; DROP TABLE run", "joined by AND alone"),
        ("tags.a = 'x\0'", "characters that no name or value has"),
        (" AND ".join(["metrics.a > 1"] * 41), "more than 40 conditions"),
        ("tags.a = '" + "x" * 200_000 + "'", "200,000 is the most"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused_with_the_rule(text: str, told: str) -> None:
    with pytest.raises(Invalid, match=told) as refusal:
        parse_filter(text, RUN_GRAMMAR)
    assert len(str(refusal.value)) < 600


def test_orders_are_read() -> None:
    told = parse_orders(["metrics.`a b` DESC", "start_time asc", "params.x"], RUN_GRAMMAR)
    assert told == [
        Order(Key("metric", "a b"), is_descending=True),
        Order(Key("attribute", "start_time")),
        Order(Key("param", "x")),
    ]


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["metrics.a up"], "comes ASC or DESC"),
        (["metrics.a DESC DESC"], "comes ASC or DESC"),
        (["dataset.name"], "cannot be ordered by them"),
        (["metrics.a", "metric.a DESC"], "names a thing twice"),
        ([""], "ends too early"),
        ([f"metrics.m{n}" for n in range(21)], "20 is the most"),
    ],
)
def test_an_order_that_cannot_be_read_is_refused(texts: list[str], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        parse_orders(texts, RUN_GRAMMAR)


PIECES = st.sampled_from(
    ["metrics.a", "tags.", "`", "'", '"', "\\", ">", "=", "!", "!=", "(", ")", ",", "IN", "NOT", "IS", "NULL", "AND", "LIKE",
     "1", "-1e999", "'x'", " ", "\n", ".", "run_id", "\0", "\ud800", "é", "start_time"]
)  # fmt: skip


@given(
    st.one_of(st.text(), st.lists(PIECES).map("".join), st.binary().map(lambda raw: raw.decode("latin-1")))
)
@example("metrics.a > " + "9" * 5_000)
def test_whatever_is_asked_is_read_or_refused(text: str) -> None:
    for read in (lambda: parse_filter(text, RUN_GRAMMAR), lambda: parse_orders([text], RUN_GRAMMAR)):
        with suppress(Invalid):
            read()


@pytest.mark.parametrize("piece", ["'", "''", "`", '"', "\\", "'\\", "(", "a.", "' AND '", "metrics.a > 1 "])
def test_a_long_text_is_refused_as_quickly_as_a_short_one(piece: str) -> None:
    text = (piece * 200_000)[:200_000]
    began = time.process_time()
    with pytest.raises(Invalid):
        parse_filter(text, RUN_GRAMMAR)
    assert time.process_time() - began < 2.0
