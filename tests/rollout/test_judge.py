from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from everloop.errors import Invalid
from everloop.rollout import (
    CanaryHealth,
    Counts,
    MetricEvidence,
    MetricRule,
    Rules,
    Split,
    Stretch,
    blown_fuse,
    judge,
    recent_failures,
)

ERRORS = MetricRule("errors", excess_at_most=0.01)
RULES = Rules((ERRORS,))
CLEAN = Counts(0, 400, 0, 3_600)
HARMFUL = Counts(36, 1_160, 95, 10_440)


def errors(*counts: Counts, shares: tuple[float, ...] = (0.1, 0.25)) -> MetricEvidence:
    splits = [Split(stage, share) for stage, share in enumerate(shares[: len(counts)])]
    return MetricEvidence(
        "errors", tuple(Stretch(split, one) for split, one in zip(splits, counts, strict=True))
    )


def test_a_clean_canary_advances() -> None:
    decision = judge([errors(CLEAN)], RULES)
    assert decision.action == "advance"
    assert decision.reason.startswith("errors exceed the control by at most 0.86 points")


def test_three_times_the_errors_roll_back_with_the_numbers() -> None:
    decision = judge([errors(HARMFUL)], RULES)
    assert decision.action == "roll_back"
    assert "errors 3.1 % (36 of 1,160) against 0.91 % (95 of 10,440) in the control" in decision.reason
    verdict = decision.metrics[0]
    assert verdict.e_value > verdict.e_bound == 20.0
    assert f"({verdict.evidence})" in decision.reason
    assert verdict.excess == pytest.approx(36 / 1_160 - 95 / 10_440)


def test_a_canary_of_which_every_request_fails_is_told_as_100_percent() -> None:
    decision = judge([errors(Counts(6, 6, 0, 54))], RULES)
    assert decision.reason.startswith("errors 100 % (6 of 6) against 0 % (0 of 54) in the control")


@pytest.mark.parametrize(
    "counts", [Counts(), Counts(1, 2, 0, 18), Counts(0, 20, 0, 180), Counts(1, 4, 0, 36)]
)
def test_low_traffic_neither_passes_nor_fails(counts: Counts) -> None:
    assert judge([errors(counts)], RULES).action == "hold"


def test_a_metric_without_evidence_holds() -> None:
    decision = judge([errors(CLEAN)], Rules((ERRORS, MetricRule("slow", excess_at_most=0.05))))
    assert decision.action == "hold"
    assert decision.reason == "needs more evidence: slow has no requests in one arm of this stage"


def test_a_metric_without_a_margin_does_not_keep_from_advancing_but_rolls_back() -> None:
    rules = Rules((ERRORS, MetricRule("contradicted", excess_at_most=None)))
    assert judge([errors(CLEAN)], rules).action == "advance"
    contradicted = MetricEvidence("contradicted", errors(HARMFUL).stretches)
    assert judge([errors(CLEAN), contradicted], rules).action == "roll_back"


def test_without_any_margin_a_person_decides_and_harm_still_takes_back() -> None:
    rules = Rules((MetricRule("errors", excess_at_most=None),))
    for counts in (Counts(), CLEAN):
        decision = judge([errors(counts)], rules)
        assert decision.action == "hold"
        assert decision.reason.startswith("no metric has a margin")
    assert judge([errors(HARMFUL)], rules).action == "roll_back"


def test_a_new_stage_starts_without_the_last_ones_credit() -> None:
    assert judge([errors(CLEAN, Counts(0, 25, 0, 75))], RULES).action == "hold"


def test_harm_of_an_earlier_stage_is_not_forgotten() -> None:
    assert judge([errors(HARMFUL, Counts())], RULES).action == "roll_back"


def test_full_traffic_has_nothing_to_compare_with() -> None:
    assert judge([errors(CLEAN, Counts(0, 5_000, 0, 0), shares=(0.1, 1.0))], RULES).action == "hold"


def test_more_metrics_need_more_evidence_each() -> None:
    four = Rules(tuple(MetricRule(name, 0.01) for name in ("errors", "slow", "contradicted", "refused")))
    assert four.e_bound == 80.0
    some_harm = errors(Counts(9, 300, 20, 2_700))
    assert judge([some_harm], RULES).action == "roll_back"
    assert judge([some_harm], four).action == "hold"


def test_a_tolerated_ratio_forgives() -> None:
    twice = errors(Counts(100, 5_000, 450, 45_000))
    assert judge([twice], RULES).action == "roll_back"
    assert judge([twice], Rules((MetricRule("errors", 0.01, tolerated_ratio=2.0),))).action == "hold"


