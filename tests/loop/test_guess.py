from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everloop import data
from everloop.errors import Invalid
from everloop.loop import Guess, Wanted
from everloop.loop.guess import guess

CHANCE = random.Random(5)  # noqa: S311  (made-up rows, not secrets)
WORDS = ["red", "small", "classic", "new", "light", "solid", "quiet", "simple", "warm", "long", "old", "fine"]


def text(_: int) -> str:
    return " ".join(CHANCE.sample(WORDS, 5))


def guessed(rows: list[dict[str, Any]], **wanted: Any) -> Guess:
    source = data.load(pa.Table.from_pylist(rows), key=None, file_format=None)
    table, schema = data.typed(source)
    return guess(table, schema, source.rows, Wanted(**wanted))


def people(n: int = 200) -> list[dict[str, Any]]:
    return [
        {
            "customer_id": 1_000 + i * 7,
            "joined_at": f"2026-0{1 + i % 9}-01T00:00:00Z",
            "age": CHANCE.randint(18, 80),
            "plan": CHANCE.choice(["basic", "plus", "pro"]),
            "remark": text(i),
            "churned": CHANCE.random() < 0.3,
        }
        for i in range(n)
    ]


def roles(found: Guess) -> dict[str, str]:
    return {one.column: one.kind or one.role for one in found.columns}


def test_each_column_of_a_plain_table_gets_its_role() -> None:
    assert roles(guessed(people())) == {
        "customer_id": "key",
        "joined_at": "time",
        "age": "number",
        "plan": "category",
        "remark": "text",
        "churned": "label",
    }


@settings(max_examples=25, deadline=None)
@given(st.permutations(["customer_id", "joined_at", "age", "plan", "remark", "churned"]))
def test_the_order_of_columns_does_not_matter_where_names_speak(order: list[str]) -> None:
    rows = [{name: row[name] for name in order} for row in people(60)]
    found = guessed(rows)
    assert (found.key, found.time, found.label) == ("customer_id", "joined_at", "churned")


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 8), st.integers(20, 120), st.integers(0, 1_000))
def test_a_last_column_of_classes_is_the_label_whatever_it_is_called(classes: int, n: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    rows = [{"a": chance.random(), "b": chance.random(), "zq": f"k{i % classes}"} for i in range(n * classes)]
    found = guessed(rows)
    assert (found.label, len(found.per_class), found.key) == ("zq", classes, None)
    assert {one.column for one in found.inputs} == {"a", "b"}


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 60), st.integers(0, 1_000))
def test_a_column_that_decides_the_label_is_never_an_input(values: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    codes = [chance.randrange(values) for _ in range(600)]
    rows = [{"code": f"c{code}", "age": chance.randint(18, 80), "label": f"k{code % 3}"} for code in codes]
    code = next(one for one in guessed(rows).columns if one.column == "code")
    assert (code.role, "gives the answer away" in code.reason) == ("left out", True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1_000))
def test_an_honest_column_is_never_left_out_for_giving_the_answer_away(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    rows = [
        {"weight": chance.gauss(i % 2 * 2, 1), "colour": chance.choice(WORDS), "label": f"k{i % 2}"}
        for i in range(300)
    ]
    assert {one.column for one in guessed(rows).inputs} == {"weight", "colour"}


def test_things_that_rows_share_are_the_group_and_told_with_numbers() -> None:
    rows = []
    for i in range(400):
        product = i if i % 3 == 0 else CHANCE.randrange(0, 300, 3)
        rows.append({"row": i, "text": text(i), "product_id": product, "label": f"k{product % 4}"})
    found = guessed(rows)
    assert found.group == "product_id"
    told = next(one.reason for one in found.columns if one.column == "product_id")
    assert "one side of the split" in told
    assert "removes 100.0% of the errors" in told


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("empty", [None] * 60, "empty in all rows"),
        ("same", ["x"] * 60, "the same in all rows"),
        ("mail", [f"jo{i}@example.org" for i in range(60)], "holds personal data (email)"),
        ("mark", [f"zz{i}" for i in range(60)], "different in nearly every row"),
        ("number", list(range(5, 65)), "numbers the rows"),
    ],
)
def test_what_says_nothing_is_left_out_with_its_reason(column: str, values: list[Any], reason: str) -> None:
    rows = [{"row_id": i, "age": i % 13, column: values[i], "label": f"k{i % 2}"} for i in range(60)]
    found = next(one for one in guessed(rows, key="row_id").columns if one.column == column)
    assert found.role == "left out"
    assert reason in found.reason


