"""What a table is about: guesses at key, time, label, group and inputs, each with its reason.

Guessing is pure: it looks at the rows and at what the user stated, writes nothing, and gives frozen records that are
printed before anything is done with them. What the user states is never guessed over, only checked.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everloop import checks, data
from everloop.errors import Invalid
from everloop.loop.facts import ColumnFacts, facts_of, plain_name

Kind = Literal["number", "category", "text", "image"]
Role = Literal["key", "time", "label", "group", "input", "left out"]

MADE_KEY = "row_key"
FEWEST_ROWS = 5  # of a class: with fewer, a side of the split is likely to have none
MOST_CLASSES = 500
_MOST_WHOLE_NUMBERS = 30  # different whole numbers that may still be names of classes
_LABEL = "_label"  # in the table that giveaways are looked for in: no user's column begins with an underscore

_LABEL_NAMES = (
    "label",
    "target",
    "class",
    "category",
    "outcome",
    "y",
    "truth",
    "diagnosis",
    "sentiment",
    "verdict",
)
_LABEL_WORDS = (
    *_LABEL_NAMES,
    "churn",
    "churned",
    "fraud",
    "default",
    "survived",
    "approved",
    "species",
    "grade",
)
_TIME_WORDS = ("created", "received", "event", "time", "timestamp", "date", "at", "when", "day")
_NO_EVENT = ("birth", "dob", "due", "expiry", "expires", "end", "until", "deadline", "updated", "modified")


@dataclass(frozen=True)
class Wanted:
    """What the user states; None and () leave it to be guessed."""

    key: str | None = None
    time: str | None = None
    label: str | None = None
    group: str | None = None
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class ColumnGuess:
    """What one column is for and why; `kind` says how an input is turned into numbers."""

    column: str
    role: Role
    reason: str
    kind: Kind | None = None
    has_missing: bool = False


@dataclass(frozen=True)
class Guess:
    """What a table is about. `key` None: no column names a row, so that a key has to be made.

    `per_class` counts the labelled rows of the classes that are used, most frequent first; `thin` those of classes
    with too few rows, which are left out; `unlabelled` the rows without a label.
    """

    rows: int
    key: str | None
    time: str | None
    label: str
    group: str | None
    columns: tuple[ColumnGuess, ...]
    per_class: dict[str, int]
    thin: dict[str, int]
    unlabelled: int

    @property
    def key_name(self) -> str:
        """The key, or what the one that is made will be called."""
        name = self.key or MADE_KEY
        while self.key is None and any(one.column == name for one in self.columns):
            name += "_"
        return name

    @property
    def inputs(self) -> tuple[ColumnGuess, ...]:
        return tuple(one for one in self.columns if one.role == "input")

    @property
    def majority_macro_f1(self) -> float:
        """Macro F1 of always answering the most frequent class.

        With its share p of the rows its precision is p and its recall 1, so its F1 is 2 p / (1 + p); that of the
        k - 1 others is 0.
        """
        share = max(self.per_class.values()) / sum(self.per_class.values())
        return 2 * share / (1 + share) / len(self.per_class)


def guess(rows: pa.Table, schema: data.Schema, labels_as: pa.Table, wanted: Wanted) -> Guess:
    """Guess what a table is about.

    Parameters
    ----------
    rows, schema
        As `data.typed` gives them.
    labels_as
        The same rows as the file has them: a class is called what it is called there.

    Raises
    ------
    Invalid
        A stated column is not there or cannot be what it is stated to be, no column can be the label, several can,
        its values are all different, all the same or measurements, or nothing is left as input.
    """
    facts = {one.name: one for one in facts_of(rows, schema)}
    _check_known(facts, wanted)
    key = _key(facts, wanted)
    time = _time(facts, wanted)
    label = wanted.label or _label(list(facts.values()), taken={key, time, wanted.group, *wanted.inputs})
    names = class_names(labels_as[label])
    per_class, thin = _classes(facts[label], names)
    found = {one.column: one for one in _giveaways(rows, names, list(facts), label, key, per_class)}
    group = wanted.group or _group(facts, found)
    roles: dict[str | None, tuple[Role, str]] = {
        label: ("label", "stated" if wanted.label else f"{len(per_class)} classes"),
        key: ("key", "stated" if wanted.key else "no two rows have the same"),
        time: ("time", "stated" if wanted.time else "when a row happened"),
    }
    columns = []
    for one in facts.values():
        if one.name in roles:
            columns.append(ColumnGuess(one.name, *roles[one.name]))
        elif one.name == group and one.name not in wanted.inputs:
            columns.append(ColumnGuess(one.name, "group", _why_group(one, found.get(one.name), wanted)))
        else:
            columns.append(_input(one, found.get(one.name), wanted))
    made = Guess(rows.num_rows, key, time, label, group, tuple(columns), per_class, thin, names.null_count)
    if not made.inputs:
        left = "; ".join(f"{one.column}: {one.reason}" for one in columns if one.role == "left out")
        raise Invalid(
            f"no column is left that a model could learn {label!r} from ({left or 'there are no others'}). A model needs at "
            "least one input. Name inputs that are known when a prediction is asked for: --inputs A,B"
        )
    return made


def class_names(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """A label column as text, as an import of labels reads it; empty text is no label."""
    compute: Any = pc
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        text = compute.if_else(column, "True", "False").cast(pa.large_string())
    else:
        values = [None if one is None else str(one) for one in column.to_pylist()]
        text = pa.chunked_array([pa.array(values, pa.large_string())])
    named: pa.ChunkedArray[Any] = compute.if_else(
        compute.equal(compute.utf8_trim_whitespace(text), ""), None, text
    )
    return named


def _check_known(facts: dict[str, ColumnFacts], wanted: Wanted) -> None:
    stated = [
        ("--key", wanted.key),
        ("--time", wanted.time),
        ("--label", wanted.label),
        ("--group", wanted.group),
    ]
    stated += [("--inputs", name) for name in wanted.inputs]
    for option, name in stated:
        if name is not None and name not in facts:
            near = difflib.get_close_matches(name, facts, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Name one of these."
            raise Invalid(f"{option} names {name!r}; the file has the columns {', '.join(facts)}. {hint}")
    for option, name in stated[:2]:
        if name is not None and name in wanted.inputs:
            raise Invalid(
                f"{name!r} is both {option} and among --inputs; a column has one purpose. Take one out."
            )
    if wanted.label in wanted.inputs:
        raise Invalid(
            f"--inputs has the label {wanted.label!r}; a request does not carry the answer. Take it out of --inputs."
        )


def _key(facts: dict[str, ColumnFacts], wanted: Wanted) -> str | None:
    if wanted.key is not None:
        one = facts[wanted.key]
        if one.type not in ("string", "integer") or not one.is_unique:
            what = (
                f"is of type {one.type}"
                if one.type not in ("string", "integer")
                else "names rows twice or not at all"
            )
            raise Invalid(
                f"--key {wanted.key} {what} ({one.distinct:,} values in {one.rows:,} rows); a key is text or a whole number, "
                "different in every row. Name another, or leave --key out: a key is made then."
            )
        return wanted.key
    used = {wanted.time, wanted.label, wanted.group, *wanted.inputs}
    able = [
        one
        for one in facts.values()
        if one.is_unique and one.name not in used and (one.type == "integer" or one.is_code)
    ]
    named = [one for one in able if one.has_id_name]
    counted = [
        one for one in able if one.is_run or (one.type == "string" and one is next(iter(facts.values())))
    ]
    return next((one.name for one in [*named, *counted]), None)


def _time(facts: dict[str, ColumnFacts], wanted: Wanted) -> str | None:
    if wanted.time is not None:
        one = facts[wanted.time]
        if one.type != "time" or one.nulls:
            what = f"is of type {one.type}" if one.type != "time" else f"is missing in {one.nulls:,} rows"
            raise Invalid(
                f"--time {wanted.time} {what}; an event time is a time such as 2026-10-01T08:30:00Z in every row. "
                "Name another column, or leave --time out."
            )
        return wanted.time
    able = [
        one
        for one in facts.values()
        if one.type == "time" and not one.nulls and one.name not in wanted.inputs
    ]
    able = [one for one in able if not set(plain_name(one.name).split("_")) & set(_NO_EVENT)]
    able.sort(key=lambda one: not set(plain_name(one.name).split("_")) & set(_TIME_WORDS))
    return able[0].name if able else None


def _label(facts: Sequence[ColumnFacts], *, taken: set[str | None]) -> str:
    scored = [
        (score, one)
        for one in facts
        if one.name not in taken and (score := _label_score(one, facts[-1])) >= 3
    ]
    best = max((score for score, _ in scored), default=0)
    found = [one for score, one in scored if score == best]
    if len(found) == 1:
        return found[0].name
    if found:
        names = ", ".join(f"{one.name} ({one.distinct} values)" for one in found)
        raise Invalid(
            f"several columns could be the label: {names}. One column holds what is to be predicted. "
            f"Name it, for example: --label {found[-1].name}"
        )
    able = [
        f"{one.name} ({one.distinct} values)" for one in facts if one.name not in taken and _may_be_label(one)
    ]
    numbers = [one.name for one in facts if _label_hint(one) and _is_measured(one)]
    why = (
        f" {numbers[0]!r} is a number, and models of numbers (regression) are not supported yet."
        if numbers
        else ""
    )
    raise Invalid(
        f"no column looks like the label, what is to be predicted.{why} A label is a column of classes that repeat. "
        f"Name it with --label; possible are: {', '.join(able) or 'none, so that a column of classes has to be added'}."
    )


def _label_score(one: ColumnFacts, last: ColumnFacts) -> int:
    if not _may_be_label(one):
        return 0
    is_plain = one.type in ("string", "boolean") or one.distinct == 2
    return _label_hint(one) + 3 * (one is last) + is_plain


def _label_hint(one: ColumnFacts) -> int:
    name = plain_name(one.name)
    if name in _LABEL_NAMES:
        return 6
    return 4 if set(name.split("_")) & set(_LABEL_WORDS) else 0


def _may_be_label(one: ColumnFacts) -> bool:
    if not 2 <= one.distinct <= MOST_CLASSES or one.filled < FEWEST_ROWS * one.distinct or one.personal:
        return False
    if one.type == "string":
        return one.words < 8
    return one.type == "boolean" or (one.type in ("integer", "number") and not _is_measured(one))


def _is_measured(one: ColumnFacts) -> bool:
    """Whether a column of numbers measures something instead of naming classes."""
    if one.type not in ("integer", "number"):
        return False
    return not one.is_whole or (one.distinct > _MOST_WHOLE_NUMBERS and not one.has_id_name)


def _classes(one: ColumnFacts, names: pa.ChunkedArray[Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Rows a class, most frequent first: of the classes that are used, and of those with too few rows."""
    counts = dict(
        sorted(Counter(map(str, names.drop_null().to_pylist())).items(), key=lambda item: (-item[1], item[0]))
    )
    label, labelled = repr(one.name), sum(counts.values())
    if one.type in ("time", "image", "binary"):
        raise Invalid(
            f"the label {label} is of type {one.type}; a label is a class. Name another with --label."
        )
    if not counts:
        raise Invalid(
            f"the label {label} is empty in all rows; a model learns from labelled rows. Name another with --label."
        )
    if len(counts) == 1:
        raise Invalid(
            f"the label {label} is {next(iter(counts))!r} in all {labelled:,} labelled rows; a model tells two classes apart, or "
            "more. Add rows of another class, or name another column with --label."
        )
    if _is_measured(one):
        raise Invalid(
            f"the label {label} is a number with {one.distinct:,} different values; models of numbers (regression) are not "
            "supported yet. Name a column of classes with --label, or write ranges of it (low, middle, high) into a column."
        )
    if len(counts) * 2 > labelled:
        raise Invalid(
            f"the label {label} has {len(counts):,} different values in {labelled:,} rows; classes repeat, so that there is "
            "something to learn. Name another column with --label."
        )
    if len(counts) > MOST_CLASSES:
        raise Invalid(
            f"the label {label} has {len(counts):,} classes; a first model is made for at most {MOST_CLASSES}. Name a coarser "
            "column with --label, or write the loop file yourself: everloop init"
        )
    used = {name: count for name, count in counts.items() if count >= FEWEST_ROWS}
    if len(used) < 2:
        raise Invalid(
            f"the label {label} has {len(used)} class with {FEWEST_ROWS} rows or more; a model is trained and measured on at "
            "least two such classes. Label more rows, or name another column with --label."
        )
    return used, {name: count for name, count in counts.items() if name not in used}


