"""The one table of checks, built in and users' own; the reference page is made from it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from everloop.checks import (
    calibration,
    classes,
    duplicates,
    fairness,
    footprint,
    leakage,
    near_duplicates,
    quality,
    robustness,
    schema,
    shift,
    slices,
    tampering,
)
from everloop.checks.records import Check, Gate
from everloop.errors import Invalid

BUILT_IN = (
    Check(
        name="schema",
        question="Are the rows what the model was declared to take?",
        rule=schema.RULE,
        remedy="Mend the step that makes the split, or the declaration of inputs.",
        function=schema.schema,
        numbers={
            "train_rows": "training rows",
            "test_rows": "test rows",
            "inputs": "inputs and features of the model",
            "problems": "what was found wrong; each is named in the message",
        },
        is_default=True,
    ),
    Check(
        name="quality",
        question="Do the columns hold what they are meant to hold?",
        rule=quality.RULE,
        remedy=quality.REMEDY,
        function=quality.quality,
        numbers=quality.NUMBERS,
        options=("measure", "at_most", "trusted"),
        is_default=True,
        refused=quality.refused,
    ),
    Check(
        name="leakage",
        question="Does something tell the model the answer that it will not have when it is asked for real?",
        rule=leakage.RULE,
        remedy="Take the column out of the inputs, split by the group, or remove repeated rows; an honest column is "
        "named in `gate('leakage', trusted=[...])`.",
        function=leakage.leakage,
        numbers={
            "strongest_skill": "share of the baseline's errors that the strongest input removes alone, at most 1",
            "strongest_skill_at_least": "its lower bound at 95 % confidence",
            "columns_failed": "inputs that give the label away",
            "group_overlap": "largest share of test rows whose group is among the training rows; none without a group",
            "copies": "test rows with the same inputs as a training row",
            "copies_share": "their share of the test rows",
        },
        options=("trusted",),
        is_default=True,
    ),
    Check(
        name="duplicates",
        question="Do training rows repeat each other, and do repeated rows contradict each other?",
        rule=duplicates.RULE.format(at_most=0.2),
        remedy="Clean the dataset with DropDuplicates and DropConflicts, or settle the labels in the review queue.",
        function=duplicates.duplicates,
        numbers={
            "redundant": "training rows that repeat an earlier one",
            "redundant_share": "their share of the training rows",
            "conflicting": "training rows that have a copy with another label",
            "conflicting_share": "their share of the training rows",
        },
        options=("at_most",),
        is_default=True,
    ),
    Check(
        name="near_duplicates",
        question="Do test rows say nearly the same as training rows?",
        rule=near_duplicates.RULE.format(at_most=near_duplicates.AT_MOST),
        remedy=near_duplicates.REMEDY,
        function=near_duplicates.near_duplicates,
        numbers=near_duplicates.NUMBERS,
        options=("at_most",),
        is_default=True,
    ),
    Check(
        name="classes",
        question="Is there enough of every class to learn it and to measure it?",
        rule=classes.RULE,
        remedy="Label more rows of the class, or take it out of the label schema.",
        function=classes.classes,
        numbers={
            "classes": "classes of the label schema and of the rows",
            "absent": "classes without a training row",
            "thin": "classes with fewer than 10 rows on a side, but some training rows",
            "fewest_train_rows": "training rows of the rarest class",
            "fewest_test_rows": "test rows of the rarest class",
        },
        is_default=True,
    ),
    Check(
        name="drift",
        question="Have the rows changed since the last snapshot?",
        rule=shift.RULE,
        remedy="Look at the columns named; if the world has moved, retraining is the answer, else mend the source.",
        function=shift.drift,
        numbers={
            "columns": "columns compared",
            "shifted": "columns that have shifted",
            "largest": "largest distance, 0 to 1",
        },
        options=("at_most",),
        is_default=True,
    ),
    Check(
        name="traffic_drift",
        question="Do the training rows look like what the live endpoint is asked?",
        rule=shift.TRAFFIC_RULE.format(min_rows=shift.MIN_REQUESTS),
        remedy="Train on newer rows, or on rows like those that the endpoint is asked; mend a unit or spelling that differs at "
        "its source.",
        function=shift.traffic_drift,
        numbers={
            "requests": "requests compared, 20,000 at most, evenly spread",
            "columns": "inputs compared",
            "shifted": "inputs that have shifted",
            "largest": "largest distance, 0 to 1",
        },
        options=("at_most", "min_rows"),
    ),
    Check(
        name="slices",
        question="Are there groups of rows for which the model is much worse than for the rest?",
        rule=slices.RULE,
        remedy="Look at these rows' labels first, then add rows like them.",
        function=slices.slices,
        numbers={
            "slices": "slices of one column with enough rows",
            "pairs": "slices of two columns together with enough rows",
            "weak": "slices that are worse than the rest",
            "worst": "quality on the worst slice",
            "overall": "quality on all rows",
        },
        options=("at_least", "by", "min_rows"),
        is_default=True,
    ),
    Check(
        name="fairness",
        question="Do the groups of a protected column get the model's answers alike?",
        rule=fairness.RULE,
        remedy=fairness.REMEDY,
        function=fairness.fairness,
        numbers=fairness.NUMBERS,
        options=("by", "measure", "positive", "at_least", "at_most", "confidence", "min_rows"),
        refused=fairness.refused,
    ),
    Check(
        name="calibration",
        question="Do the model's probabilities say how often it is right?",
        rule=calibration.RULE,
        remedy=calibration.REMEDY,
        function=calibration.calibration,
        numbers=calibration.NUMBERS,
        options=("measure", "at_most", "confidence"),
        refused=calibration.refused,
    ),
    Check(
        name="robustness",
        question="Does the model still answer well when its inputs are written badly, incomplete or measured roughly?",
        rule=robustness.RULE,
        remedy=robustness.REMEDY,
        function=robustness.robustness,
        numbers=robustness.NUMBERS,
        options=("measure", "at_most", "confidence"),
        refused=robustness.refused,
    ),
    Check(
        name="footprint",
        question="How quick, how large and how hungry is the model on this machine?",
        rule=footprint.RULE,
        remedy=footprint.REMEDY,
        function=footprint.footprint,
        numbers=footprint.NUMBERS,
        options=("measure", "at_most", "below_live_by_at_most"),
        refused=footprint.refused,
    ),
    Check(
        name="tampering",
        question="Do labels or texts show signs that somebody tampered with them?",
        rule=tampering.RULE,
        remedy=tampering.REMEDY,
        function=tampering.tampering,
        numbers=tampering.NUMBERS,
        options=("at_most",),
    ),
)

CHECKS: dict[str, Check] = {one.name: one for one in BUILT_IN}


def gate(
    about: str | Check | Callable[..., Any],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    below_live_by_at_most: float | None = None,
    confidence: float | None = None,
    min_rows: int | None = None,
    trusted: Sequence[str] = (),
    by: Sequence[str] = (),
    measure: str | None = None,
    positive: str | None = None,
) -> Gate:
    """A condition that a model version must meet before it is promoted or released.

    Parameters
    ----------
    about
        A check (its name, or the function that `check`, `invariance`, `direction` or `feature_test` decorated), or a metric: accuracy, macro_f1, weighted_f1,
        precision:CLASS, recall:CLASS, f1:CLASS, r2, mae, rmse, or any that the run logged.
    at_least, at_most
        Limit of a metric; at_most also of `duplicates` (share of redundant rows), `near_duplicates` (share of test rows), `drift` and
        `traffic_drift` (distance), `quality` (share of rows), at_least
        of `slices` (quality on every slice).
    below_live_by_at_most
        How much worse than the live version the metric may be, on the same rows; of `footprint` as a share: 0.2.
    confidence
        Without it the measured number decides and its interval is reported. With it (for example 0.95) the bound
        at this one-sided confidence decides: luck no longer passes a gate.
    min_rows
        Rows that a comparison with the live version (100), a slice (30) or `traffic_drift` (100 requests) needs; a metric with at_least or at_most
        fails on fewer (of recall:CLASS rows of the class, of precision:CLASS answers with it).
    trusted
        Inputs that `leakage` may find strong, or later than the row's own time; columns that `quality` leaves out.
    by
        Columns that `slices` looks at; the protected ones of `fairness`.
    measure
        What `quality` limits: nulls, constants, outliers, placeholders or unseen. What `fairness` compares: demographic_parity, equal_opportunity, equalised_odds or calibration; what
        `calibration` limits: expected_error or brier; by what `robustness` disturbs: typos, case, missing, noise, worst,
        or photos by brightness, contrast, blur, rotation, jpeg or crop; of `footprint` what is limited: row_p50_ms,
        row_p99_ms, batch_p95_ms, load_s, memory_mb, size_mb and so on.
    positive
        The class that is the favourable answer.

    Raises
    ------
    Invalid
        An option that this check does not have or that makes no sense for it, a metric without exactly one limit, or
        a confidence outside 0.5 to 1.
    """
    name = about if isinstance(about, str) else getattr(about, "name", getattr(about, "__name__", ""))
    made = Gate(
        about=name,
        at_least=at_least,
        at_most=at_most,
        below_live_by_at_most=below_live_by_at_most,
        confidence=confidence,
        min_rows=min_rows,
        trusted=tuple(trusted),
        by=tuple(by),
        measure=measure,
        positive=positive,
    )
    if confidence is not None and not 0.5 <= confidence < 1:
        raise Invalid(
            f"the gate on {name!r} has confidence {confidence}; it lies from 0.5 up to, but without, 1. 0.95 is usual."
        )
    known = CHECKS.get(name)
    if known is None:
        _require_metric(made)
    elif others := [option for option in made.options if option not in known.options]:
        takes = ", ".join(known.options) or "no options"
        raise Invalid(
            f"the check {name!r} has no option {', '.join(others)}; it takes {takes}. Leave it out."
        )
    elif known.refused is not None and (problem := known.refused(made)):
        raise Invalid(f"the gate on {name!r} {problem}")
    return made if known is None else replace(made, source=known.source)


def is_metric(gate: Gate) -> bool:
    """Whether a gate is about a metric, not about a check."""
    return gate.source is None and gate.about not in CHECKS


def _require_metric(gate: Gate) -> None:
    limits = [name for name in ("at_least", "at_most", "below_live_by_at_most") if name in gate.options]
    if len(limits) != 1:
        near = difflib.get_close_matches(gate.about, CHECKS, n=1)
        hint = (
            f"Did you mean the check {near[0]!r}?"
            if near and not limits
            else "Write one gate for each limit."
        )
        raise Invalid(
            f"the gate on the metric {gate.about!r} has {len(limits)} limits; it has one of at_least, at_most and "
            f"below_live_by_at_most. {hint}"
        )
    if others := [name for name in ("trusted", "by", "measure", "positive") if name in gate.options]:
        raise Invalid(
            f"a metric's gate has no option {', '.join(others)}; those belong to checks. Leave it out."
        )
