"""Whole tables are answered from what was kept of a model at its release; its library is asked only for what that leaves."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from sklearn.neighbors import KNeighborsClassifier

from everloop.compiled import Kept, kept_of
from everloop.serving import Field, Manifest, Scorer
from everloop.serving import exact as room
from everloop.storage import FileBlobs
from tests.serving.home import TITLE, TITLES, picky_model, title_model
from tests.serving.test_exact import NUMBERS, X, Y, load, released

COLOURED = (TITLE, Field("colour", "string"))


def scorer(home: Path, manifest: Manifest, **given: Any) -> Scorer:
    return Scorer.load(manifest, FileBlobs(home / "blobs"), **given)


def texts(*values: str | None) -> pa.ChunkedArray[Any]:
    return pa.chunked_array([pa.array(values, pa.string())])


def test_a_table_is_answered_as_the_predictor_does_and_the_model_is_not_loaded(tmp_path: Path) -> None:
    manifest = released(tmp_path, title_model(), [[title] for title in TITLES])
    asked = scorer(tmp_path, manifest)
    told = asked.ranked([texts(*TITLES)])
    assert told is not None
    found, sure = told
    assert sure.all()
    assert "predictor" not in vars(asked)
    outputs, scores = load(tmp_path, manifest).predict(np.array([[title] for title in TITLES], dtype=object))
    assert found.outputs.tolist() == outputs
    assert found.shares is not None
    assert found.shares.tolist() == [pytest.approx(list(each.values()), abs=1e-12) for each in scores]


def test_rows_that_the_model_refuses_are_left_to_it(tmp_path: Path) -> None:
    manifest = released(tmp_path, picky_model(), inputs=COLOURED)
    told = scorer(tmp_path, manifest).ranked(
        [texts("a fridge", "a fridge", None), texts("red", "blue", "red")]
    )
    assert told is not None
    assert told[1].tolist() == [True, False, False]


def test_what_differs_from_its_model_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = kept_of(title_model(reverse=True), columns=1)

    def made(_model: Any, *, columns: int) -> Kept:
        assert columns == 1
        return other

    monkeypatch.setattr(room, "kept_of", made)
    with caplog.at_level(logging.WARNING):
        compiled = released(tmp_path, title_model()).compiled
    assert compiled is not None
    assert (compiled.is_used, compiled.columns) == (True, msgspec.UNSET)
    assert (
        "what was kept of category@1 is not used: the plan gives another answer than the model" in caplog.text
    )


@pytest.mark.parametrize("spoil", [b"", b"\x80", None])
def test_what_is_lost_damaged_or_of_another_form_leaves_all_to_the_model(
    tmp_path: Path, spoil: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = released(tmp_path, title_model())
    assert manifest.compiled is not None
    assert isinstance(manifest.compiled.columns, str)
    path = FileBlobs(tmp_path / "blobs").path(manifest.compiled.columns)
    path.chmod(0o600)
    if spoil is None:
        path.unlink()
    else:
        path.write_bytes(spoil)
    with caplog.at_level(logging.WARNING):
        asked = scorer(tmp_path, manifest)
    assert "release rel_1 is answered by its model: what was kept of release rel_1" in caplog.text
    assert asked.ranked([texts(*TITLES)]) is None
    assert asked.predictor.answer([["a fridge"]])[0][0] == "Fridges"  # type: ignore[index]


def test_a_fault_in_what_was_kept_leaves_all_to_the_model_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = scorer(tmp_path, released(tmp_path, picky_model(), inputs=COLOURED))
    assert asked.scoring is not None

    def fails(_columns: object) -> Any:
        raise ZeroDivisionError

    broken = replace(asked, scoring=replace(asked.scoring, ask=fails))
    assert broken.ranked([texts("a fridge"), texts("red")]) is None
    assert "what was kept of release rel_1 failed; its model answers" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_the_setting_leaves_all_to_the_model(tmp_path: Path) -> None:
    manifest = released(tmp_path, title_model())
    assert scorer(tmp_path, manifest, is_compiled=False).ranked([texts(*TITLES)]) is None


def test_nothing_is_kept_of_a_model_that_is_not_known(tmp_path: Path) -> None:
    compiled = released(
        tmp_path, KNeighborsClassifier(3).fit(X, Y), inputs=NUMBERS, classes=("x", "y")
    ).compiled
    assert compiled is not None
    assert compiled.columns is msgspec.UNSET
