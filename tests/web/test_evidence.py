"""The charts of what a judge saw, from looks made up by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from everloop.rollout import RolloutEvent, Stage
from everloop.web.evidence import Chart, charts_of
from tests.conftest import START

STAGES = (Stage(0, 0.0, "", mirrored=100.0), Stage(1, 10.0, ""), Stage(2, 100.0, ""))


def look(number: int, stage: int, n: int, *, act: Any = "look", e: float = 1.0, **given: Any) -> RolloutEvent:
    counts = {"canary_bad": 0, "canary_total": n, "control_bad": 0, "control_total": n}
    verdict = {
        "metric": "errors", "says": "hold", "e_value": e, "e_bound": 60.0, "tolerated_ratio": 1.0, "excess": 0.0,
        "excess_upper": 0.02, "excess_at_most": 0.01, "counts": counts, "stage_counts": counts, **given,
    }  # fmt: skip
    decision = {"action": "hold", "metrics": [verdict]}
    at = START + timedelta(minutes=number)
    return RolloutEvent(f"re_{number}", "kind", "ro_1", at, act, "me", stage, "", decision, None, None)


def drawn(*looks: RolloutEvent) -> tuple[Chart, Chart]:
    (found,) = charts_of(looks, STAGES)
    assert found.excess is not None
    return found.evidence, found.excess


def heights(line: str) -> list[float]:
    return [float(point.partition(",")[2]) for point in line.split()]


def test_evidence_stands_at_its_bound_when_it_rolls_back() -> None:
    evidence, _ = drawn(look(0, 1, 10, e=0.2), look(1, 1, 20, e=60.0))
    ((bound, says),) = evidence.limits
    assert says == "rolls back at 60"
    floor, reached = heights(evidence.lines[0][1])
    assert (round(reached, 1), floor) == (round(bound, 1), 138.0), "less than none is drawn as none"


def test_a_stage_that_was_left_is_judged_on_what_it_counted_and_the_next_begins_behind_it() -> None:
    """The event of an advance is of the stage that begins; its pairs are of the one before."""
    evidence, excess = drawn(
        look(0, 0, 40, excess_lower=-0.02),
        look(1, 1, 100, act="advanced", excess_lower=-0.005),
        look(2, 1, 25),
        look(3, 2, 50, act="finished"),
    )
    assert [says for _, says in excess.stages] == ["shadow 100 %", "10 %"]
    assert evidence.most_requests == 150
    places = [round(x) for x, _, _ in excess.spots]
    assert places == sorted(places), "the canary's requests are drawn behind the pairs"
    assert len(excess.bands) == 1, "a band where both ends are known"
    assert [says for _, says in excess.ticks] == ["0", "3 pt", "-2 pt"]


def test_an_excess_without_margin_has_no_chart() -> None:
    (found,) = charts_of([look(0, 1, 10, excess_at_most=None)], STAGES)
    assert found.excess is None


def test_a_bound_under_its_margin_is_drawn_as_shown() -> None:
    _, excess = drawn(look(0, 1, 300, excess_upper=0.009))
    assert [tone for tone, _ in excess.lines] == ["mean", "ok"]
    assert heights(excess.lines[1][1])[0] > excess.limits[0][0], "further down is less"
