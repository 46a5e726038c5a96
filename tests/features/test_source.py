from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from everloop.errors import GateFailed, Invalid, NotFound
from everloop.features import FeatureView, describe, load_function, source_digest
from everloop.features.source import _digest
from tests.features.views import last_title, mean_price, view_of, volume


def snapshot_view(folder: Path, *, function: str = "volume") -> FeatureView:
    digest = _digest((folder / "loop_under_test.py").read_text(), function)
    return dataclasses.replace(
        view_of(volume), module="loop_under_test", function=function, source_digest=digest
    )


@pytest.mark.parametrize(
    ("function", "dtype"), [(volume, "integer"), (mean_price, "number"), (last_title, "string")]
)
def test_the_type_of_a_feature_is_what_its_function_declares(function: Any, dtype: str) -> None:
    view = view_of(function)
    assert (view.dtype, view.name, view.function) == (dtype, function.__name__, function.__name__)


def test_a_function_without_a_useful_return_type_is_refused() -> None:
    def anything(past: pa.Table) -> list[int]:
        return []

    with pytest.raises(Invalid, match="an int, a float or a str"):
        describe(anything, dataset="d", entity="e", time="t", window=view_of(volume).window, columns={})


def test_the_digest_follows_the_source_and_not_its_place() -> None:
    text = "def f(past):\n    return 1\n"
    assert _digest("import os\n\n\n" + text.replace("\n", "  \r\n"), "f") == _digest(text, "f")
    assert _digest(text.replace("1", "2"), "f") != _digest(text, "f")
    assert _digest("@cached\n" + text, "f") != _digest(text, "f")


def test_the_file_and_the_running_function_give_one_digest() -> None:
    assert source_digest(volume) == _digest(Path(volume.__code__.co_filename).read_text(), "volume")


def test_a_decorated_function_is_known_by_what_it_wraps() -> None:
    @functools.wraps(volume)
    def wrapped(past: pa.Table) -> int:
        return volume(past)

    assert source_digest(wrapped) == source_digest(volume)


def test_loads_a_function_with_its_sibling_module(snapshot: Path) -> None:
    function = load_function(snapshot_view(snapshot), snapshot)
    assert function(pa.table({"x": [1, 2, 3]})) == 6
    assert "sibling_of_loop" not in sys.modules
    assert sorted(path.name for path in snapshot.iterdir()) == ["loop_under_test.py", "sibling_of_loop.py"]


def test_two_snapshots_of_one_module_live_side_by_side(snapshot: Path, tmp_path: Path) -> None:
    first = load_function(snapshot_view(snapshot), snapshot)
    other = tmp_path / "later"
    other.mkdir()
    for path in snapshot.iterdir():
        (other / path.name).write_text(path.read_text().replace("FACTOR = 2", "FACTOR = 10"))
    second = load_function(snapshot_view(other), other)
    one_row = pa.table({"x": [1]})
    assert (first(one_row), second(one_row)) == (2, 10)


def test_changed_source_is_refused_before_it_runs(snapshot: Path) -> None:
    view = snapshot_view(snapshot)
    path = snapshot / "loop_under_test.py"
    path.write_text("raise SystemExit\n" + path.read_text().replace("FACTOR *", "FACTOR +"))
    with pytest.raises(GateFailed, match="was trained with"):
        load_function(view, snapshot)


@pytest.mark.parametrize("change", [{"module": "gone"}, {"function": "gone"}])
def test_a_missing_module_or_function_is_named(snapshot: Path, change: dict[str, Any]) -> None:
    with pytest.raises(NotFound, match="gone"):
        load_function(dataclasses.replace(snapshot_view(snapshot), **change), snapshot)
