from __future__ import annotations

from datetime import timedelta

import pytest

from everloop import registry
from everloop.clock import SimulatedClock
from everloop.errors import Denied, GateFailed, Invalid, NotFound
from everloop.events import newest
from everloop.ledger import Node, entries, verify
from everloop.workspace import Workspace
from tests.conftest import START
from tests.registry.versions import check, register


def later(ws: Workspace, days: float) -> None:
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(days=days))


def ready(ws: Workspace, content: bytes) -> str:
    version = register(ws, content)
    check(ws, version)
    return version.ref


def test_dev_takes_any_version_and_other_stages_do_not(any_ws: Workspace) -> None:
    ref = register(any_ws).ref
    registry.promote(any_ws, ref, "dev")
    for stage in ("staging", "production", "shadow-eu"):
        with pytest.raises(GateFailed, match=f"may not be promoted to {stage}"):
            registry.promote(any_ws, ref, stage)
    assert registry.stages(any_ws, "category") == {"dev": 1}


def test_promoting_again_changes_nothing(ws: Workspace) -> None:
    ref = ready(ws, b"1")
    first = registry.promote(ws, ref, "production", reason="go")
    later(ws, 1)
    assert registry.promote(ws, ref, "production") == first
    assert len(registry.history(ws, "category")) == 1


def test_which_version_a_stage_had_at_a_time(any_ws: Workspace) -> None:
    one, two = ready(any_ws, b"1"), ready(any_ws, b"2")
    registry.promote(any_ws, one, "production")
    later(any_ws, 2)
    registry.promote(any_ws, two, "production", reason="better")
    registry.promote(any_ws, two, "staging")
    later(any_ws, 2)
    registry.demote(any_ws, two, "production", reason="incident")

    def then(days: float) -> str | None:
        found = registry.version_in_stage(any_ws, "category", "production", at=START + timedelta(days=days))
        return None if found is None else found.ref

    assert [then(-1), then(0), then(1.9), then(2), then(3.9), then(4)] == [None, one, one, two, two, None]
    assert registry.version_in_stage(any_ws, "category", "production") is None
    assert registry.stages(any_ws, "category") == {"staging": 2}
    happened = [(event.name, event.number, event.reason) for event in registry.history(any_ws, "category")]
    assert happened == [
        ("production", None, "incident"),
        ("staging", 2, ""),
        ("production", 2, "better"),
        ("production", 1, ""),
    ]


def test_an_alias_means_a_version_until_it_is_dropped(any_ws: Workspace) -> None:
    register(any_ws, b"1")
    register(any_ws, b"2")
    registry.alias(any_ws, "category", "champion", "category@1")
    assert registry.version(any_ws, "category@champion").number == 1
    registry.alias(any_ws, "category", "champion", "category@2")
    assert registry.aliases(any_ws, "category") == {"champion": 2}
    registry.drop_alias(any_ws, "category", "champion")
    registry.drop_alias(any_ws, "category", "champion")
    assert registry.aliases(any_ws, "category") == {}
    with pytest.raises(NotFound):
        registry.version(any_ws, "category@champion")
    assert [event.number for event in registry.history(any_ws, "category")] == [None, 2, 1]


def test_an_alias_stays_within_its_model(ws: Workspace) -> None:
    register(ws, b"1")
    register(ws, b"2", name="price")
    with pytest.raises(Invalid, match="stays within its model"):
        registry.alias(ws, "category", "champion", "price@1")


@pytest.mark.parametrize("name", ["", "3", "3rd", "a b", "a@b", "x" * 61])
def test_a_stage_that_reads_like_something_else_is_refused(ws: Workspace, name: str) -> None:
    with pytest.raises(Invalid, match="not a name for a stage"):
        registry.promote(ws, register(ws).ref, name)


@pytest.mark.parametrize("name", ["", "3", "v3", "V03", "latest", "Latest", "a b", "a@b", "a/b", "x" * 61])
def test_an_alias_that_reads_like_something_else_is_refused(ws: Workspace, name: str) -> None:
    with pytest.raises(Invalid, match="not a name for an alias"):
        registry.alias(ws, "category", name, register(ws).ref)


def test_the_author_may_not_approve_where_other_people_are_asked(any_ws: Workspace) -> None:
    version = register(any_ws, approval=registry.people(1, not_author=True))
    with pytest.raises(Denied, match=r"tester registered category@1.*Ask somebody else"):
        registry.approve(any_ws, version.ref, reason="mine")
    registry.reject(any_ws, version.ref, reason="on second thoughts")  # to stop it is always allowed
    said = registry.approve(any_ws.acting_as("bea"), version.ref, reason="checked")
    assert [one.verdict for one in registry.decisions(any_ws, version.ref)] == ["rejected", "approved"]
    assert (said.by, said.at) == ("bea", any_ws.now())


def test_a_decision_needs_a_reason(ws: Workspace) -> None:
    ref = register(ws).ref
    with pytest.raises(Invalid, match="without a reason"):
        registry.approve(ws, ref, reason=" ")
    assert registry.decisions(ws, ref) == []


def test_a_decision_notes_the_report_that_was_seen(ws: Workspace) -> None:
    version = register(ws)
    report = check(ws, version)
    assert registry.approve(ws, version.ref, reason="ok").gate_report == report.id


def test_decisions_and_moves_are_audited_and_told(ws: Workspace) -> None:
    ref = ready(ws, b"1")
    registry.approve(ws.acting_as("alice"), ref, reason="ok")
    registry.promote(ws, ref, "production")
    registry.alias(ws, "category", "champion", ref)
    registry.reject(ws.acting_as("bea"), ref, reason="too slow")
    acts = [(one.act, one.actor) for one in entries(ws, subject=Node("model_version", ref))]
    assert acts == [
        ("registry.reject", "bea"),
        ("registry.alias", "tester"),
        ("registry.promote", "tester"),
        ("registry.approve", "alice"),
        ("registry.register", "tester"),
    ]
    assert verify(ws).is_intact
    assert [one.kind for one in newest(ws, kind="registry.")] == [
        "registry.rejected",
        "registry.promoted",
        "registry.approved",
        "registry.registered",
    ]


def test_an_unknown_model_has_no_stages(ws: Workspace) -> None:
    for ask in (registry.stages, registry.aliases, registry.history, registry.model):
        with pytest.raises(NotFound):
            ask(ws, "nothing")
    with pytest.raises(NotFound):
        registry.demote(ws, "nothing@1", "production", reason="gone")
    with pytest.raises(NotFound):
        registry.drop_alias(ws, "nothing", "champion")
