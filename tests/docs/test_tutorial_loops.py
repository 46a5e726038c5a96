"""The tutorials' loop files on real data, and under mypy: what holds for made-up rows holds for rows that happened.

Each loop file is the page's own, with the names of another data set's columns and classes in it.
"""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import eq
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from everloop import background, data, feedback, governance, labels, ledger, loop, registry
from everloop.loop import Loop
from everloop.workspace import Workspace
from tests.docs.page_runner import files_of
from tests.serving.server import Server

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted((REPOSITORY / "docs").glob("*/*.md"))
DEMO = sorted((REPOSITORY / "src" / "everloop" / "demo" / "loops").glob("*.py"))


def test_loop_files_pass_mypy_strict_without_an_ignore(tmp_path: Path) -> None:
    texts = {
        f"{page.stem}_loop.py": files["loop.py"] for page in PAGES if "loop.py" in (files := files_of(page))
    }
    texts |= {f"demo_{file.name}": file.read_text() for file in DEMO}
    assert len(texts) >= 4
    for name, text in texts.items():
        assert "type: ignore" not in text
        (tmp_path / name).write_text(text)
    # scikit-learn ships no types; nothing else is excused
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n[mypy-sklearn.*]\nignore_missing_imports = true\n"
    )
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(REPOSITORY / ".mypy_cache"), *texts]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@dataclass(frozen=True)
class Material:
    """Rows of before and after, the truth in a column of its own. `reporter` is who the loop file believes."""

    dataset: str
    key: str
    label: str
    reporter: str
    before: pa.Table
    after: pa.Table


@dataclass(frozen=True)
class Round:
    """Accuracy on those later rows that were never corrected: of the first version, asked over HTTP, and the second."""

    first: float
    second: float


@pytest.mark.slow
def test_texts_of_a_real_shop_go_round(ws: Workspace, shared_data: Path, tmp_path: Path) -> None:
    """From an article's name to what people pay for it; articles first sold after December are the later rows."""
    articles = rows_of(
        shared_data / "online_retail" / "lines.parquet",
        """
        SELECT description AS message_id, description AS text, min(invoiced_at) AS sent_at,
            CASE WHEN median(unit_price) < 2 THEN 'low' WHEN median(unit_price) < 5 THEN 'middle' ELSE 'high' END AS team,
            min(invoiced_at) < '2011-01-01' AS is_early
        FROM given WHERE quantity > 0 AND unit_price > 0 AND description IS NOT NULL
        GROUP BY description ORDER BY description
        """,
    )
    early, articles = articles["is_early"], articles.drop_columns("is_early")
    found = applied(
        ws, tmp_path, "texts", {'["billing", "delivery", "account"]': '["low", "middle", "high"]'}
    )
    before, after = articles.filter(early), articles.filter(pc.invert(early))
    ended = go_round(ws, found, Material("messages", "message_id", "team", "agent", before, after))
    assert ended.first > 0.57
    assert ended.second > ended.first + 0.03


@pytest.mark.slow
def test_a_real_table_goes_round(ws: Workspace, shared_data: Path, tmp_path: Path) -> None:
    """Income of people asked in a census, without their sex, race and origin; workclass and occupation have gaps."""
    people = rows_of(
        shared_data / "adult" / "train.parquet",
        """
        SELECT person_id AS customer_id, age, education_years, capital_gain, hours_per_week, workclass, occupation,
            CASE WHEN income_over_50k THEN 'over' ELSE 'up to' END AS outcome
        FROM given ORDER BY person_id LIMIT 4800
        """,
    )
    assert people["workclass"].null_count > 0
    changes = {
        '"months", "monthly_fee", "support_calls", "satisfaction"': (
            '"age", "education_years", "capital_gain", "hours_per_week"'
        ),
        '"plan", "paid_by"': '"workclass", "occupation"',
        '"leaves", "stays"': '"over", "up to"',
    }
    found = applied(ws, tmp_path, "table", changes)
    before, after = people.slice(0, 4_000), people.slice(4_000)
    ended = go_round(ws, found, Material("customers", "customer_id", "outcome", "sales", before, after))
    assert ended.first > 0.82
    assert ended.second > 0.82


