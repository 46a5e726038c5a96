"""Stages with terms of their own, and leaving them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from everloop import registry
from everloop.checks import evaluate, gate
from everloop.clock import SimulatedClock
from everloop.errors import Conflict, Denied, GateFailed, Invalid
from everloop.ledger import Node, entries, verify
from everloop.registry import ModelVersion, people, stage
from everloop.workspace import Workspace
from tests.checks.tables import shop
from tests.registry.versions import check, evidence_of, register

FLOOR = gate("macro_f1", at_least=0.75)


def later(ws: Workspace, hours: float) -> None:
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(hours=hours))


def ready(ws: Workspace, content: bytes = b"1", **terms: object) -> str:
    registry.define(ws, "category", **terms)  # type: ignore[arg-type]  # the terms of each test
    version = register(ws, content)
    check(ws, version)
    return version.ref


def kinds(ws: Workspace, ref: str, stage: str | None = None) -> list[str]:
    return [one.kind for one in registry.readiness(ws, ref, stage=stage).obstacles]


def test_a_version_soaks_in_the_stage_before(any_ws: Workspace) -> None:
    ref = ready(any_ws, stages=[stage("staging"), stage("production", soak_h=24)])
    with pytest.raises(
        GateFailed, match=r"in staging for 0 h; production asks for 24 h there\. Promote it there first"
    ):
        registry.promote(any_ws, ref, "production")
    registry.promote(any_ws, ref, "staging")
    later(any_ws, 23.5)
    with pytest.raises(GateFailed, match=r"in staging for 23\.5 h.*Wait"):
        registry.promote(any_ws, ref, "production")
    later(any_ws, 0.5)
    registry.promote(any_ws, ref, "production")


def test_a_stay_that_was_cut_off_does_not_count_after_the_return(any_ws: Workspace) -> None:
    ref = ready(any_ws, stages=[stage("staging"), stage("production", soak_h=24)])
    registry.promote(any_ws, ref, "staging")
    later(any_ws, 30)
    registry.demote(any_ws, ref, "staging", reason="looked wrong")
    later(any_ws, 5)
    assert kinds(any_ws, ref) == []  # it had its time there
    registry.promote(any_ws, ref, "staging")
    assert kinds(any_ws, ref) == ["soak"]


def test_a_stage_asks_for_its_own_approvals(any_ws: Workspace) -> None:
    ref = ready(
        any_ws,
        approval=people(2),
        stages=[stage("staging", approve=people(0)), stage("production", approve=people(1, not_author=True))],
    )
    registry.promote(any_ws, ref, "staging")
    registry.approve(
        any_ws, ref, reason="mine"
    )  # it counts where the author may speak, and production is not that
    with pytest.raises(GateFailed, match="1 person other than tester for production; it has 0"):
        registry.promote(any_ws, ref, "production")
    registry.approve(any_ws.acting_as("bea"), ref, reason="looked at it")
    registry.promote(any_ws, ref, "production")


def test_the_author_may_not_approve_where_no_stage_counts_it(ws: Workspace) -> None:
    ref = ready(ws, stages=[stage("production", approve=people(1, not_author=True))])
    with pytest.raises(Denied, match="Ask somebody else"):
        registry.approve(ws, ref, reason="mine")


def failing(ws: Workspace) -> ModelVersion:
    """A version whose report has one failed gate, on macro_f1."""
    version = register(ws)
    evaluate(ws, version.ref, shop(200), gates=[FLOOR], evidence=evidence_of(version))
    return version


def test_a_stage_may_ask_for_some_of_the_gates(ws: Workspace) -> None:
    stages = [stage("staging", gates=["leakage"]), stage("production")]
    registry.define(ws, "category", gates=[FLOOR], stages=stages)
    version = failing(ws)
    registry.promote(ws, version.ref, "staging")
    assert kinds(ws, version.ref, "production") == ["check_failed"]
    assert kinds(ws, version.ref, "elsewhere") == ["check_failed"]  # a stage without terms asks for all


def test_a_gate_that_a_stage_needs_must_have_been_run(ws: Workspace) -> None:
    ref = ready(
        ws,
        gates=[FLOOR],
        stages=[stage("staging", gates=["leakage"]), stage("production", gates=["macro_f1"])],
    )
    assert (kinds(ws, ref, "staging"), kinds(ws, ref, "production")) == ([], ["gate_not_run"])


def test_a_release_must_meet_the_terms_of_the_last_stage(ws: Workspace) -> None:
    ref = ready(ws, stages=[stage("staging"), stage("world", soak_h=1)])
    assert not registry.may_be_released(ws, ref)
    with pytest.raises(GateFailed, match=r"may not be released.*world asks for 1 h"):
        registry.release(ws, ref)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: stage("dev", soak_h=1), "takes any version"),
        (lambda: stage("production", soak_h=-1), "0 or more"),
        (lambda: stage("a stage"), "not a name for a stage"),
    ],
)
def test_terms_that_cannot_be_are_refused(make: object, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        make()  # type: ignore[operator]  # a function of each case


def test_stages_that_contradict_the_model_are_refused(ws: Workspace) -> None:
    with pytest.raises(Invalid, match="declared twice"):
        registry.define(ws, "category", stages=[stage("staging"), stage("staging")])
    with pytest.raises(Invalid, match="asks for the gate 'speed', which the model has not"):
        registry.define(ws, "category", stages=[stage("staging", gates=["speed"])])


def test_the_way_goes_stage_by_stage(ws: Workspace) -> None:
    ref = ready(ws, stages=[stage("staging"), stage("shadow", soak_h=2), stage("production", soak_h=1)])
    assert registry.next_stage(ws, ref) == "staging"
    registry.promote(ws, ref, "staging")
    assert registry.next_stage(ws, ref) is None
    later(ws, 2)
    assert registry.next_stage(ws, ref) == "shadow"
    registry.promote(ws, ref, "shadow")
    assert registry.next_stage(ws, ref) is None  # the last is delivery's
    later(ws, 1)
    assert registry.may_be_released(ws, ref)


def test_a_version_that_soaks_is_not_driven_out_by_the_next(ws: Workspace) -> None:
    one = ready(ws, stages=[stage("staging"), stage("production", soak_h=24)])
    registry.promote(ws, one, "staging")
    two = ready(ws, b"2")
    assert registry.next_stage(ws, two) is None
    registry.reject(ws, one, reason="wrong")  # now it waits for more than time
    assert registry.next_stage(ws, two) == "staging"


def test_who_is_driven_out_of_a_stage_is_archived(any_ws: Workspace) -> None:
    one, two = ready(any_ws), ready(any_ws, b"2")
    registry.promote(any_ws, one, "production")
    registry.promote(any_ws, one, "staging")
    registry.promote(any_ws, two, "production")
    assert registry.version(any_ws, one).archived_at is None  # staging has it still
    registry.promote(any_ws, two, "staging")
    assert registry.version(any_ws, one).archived_at == any_ws.now()
    registry.promote(any_ws, one, "production", alone=True)
    assert registry.version(any_ws, one).archived_at is None


def test_dev_archives_nobody_and_keeps_nobody(any_ws: Workspace) -> None:
    one, two = ready(any_ws), ready(any_ws, b"2")
    registry.promote(any_ws, one, "dev")
    registry.promote(any_ws, two, "dev")
    assert registry.version(any_ws, one).archived_at is None
    registry.promote(any_ws, two, "production")
    registry.promote(any_ws, one, "production")
    assert registry.version(any_ws, two).archived_at is not None


def test_a_version_can_be_moved_out_of_all_other_stages(any_ws: Workspace) -> None:
    ref = ready(any_ws)
    registry.promote(any_ws, ref, "staging")
    registry.promote(any_ws, ref, "production", alone=True)
    assert registry.stages(any_ws, "category") == {"production": 1}


def test_only_the_version_that_is_in_a_stage_is_taken_out(ws: Workspace) -> None:
    one, two = ready(ws), ready(ws, b"2")
    registry.promote(ws, two, "production")
    with pytest.raises(Conflict, match="category@1 is not in production"):
        registry.demote(ws, one, "production", reason="x")
    with pytest.raises(Invalid, match="without a reason"):
        registry.demote(ws, two, "production", reason=" ")
    registry.demote(ws, two, "production", reason="incident")
    assert registry.stages(ws, "category") == {}
    assert entries(ws, subject=Node("model_version", two))[0].act == "registry.demote"


def test_archiving_leaves_all_stages_and_can_be_undone(any_ws: Workspace) -> None:
    ref = ready(any_ws)
    registry.promote(any_ws, ref, "production")
    assert registry.archive(any_ws, ref, reason="old").archived_at is not None
    assert registry.stages(any_ws, "category") == {}
    assert registry.unarchive(any_ws, ref).archived_at is None
    acts = [one.act for one in entries(any_ws, subject=Node("model_version", ref))]
    assert acts[:3] == ["registry.unarchive", "registry.archive", "registry.demote"]
    assert verify(any_ws).is_intact
