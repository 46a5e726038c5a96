"""Ingesting does what a dictionary would do, over any sequence of files."""

from __future__ import annotations

from itertools import count, pairwise

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everloop import data
from everloop.data.records import Mode
from everloop.errors import Conflict
from everloop.workspace import Workspace

File = dict[int, str | None]
State = dict[int, tuple[int, str | None]]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["merge", "merge", "replace", "append"]),
        st.dictionaries(st.integers(0, 9), st.none() | st.sampled_from("abc"), min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=6,
)


class Plain:
    """The rules of ingest over a dictionary: key -> value, and the row id that each key once got."""

    def __init__(self) -> None:
        self.rows: File = {}
        self.row_ids: dict[int, int] = {}

    def ingest(self, file: File, mode: Mode) -> None:
        for key in file:
            self.row_ids.setdefault(key, len(self.row_ids))
        self.rows = {**({} if mode == "replace" else self.rows), **file}

    def state(self) -> State:
        return {self.row_ids[key]: (key, value) for key, value in self.rows.items()}


names = map("items{}".format, count())  # one workspace for all examples: opening one takes longest


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.booleans())
def test_any_sequence_of_files(ws: Workspace, steps: list[tuple[Mode, File]], text_keys: bool) -> None:
    name = next(names)
    data.define(ws, name, key="id")
    plain, states = Plain(), list[State]()
    for mode, file in steps:
        rows = _table(file, text_keys)
        if mode == "append" and plain.rows.keys() & file.keys():
            with pytest.raises(Conflict):
                data.ingest(ws, name, rows, mode=mode)
            continue
        plain.ingest(file, mode)
        data.ingest(ws, name, rows, mode=mode)
        if not states or plain.state() != states[-1]:
            states.append(plain.state())
    _check_history(ws, name, states)


def _check_history(ws: Workspace, name: str, states: list[State]) -> None:
    """Every version still is what it was, its digest is that of its content, and so are the differences."""
    versions = list(reversed(data.versions(ws, name)))
    assert [_state(ws, one.ref) for one in versions] == states
    contents = {(one.digest, frozenset(state.values())) for one, state in zip(versions, states, strict=True)}
    assert len(contents) == len(dict(contents)) == len({content for _, content in contents})
    history = list(zip(versions, states, strict=True))
    for (first, left), (second, right) in pairwise(history):
        found = data.diff(ws, first.ref, second.ref)
        assert set(found.added["_row_id"].to_pylist()) == right.keys() - left.keys()
        assert set(found.removed["_row_id"].to_pylist()) == left.keys() - right.keys()
        assert set(found.changed["_row_id"].to_pylist()) == {
            row_id for row_id in left.keys() & right.keys() if left[row_id] != right[row_id]
        }


def _table(file: File, text_keys: bool) -> pa.Table:
    keys = pa.array([str(key) for key in file]) if text_keys else pa.array(list(file), pa.int64())
    return pa.table({"id": keys, "value": pa.array(list(file.values()), pa.string())})


def _state(ws: Workspace, ref: str) -> State:
    rows = data.read(ws, ref).to_pylist()
    return {row["_row_id"]: (int(row["id"]), row["value"]) for row in rows}
