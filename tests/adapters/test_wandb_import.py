"""Moving in from wandb: its run folders, whole or cut off."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everloop import tracking
from everloop.adapters import Carried, import_wandb
from everloop.errors import NotFound
from everloop.tracking import Run
from everloop.workspace import Workspace
from tests.adapters.sources import WANDB, message, wandb_file, wandb_run, write, written_by


def told(carried: Carried, what: str) -> str:
    """Why something was left out."""
    return " ".join(one.why for one in carried.left_out if one.what == what)


def history(ws: Workspace, name: str) -> list[tuple[int, float]]:
    (run,) = tracking.runs(ws)
    return [(one.step, one.value) for one in tracking.metric_history(ws, run.id, name, limit=100_000)]


def test_a_run_comes_over_with_its_history(any_ws: Workspace, tmp_path: Path) -> None:
    wandb_run(tmp_path, rows=[{"loss": "1.5"}, {"loss": "NaN"}, {"loss": "0.5"}])
    carried = import_wandb(any_ws, tmp_path)
    (run,) = tracking.runs(any_ws)
    assert (carried.new_runs, carried.points, carried.left_out) == (1, 3, ())
    assert (run.experiment, run.name, run.status, run.tags["wandb.id"]) == (
        "prices",
        "a run",
        "finished",
        "abc",
    )
    assert run.started_at.timestamp() == 1_700_000_000
    assert run.ended_at is not None
    assert run.ended_at.timestamp() == 1_700_000_060
    (first, second, third) = history(any_ws, "loss")
    assert (first, third) == ((0, 1.5), (2, 0.5))
    assert math.isnan(second[1])


@pytest.mark.parametrize("place", ["", "wandb", "wandb/offline-run-20231114_221320-abc"])
def test_any_folder_around_a_run_finds_it_under_the_same_id(
    ws: Workspace, tmp_path: Path, place: str
) -> None:
    wandb_run(tmp_path, rows=[{"loss": "1"}])
    import_wandb(ws, tmp_path)
    assert import_wandb(ws, tmp_path / place).known_runs == 1


def test_a_run_that_went_on_is_one_run_and_only_what_is_new_is_added(ws: Workspace, tmp_path: Path) -> None:
    file = wandb_run(tmp_path, rows=[{"loss": "1"}], exit_code=None)
    first = import_wandb(ws, tmp_path)
    assert [run.status for run in tracking.runs(ws)] == ["killed"]
    wandb_run(tmp_path, rows=[{"loss": "1"}, {"loss": "0.5"}])
    later = file.parent.with_name("offline-run-20231115_221320-abc") / file.name
    row = message((1, message((2, "loss"), (16, "0.1"))), (2, message((1, 7))))
    wandb_file(later, [message((17, message((1, "abc"), (3, "prices")))), message((2, row))])
    again = import_wandb(ws, tmp_path)
    assert (first.points, again.changed_runs, again.points) == (1, 1, 2)
    assert history(ws, "loss") == [(0, 1.0), (1, 0.5), (7, 0.1)]
    assert [run.status for run in tracking.runs(ws)] == ["finished"]


def test_a_file_that_was_cut_off_gives_what_can_be_read_and_says_so(ws: Workspace, tmp_path: Path) -> None:
    file = wandb_run(tmp_path, rows=[{"loss": str(step)} for step in range(1000)])
    file.write_bytes(file.read_bytes()[:-1000])
    carried = import_wandb(ws, tmp_path)
    assert "ends in the middle" in told(carried, "part of a record file")
    assert 900 < carried.points < 1000
    assert tracking.runs(ws)[0].status == "killed"


def test_damage_in_the_middle_costs_a_block(ws: Workspace, tmp_path: Path) -> None:
    file = wandb_run(tmp_path, rows=[{"loss": str(step)} for step in range(2000)])
    data = bytearray(file.read_bytes())
    data[70_000] ^= 0xFF
    file.write_bytes(data)
    carried = import_wandb(ws, tmp_path)
    assert "damaged at byte" in told(carried, "part of a record file")
    assert 1300 < carried.points < 2000
    assert history(ws, "loss")[-1] == (1999, 1999.0)


def test_what_is_no_number_is_told_by_its_kind(ws: Workspace, tmp_path: Path) -> None:
    row = {
        "loss": "1",
        "said": '"hello"',
        "spread": '{"_type": "histogram", "values": [1]}',
        "huge": "1" + "0" * 400,
    }
    carried = import_wandb(ws, wandb_run(tmp_path, rows=[row]).parent)
    assert [one.what for one in carried.left_out] == [
        "histogram in a history",
        "int in a history",
        "str in a history",
    ]
    assert carried.points == 1


def test_files_come_over_and_links_do_not(ws: Workspace, tmp_path: Path) -> None:
    files = wandb_run(tmp_path, rows=[]).parent / "files"
    write(files / "media" / "own.txt", "mine")
    (files / "link").symlink_to("/etc/hostname")
    carried = import_wandb(ws, tmp_path)
    (run,) = tracking.runs(ws)
    assert [one.path for one in tracking.artifacts(ws, run.id)] == ["media/own.txt"]
    assert "symbolic link" in told(carried, "file")


def test_a_folder_without_runs_is_refused(ws: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no run-\*\.wandb"):
        import_wandb(ws, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"no such file", b":W&B\xe1\xbe\x00", b":W&B\xe1\xbe\x00" + bytes(100)]
)
def test_a_file_that_is_no_record_file_is_told(ws: Workspace, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run-x.wandb").write_bytes(content)
    carried = import_wandb(ws, tmp_path)
    assert "record file" in told(carried, "run")
    assert tracking.runs(ws) == []


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_records_of_any_bytes_cost_themselves_alone(
    ws: Workspace, tmp_path: Path, data: st.DataObject
) -> None:
    first = message((17, message((1, "abc"), (3, "prices"))))
    row = message((2, message((1, message((2, "loss"), (16, "0.5"))), (2, message((1, 7))))))
    kinds = st.sampled_from([2, 3, 5, 7, 17, 18, 26])
    parts = st.lists(
        st.tuples(st.integers(1, 17), st.one_of(st.integers(0, 1 << 64), st.binary(max_size=20))), max_size=4
    )
    made = data.draw(
        st.lists(st.one_of(st.binary(max_size=40), st.builds(_record, kinds, parts)), max_size=5)
    )
    carried = import_wandb(ws, wandb_file(tmp_path / "run-abc.wandb", [first, *made, row]).parent)
    assert [one.what for one in carried.left_out if one.what == "run"] == []
    assert (7, 0.5) in [
        (one.step, one.value)
        for run in tracking.runs(ws)
        for one in tracking.metric_history(ws, run.id, "loss")
    ]


def _record(kind: int, parts: list[tuple[int, int | bytes]]) -> bytes:
    return message((kind, message(*parts)))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wandb")
    written_by("trackers", WANDB, str(folder))
    return folder


def _named(ws: Workspace, name: str) -> Run:
    (found,) = [run for run in tracking.runs(ws) if run.tags["wandb.id"] == name]
    return found


@pytest.mark.slow
def test_what_wandb_itself_wrote_comes_over_whole_and_once(ws: Workspace, real: Path) -> None:
    carried = import_wandb(ws, real)
    first, second = _named(ws, "first000"), _named(ws, "second00")
    assert (first.status, second.status, second.error) == ("finished", "failed", "exit code 3")
    assert first.params == {"lr": "0.1", "opt.name": "adam", "opt.betas": "[0.9, 0.99]", "later": "true"}
    assert (first.tags["wandb.group"], first.tags["wandb.job_type"]) == ("trees", "train")
    assert (json.loads(first.tags["wandb.tags"]), first.tags["mlflow.note.content"]) == (["a", "b"], "a note")
    assert (first.tags["wandb.summary.verdict"], first.metrics["best"]) == ("good", 0.25)
    losses = tracking.metric_history(ws, first.id, "loss", limit=5000)
    assert [(one.step, one.value) for one in losses] == [(step, 1 / (step + 1)) for step in range(2000)]
    assert all(first.started_at <= one.at for one in losses)
    assert len(tracking.metric_history(ws, first.id, "inner.x", limit=5000)) == 2000
    assert math.isnan(first.metrics["odd"])
    assert [(one.step, one.value) for one in tracking.metric_history(ws, first.id, "late")] == [
        (200_000, math.inf)
    ]
    assert any(name.startswith("system/") for name in first.metrics)
    assert tracking.read_artifact(ws, first.id, "own.txt") == b"mine"
    assert any(one.path.startswith("media/images/") for one in tracking.artifacts(ws, first.id))
    assert "a metric is a number" in told(carried, "histogram in a history")
    again = import_wandb(ws, real)
    assert (again.known_runs, again.new_runs, again.changed_runs, again.points, again.files) == (
        2,
        0,
        0,
        0,
        0,
    )


@pytest.mark.slow
def test_a_real_file_cut_off_anywhere_is_read_as_far_as_it_goes(
    ws: Workspace, real: Path, tmp_path: Path
) -> None:
    (file,) = real.rglob("run-first000.wandb")
    data = file.read_bytes()
    for size in range(len(data) // 7, len(data), len(data) // 7):
        place = tmp_path / str(size) / "run-first000.wandb"
        place.parent.mkdir()
        place.write_bytes(data[:size])
        import_wandb(ws, place.parent)
    import_wandb(ws, real)
    assert len(tracking.metric_history(ws, _named(ws, "first000").id, "loss", limit=5000)) == 2000
