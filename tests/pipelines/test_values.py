from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.errors import Invalid
from everloop.pipelines.values import Split, Table, facts, field_of, split, with_facts, with_features
from everloop.serving import Field

AT = datetime(2026, 9, 1, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def rows(count: int = 40, **columns: Sequence[Any]) -> Table:
    """Rows as the data room gives them: 4 offers of each product, inputs title and price."""
    table = pa.table(
        {
            "_row_id": list(range(count)),
            "title": [f"fridge {number}" for number in range(count)],
            "price": [float(number) for number in range(count)],
            "product": [f"p{number // 4}" for number in range(count)],
            **columns,
        }
    )
    return with_facts(table, dataset="listings", version=3, inputs=["title", "price"])


def labels(ids: Sequence[int], values: Sequence[Any] | None = None) -> Table:
    return pa.table({"_row_id": ids, "label": values or [f"c{number % 3}" for number in ids]})


def parts(count: int = 6) -> Split:
    table = rows(count).append_column("label", [["a", "b"] * (count // 2)])
    return Split(table.slice(0, count - 2), table.slice(count - 2), ("title", "price"))


def test_a_table_says_what_it_is() -> None:
    assert facts(rows())["inputs"] == ["title", "price"]
    assert facts(with_facts(rows(), version=4))["version"] == 4
    assert facts(pa.table({"a": [1]})) == {}


def test_features_are_columns_that_a_model_may_use() -> None:
    table = with_features(rows(), {"volume": pa.array(range(40)), "hour": pa.array([None] * 40, pa.int64())})
    data = split(table, labels(range(40)))
    assert data.columns == ("title", "price", "volume", "hour")
    assert data.x_train[0].tolist()[2:] == [data.train["volume"][0].as_py(), None]
    with pytest.raises(Invalid, match="a column 'volume' already"):
        with_features(table, {"volume": pa.array(range(40))})


def test_labels_are_joined_by_row_id_whatever_the_order() -> None:
    ids = [7, 3, 39, 11, 0, 22, 14, 31, 5, 17]
    data = split(rows(), labels(ids), test=0.5)
    found = {row["_row_id"]: row["label"] for part in (data.train, data.test) for row in part.to_pylist()}
    assert found == {number: f"c{number % 3}" for number in ids}


def test_groups_are_not_divided() -> None:
    data = split(rows(400), labels(range(400)), by="product", test=0.3)
    assert not set(data.train["product"].to_pylist()) & set(data.test["product"].to_pylist())
    assert data.train.num_rows + data.test.num_rows == 400
    assert data.group == "product"


@pytest.mark.parametrize("by", ["product", None])
def test_a_row_stays_in_its_part_when_rows_are_added(by: str | None) -> None:
    before = split(rows(100), labels(range(100)), by=by)
    after = split(rows(400), labels(range(400)), by=by)
    assert set(before.test["_row_id"].to_pylist()) <= set(after.test["_row_id"].to_pylist())
    assert set(before.train["_row_id"].to_pylist()) <= set(after.train["_row_id"].to_pylist())


def test_the_order_of_rows_and_labels_does_not_matter() -> None:
    shuffled = rows().take(np.random.default_rng(0).permutation(40))
    one, other = split(rows(), labels(range(40))), split(shuffled, labels(range(39, -1, -1)))
    assert one.digest == other.digest
    assert one.train.equals(other.train)


def test_a_seed_divides_otherwise() -> None:
    assert split(rows(), labels(range(40))).digest != split(rows(), labels(range(40)), seed=1).digest


@pytest.mark.parametrize("test", [0.1, 0.2, 0.5])
def test_the_test_part_has_the_share_that_was_asked_for(test: float) -> None:
    count = 20_000
    data = split(rows(count), labels(range(count)), test=test)
    deviation = (test * (1 - test) / count) ** 0.5
    assert abs(data.test.num_rows / count - test) < 4 * deviation


def test_rows_without_a_group_are_groups_of_their_own() -> None:
    count = 1_000
    table = rows(count, product=[None] * count)
    assert 100 < split(table, labels(range(count)), by="product").test.num_rows < 300


def test_a_dataset_may_have_a_column_named_label() -> None:
    data = split(rows(40, label=["old"] * 40), labels(range(40)))
    assert data.label == "_label"
    assert set(data.y_train) == {"c0", "c1", "c2"}


def test_inputs_can_be_chosen() -> None:
    data = split(rows(), labels(range(40)), inputs=["title"])
    assert data.columns == ("title",)
    assert data.x_train.shape == (data.train.num_rows, 1)


@pytest.mark.parametrize(
    ("problem", "arguments"),
    [
        ("is no share", {"test": 1.0}),
        ("is no share", {"test": 0}),
        ("the rows have no column 'shop'", {"by": "shop"}),
        ("have no column 'nothing'", {"inputs": ["nothing"]}),
        ("among the inputs", {"inputs": ["title", "label"]}),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(problem: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=problem):
        split(rows(), labels(range(40)), **arguments)


@pytest.mark.parametrize(
    ("problem", "table", "given_labels"),
    [
        ("more than once", rows(), labels([1, 1, 2])),
        ("the labels hold", rows(), labels([1, 1, 2])),
        ("none of the 40 rows", rows(), labels([100, 101])),
        ("the rows have no column '_row_id'", rows().drop_columns(["_row_id"]), labels([1])),
        ("the labels have no column 'label'", rows(), rows()),
        ("do not say which columns are inputs", rows().replace_schema_metadata(None), labels(range(40))),
        ("1 groups leave a part empty", rows(40, product=["same"] * 40), labels(range(40))),
        ("have no label", rows(), labels(range(40), [None] + ["a"] * 39)),
    ],
)
def test_tables_that_do_not_fit_are_refused(problem: str, table: Table, given_labels: Table) -> None:
    with pytest.raises(Invalid, match=problem):
        split(table, given_labels, by="product")


def test_a_row_in_both_parts_is_refused() -> None:
    table = parts().train
    with pytest.raises(Invalid, match="4 rows are in both parts"):
        Split(table, table, ("title",))


def test_an_empty_part_is_refused() -> None:
    table = parts().train
    with pytest.raises(Invalid, match="the test part of the split has no rows"):
        Split(table, table.slice(0, 0), ("title",))


def test_positions_are_those_of_the_columns_of_x() -> None:
    data = parts()
    assert (data.position("title"), data.position("price")) == (0, 1)
    assert data.x_train[:, data.position("price")].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert data.positions(["price", "title"]) == [1, 0]


@pytest.mark.parametrize("name", ["product", "label", "_row_id", "nothing"])
def test_what_is_no_input_cannot_become_a_feature(name: str) -> None:
    with pytest.raises(Invalid, match="cannot become features"):
        parts().position(name)


def test_a_model_sees_plain_python_values() -> None:
    values: dict[str, list[Any]] = {
        "text": ["a", None], "whole": [1, None], "number": [0.5, None], "is_new": [True, None],
        "at": [AT, None], "photo": [PNG, None],
    }  # fmt: skip
    table = pa.table({"_row_id": [0, 1], **values, "label": ["x", "y"]})
    data = Split(table.slice(0, 1), table.slice(1), tuple(values))
    assert data.x_train.tolist() == [["a", 1, 0.5, True, AT, PNG]]
    assert [type(value) for value in data.x_train[0]] == [str, int, float, bool, datetime, bytes]
    assert data.x_test.tolist() == [[None] * 6]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [(["a", "b"], np.object_), ([1, 2], np.int64), ([0.5, 1.0], np.float64), ([True, False], np.bool_)],
)
def test_labels_keep_their_type(values: list[Any], dtype: type) -> None:
    table = pa.table({"_row_id": [0, 1], "a": [1, 2], "label": values})
    data = Split(table.slice(0, 1), table.slice(1), ("a",))
    assert data.y_train.dtype == dtype
    assert data.y_train.tolist() == values[:1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["a", "b"]), "string"),
        (pa.array(["a", "b"], pa.large_string()), "string"),
        (pa.array(["a", "b"]).dictionary_encode(), "string"),
        (pa.array([1, 2], pa.int8()), "integer"),
        (pa.array([1, 2], pa.uint64()), "integer"),
        (pa.array([1.0, 2.0], pa.float32()), "number"),
        (pa.array([True, False]), "boolean"),
        (pa.array([AT, AT]), "time"),
        (pa.array([PNG, PNG]), "image"),
        (pa.array([b"\xff\xd8\xff\xe0jpeg", b"x"], pa.large_binary()), "image"),
        (pa.array([b"anything", PNG]), "binary"),
    ],
)
def test_the_signature_tells_the_type_of_an_input(values: pa.Array[Any], expected: str) -> None:
    table = pa.table({"_row_id": [0, 1], "a": values, "label": ["x", "y"]})
    data = Split(table.slice(0, 1), table.slice(1), ("a",))
    assert field_of(data, "a") == Field("a", expected)  # type: ignore[arg-type]  # one of the literals


@pytest.mark.parametrize(
    ("values", "is_nullable"), [([None, "b"], True), (["a", None], True), (["a", "b"], False)]
)
def test_an_input_may_be_null_where_it_was_null_before(values: list[str | None], is_nullable: bool) -> None:
    table = pa.table({"_row_id": [0, 1], "a": pa.array(values, pa.string()), "label": ["x", "y"]})
    data = Split(table.slice(0, 1), table.slice(1), ("a",))
    assert field_of(data, "a").nullable is is_nullable


def test_an_input_that_no_request_can_carry_is_refused() -> None:
    table = pa.table({"_row_id": [0, 1], "a": [[1], [2]], "label": ["x", "y"]})
    with pytest.raises(Invalid, match="which no request can carry"):
        field_of(Split(table.slice(0, 1), table.slice(1), ("a",)), "a")


@given(st.sets(st.integers(0, 2**62), min_size=30, max_size=60), st.integers(0, 3))
def test_every_labelled_row_is_in_exactly_one_part(ids: set[int], seed: int) -> None:
    table = with_facts(pa.table({"_row_id": list(ids), "a": list(ids)}), inputs=["a"])
    data = split(table, labels(list(ids)), test=0.5, seed=seed)
    found = np.concatenate([data.train["_row_id"].to_numpy(), data.test["_row_id"].to_numpy()])
    assert sorted(found.tolist()) == sorted(ids)


def test_the_digest_tells_labels_and_columns_apart() -> None:
    data = parts()
    other_columns = Split(data.train, data.test, ("title",))
    relabelled = data.train.set_column(4, "label", [["z"] * 4])
    other_labels = Split(relabelled, data.test, data.inputs)
    assert len({data.digest, other_columns.digest, other_labels.digest}) == 3
