"""From a file to a project: what is written is formatted, typed, applies and trains."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop import data, labels, loop, registry
from everloop.errors import Conflict
from everloop.loop import Wanted
from everloop.workspace import Workspace

KINDS = {
    "tea": ["leaf", "pot", "infuser"],
    "bike": ["saddle", "chain", "pedal"],
    "lamp": ["bulb", "shade", "socket"],
}
FILL = ["red", "small", "classic", "new", "light", "solid", "quiet", "simple"]


def goods(n: int = 300, *, gaps: bool = False) -> list[dict[str, Any]]:
    chance = random.Random(3)  # noqa: S311  (made-up goods, not secrets)
    rows = []
    for i in range(n):
        kind = chance.choice(list(KINDS))
        # one in twelve is named like another kind: a word that always decides would be a giveaway
        noun = chance.choice(KINDS[kind if i % 12 else "lamp"])
        words = [*chance.sample(FILL, 2), noun, f"no{i}"]
        title = None if gaps and i % 10 == 0 else " ".join(words)
        weight = None if gaps and i % 7 == 0 else chance.gauss(len(kind), 1)
        rows.append(
            {
                "sku": f"s{i}",
                "title": title,
                "shop": chance.choice(["north", 'so"uth']),
                "weight_kg": weight,
                "kind": kind,
            }
        )
    return rows


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def many_classes() -> list[dict[str, Any]]:
    return [{"id": i, "a": i % 25 + i / 1_000, "kind": f'kind "{i % 25}"'} for i in range(400)]


TABLES = {
    "text": goods(),
    "gaps": goods(gaps=True),
    "numbers alone": [{key: row[key] for key in ("weight_kg", "kind")} for row in goods()],
    "categories alone": [{key: row[key] for key in ("sku", "shop", "kind")} for row in goods()],
    "many classes": many_classes(),
    "quotes": [
        {
            "a": i / 7,
            'the "b"': i % 5,
            "kind": ['say "hi"', "it's", 'both "x"\' y', "back\\slash\nline"][i % 4],
        }
        for i in range(80)
    ],
    "a label that is no name": [{"a": i / 7, "1 Kind?": f"k{i % 2}"} for i in range(60)],
}


@pytest.fixture(params=TABLES)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a project written from one of the tables."""
    look = loop.look(table(tmp_path / "goods.parquet", TABLES[request.param]), Wanted(label=None))
    loop.write_project(look, tmp_path / "project", force=False)
    return tmp_path / "project"


def test_the_loop_file_is_formatted_and_clean(project: Path) -> None:
    ruff = Path(sys.executable).parent / "ruff"
    subprocess.run([ruff, "format", "--isolated", "--check", "--no-cache", "."], check=True, cwd=project)
    rules = ["--select", "E,F,I,UP,B,SIM,RUF", "--ignore", "E501"]
    subprocess.run([ruff, "check", "--isolated", "--no-cache", *rules, "."], check=True, cwd=project)


@pytest.mark.slow
def test_the_loop_files_are_typed(tmp_path: Path) -> None:
    files = []
    for number, rows in enumerate(TABLES.values()):  # one run of mypy for all: it takes seconds to begin
        look = loop.look(table(tmp_path / "goods.parquet", rows), Wanted(label=None))
        loop.write_project(look, tmp_path / "project", force=True)
        files.append(str((tmp_path / "project" / "loop.py").rename(tmp_path / f"loop_{number}.py")))
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=mypy", *files]
    subprocess.run(mypy, check=True, cwd=tmp_path)