def _giveaways(
    rows: pa.Table,
    names: pa.ChunkedArray[Any],
    columns: Sequence[str],
    label: str,
    key: str | None,
    per_class: dict[str, int],
) -> list[checks.Giveaway]:
    """How each column alone tells the label: the leakage gate's own measure, on a split by chance."""
    looked_at = [name for name in columns if name not in (label, key)]
    used: Any = pc.is_in(names, pa.array(list(per_class), pa.large_string()))
    table = rows.select(looked_at).append_column(_LABEL, names).filter(used)
    in_test = np.random.default_rng(0).random(table.num_rows) < 0.2
    train, test = (table.filter(pa.array(mask)) for mask in (~in_test, in_test))
    given = checks.CheckInput(train, test, tuple(looked_at), label=_LABEL)
    return checks.giveaways(given, looked_at)


def _group(facts: dict[str, ColumnFacts], found: dict[str, checks.Giveaway]) -> str | None:
    """The column of things that rows share and that have one label each, an identifier before a name."""
    able = [facts[name] for name, one in found.items() if one.is_entity]
    able.sort(key=lambda one: (not one.has_id_name, not (one.is_code or one.type == "integer")))
    return able[0].name if able else None


def _why_group(one: ColumnFacts, found: checks.Giveaway | None, wanted: Wanted) -> str:
    if wanted.group:
        return "stated: its rows stay on one side of the split"
    told = f"; it gives the answer away: {_told(found)}" if found else ""
    return f"rows that share one stay on one side of the split{told}"


