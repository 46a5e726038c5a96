from __future__ import annotations

from pathlib import Path

import pytest

from everloop import governance, pipelines, registry
from everloop.errors import Invalid, NotFound
from everloop.ids import new_id
from everloop.workspace import Workspace
from tests.loop import shop

FAILS = shop.LOOP.replace('el.gate("macro_f1", at_least=0.5)', 'el.gate("macro_f1", at_least=1.01)')


def test_a_step_says_what_changed_or_that_nothing_did(ws: Workspace, tmp_path: Path) -> None:
    shop.train(ws, shop.set_up(ws, tmp_path))
    changed = shop.set_up(ws, tmp_path, text=shop.LOOP.replace("(0.1, 10.0)", "(0.1, 20.0)"))
    run = shop.train(ws, changed).run
    assert "nothing it depends on changed" in governance.why(ws, f"{run}/split").answer
    assert governance.why(ws, f"{run}/fit-2").because == ("parameter c: 10.0 -> 20.0",)


def test_a_step_is_found_by_its_own_id_and_by_the_run_that_tracks_it(ws: Workspace, tmp_path: Path) -> None:
    run = shop.train(ws, shop.set_up(ws, tmp_path)).run
    step = next(one for one in pipelines.pipeline_run(ws, run).steps if one.node == "fit")
    assert step.tracking_run is not None
    assert (
        governance.why(ws, step.id)
        == governance.why(ws, step.tracking_run)
        == governance.why(ws, f"{run}/fit")
    )


def test_a_run_says_why_it_began_and_what_it_made(ws: Workspace, tmp_path: Path) -> None:
    told = governance.why(ws, shop.train(ws, shop.set_up(ws, tmp_path)).run)
    assert "began because: a test. It is done: 4 steps ran, 0 were cached." in told.answer
    assert "goods was goods@1" in told.because
    assert told.go_on["kind@1"] == "the version it made"


def test_a_blocked_version_says_what_blocks_it_and_an_approved_one_who_approved(
    ws: Workspace, tmp_path: Path
) -> None:
    shop.train(ws, shop.set_up(ws, tmp_path))
    blocked = governance.why(ws, "kind@1")
    assert blocked.answer == "kind@1 is blocked by 1 things."
    assert "everloop models approve kind@1" in blocked.because[0]
    registry.approve(ws.acting_as("alice"), "kind@1", reason="looks right")
    assert "approved by alice (looks right)" in governance.why(ws, "kind@1").answer


def test_a_gate_report_says_which_gate_failed_on_which_number(ws: Workspace, tmp_path: Path) -> None:
    trained = shop.train(ws, shop.set_up(ws, tmp_path, text=FAILS))
    told = governance.why(ws, str(trained.gate_report))
    assert told.answer == "kind@1 failed its gates: macro_f1:at_least."
    assert told.numbers["macro_f1:at_least"]["limit"] == 1.01
    assert "kind@1" in told.go_on


@pytest.mark.parametrize("kind", ["run", "step", "job", "ret", "ro", "re", "find", "ev", "gr"])
def test_an_unknown_id_of_a_known_kind_is_not_found(ws: Workspace, kind: str) -> None:
    with pytest.raises(NotFound, match="there is no"):
        governance.why(ws, new_id(kind))  # type: ignore[arg-type]  # all of them are prefixes


@pytest.mark.parametrize("identifier", ["", "foo", "pred_0198", "run_1", "ws_" + 32 * "0"])
def test_what_has_no_reason_is_told_what_has_one(ws: Workspace, identifier: str) -> None:
    with pytest.raises(Invalid, match=r"run_\.\.\. \(a run\)"):
        governance.why(ws, identifier)