def test_a_file_to_fill_in_is_formatted_and_clean(tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(loop.minimal_loop_file())
    ruff = Path(sys.executable).parent / "ruff"
    subprocess.run([ruff, "format", "--isolated", "--check", "--no-cache", "."], check=True, cwd=tmp_path)
    assert {one.kind for one in loop.load(tmp_path / "loop.py").declared.declared} >= {
        "dataset",
        "model",
        "endpoint",
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_a_table_becomes_a_gated_version(ws: Workspace, tmp_path: Path, name: str) -> None:
    look = loop.look(table(tmp_path / "goods.parquet", TABLES[name]), Wanted())
    files = loop.write_project(look, tmp_path / "project", force=False)
    begun = loop.begin(ws, look, files, say=lambda _: None)
    assert begun.trained is not None
    assert begun.metrics is not None
    version = registry.version(ws, str(begun.trained.version))
    assert version.data_version == f"{look.names.dataset}@1"
    assert begun.labels == len(TABLES[name])
    request = json.loads((tmp_path / "project" / "request.json").read_text())
    assert version.signature is not None
    assert list(request["inputs"]) == [field.name for field in version.signature.inputs]


@pytest.mark.slow
def test_the_first_version_is_told_beside_the_majority_answer(ws: Workspace, tmp_path: Path) -> None:
    look = loop.look(table(tmp_path / "goods.parquet", goods()), Wanted())
    begun = loop.begin(ws, look, loop.write_project(look, tmp_path / "p", force=False), say=lambda _: None)
    assert begun.metrics is not None
    assert begun.majority is not None
    assert begun.metrics["accuracy"] > 0.85
    assert 0.2 < begun.majority["accuracy"] < 0.5
    assert begun.trained is not None
    assert begun.trained.passed


def test_a_made_key_is_the_same_for_the_same_row_and_told_apart_for_twins(
    ws: Workspace, tmp_path: Path
) -> None:
    rows = [{"a": i % 30 / 7, "kind": f"k{i % 2}"} for i in range(60)]
    look = loop.look(table(tmp_path / "goods.parquet", rows), Wanted())
    files = loop.write_project(look, tmp_path / "p", force=False)
    loop.begin(ws, look, files, with_training=False, say=lambda _: None)
    keys = pq.read_table(files[-1])["row_key"].to_pylist()
    assert len(set(keys)) == 60
    assert keys[30:] == [f"{key}-2" for key in keys[:30]]


def test_rows_without_a_label_are_kept_unlabelled(ws: Workspace, tmp_path: Path) -> None:
    rows = [{**row, "kind": None if i < 40 else row["kind"]} for i, row in enumerate(goods())]
    look = loop.look(table(tmp_path / "goods.parquet", rows), Wanted())
    files = loop.write_project(look, tmp_path / "p", force=False)
    assert loop.begin(ws, look, files, with_training=False, say=lambda _: None).labels == 260
    assert data.version(ws, "goods").rows == 300


def test_a_file_of_the_users_is_not_written_over(tmp_path: Path) -> None:
    look = loop.look(table(tmp_path / "goods.parquet", goods()), Wanted())
    (tmp_path / "loop.py").write_text("mine")
    with pytest.raises(Conflict, match="--into DIR, or write it again with --force"):
        loop.write_project(look, tmp_path, force=False)
    assert (tmp_path / "loop.py").read_text() == "mine"
    loop.write_project(look, tmp_path, force=True)
    assert (tmp_path / "loop.py").read_text() != "mine"


def test_the_users_own_table_is_not_written_over_even_with_force(tmp_path: Path) -> None:
    file = table(tmp_path / "goods.parquet", TABLES["numbers alone"])
    before = file.read_bytes()
    loop.write_project(loop.look(file, Wanted()), tmp_path, force=True)
    assert file.read_bytes() == before


def test_a_workspace_with_a_loop_is_not_begun_in_again(ws: Workspace, tmp_path: Path) -> None:
    look = loop.look(table(tmp_path / "goods.parquet", goods()), Wanted())
    loop.begin(
        ws,
        look,
        loop.write_project(look, tmp_path / "p", force=False),
        with_training=False,
        say=lambda _: None,
    )
    with pytest.raises(Conflict, match="has a loop already"):
        loop.check_unused(ws)


def test_beginning_again_with_force_takes_nothing_in_twice(ws: Workspace, tmp_path: Path) -> None:
    look = loop.look(table(tmp_path / "goods.parquet", goods()), Wanted())
    for _ in range(2):
        files = loop.write_project(look, tmp_path / "p", force=True)
        begun = loop.begin(ws, look, files, with_training=False, say=lambda _: None)
    assert begun.data_version == "goods@1"
    assert len(labels.history(ws, "kind", limit=1_000)) == 300