def _told(found: checks.Giveaway) -> str:
    power = found.power
    return (
        f"{found.says}, which alone removes {power.skill or 0.0:.1%} of the errors made without any input "
        f"({power.rows:,} rows, at least {power.at_least:.1%} at 95 % confidence)"
    )


def _input(one: ColumnFacts, found: checks.Giveaway | None, wanted: Wanted) -> ColumnGuess:
    kind = _kind(one)
    gives_away = found is not None and found.level == "certain"
    if wanted.inputs:
        if one.name not in wanted.inputs:
            return ColumnGuess(one.name, "left out", "not among the stated inputs")
        if kind is None or one.filled == 0:
            raise Invalid(
                f"--inputs names {one.name!r}, which is {'empty' if one.filled == 0 else f'of type {one.type}'}; an input is "
                "text, a number, true or false, or an image. Take it out of --inputs."
            )
        warning = f"; IT GIVES THE ANSWER AWAY: {_told(found)}" if found and gives_away else ""
        return ColumnGuess(one.name, "input", f"stated{warning}", kind, one.nulls > 0)
    if found is not None and gives_away:
        return ColumnGuess(one.name, "left out", f"gives the answer away: {_told(found)}")
    if (reason := _useless(one)) is not None or kind is None:
        return ColumnGuess(
            one.name, "left out", reason or f"a column of type {one.type} is no input of a first model"
        )
    weak = f"; look at it: {_told(found)}" if found and found.level == "suspected" else ""
    return ColumnGuess(one.name, "input", f"{_looks(one, kind)}{weak}", kind, one.nulls > 0)


