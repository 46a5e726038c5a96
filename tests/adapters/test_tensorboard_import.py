"""Moving in from TensorBoard: event files of several writers, in folders that are runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everloop import tracking
from everloop.adapters import Carried, import_tensorboard
from everloop.errors import NotFound
from everloop.tracking import Run
from everloop.workspace import Workspace
from tests.adapters.sources import TENSORBOARD, event_file, message, scalar, written_by


def told(carried: Carried, what: str) -> str:
    """Why something was left out."""
    return " ".join(one.why for one in carried.left_out if one.what == what)


def history(ws: Workspace, run: Run, name: str = "loss") -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in tracking.metric_history(ws, run.id, name)]


def named(ws: Workspace) -> dict[str, Run]:
    return {run.name: run for run in tracking.runs(ws)}


def test_each_folder_is_a_run_and_those_below_are_parts_of_it(any_ws: Workspace, tmp_path: Path) -> None:
    event_file(
        tmp_path / "logs" / "a" / "events.out.tfevents.1", [scalar("loss", 1.5, 0), scalar("loss", 0.5, 1)]
    )
    event_file(
        tmp_path / "logs" / "a" / "events.out.tfevents.2", [scalar("loss", 0.25, 2, at=1_700_000_100.0)]
    )
    event_file(tmp_path / "logs" / "a" / "val" / "events.out.tfevents.1", [scalar("loss", 2.0, 0)])
    carried = import_tensorboard(any_ws, tmp_path / "logs")
    runs = named(any_ws)
    assert (carried.new_runs, carried.points, carried.left_out) == (2, 4, ())
    assert runs["a/val"].parent == runs["a"].id
    assert (runs["a"].experiment, runs["a"].status) == ("logs", "finished")
    assert history(any_ws, runs["a"]) == [(0, 1.5), (1, 0.5), (2, 0.25)]
    assert runs["a"].started_at.timestamp() == 1_700_000_000
    assert runs["a"].ended_at is not None
    assert runs["a"].ended_at.timestamp() == 1_700_000_100


def test_a_file_that_grew_adds_what_is_new(ws: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "events.out.tfevents.1"
    event_file(file, [scalar("loss", 1.0, 0)])
    import_tensorboard(ws, tmp_path)
    event_file(file, [scalar("loss", 1.0, 0), scalar("loss", 0.5, 1)])
    again = import_tensorboard(ws, tmp_path)
    assert (again.changed_runs, again.points) == (1, 1)
    assert import_tensorboard(ws, tmp_path).known_runs == 1


def test_folders_of_one_name_from_different_places_stay_different_runs(ws: Workspace, tmp_path: Path) -> None:
    for number, place in enumerate(("one", "other")):
        event_file(
            tmp_path / place / "runs" / "a" / "tfevents",
            [scalar("loss", 1.0, 0, at=1_700_000_000.0 + number)],
        )
        import_tensorboard(ws, tmp_path / place / "runs")
    assert len(tracking.runs(ws, experiment="runs")) == 2


def test_a_file_that_was_cut_off_gives_what_is_whole_and_says_so(ws: Workspace, tmp_path: Path) -> None:
    file = event_file(tmp_path / "tfevents", [scalar("loss", float(step), step) for step in range(10)])
    file.write_bytes(file.read_bytes()[:-3])
    carried = import_tensorboard(ws, tmp_path)
    assert carried.points == 9
    assert "ends in the middle" in told(carried, "part of an event file")


def test_an_event_that_makes_no_sense_is_told_and_the_others_come(ws: Workspace, tmp_path: Path) -> None:
    events = [b"\xff\xff", message((2, 1)), message((1, 1e300)), message((1, "text")), scalar("loss", 1.0, 0)]
    event_file(tmp_path / "tfevents", events)
    carried = import_tensorboard(ws, tmp_path)
    assert carried.points == 1
    assert "a time that cannot be" in told(carried, "part of an event file")
    assert "a number of unknown width" in told(carried, "part of an event file")


def test_a_picture_cannot_leave_its_run(ws: Workspace, tmp_path: Path) -> None:
    value = message((1, "../../../etc/\x00evil"), (4, message((4, b"\x89PNG..."))))
    event_file(tmp_path / "tfevents", [message((1, 1.0), (2, 3), (5, message((1, value))))])
    carried = import_tensorboard(ws, tmp_path)
    (run,) = tracking.runs(ws)
    assert tracking.artifacts(ws, run.id) == []
    assert "cannot be a file's path" in told(carried, "file")


def test_a_folder_without_event_files_is_refused(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no events")
    with pytest.raises(NotFound, match="no event file of TensorBoard"):
        import_tensorboard(ws, tmp_path)


def test_an_empty_event_file_is_no_run(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "tfevents").touch()
    assert "none of its event files" in told(import_tensorboard(ws, tmp_path), "run")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_events_of_any_bytes_cost_themselves_alone(
    ws: Workspace, tmp_path: Path, data: st.DataObject
) -> None:
    parts = st.lists(
        st.tuples(st.integers(1, 17), st.one_of(st.integers(0, 1 << 64), st.binary(max_size=20))), max_size=5
    )
    made = data.draw(st.lists(st.one_of(st.binary(max_size=40), st.builds(_event, parts)), max_size=5))
    event_file(tmp_path / "tfevents", [scalar("loss", 1.0, 0), *made, scalar("loss", 0.5, 7)])
    carried = import_tensorboard(ws, tmp_path)
    assert carried.new_runs + carried.changed_runs + carried.known_runs == 1
    assert (7, 0.5) in [point for run in tracking.runs(ws) for point in history(ws, run)]


def _event(parts: list[tuple[int, int | bytes]]) -> bytes:
    return message((1, 1_700_000_000.0), (5, message((1, message((1, "tag"), *parts)))))


@pytest.mark.slow
def test_what_tensorboards_writers_wrote_comes_over_whole_and_once(ws: Workspace, tmp_path: Path) -> None:
    written_by("trackers", TENSORBOARD, str(tmp_path / "logs"))
    carried = import_tensorboard(ws, tmp_path / "logs")
    runs = named(ws)
    assert set(runs) == {"a", "a/sub", "tensors"}
    assert [value for _, value in history(ws, runs["a"])] == pytest.approx(
        [*(1 / step for step in range(1, 11)), 9.0]
    )
    assert history(ws, runs["tensors"]) == [
        (0, 2.5),
        (1, 3.5),
        (2, 4.5),
        (3, -7.0),
        (4, 1.5),
        (5, 1.25),
        (6, 1.0),
    ]
    assert runs["tensors"].params == {"layers": "3", "drop": "0.5", "act": "relu", "wide": "true"}
    (text,) = json.loads(tracking.read_artifact(ws, runs["a"].id, "text.json"))
    assert (text["tag"].partition("/")[0], text["step"], text["text"]) == ("note", 1, ["hello"])
    assert tracking.read_artifact(ws, runs["a"].id, "images/picture/2.png").startswith(b"\x89PNG")
    assert "numbers" in told(carried, "histogram")
    again = import_tensorboard(ws, tmp_path / "logs")
    assert (again.known_runs, again.new_runs, again.changed_runs, again.points, again.files) == (
        3,
        0,
        0,
        0,
        0,
    )
