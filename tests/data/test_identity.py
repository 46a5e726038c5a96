"""The identity of data: a plain reference beside the vectorised code, and what must and must not change a digest."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from everloop.clock import to_micros
from everloop.data.arrow import ARROW_TYPES
from everloop.data.identity import changed_sum, column_tag, digest_sum, row_digests, version_digest
from everloop.data.records import Column, ColumnType, Schema

TYPES: dict[ColumnType, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=20),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(allow_nan=False),
    "boolean": st.booleans(),
    "time": st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    "binary": st.binary(max_size=20),
}
SCHEMA = Schema(tuple(Column(f"{kind} column", kind) for kind in TYPES), None)
few = settings(max_examples=40, deadline=None)  # each draws whole tables; a busy machine is no failure
ROWS = st.lists(st.tuples(*(st.none() | one for one in TYPES.values())), max_size=6)

Row = tuple[Any, ...]


def table(rows: list[Row], schema: Schema = SCHEMA) -> pa.Table:
    return pa.table(
        {
            column.name: pa.array([row[at] for row in rows], ARROW_TYPES[column.type])
            for at, column in enumerate(schema.columns)
        }
    )


def identity(rows: pa.Table, schema: Schema = SCHEMA) -> str:
    return version_digest(schema, rows=rows.num_rows, total=digest_sum(row_digests(rows, schema)))


def plain_digest(row: Row, schema: Schema = SCHEMA) -> bytes:
    """The documented encoding, one value at a time."""
    canonical = b""
    for column, value in sorted(zip(schema.columns, row, strict=True), key=lambda pair: pair[0].name):
        if value is None:
            continue
        canonical += column_tag(column).to_bytes(8, "little")
        if isinstance(value, str | bytes):
            data = value.encode() if isinstance(value, str) else value
            canonical += struct.pack("<Q", len(data)) + data
        elif isinstance(value, datetime):
            canonical += struct.pack("<q", to_micros(value))
        elif isinstance(value, float):
            canonical += struct.pack("<d", value or 0.0)
        else:
            canonical += struct.pack("<q", value)
    return blake3(canonical).digest()


@few
@given(ROWS)
def test_the_vectorised_digests_are_the_documented_ones(rows: list[Row]) -> None:
    found = row_digests(table(rows), SCHEMA)
    assert [bytes(one) for one in found] == [plain_digest(row) for row in rows]


@few
@given(ROWS)
def test_the_sum_is_the_sum(rows: list[Row]) -> None:
    total = sum(int.from_bytes(plain_digest(row), "little") for row in rows) % 2**256
    assert digest_sum(row_digests(table(rows), SCHEMA)) == total


@few
@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 5))
def test_row_order_column_order_and_chunks_do_not_count(rows: list[Row], random: Any, chunk: int) -> None:
    shuffled = random.sample(rows, len(rows))
    pieces = [table(shuffled[at : at + chunk]) for at in range(0, len(rows), chunk)]
    whole = pa.concat_tables(pieces) if pieces else table([])
    names = random.sample(whole.column_names, whole.num_columns)
    turned = Schema(tuple(column for name in names for column in [SCHEMA.get(name)] if column), None)
    assert identity(whole.select(names), turned) == identity(table(rows))


@few
@given(ROWS.filter(bool), st.data())
def test_any_changed_value_changes_it(rows: list[Row], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(TYPES) - 1))
    strategy = list(TYPES.values())[column]
    other = data.draw((st.none() | strategy).filter(lambda value: value != rows[at][column]))
    changed = [*rows]
    changed[at] = (*rows[at][:column], other, *rows[at][column + 1 :])
    assert identity(table(changed)) != identity(table(rows))


@few
@given(ROWS.filter(bool))
def test_a_row_more_or_less_changes_it(rows: list[Row]) -> None:
    assert identity(table(rows[1:])) != identity(table(rows))
    assert identity(table([*rows, rows[0]])) != identity(table(rows))


@few
@given(ROWS, ROWS, ROWS)
def test_the_sum_is_kept_up_by_adding_and_subtracting(
    kept: list[Row], gone: list[Row], new: list[Row]
) -> None:
    digests = [row_digests(table(rows), SCHEMA) for rows in (kept, gone, new)]
    before = digest_sum(np.concatenate(digests[:2]))
    after = changed_sum(before, added=digests[2], removed=digests[1])
    assert after == digest_sum(np.concatenate([digests[0], digests[2]]))


def test_values_do_not_move_between_columns() -> None:
    schema = Schema((Column("a", "string"), Column("b", "string")), None)
    rows: list[Row] = [("x", None), (None, "x"), ("xy", ""), ("x", "y"), ("", "xy"), ("", ""), (None, None)]
    assert len({identity(table([row], schema), schema) for row in rows}) == len(rows)


def test_a_column_that_is_missing_everywhere_leaves_the_rows_alone() -> None:
    wider = Schema((*SCHEMA.columns, Column("later", "string")), None)
    rows: list[Row] = [("a", 1, 1.0, True, None, b"")]
    wide = table([(*rows[0], None)], wider)
    assert (row_digests(wide, wider) == row_digests(table(rows), SCHEMA)).all()
    assert identity(wide, wider) != identity(table(rows))


def test_minus_zero_is_zero() -> None:
    schema = Schema((Column("a", "number"),), None)
    assert identity(table([(-0.0,)], schema), schema) == identity(table([(0.0,)], schema), schema)


@pytest.mark.parametrize(
    "other",
    [
        Schema((Column("a", "integer"),), None, None, ("a",)),
        Schema((Column("a", "integer"),), "a"),
        Schema((Column("b", "integer"),), None),
        Schema((Column("a", "number"),), None),
    ],
)
def test_what_rows_mean_is_part_of_it(other: Schema) -> None:
    assert version_digest(other, rows=0, total=0) != version_digest(
        Schema((Column("a", "integer"),), None), rows=0, total=0
    )


def test_rules_on_values_are_not_part_of_it() -> None:
    plain, ruled = (Schema((Column("a", "integer", minimum=low),), None) for low in (None, 0))
    assert version_digest(plain, rows=1, total=5) == version_digest(ruled, rows=1, total=5)


def test_digests_stay_what_they_were() -> None:
    """A change of the encoding gives every stored version another name: this must not happen unseen."""
    schema = Schema((Column("id", "integer"), Column("title", "string"), Column("price", "number")), "id")
    rows = table([(1, "fridge", 299.5), (2, None, None)], schema)
    assert identity(rows, schema) == "3a2d56d63b7499c8ad0c72e37e9058c9e2ca2351a0d245fb5d6746f5999eb31a"


def test_many_rows_go_through_in_batches() -> None:
    schema = Schema((Column("a", "integer"), Column("b", "string")), None)
    n = 70_000  # more than one batch
    rows = pa.table({"a": np.arange(n), "b": pa.array([str(at) for at in range(n)], pa.large_string())})
    found = row_digests(rows, schema)
    assert [bytes(found[at]) for at in (0, 65_535, 65_536, n - 1)] == [
        plain_digest((at, str(at)), schema) for at in (0, 65_535, 65_536, n - 1)
    ]
