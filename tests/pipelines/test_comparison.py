"""Two runs beside each other: each part that differs is told, down to single answers."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from everloop import data, labels, tracking
from everloop.errors import NotFound
from everloop.pipelines import Inline, PipelineRun, compare, held_out_answers, run_pipeline
from everloop.pipelines.comparison import AnswerDifference, answer_difference
from everloop.tracking import DatasetInput, LoggedDataset
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject
from tests.pipelines.test_training import COLOURS, train

__all__ = ["train"]


def ran(ws: Workspace, body: Any, **options: Any) -> PipelineRun:
    return run_pipeline(ws, body, reason="test", executor=Inline(), **options)


def test_a_run_is_the_same_as_one_of_the_same(ws: Workspace, train: Any) -> None:
    found = compare(ws, ran(ws, train).id, ran(ws, train).id)
    same = (
        found.code,
        found.environment,
        found.hardware,
        found.data,
        found.labels,
        found.parameters,
        found.metrics,
    )
    assert set(same) == {()}
    assert found.answers == AnswerDifference(15, 0, 0, 0, 0, 0, ())


@pytest.mark.parametrize("train", ["train"], indirect=True)
def test_edited_code_is_a_unified_diff_and_its_constants_are_parameters(
    ws: Workspace, train: Any, project: UserProject
) -> None:
    before = ran(ws, train)
    project.edit("loop", "(0.00001, 1.0)", "(0.00001, 2.0)")
    found = compare(ws, before.id, ran(ws, project.load().train).id)
    (file,) = found.code
    assert file.diff.startswith("--- a/loop.py\n+++ b/loop.py\n@@ ")
    assert "+    return el.best([fit(parts, c=c) for c in (0.00001, 2.0)]" in file.diff
    assert [one.sentence for one in found.parameters] == ["parameter fit-2.c went from 1.0 to 2.0"]


def test_a_new_file_is_new_in_the_diff(ws: Workspace, train: Any, project: UserProject) -> None:
    before = ran(ws, train)
    project.write({"words": "LIMIT = 3\n"})
    project.edit(
        "loop", "import everloop as el", "import words\n    import everloop as el".replace("    ", "")
    )
    found = compare(ws, before.id, ran(ws, project.load().train).id)
    assert [one.diff.splitlines()[:2] for one in found.code if one.path == "words.py"] == [
        ["--- /dev/null", "+++ b/words.py"]
    ]


def test_rows_of_another_dataset_version_are_counted_and_named(ws: Workspace, train: Any) -> None:
    before = ran(ws, train)
    rows = pa.table({"id": ["l0", "l50"], "title": ["scarlet thing 0", "green thing 50"]})
    data.ingest(ws, "listings", rows)
    (found,) = compare(ws, before.id, ran(ws, train).id).data
    assert (found.before, found.after) == ("listings@1", "listings@2")
    assert (found.added, found.removed, found.changed) == (1, 0, 1)
    assert found.keys == {"added": ("l50",), "removed": (), "changed": ("l0",)}


def test_changed_labels_are_told_with_who_said_so(ws: Workspace, train: Any) -> None:
    before = ran(ws, train)
    told = pa.table({"id": ["l0"], "colour": ["blue"]})
    labels.import_labels(ws, "colour", told, key="id", value="colour", annotator="bob")
    (found,) = compare(ws, before.id, ran(ws, train).id).labels
    assert (found.added, found.removed, found.changed) == (0, 0, 1)
    (row,) = found.rows
    assert (row.key, row.before, row.after) == ("l0", "red", "blue")
    assert "bob" in row.by


def test_another_seed_and_other_threads_are_told(
    ws: Workspace, train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = ran(ws, train)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = compare(ws, before.id, ran(ws, train, seed=3).id)
    assert [one.sentence for one in found.parameters] == ["seed of the run went from 0 to 3"]
    assert [one.sentence for one in found.hardware] == ["hardware OMP_NUM_THREADS went from 1 to 2"]


def test_single_answers_are_told_with_who_is_right(ws: Workspace, train: Any, project: UserProject) -> None:
    """The second pipeline has the weak candidate alone, which answers the most frequent class."""
    before = ran(ws, train)
    project.edit("loop", "(0.00001, 1.0)", "(0.00001,)")
    after = ran(ws, project.load().train)
    found = compare(ws, before.id, after.id)
    assert found.answers is not None
    weak = held_out_answers(ws, after.id)
    assert weak is not None
    wrong = sum(row["label"] != row["predicted"] for row in weak.to_pylist())
    assert (found.answers.differing, found.answers.right_before, found.answers.right_after) == (
        wrong,
        wrong,
        0,
    )
    for row in found.answers.rows:
        assert row.right == "before"
        assert row.before == row.label == COLOURS[int(str(row.key)[1:]) % 5]
        assert row.after != row.label
    assert {one.name for one in found.metrics} >= {"accuracy", "macro_f1"}


def test_lists_are_cut_and_counts_are_not(ws: Workspace, train: Any, project: UserProject) -> None:
    before = ran(ws, train)
    project.edit("loop", "(0.00001, 1.0)", "(0.00001,)")
    found = compare(ws, before.id, ran(ws, project.load().train).id, limit=1).answers
    assert found is not None
    assert len(found.rows) == 1 < found.differing


def answers(row_ids: list[int], label: list[Any], predicted: list[Any]) -> pa.Table:
    return pa.table({"_row_id": row_ids, "label": label, "predicted": predicted})


def compared(before: pa.Table, after: pa.Table) -> AnswerDifference:
    return answer_difference(before, after, keys=lambda _: {3: "l3"}, limit=10)


def test_rows_that_got_worse_are_listed_first_and_by_key() -> None:
    """Row 1 got better, 2 is wrong in another way, 3 got worse, 4 stayed; 0 and 5 were tested by one alone."""
    before = answers([0, 1, 2, 3, 4], ["a"] * 5, ["a", "b", "b", "a", "a"])
    after = answers([1, 2, 3, 4, 5], ["a"] * 5, ["a", "c", "c", "a", "a"])
    found = compared(before, after)
    assert [(one.row_id, one.right) for one in found.rows] == [(3, "before"), (2, "neither"), (1, "after")]
    assert [one.key for one in found.rows] == ["l3", None, None]
    assert (found.shared, found.only_before, found.only_after) == (4, 1, 1)
    assert (found.differing, found.right_before, found.right_after) == (3, 1, 1)


def test_of_two_numbers_the_nearer_is_right() -> None:
    before = answers([1, 2, 3], [1.0, 1.0, 1.0], [1.5, 1.1, 2.0])
    after = answers([1, 2, 3], [1.0, 1.0, 1.0], [1.1, 1.5, 0.0])
    rights = {one.row_id: one.right for one in compared(before, after).rows}
    assert rights == {1: "after", 2: "before", 3: "neither"}


def test_a_row_that_got_a_label_is_added_one_way_and_removed_the_other(ws: Workspace, train: Any) -> None:
    before = ran(ws, train)
    data.ingest(ws, "listings", pa.table({"id": ["l50"], "title": ["green thing 50"]}))
    told = pa.table({"id": ["l50"], "colour": ["green"]})
    labels.import_labels(ws, "colour", told, key="id", value="colour", annotator="bob")
    after = ran(ws, train)
    (there,), (back,) = compare(ws, before.id, after.id).labels, compare(ws, after.id, before.id).labels
    assert (there.added, there.removed, back.added, back.removed) == (1, 0, 0, 1)
    assert [(row.key, row.before, row.after) for row in (*there.rows, *back.rows)] == [
        ("l50", None, "green"),
        ("l50", "green", None),
    ]


def test_runs_logged_by_hand_are_compared_by_what_they_have(ws: Workspace) -> None:
    old, new = (tracking.start_run(ws) for _ in range(2))
    tracking.log_params(ws, old.id, {"c": 1})
    tracking.log_params(ws, new.id, {"c": 2})
    tracking.log_metrics(ws, new.id, {"f1": 0.5})
    found = compare(ws, old.id, new.id)
    assert [one.sentence for one in found.parameters] == ["parameter c went from 1 to 2"]
    assert [(one.name, one.before, one.after) for one in found.metrics] == [("f1", None, 0.5)]
    assert found.answers is None


def test_a_run_that_is_not_there_is_refused(ws: Workspace) -> None:
    with pytest.raises(NotFound, match="there is no run 'run_no'"):
        compare(ws, "run_no", "run_no")


def test_plain_runs_differ_in_what_their_clients_told(ws: Workspace) -> None:
    def logged(digest: str, commit: str, **params: str) -> str:
        run = tracking.start_run(ws, params=params, tags={"mlflow.source.git.commit": commit})
        read = DatasetInput(LoggedDataset("wine", digest, "local", "{}"), {"mlflow.data.context": "training"})
        tracking.log_inputs(ws, run.id, datasets=[read])
        tracking.log_metrics(ws, run.id, {"loss": float(len(params))})
        return run.id

    found = compare(ws, logged("d1", "c1", depth="3"), logged("d2", "c2", depth="4", seed="0"))
    assert [(one.name, one.before, one.after) for one in found.data] == [("wine (training)", "d1", "d2")]
    assert [(one.name, one.before, one.after) for one in found.parameters] == [
        ("depth", "3", "4"),
        ("seed", None, "0"),
    ]
    assert [one.name for one in found.metrics] == ["loss"]
    assert found.code_problem == "of neither run code was captured; they were at commits c1 and c2."
    assert found.unknown == ("environment", "machine", "labels")


def test_a_machine_that_a_client_made_up_is_none(ws: Workspace) -> None:
    run = tracking.start_run(ws, tags={"everloop.machine": "mine"})
    assert "machine" in compare(ws, run.id, run.id).unknown
