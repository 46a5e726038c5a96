"""Which checks a candidate has to pass, and their results: no workspace, nothing stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from everloop.checks.catalog import CHECKS, is_metric
from everloop.checks.feature_tests import feature_check
from everloop.checks.records import Check, CheckInput, CheckResult, Gate
from everloop.checks.thresholds import metric_gate


def run_checks(given: CheckInput, gates: Sequence[Gate] = ()) -> tuple[CheckResult, ...]:
    """The results of the default checks, the feature tests and the gates, in that order.

    A gate about a default check sets its options instead of running it twice. A user's check that raises has
    failed; a built-in one does not raise, whatever the rows.
    """
    told = {one.about: one for one in gates if not is_metric(one)}
    names = [one.name for one in CHECKS.values() if one.is_default and not one.is_users]
    names += [name for name in told if name not in names]
    results = [_result(CHECKS[name], given, told.get(name)) for name in names]
    results += [feature_check(test)(given) for test in given.feature_tests]
    results += [metric_gate(given, one) for one in gates if is_metric(one)]
    return tuple(results)


def _result(check: Check, given: CheckInput, gate: Gate | None) -> CheckResult:
    options = gate.options if gate is not None else {}
    if not check.is_users:
        return check(given, **options)
    try:
        result: Any = check(given, **options)  # whatever a user's function returns
    except Exception as error:  # noqa: BLE001  (a user's check may raise anything: that is the finding)
        return _raised(check, f"It raised {type(error).__name__}.")
    if not isinstance(result, CheckResult):
        return _raised(check, f"It returned {type(result).__name__}.")
    return replace(result, name=check.name)


def _raised(check: Check, found: str) -> CheckResult:
    return CheckResult(
        name=check.name,
        verdict="failed",
        found=found,
        rule=check.rule or "A check returns a CheckResult.",
        remedy=check.remedy or "Mend the check; it must cope with empty tables, nulls and unseen classes.",
    )
