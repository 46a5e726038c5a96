from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from everloop.checks import (
    CheckInput,
    Evidence,
    GateReport,
    checked_digest,
    evaluate,
    gate,
    report,
    reports_of,
    standing,
    waive,
    waivers_of,
)
from everloop.clock import SimulatedClock
from everloop.errors import Invalid, NotFound
from everloop.ledger import Node, entries, upstream, verify
from everloop.workspace import Workspace
from tests.checks.tables import labels, predictions, shop, with_column

EVIDENCE = Evidence(model="m" * 64, data="shop@1", labels="l" * 64, code="c" * 64)


def leaking() -> CheckInput:
    given = shop()
    return with_column(given, "copy", labels(given))


def failed_report(ws: Workspace) -> GateReport:
    return evaluate(ws, "category@1", leaking(), evidence=EVIDENCE)


def test_a_report_is_kept_as_it_was_made(any_ws: Workspace) -> None:
    given = replace(shop(), predictions=predictions(shop(), labels(shop())[300:]))
    made = evaluate(any_ws, "category@1", given, gates=[gate("accuracy", at_least=0.9)], evidence=EVIDENCE)
    assert made.verdict == "passed"
    assert report(any_ws, made.id) == made
    assert made.evidence.data == "shop@1"
    assert made.by == "tester"


def test_any_failed_check_fails_the_report(any_ws: Workspace) -> None:
    made = failed_report(any_ws)
    assert made.verdict == "failed"
    assert [one.name for one in made.failed] == ["leakage"]


def test_reports_of_a_version_newest_first(ws: Workspace) -> None:
    one, other = failed_report(ws), evaluate(ws, "category@1", shop())
    evaluate(ws, "category@2", shop())
    assert [found.id for found in reports_of(ws, "category@1")] == [other.id, one.id]


def test_a_report_is_in_lineage_and_audit(ws: Workspace) -> None:
    made = failed_report(ws)
    sources = {edge.source for edge in upstream(ws, Node("gate_report", made.id))}
    assert sources == {
        Node("model_version", "category@1"),
        Node("dataset_version", "shop@1"),
        Node("label_snapshot", "l" * 64),
    }
    entry = entries(ws, subject=Node("gate_report", made.id))[0]
    assert (entry.act, entry.detail["verdict"], entry.detail["failed"]) == (
        "checks.evaluate",
        "failed",
        ["leakage"],
    )


def test_a_waiver_lets_a_failed_check_pass_until_it_ends(any_ws: Workspace) -> None:
    made = failed_report(any_ws)
    assert [one.name for one in standing(any_ws, made.id).blocking] == ["leakage"]
    until = any_ws.now() + timedelta(days=7)
    waive(any_ws, made.id, "leakage", reason="copy is known beforehand", until=until)
    assert standing(any_ws, made.id).is_clear
    assert standing(any_ws, made.id).waived[0].reason == "copy is known beforehand"
    assert isinstance(any_ws.clock, SimulatedClock)
    any_ws.clock.set(until)
    assert not standing(any_ws, made.id).is_clear
    assert report(any_ws, made.id).verdict == "failed"  # a waiver does not change what was found


def test_a_waiver_is_audited_with_its_reason(ws: Workspace) -> None:
    made = failed_report(ws)
    waive(ws.acting_as("bea"), made.id, "leakage", reason="for the demo", until=ws.now() + timedelta(days=1))
    entry = entries(ws, actor="bea")[0]
    assert (entry.act, entry.subject) == ("checks.waive", Node("gate_report", made.id))
    assert (entry.detail["check"], entry.detail["reason"]) == ("leakage", "for the demo")
    assert verify(ws).is_intact


def test_waivers_of_a_report_are_all_kept(ws: Workspace) -> None:
    made = failed_report(ws)
    for days in (1, 2):
        waive(ws, made.id, "leakage", reason=f"{days} days", until=ws.now() + timedelta(days=days))
    assert [one.reason for one in waivers_of(ws, made.id)] == ["1 days", "2 days"]


@pytest.mark.parametrize(
    ("check", "reason", "days", "problem"),
    [
        ("leakage", "  ", 1, "no reason"),
        ("leakage", "why", 0, "is past"),
        ("schema", "why", 1, "has passed"),
        ("speed", "why", 1, "has no result 'speed'"),
    ],
)
def test_a_waiver_that_makes_no_sense_is_refused(
    ws: Workspace, check: str, reason: str, days: int, problem: str
) -> None:
    made = failed_report(ws)
    with pytest.raises((Invalid, NotFound), match=problem):
        waive(ws, made.id, check, reason=reason, until=ws.now() + timedelta(days=days))
    assert waivers_of(ws, made.id) == []


def test_an_unknown_report_is_not_found(ws: Workspace) -> None:
    with pytest.raises(NotFound, match="everloop models show"):
        report(ws, "gr_none")
    with pytest.raises(NotFound):
        waive(ws, "gr_none", "leakage", reason="why", until=ws.now() + timedelta(days=1))


def test_the_digest_says_which_rows_labels_and_answers_were_checked() -> None:
    given = replace(shop(), predictions=predictions(shop(), labels(shop())[300:]))
    same = checked_digest(given)
    assert checked_digest(replace(given, train=given.train.combine_chunks())) == same
    others = [
        replace(given, train=given.train.slice(1)),
        replace(given, inputs=("text",)),
        replace(given, predictions=predictions(given, ["drink"] * 100)),
        replace(given, train=given.train.set_column(4, "label", given.train["shade"])),
        replace(given, train=given.test, test=given.train),
    ]
    assert len({same, *(checked_digest(one) for one in others)}) == 6
