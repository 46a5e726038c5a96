"""Applying a loop file: the plan, what it changes, and that the same file again changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from everloop import data, jobs, labels, loop, monitoring, registry, rollout
from everloop.errors import EverloopError, Invalid, NotFound
from everloop.loop import Change, Loop
from everloop.workspace import Workspace
from tests.loop import shop


def written(folder: Path, text: str = shop.LOOP) -> Loop:
    file = folder / "shop_loop.py"
    file.write_text(text)
    return loop.load(file)


def planned(ws: Workspace, found: Loop) -> list[Change]:
    before = loop.newest(ws)
    return loop.plan(found.declared, {} if before is None else before.declared)


def test_applying_makes_what_is_declared(any_ws: Workspace, tmp_path: Path) -> None:
    ws = any_ws
    changes = loop.apply(ws, written(tmp_path))
    assert {one.action for one in changes} == {"create"}
    assert [one.name for one in data.datasets(ws)] == ["goods"]
    assert [one.name for one in labels.label_sets(ws)] == ["kind"]
    assert [one.name for one in registry.models(ws)] == ["kind"]
    assert [one.name for one in rollout.endpoints(ws)] == ["kind"]
    assert {one.kind for one in monitoring.watches(ws, "kind")} == {"drift", "accuracy", "latency", "traffic"}


def test_the_same_file_again_changes_nothing(ws: Workspace, tmp_path: Path) -> None:
    loop.apply(ws, written(tmp_path))
    first = loop.newest(ws)
    assert {one.action for one in loop.apply(ws, written(tmp_path))} == {"keep"}
    assert loop.newest(ws) == first


def test_a_plan_writes_nothing(ws: Workspace, tmp_path: Path) -> None:
    assert {one.action for one in planned(ws, written(tmp_path))} == {"create"}
    assert loop.newest(ws) is None
    assert data.datasets(ws) == []


def test_a_changed_declaration_shows_with_the_field_that_changed(ws: Workspace, tmp_path: Path) -> None:
    loop.apply(ws, written(tmp_path))
    changed = written(tmp_path, shop.LOOP.replace("cooldown_h=1", "cooldown_h=48"))
    found = [one for one in planned(ws, changed) if one.action != "keep"]
    assert found == [Change("change", "retraining", "kind", ("cooldown_s",))]
    loop.apply(ws, changed)
    newest = loop.newest(ws)
    assert newest is not None
    assert newest.number == 2


def test_code_that_changed_alone_is_applied_too(ws: Workspace, tmp_path: Path) -> None:
    loop.apply(ws, written(tmp_path))
    before = loop.newest(ws)
    loop.apply(ws, written(tmp_path, shop.LOOP.replace("(0.1, 10.0)", "(0.2, 20.0)")))
    after = loop.newest(ws)
    assert before is not None
    assert after is not None
    assert (after.number, after.declared) == (2, before.declared)
    assert after.code != before.code


def test_what_is_declared_no_more_is_forgotten_and_kept(ws: Workspace, tmp_path: Path) -> None:
    loop.apply(ws, written(tmp_path))
    shorter = written(tmp_path, shop.LOOP.partition("el.retrain(")[0])
    assert Change("forget", "retraining", "kind") in planned(ws, shorter)
    loop.apply(ws, shorter)
    assert [one.name for one in rollout.endpoints(ws)] == ["kind"]


def test_a_schedule_takes_force_with_the_file(ws: Workspace, tmp_path: Path) -> None:
    loop.apply(ws, written(tmp_path, shop.LOOP.replace("cooldown_h=1", 'cooldown_h=1, cron="0 3 * * *"')))
    (schedule,) = jobs.list_schedules(ws)
    assert (schedule.cron, schedule.payload) == ("0 3 * * *", {"model": "kind"})


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("@el.pipeline", "@el.pipeline(", "line"),
        ("data.position", "data.nowhere.at.all", None),
        ("goods = el.dataset", "raise ValueError('no')\ngoods = el.dataset", "ValueError: no"),
        ('classes=["Tea"', 'classes=["Tea", "Tea"', "Tea"),
        ("cooldown_h=1", "cooldown_h=1, cron='often'", "cron"),
    ],
)
def test_a_broken_file_leaves_nothing_half_applied(
    ws: Workspace, tmp_path: Path, before: str, after: str, told: str | None
) -> None:
    text = shop.LOOP.replace(before, after, 1)
    if told is None:
        loop.apply(ws, written(tmp_path, text))  # a step's body is not run by applying
        return
    with pytest.raises(EverloopError, match=told):
        loop.apply(ws, written(tmp_path, text))
    assert loop.newest(ws) is None
    assert rollout.endpoints(ws) == []


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no loop file"):
        loop.load(tmp_path / "none.py")


def test_an_sql_file_that_is_not_there_is_told(ws: Workspace, tmp_path: Path) -> None:
    text = shop.LOOP.replace("watch=[", 'watch=[el.kpi("sales.sql", name="sales"), ')
    with pytest.raises(Invalid, match=r"sales\.sql"):
        loop.apply(ws, written(tmp_path, text))
