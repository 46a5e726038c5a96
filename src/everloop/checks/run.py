"""Which checks a candidate has to pass, and their results: no workspace, nothing stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from everloop.checks.catalog import CHECKS, is_metric
from everloop.checks.feature_tests import feature_check
from everloop.checks.own import own_result
from everloop.checks.records import CheckInput, CheckResult, Gate
from everloop.checks.thresholds import metric_gate, not_below_live


def run_checks(given: CheckInput, gates: Sequence[Gate] = ()) -> tuple[CheckResult, ...]:
    """The results of the default checks, the feature tests and the gates, in that order.

    A gate about a default check sets its options instead of running it twice; one against the live version takes the place
    of the default one. A user's check that raises has
    failed; a built-in one does not raise, whatever the rows.
    """
    told = [one for one in gates if not is_metric(one)]
    defaults = [one.name for one in CHECKS.values() if one.is_default and not one.is_users]
    order = [*defaults, *(one.about for one in told if one.about not in defaults)]
    asked = [one for name in dict.fromkeys(order) for one in _about(name, told)]
    results = [
        replace(_result(given, one), name=name) for one, name in zip(asked, _names(asked), strict=True)
    ]
    if given.live is not None and all(one.below_live_by_at_most is None for one in gates if is_metric(one)):
        results.insert(sum(one.about in defaults for one in asked), not_below_live(given))
    results += [feature_check(test)(given) for test in given.feature_tests]
    results += [metric_gate(given, one) for one in gates if is_metric(one)]
    return tuple(results)


def _about(name: str, gates: Sequence[Gate]) -> Sequence[Gate]:
    return list(dict.fromkeys(one for one in gates if one.about == name)) or [Gate(name)]


def _names(gates: Sequence[Gate]) -> Iterator[str]:
    """What the results are called: as their check, and with its columns or a number where it has several gates."""
    several = Counter(one.about for one in gates)
    by_columns = Counter((one.about, one.by) for one in gates)
    seen = Counter[str]()
    for one in gates:
        seen[one.about] += 1
        own = "+".join(one.by) if by_columns[one.about, one.by] == 1 else ""
        yield one.about if several[one.about] == 1 else f"{one.about}:{own or seen[one.about]}"


def _result(given: CheckInput, gate: Gate) -> CheckResult:
    check = CHECKS.get(gate.about)
    if check is None or (gate.source is not None and gate.source != check.source):
        state = "is not defined" if check is None else "is another one now"
        return CheckResult(
            name=gate.about,
            verdict="failed",
            found=f"The check {gate.about!r} of a gate {state} in the process that evaluates.",
            rule="A check of your own runs as it was written when its gate was declared.",
            remedy="Apply the project that defines it (everloop apply loop.py), then train again (everloop run PIPELINE).",
        )
    if check.is_users:
        return own_result(check, given, gate.options)
    found: CheckResult = check(given, **gate.options)
    return found