def test_traffic_that_was_not_split_as_asked_holds() -> None:
    decision = judge([errors(Counts(0, 1_000, 0, 3_000))], RULES)
    assert decision.sample_ratio.is_off
    assert decision.action == "hold"
    assert "1,000 of 4,000 requests where 400 were asked for" in decision.reason


def test_a_fuse_needs_no_statistics() -> None:
    decision = judge([], RULES, health=CanaryHealth(not_ready="no such file"))
    told = "fuse: the canary is not ready: no serving process can load it: no such file"
    assert (decision.action, decision.reason) == ("roll_back", told)


@pytest.mark.parametrize(
    ("health", "blows"),
    [
        (CanaryHealth(), False),
        (CanaryHealth(failures_in_a_row=19, control_successes_meanwhile=100), False),
        (CanaryHealth(failures_in_a_row=20, control_successes_meanwhile=1), True),
        (CanaryHealth(failures_in_a_row=20, control_successes_meanwhile=0), False),
        (CanaryHealth(None, 20, 30, 150), False),
        (CanaryHealth(None, 20, 150, 30), True),
        (CanaryHealth(failures_in_a_row=20, control_successes_meanwhile=None), True),
        (CanaryHealth(not_ready="no such file"), True),
        (CanaryHealth(crashes=2), False),
        (CanaryHealth(crashes=3), True),
    ],
)
def test_fuses(health: CanaryHealth, *, blows: bool) -> None:
    assert (blown_fuse(health) is not None) == blows


def test_failures_in_a_row_as_by_walking_backwards() -> None:
    random = np.random.default_rng(3)
    for _ in range(200):
        failed, canary = random.random(30) < 0.7, random.random(30) < 0.5
        row = 0
        seen = meanwhile = (0, 0)
        for is_failed, in_canary in zip(failed[::-1].tolist(), canary[::-1].tolist(), strict=True):
            if in_canary and not is_failed:
                break
            if in_canary:
                row, meanwhile = row + 1, seen
            else:
                seen = (seen[0] + (not is_failed), seen[1] + is_failed)
        assert recent_failures(failed, canary) == CanaryHealth(None, row, *meanwhile)


def test_an_incident_that_fails_most_requests_of_both_arms_blows_no_fuse() -> None:
    """400 incidents in which 80 % of 2,000 requests fail in both arms, looked at after each of the canary's."""
    random, blown = np.random.default_rng(5), 0
    for _ in range(400):
        failed, canary = random.random(2_000) < 0.8, random.random(2_000) < 0.1
        looks = (recent_failures(failed[: n + 1], canary[: n + 1]) for n in np.flatnonzero(canary))
        blown += any(blown_fuse(seen) is not None for seen in looks)
    assert blown == 0


def test_a_decision_is_stored_as_json() -> None:
    certain = errors(Counts(5_000, 5_000, 0, 45_000))
    stored = json.loads(json.dumps(judge([certain], RULES).as_dict(), allow_nan=False))
    assert stored["action"] == "roll_back"
    assert stored["metrics"][0]["counts"]["canary_bad"] == 5_000


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: MetricRule("errors", excess_at_most=1.5), "excess_at_most of errors is 1.5"),
        (lambda: MetricRule("errors", 0.01, tolerated_ratio=0.5), "tolerated_ratio of errors is 0.5"),
        (lambda: Rules(()), "at least one"),
        (lambda: Rules((ERRORS, ERRORS)), "each once"),
        (lambda: Rules((ERRORS,), confidence=95), "confidence is 95"),
        (lambda: judge([MetricEvidence("slow", ())], RULES), r"evidence was given for \['slow'\]"),
        (lambda: judge([errors(CLEAN), errors(CLEAN)], RULES), "each once"),
    ],
)
def test_unclear_rules_are_refused(make: object, found: str) -> None:
    assert callable(make)
    with pytest.raises(Invalid, match=found):
        make()


@pytest.mark.parametrize(("e_value", "told"), [(1.0, "1"), (3_571.4, "3,570"), (2.5e9, "2.5e+09")])
def test_evidence_is_told_to_three_figures_without_an_exponent_where_one_reads_it(
    e_value: float, told: str
) -> None:
    (verdict,) = judge([errors(Counts(0, 10, 0, 10))], RULES).metrics
    assert replace(verdict, e_value=e_value).evidence == f"e = {told}, bound 20"