def test_rows_without_label_and_classes_with_too_few_rows_are_told() -> None:
    rows = [{"age": i % 13, "label": f"k{i % 2}"} for i in range(60)]
    rows += [{"age": 1, "label": "rare"}, {"age": 2, "label": None}, {"age": 2, "label": " "}]
    found = guessed(rows)
    assert (found.per_class, found.thin, found.unlabelled) == ({"k0": 30, "k1": 30}, {"rare": 1}, 2)


def test_what_is_stated_is_not_guessed_over() -> None:
    found = guessed(people(), label="plan", inputs=("age", "churned"), time="joined_at", key="customer_id")
    assert roles(found) == {
        "customer_id": "key",
        "joined_at": "time",
        "age": "number",
        "plan": "label",
        "remark": "left out",
        "churned": "category",
    }


def test_a_stated_input_that_gives_the_answer_away_is_taken_with_a_warning() -> None:
    rows = [{"code": f"c{i % 12}", "age": i % 13, "label": f"k{i % 2}"} for i in range(300)]
    code = next(one for one in guessed(rows, inputs=("code", "age")).columns if one.column == "code")
    assert code.role == "input"
    assert "IT GIVES THE ANSWER AWAY" in code.reason


NUMBERS = [{"size": CHANCE.random(), "target": CHANCE.random() * 100} for _ in range(50)]


@pytest.mark.parametrize(
    ("rows", "wanted", "message"),
    [
        (NUMBERS, {}, "regression"),
        (NUMBERS, {"label": "target"}, "regression"),
        ([{"a": i, "label": "x"} for i in range(9)], {"label": "label"}, "is 'x' in all 9 labelled rows"),
        ([{"a": 1, "name": f"n{i}"} for i in range(9)], {"label": "name"}, "9 different values in 9 rows"),
        ([{"a": 1, "name": None} for i in range(9)], {"label": "name"}, "empty in all rows"),
        ([{"a": i % 2, "name": f"n{i // 2}"} for i in range(1_400)], {"label": "name"}, "700 classes"),
        (
            [{"a": i, "name": f"n{i // 2}"} for i in range(8)],
            {"label": "name"},
            "0 class with 5 rows or more",
        ),
        (people(), {"label": "churn"}, "Did you mean 'churned'"),
        (people(), {"key": "plan"}, "names rows twice"),
        (people(), {"time": "age"}, "is of type integer"),
        (people(), {"inputs": ("churned",), "label": "churned"}, "does not carry the answer"),
        (people(), {"label": "joined_at"}, "of type time"),
        ([{"one": f"k{i % 2}", "label": f"k{i % 2}"} for i in range(400)], {}, "no column is left"),
        ([{"target": i % 4, "label": i % 3, "a": i / 7} for i in range(90)], {}, "several columns"),
        ([{"a": i / 7, "b": i / 3} for i in range(90)], {}, "no column looks like the label"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(
    rows: list[dict[str, Any]], wanted: dict[str, Any], message: str
) -> None:
    with pytest.raises(Invalid, match=message) as refused:
        guessed(rows, **wanted)
    assert "--" in str(refused.value) or "Name " in str(refused.value)


def test_the_marketplaces_traps_are_found_in_a_csv_of_it(shared_data: Path, tmp_path: Path) -> None:
    import pyarrow.csv as arrow_csv  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    arrow_csv.write_csv(
        pq.read_table(shared_data / "marketplace" / "seed_labelled.parquet"), tmp_path / "seed.csv"
    )
    source = data.load(tmp_path / "seed.csv", key=None, file_format=None)
    found = guess(*data.typed(source), source.rows, Wanted())
    assert roles(found) == {
        "listing_id": "key",
        "title": "text",
        "merchant_id": "category",
        "received_at": "time",
        "product_id": "group",
        "product_name": "left out",
        "category": "label",
    }


@pytest.mark.parametrize(
    ("file", "key", "label"),
    [("adult/train", "person_id", "income_over_50k"), ("grocery/images", "image_id", "category")],
)
def test_real_tables_are_guessed_right(shared_data: Path, file: str, key: str, label: str) -> None:
    source = data.load(shared_data / f"{file}.parquet", key=None, file_format=None)
    found = guess(*data.typed(source), source.rows, Wanted())
    assert (found.key, found.label) == (key, label)
