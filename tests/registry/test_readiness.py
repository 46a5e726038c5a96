from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from everloop import checks, registry
from everloop.checks import CheckInput, Evidence, evaluate, gate
from everloop.clock import SimulatedClock
from everloop.errors import GateFailed
from everloop.registry import ModelVersion
from everloop.workspace import Workspace
from tests.checks.tables import shop
from tests.registry.versions import check, evidence_of, register

FLOOR = gate("macro_f1", at_least=0.75)


def kinds(ws: Workspace, version: ModelVersion) -> list[str]:
    return [one.kind for one in registry.readiness(ws, version.ref).obstacles]


def test_passed_gates_are_enough_when_nobody_is_asked(any_ws: Workspace) -> None:
    version = register(any_ws)
    report = check(any_ws, version)
    ready = registry.readiness(any_ws, version.ref)
    assert (ready.is_ready, ready.gate_report) == (True, report.id)
    assert registry.may_be_released(any_ws, version.ref)


def test_a_version_that_was_not_checked_is_not_ready(ws: Workspace) -> None:
    assert kinds(ws, register(ws)) == ["no_report"]


def test_a_failed_gate_names_itself_the_number_the_rule_and_the_remedy(ws: Workspace) -> None:
    version = register(ws)
    report = check(ws, version, leaks=True)
    with pytest.raises(GateFailed) as refused:
        registry.promote(ws, version.ref, "production")
    message = str(refused.value)
    assert message.startswith("category@1 may not be promoted to production. The gate leakage failed: ")
    assert "Input 'copy' alone removes 100.0% of the errors" in message
    assert "No input may determine the label by itself" in message
    assert "Take 'copy' out of the inputs" in message
    assert f"everloop models waive {report.id} 'leakage' --reason WHY --until DATE" in message


def test_a_failed_metric_is_told_with_its_number(ws: Workspace) -> None:
    version = register(ws, gates=[FLOOR])
    given = shop(200)
    evaluate(ws, version.ref, given, gates=[FLOOR], evidence=evidence_of(version))
    with pytest.raises(GateFailed, match=r"macro_f1:at_least failed.*macro_f1 must be at least 0\.75"):
        registry.promote(ws, version.ref, "staging")


def test_a_waiver_opens_the_way_while_it_lasts(any_ws: Workspace) -> None:
    version = register(any_ws)
    report = check(any_ws, version, leaks=True)
    until = any_ws.now() + timedelta(days=1)
    checks.waive(any_ws, report.id, "leakage", reason="known before", until=until)
    ready = registry.readiness(any_ws, version.ref)
    assert ready.is_ready
    assert [one.check for one in ready.waivers] == ["leakage"]
    assert isinstance(any_ws.clock, SimulatedClock)
    any_ws.clock.set(until)
    assert kinds(any_ws, version) == ["check_failed"]


def test_only_the_newest_report_counts(ws: Workspace) -> None:
    version = register(ws)
    check(ws, version)
    check(ws, version, leaks=True)
    assert kinds(ws, version) == ["check_failed"]


def test_a_report_counts_only_for_what_it_saw(ws: Workspace) -> None:
    version = register(ws)
    evaluate(ws, version.ref, shop(200), evidence=Evidence(model="0" * 64, data="shop@9"))
    assert kinds(ws, version) == ["other_evidence"]
    assert "(model, data)" in registry.readiness(ws, version.ref).obstacles[0].message
    evaluate(ws, version.ref, shop(200))
    assert kinds(ws, version) == ["other_evidence"]


def test_every_gate_of_the_model_must_have_been_run(ws: Workspace) -> None:
    version = register(ws, gates=[FLOOR])
    check(ws, version)
    assert kinds(ws, version) == ["gate_not_run"]
    lower = gate("macro_f1", at_least=0.1)
    check(ws, version, gates=(lower,))  # another limit is another gate
    assert "gate_not_run" in kinds(ws, version)


def test_as_many_different_people_as_asked_must_approve(any_ws: Workspace) -> None:
    version = register(any_ws, approval=registry.people(2))
    check(any_ws, version)
    alice, bea = any_ws.acting_as("alice"), any_ws.acting_as("bea")
    assert kinds(any_ws, version) == ["approvals"]
    registry.approve(alice, version.ref, reason="looks right")
    registry.approve(alice, version.ref, reason="looks right again")
    assert kinds(any_ws, version) == ["approvals"]
    registry.approve(bea, version.ref, reason="agreed")
    ready = registry.readiness(any_ws, version.ref)
    assert ready.is_ready
    assert [one.by for one in ready.approvals] == ["alice", "bea"]


def test_a_rejection_stands_until_the_same_person_approves(ws: Workspace) -> None:
    version = register(ws, approval=registry.people(1))
    check(ws, version)
    alice, bea = ws.acting_as("alice"), ws.acting_as("bea")
    registry.reject(alice, version.ref, reason="fridges are wrong")
    registry.approve(bea, version.ref, reason="I do not mind")
    with pytest.raises(GateFailed, match=r"alice rejected it \(fridges are wrong\)"):
        registry.promote(ws, version.ref, "production")
    registry.approve(alice, version.ref, reason="mended")
    assert registry.may_be_released(ws, version.ref)


def test_an_approval_of_the_author_given_before_the_rule_does_not_count(ws: Workspace) -> None:
    version = register(ws, approval=registry.people(1))
    check(ws, version)
    registry.approve(ws, version.ref, reason="mine")
    assert registry.may_be_released(ws, version.ref)
    registry.define(ws, "category", approval=registry.people(1, not_author=True))
    with pytest.raises(
        GateFailed, match="category asks for the approval of 1 person other than tester; it has 0"
    ):
        registry.promote(ws, version.ref, "production")


def test_all_that_is_in_the_way_is_told_at_once(ws: Workspace) -> None:
    version = register(ws, approval=registry.people(1), gates=[FLOOR])
    check(ws, version, leaks=True)
    registry.reject(ws, version.ref, reason="no")
    assert kinds(ws, version) == ["gate_not_run", "check_failed", "rejected", "approvals"]


def test_only_what_lacks_nothing_but_approval_waits_for_it(ws: Workspace) -> None:
    registry.define(ws, "category", approval=registry.people(1))
    unchecked = register(ws)
    leaking = register(ws, b"another")
    check(ws, leaking, leaks=True)
    ready = register(ws, b"a third")
    check(ws, ready)
    assert [one.ref for one in registry.waiting_for_approval(ws)] == [ready.ref]
    registry.approve(ws.acting_as("alice"), ready.ref, reason="good")
    assert registry.waiting_for_approval(ws) == []
    assert unchecked.ref not in {one.ref for one in registry.waiting_for_approval(ws)}


def test_a_gate_whose_check_was_changed_has_not_been_run(ws: Workspace) -> None:
    def always(given: CheckInput) -> bool:
        return True

    old = gate(checks.check(always))
    try:
        version = register(ws, gates=[old])
        check(ws, version, gates=(old,))
        assert kinds(ws, version) == []
        registry.define(ws, version.model, gates=[replace(old, source="0" * 64)])
    finally:
        del checks.CHECKS["always"]
    (obstacle,) = registry.readiness(ws, version.ref).obstacles
    assert obstacle.kind == "gate_not_run"
    assert "its check as it is written now" in obstacle.message