def _useless(one: ColumnFacts) -> str | None:
    if one.filled == 0:
        return "empty in all rows"
    if one.distinct == 1 and one.nulls == 0:
        return "the same in all rows"
    if one.personal:
        return f"holds personal data ({one.personal})"
    if one.is_unique and (one.is_run or one.has_id_name):
        return "numbers the rows"
    is_identifier = (one.type == "string" and one.is_code) or (one.type == "integer" and one.has_id_name)
    if is_identifier and one.filled >= 50 and one.distinct > 0.5 * one.filled:
        return f"different in nearly every row ({one.distinct:,} values)"
    return None


def _kind(one: ColumnFacts) -> Kind | None:
    if one.type == "image":
        return "image"
    if one.type == "boolean" or (one.type == "integer" and one.has_id_name):
        return "category"
    if one.type in ("integer", "number"):
        return "number"
    if one.type != "string":
        return None
    is_long = one.words >= 1.5 and one.distinct > 50 and one.distinct > 0.2 * one.filled
    return "text" if is_long or (one.words >= 3 and one.distinct > 0.5 * one.filled) else "category"


def _looks(one: ColumnFacts, kind: Kind) -> str:
    missing = f", {one.nulls:,} missing" if one.nulls else ""
    if kind == "text":
        return f"text of {one.words:.0f} words on average{missing}"
    if kind == "category":
        return f"{one.distinct:,} different values{missing}"
    return f"{'an image' if kind == 'image' else 'a number'}{missing}"
