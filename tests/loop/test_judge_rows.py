"""A folder in MLflow's layout, from its registration to its release, without an mlflow client."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import skops.io
import yaml
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from everloop import checks, loop, registry, serving
from everloop.errors import GateFailed, Invalid
from everloop.workspace import Workspace

DRINKS, OTHERS = ("tea", "juice", "water"), ("pen", "lamp", "desk")


def goods(first: int, count: int) -> pa.Table:
    names = [(DRINKS if n % 2 else OTHERS)[n % 3] for n in range(first, first + count)]
    rows = zip(range(first, first + count), names, strict=True)
    titles = [f"{name} {n * 7919 % 1009} {n * 104729 % 997} {n}" for n, name in rows]
    return pa.table({"title": titles, "kind": ["drink" if one in DRINKS else "other" for one in names]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As `mlflow.sklearn.save_model` writes it."""
    train = goods(0, 60)
    rows = np.array(train["title"].to_pylist(), dtype=object).reshape(-1, 1)
    model = make_pipeline(make_column_transformer((TfidfVectorizer(), 0)), LogisticRegression(C=100))
    made = tmp_path / "model"
    made.mkdir()
    (made / "model.skops").write_bytes(skops.io.dumps(model.fit(rows, train["kind"].to_pylist())))
    (made / "input_example.json").write_text(json.dumps({"columns": ["title"], "data": [["tea 1"]]}))
    described = {
        "flavors": {
            "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.skops"},
            "sklearn": {"pickled_model": "model.skops", "serialization_format": "skops"},
        },
        "saved_input_example_info": {"artifact_path": "input_example.json", "type": "dataframe"},
        "signature": {"inputs": '[{"type": "string", "name": "title", "required": true}]'},
    }
    (made / "MLmodel").write_text(yaml.safe_dump(described))
    return made


def test_a_saved_folder_is_registered_gated_released_and_answers(ws: Workspace, folder: Path) -> None:
    registry.define(ws, "kind", gates=[checks.gate("accuracy", at_least=0.9)])
    version = registry.register_folder(ws, "kind", folder)
    with pytest.raises(GateFailed, match="has no gate report"):
        registry.release(ws, version.ref)
    report = loop.judge_rows(ws, version.ref, train=goods(0, 60), test=goods(60, 30), label="kind")
    assert report.verdict == "passed", [one.found for one in report.failed]
    assert report.results[-1].numbers["value"] == 1.0
    release = registry.release(ws, version.ref)
    manifest = serving.verified_manifest(ws.home / "serving", release.id)
    assert manifest.signature.classes == ("drink", "other")
    assert loop.score(ws, version.ref, pa.table({"title": ["juice 5"]}))["output"].to_pylist() == ["drink"]


def test_a_gate_that_fails_keeps_it_from_release(ws: Workspace, folder: Path) -> None:
    registry.define(ws, "kind", gates=[checks.gate("accuracy", at_least=0.9)])
    version = registry.register_folder(ws, "kind", folder)
    wrong = goods(60, 30).set_column(1, "kind", pa.array(["drink", "other"] * 15))
    assert loop.judge_rows(ws, version.ref, train=goods(0, 60), test=wrong, label="kind").verdict == "failed"
    with pytest.raises(GateFailed, match="accuracy"):
        registry.release(ws, version.ref)


@pytest.mark.parametrize(
    ("test", "label", "problem"),
    [
        (goods(60, 30), "colour", "lack the label 'colour'"),
        (goods(60, 0), "kind", "there are no rows"),
        (goods(60, 30).drop_columns(["title"]), "kind", "lack title"),
    ],
)
def test_rows_that_cannot_judge_are_refused(
    ws: Workspace, folder: Path, test: pa.Table, label: str, problem: str
) -> None:
    version = registry.register_folder(ws, "kind", folder)
    with pytest.raises(Invalid, match=problem):
        loop.judge_rows(ws, version.ref, train=goods(0, 60), test=test, label=label)


def test_an_example_that_the_model_does_not_answer_keeps_it_from_its_gates(
    ws: Workspace, folder: Path
) -> None:
    (folder / "input_example.json").write_text(json.dumps({"columns": ["title"], "data": [[7]]}))
    version = registry.register_folder(ws, "kind", folder)
    with pytest.raises(Invalid, match="input example does not fit its signature: title is 7"):
        loop.judge_rows(ws, version.ref, train=goods(0, 60), test=goods(60, 30), label="kind")


def test_a_link_in_a_folder_is_not_followed(ws: Workspace, folder: Path) -> None:
    (folder / "notes").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="is a link"):
        registry.register_folder(ws, "kind", folder)


def test_rows_that_a_model_does_not_answer_are_told_with_the_reason(ws: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "function"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "own.py").write_text(
        "def predict(rows):\n    return [{'tea': 'drink'}.get(one['title'][:3]) for one in rows]\n"
    )
    signature = serving.Signature((serving.Field("title", "string"),), "class")
    described = {
        "flavors": {"everloop_function": {"module": "own", "name": "predict"}},
        "metadata": {"everloop": {"signature": msgspec.to_builtins(signature)}},
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    version = registry.register_folder(ws, "kind", folder)
    registry.trust(ws, version.ref, reason="I wrote it")
    with pytest.raises(
        Invalid,
        match=r"kind@1 does not answer 25 of 30 rows, the first of them row .*: the model answered None",
    ):
        loop.judge_rows(ws, version.ref, train=goods(0, 60), test=goods(60, 30), label="kind")