@pytest.mark.slow
def test_real_photos_go_round(ws: Workspace, shared_data: Path, tmp_path: Path) -> None:
    """The department of groceries in photos; the later ones show products that were never seen before."""
    photos = rows_of(
        shared_data / "grocery" / "images.parquet",
        "SELECT image_id || '.jpg' AS path, image, department AS digit, phase FROM given ORDER BY image_id",
    )
    early = pa.array([phase == "seed" for phase in photos["phase"].to_pylist()])
    photos = photos.drop_columns("phase")
    found = applied(ws, tmp_path, "photos", {'list("0123456789")': '["Fruit", "Vegetables", "Packages"]'})
    before, after = photos.filter(early), photos.filter(pc.invert(early))
    ended = go_round(ws, found, Material("photos", "path", "digit", "clerk", before, after), folder=tmp_path)
    assert "everloop.features.images.ImageFeatures" in trusted_types(ws, "digit@1")
    assert ended.first > 0.8
    assert ended.second > 0.8


def trusted_types(ws: Workspace, ref: str) -> str:
    """What a version's MLmodel file says of the types that loading it needs beyond scikit-learn's plain ones."""
    return (
        ws.blobs.get(registry.version(ws, ref).files["MLmodel"]).decode().partition("skops_trusted_types:")[2]
    )


def rows_of(file: Path, sql: str) -> pa.Table:
    """What a query makes of a Parquet file, which it calls `given`."""
    with duckdb.connect() as connection:
        connection.read_parquet(str(file)).create_view("given")
        rows: pa.Table = connection.sql(sql).to_arrow_table()
        return rows


def applied(ws: Workspace, folder: Path, page: str, changes: Mapping[str, str]) -> Loop:
    """A page's loop file with some of its words exchanged, applied."""
    text = files_of(REPOSITORY / "docs" / "tutorial" / f"{page}.md")["loop.py"]
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    file = folder / f"{page}_loop.py"
    file.write_text(text)
    found = loop.load(file)
    loop.apply(ws, found)
    return found


def go_round(ws: Workspace, found: Loop, of: Material, *, folder: Path | None = None) -> Round:
    """Train, approve, serve, correct every other answer, train again, trace; `folder` is for images, one file each."""
    ingest(ws, of, of.before, None if folder is None else folder / "before")
    labels.import_labels(
        ws, of.label, of.before.select([of.key, of.label]), key=of.key, value=of.label, annotator="source"
    )
    first = loop.train(ws, found, "train", reason="a test")
    assert first.passed, governance.version_card(ws, f"{of.label}@1")["readiness"].obstacles
    registry.approve(ws.acting_as("alice"), f"{of.label}@1", reason="looks right")
    background.turn(ws)
    answers = asked(ws, of)
    trace = governance.trace(ws, answers[0]["prediction_id"])
    assert trace.gaps == ()

    ingest(ws, of, of.after, None if folder is None else folder / "after")
    is_told = pa.array([position % 2 == 0 for position in range(of.after.num_rows)])
    feedback.import_corrections(
        ws,
        of.after.filter(is_told).select([of.key, of.label]),
        endpoint=of.label,
        key=of.key,
        value=of.label,
        reporter=of.reporter,
    )
    loop.train(ws, found, "train", reason="corrections")
    assert ledger.verify(ws).is_intact

    held = of.after.filter(pc.invert(is_told))
    registry.approve(ws.acting_as("alice"), f"{of.label}@2", reason="looks right")
    second = loop.prepare_release(ws, registry.version(ws, f"{of.label}@2"))
    outputs = loop.score(ws, second.version, held)["output"].to_pylist()
    truth = held[of.label].to_pylist()
    first_outputs = [
        answer["output"] for answer, told in zip(answers, is_told.to_pylist(), strict=True) if not told
    ]
    return Round(share_equal(first_outputs, truth), share_equal(outputs, truth))


def ingest(ws: Workspace, of: Material, rows: pa.Table, folder: Path | None) -> None:
    if folder is None:
        data.ingest(ws, of.dataset, rows.drop_columns(of.label))
        return
    folder.mkdir()
    for row in rows.to_pylist():
        (folder / row[of.key]).write_bytes(row["image"])
    data.ingest(ws, of.dataset, folder)


def asked(ws: Workspace, of: Material) -> list[dict[str, Any]]:
    """What a serving process answers for the later rows, each sent as a client would: images in base64, gaps as null."""
    rows = of.after.drop_columns(of.label).to_pylist()
    names = set(data.dataset(ws, of.dataset).inputs or ())
    instances = [{"inputs": {name: in_json(row[name]) for name in names}, "key": row[of.key]} for row in rows]
    server = Server(ws.home)
    try:
        answer = server.client.post(f"/endpoints/{of.label}/predict", json={"instances": instances})
        return list(answer.raise_for_status().json()["predictions"])
    finally:
        server.kill()


def in_json(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def share_equal(outputs: Sequence[Any], truth: Sequence[Any]) -> float:
    assert len(outputs) == len(truth)
    right: int = sum(map(eq, outputs, truth))
    return right / len(truth)
