"""Checks of a user's own: made from a plain function, and their answer as a result, whatever they return or raise."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from everloop.checks.isolation import Ended, apart
from everloop.checks.plots import settled
from everloop.checks.records import EVIDENCE_ROWS, Check, CheckInput, CheckResult, Verdict
from everloop.checks.source import tree_of
from everloop.data import personal_kinds
from everloop.errors import Invalid

TIMEOUT_S = 300.0
RULE = "The check must hold."
REMEDY = "Look at the rows that it names; mend them, the model or the check."
_CAREFUL = "Mend the check; it must cope with empty tables, nulls and unseen classes."
_LONGEST = 300  # characters of an exception that a report keeps


def own_check(
    function: Callable[..., Any],
    options: frozenset[str],
    told: Mapping[str, str],
    *,
    timeout_s: float = TIMEOUT_S,
    how: Callable[..., CheckResult] | None = None,
) -> Check:
    """A check from a user's function and what `check` was told of it. Raises Invalid when it cannot be one."""
    name = getattr(function, "__name__", "")
    if not inspect.isfunction(function) or not name.isidentifier() or inspect.iscoroutinefunction(function):
        raise Invalid(
            f"el.check got {name or type(function).__name__}; a check is a plain function that was written with def. "
            "Write one that takes the CheckInput."
        )
    parameters = list(inspect.signature(function).parameters.values())
    needed = [one for one in parameters if one.default is one.empty and one.kind in (0, 1, 3)]
    if len(needed) != 1 or needed[0] is not parameters[0] or needed[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise Invalid(
            f"the check {name} asks for {len(needed)} values; a check is called with one CheckInput and, by keyword, with "
            f"the options of its gate. Write def {name}(given: el.CheckInput), and give each option a default."
        )
    takes_all = how is not None or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
    names = {one.name for one in parameters[1:]}
    return Check(
        name=name,
        question=told["question"] or (inspect.getdoc(function) or name).splitlines()[0],
        rule=told["rule"],
        remedy=told["remedy"],
        function=function,
        options=tuple(sorted(options if takes_all else options & names)),
        is_users=True,
        timeout_s=timeout_s,
        how=how,
    )


def unit_check(function: Callable[..., Any], *, timeout_s: float) -> Check:
    """A check from a test without parameters. Raises Invalid when it has some, or is no function."""
    name = getattr(function, "__name__", "")
    if not inspect.isfunction(function) or not name.isidentifier() or inspect.iscoroutinefunction(function):
        raise Invalid(
            f"el.feature_test got {name or type(function).__name__}; it takes a plain function that was written with def."
        )
    if needed := list(inspect.signature(function).parameters):
        raise Invalid(
            f"the test {name} asks for {', '.join(needed)}; a test is called without anything. Make the values inside, or "
            "let hypothesis draw them with @given below @el.feature_test."
        )
    return Check(
        name=name,
        question=(inspect.getdoc(function) or name).splitlines()[0],
        rule="The test must hold.",
        remedy="",
        function=getattr(getattr(function, "hypothesis", None), "inner_test", function),
        is_users=True,
        timeout_s=timeout_s,
        how=lambda check, given: _tested(check, function),
    )


def _tested(check: Check, function: Callable[[], Any]) -> CheckResult:
    """The test's result; a property is tried on the same values each time, and on none that an earlier run kept."""
    if hasattr(function, "hypothesis"):
        sys.modules["hypothesis"].seed(0)(function)
    function()
    return _held(check)


def own_result(check: Check, given: CheckInput, options: Mapping[str, Any]) -> CheckResult:
    """What a user's check says. Whatever it does wrong, hanging and crashing too, is a failed result that says so."""
    try:
        return apart(lambda: _said(check, given, options), timeout_s=check.timeout_s)
    except Ended as ended:
        remedy = f"Make it quicker, or give it more time with timeout_s ({check.timeout_s:g} now)."
        return _failed(check, f"{ended}.", remedy if "killed" in str(ended) else _CAREFUL)


def _said(check: Check, given: CheckInput, options: Mapping[str, Any]) -> CheckResult:
    try:
        said: Any = check(given, **options)
    except AssertionError as error:
        return _failed(check, _asserted(check, error))
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a user's check may raise anything: that is the finding)
        line = traceback.format_exception_only(error)[-1].strip()
        return _failed(check, f"It raised {_without_people(error, line)}{_place(check, error)}.", _CAREFUL)
    if isinstance(said, CheckResult):
        return _tidy(check, said)
    if isinstance(said, bool | np.bool_):
        return _held(check) if said else _failed(check, "It does not hold.")
    if said is None and __debug__ and _asserts(check):
        return _held(check)
    return _failed(
        check,
        f"It returned {'nothing' if said is None else f'a {type(said).__name__}'}.",
        "Return True, False or an el.CheckResult, or assert what must hold (asserts are off under python -O).",
    )


def _held(check: Check) -> CheckResult:
    return CheckResult(check.name, "passed", "It holds.", _sentence(check.rule or RULE), "Nothing to do.")


def _failed(check: Check, found: str, remedy: str = "") -> CheckResult:
    remedy = check.remedy or remedy or REMEDY
    return CheckResult(
        check.name, "failed", _sentence(found), _sentence(check.rule or RULE), _sentence(remedy)
    )


def _asserted(check: Check, error: AssertionError) -> str:
    text = str(error).strip()
    if case := next((one for one in getattr(error, "__notes__", ()) if f"{check.name}(" in one), None):
        text = f"{' '.join(case.split())} {text}".strip()  # of hypothesis: the values that break a property
    if text:
        return _without_people(error, text)
    frames = _frames(check, error)
    return f"It does not hold: {frames[-1].line}{_place(check, error)}" if frames else "It does not hold"


def _without_people(error: BaseException, text: str) -> str:
    """The text's first line; or only the kind of the error when that seems to hold personal data."""
    text = text.partition("\n")[0][:_LONGEST].rstrip(". ")
    return type(error).__name__ if personal_kinds(pa.array([text])) else text


def _place(check: Check, error: BaseException) -> str:
    frames = _frames(check, error)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _frames(check: Check, error: BaseException) -> list[traceback.FrameSummary]:
    """The lines of the check's own file that the error passed through."""
    file = inspect.unwrap(check.function).__code__.co_filename
    return [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]


def _asserts(check: Check) -> bool:
    tree = tree_of(inspect.unwrap(check.function))
    return any(isinstance(node, ast.Assert | ast.Raise) for node in ast.walk(tree))


def _tidy(check: Check, said: CheckResult) -> CheckResult:
    """The result as it is stored: named as its check, three whole sentences, plain numbers and at most 20 rows."""
    if said.verdict not in get_args(Verdict):
        known = ", ".join(get_args(Verdict))
        return _failed(check, f"It returned the verdict {said.verdict!r}.", f"Return one of {known}.")
    is_fine = said.verdict in ("passed", "skipped")
    try:
        details = tuple(json.loads(json.dumps(dict(one), allow_nan=False)) for one in said.details)
        return replace(
            said,
            name=check.name,
            found=_sentence(said.found),
            rule=_sentence(said.rule or check.rule or RULE),
            remedy=_sentence(said.remedy or ("Nothing to do." if is_fine else check.remedy or REMEDY)),
            numbers={str(name): _number(value) for name, value in said.numbers.items()},
            evidence=tuple(int(one) for one in said.evidence[:EVIDENCE_ROWS]),
            details=details,
            plot=None if said.plot is None else settled(said.plot),
        )
    except (TypeError, ValueError, AttributeError, Invalid) as error:
        line = _without_people(error, f"{type(error).__name__}: {error}")
        return _failed(
            check,
            f"Its result cannot be kept: {line}.",
            "Return texts as found, rule and remedy, plain numbers, row ids as evidence, and details that JSON can hold.",
        )


def _number(value: Any) -> float | int | None:
    """A number as JSON holds it: a check may give numpy's."""
    if value is None:
        return None
    return int(value) if isinstance(value, bool | np.bool_ | int | np.integer) else float(value)


def _sentence(text: str) -> str:
    text = str(text).strip()
    return text if text.endswith((".", "?", "!")) else f"{text}."
