"""The story judges itself: for each of its stages the cause is taken away, and the story stops there."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from everloop.demo import StoryFailed, tell_story
from everloop.demo.story import LOOPS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Tables = Callable[[str], pa.Table]


def without_conflicts(read: Tables) -> dict[str, pa.Table]:
    table = read("repeated_titles")
    kinds = table.group_by("title").aggregate([("category", "count_distinct")]).to_pylist()
    clear = [row["title"] for row in kinds if row["category_count_distinct"] == 1]
    return {"repeated_titles": table.filter(pc.is_in(table["title"], pa.array(clear, table["title"].type)))}


def with_shuffled_labels(read: Tables) -> dict[str, pa.Table]:
    table = read("seed_labelled")
    order = np.random.default_rng(1).permutation(len(table))
    return {
        "seed_labelled": table.drop_columns("category").append_column(
            "category", table["category"].take(order)
        )
    }


def with_the_season_in_month_1(read: Tables) -> dict[str, pa.Table]:
    later, truth = read("month_2").sort_by("received_at"), read("month_2_truth")
    rows = later[-len(read("month_1")) :]
    times = read("month_1").sort_by("received_at")["received_at"][: len(rows)]
    early = rows.set_column(rows.column_names.index("received_at"), "received_at", times)
    return {"month_1": early, "month_1_truth": truth.select(read("month_1_truth").column_names)}


def without_corrections(read: Tables) -> dict[str, pa.Table]:
    return {"corrections_month_2": read("corrections_month_2")[:0]}


@pytest.mark.parametrize(
    ("stage", "cause", "words"),
    [
        (1, without_conflicts, "conflicting labels"),
        pytest.param(2, with_shuffled_labels, "failed its gates", marks=pytest.mark.long),
        pytest.param(4, with_the_season_in_month_1, "false alarm", marks=pytest.mark.long),
        pytest.param(5, without_corrections, "no correction contradicts", marks=pytest.mark.long),
    ],
)
def test_without_its_cause_in_the_data_a_stage_does_not_happen(
    shared_data: Path, tmp_path: Path, stage: int, cause: Callable[[Tables], dict[str, pa.Table]], words: str
) -> None:
    whole, folder = shared_data / "marketplace", tmp_path / "data"
    folder.mkdir()
    for file in whole.glob("*.parquet"):
        (folder / file.name).symlink_to(file)
    for name, table in cause(lambda name: pq.read_table(whole / f"{name}.parquet")).items():
        (folder / f"{name}.parquet").unlink()
        pq.write_table(table, folder / f"{name}.parquet")
    command = [sys.executable, "-m", "everloop", "demo", "--fast", "--data", str(folder)]
    told = subprocess.run(
        [*command, "--home", str(tmp_path / "home")], capture_output=True, text=True, check=False
    )
    assert told.returncode == 3, told.stdout + told.stderr
    assert f"stage {stage} did not happen" in told.stderr
    assert words in told.stderr


@pytest.mark.parametrize(
    ("stage", "line", "instead", "words"),
    [
        pytest.param(
            3,
            "approve=el.people(1, not_author=True)",
            "approve=el.people(2)",
            "did not go live",
            marks=pytest.mark.long,
        ),
        pytest.param(
            6,
            "when=el.drifted(live) & el.contradicted(live, 80), ",
            "",
            "did not start a retrain",
            marks=pytest.mark.long,
        ),
        pytest.param(
            7,
            "if busy_merchants_only:",
            "if False and busy_merchants_only:",
            "the judge left",
            marks=pytest.mark.long,
        ),
    ],
)
def test_without_its_line_in_the_loop_file_a_stage_does_not_happen(
    shared_data: Path, tmp_path: Path, stage: int, line: str, instead: str, words: str
) -> None:
    text = (LOOPS / "listings.py").read_text()
    assert text.count(line) == 1
    loop_file = tmp_path / "loop.py"
    loop_file.write_text(text.replace(line, instead))
    with pytest.raises(StoryFailed, match=f"stage {stage} did not happen: .*{words}"):
        tell_story(
            tmp_path / "home", say=print, data=shared_data / "marketplace", fast=True, loop_file=loop_file
        )


@pytest.mark.long
def test_an_entry_taken_out_of_the_audit_chain_ends_the_story(shared_data: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"

    def say(text: str) -> None:
        if text.startswith("\n8."):
            with sqlite3.connect(home / "everloop.db") as database:
                database.execute("DELETE FROM audit WHERE seq = (SELECT max(seq) / 2 FROM audit)")

    with pytest.raises(StoryFailed, match="stage 8 did not happen: the audit chain is broken"):
        tell_story(home, say=say, data=shared_data / "marketplace", fast=True)
