"""Do labels or texts show signs that somebody tampered with them: labels that contradict their rows, alone, in batches, or
wherever one word stands?

A model of words, categories and numbers is trained on four fifths of the training rows and asked about the last fifth, in
turn. A label is doubtful when that model is sure of another class: Northcutt, Jiang and Chuang, Confident Learning, JAIR 70
(2021), section 3.1, with fixed bounds in place of the classes' own. A trigger, which a backdoor is opened by (Gu, Dolan-Gavitt
and Garg, BadNets, 2017), is looked for by taking a word's own weight away: of what the rest of its rows then says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.bounds import fewer_by_chance, wilson
from everloop.checks.columns import (
    NULL,
    Codes,
    Floats,
    class_codes,
    compute,
    floats,
    kind_of,
    plain,
    row_ids,
)
from everloop.checks.out_of_fold import FOLDS, Believed, believe, softmax
from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult, Verdict
from everloop.checks.scored import places

_ROWS = 10_000  # training rows that are looked at, evenly spread
_SURE = 0.8  # probability of another class, and
_UNLIKELY = 0.1  # of the label, from which on a label is doubtful
_USUAL = 0.02  # share of doubtful labels up to which nothing is said
_BATCH_ROWS, _BATCHES = 20, 50  # rows of the smallest batch, and values of a column that still names batches
_TIMES = 20  # batches of equally many rows that the rows' times are cut into
_APART = 0.1  # of a batch's share from the others'
_FALSE_ALARMS = 0.01
_WORD_ROWS = 8  # of a trigger at least
_PURE = 0.9  # of them of one class
_OFTEN = 0.05  # of all rows at most
_WITHOUT = 0.8  # probability of another class once the word is gone
_CONTRADICTED = 0.6  # share of a trigger's rows that then contradict their label
_WORDS = 500  # that are tried
_LATE = 0.8  # of the rows' order in time, after which a word has arrived late

RULE = (
    "Few labels (2 %) may contradict what the other rows say of theirs; no annotator, source or time may have clearly more of "
    "them (by 0.1 or more, in 1 % of reports by chance); and no word may overrule all the rest of its rows. Signs are a "
    "warning; with at_most they fail, and so does a larger share of doubtful labels."
)
REMEDY = (
    "Look at the rows named: settle their labels in the review queue; of a batch look at who or what it came from; leave the rows "
    "of a trigger out and train again."
)
NUMBERS = {
    "doubtful": "training rows whose label the model of the other rows is sure to be another",
    "doubtful_share": "their share",
    "limit": "of the gate; none without one",
    "batches": "annotators, sources and times with clearly more of them",
    "worst_batch": "the largest share in such a batch",
    "triggers": "words that overrule the rest of their rows",
    "trigger_rows": "training rows with such a word",
    "quality": "accuracy of the model of the other rows: below 0.8 it can hardly doubt a label",
    "rows": "labelled training rows looked at, 10,000 at most",
}

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Batch:
    by: str
    value: str
    rows: int
    share: float
    others: float
    is_suspect: bool


@dataclass(frozen=True)
class _Trigger:
    label: str
    rows: Codes
    contradicted: float
    is_late: bool


def tampering(given: CheckInput, *, at_most: float | None = None) -> CheckResult:
    """Doubtful labels, batches of them, and words that overrule the rest of their rows."""
    numbers: dict[str, float | int | None] = {**dict.fromkeys(NUMBERS), "limit": at_most}
    table = _labelled(given)
    believed = None if isinstance(table, str) else believe(given, table)
    if isinstance(table, str) or believed is None:
        found = table if isinstance(table, str) else "No input can be looked into."
        return CheckResult("tampering", "skipped", found, RULE, "Nothing to do.", numbers)
    chances = believed.chances
    own = chances[np.arange(len(chances)), believed.labels]
    doubtful = (chances.max(axis=1) >= _SURE) & (own <= _UNLIKELY)
    batches = list(_batches(given, table, doubtful))
    suspect = [one for one in batches if one.is_suspect]
    triggers = _triggers(given, table, believed)
    share = float(doubtful.mean())
    has_signs = bool(suspect or triggers)
    verdict: Verdict = "passed"
    if has_signs or share > (_USUAL if at_most is None else at_most):
        verdict = "warned" if at_most is None else "failed"
    order = _evidence(chances, own, doubtful, triggers)
    numbers |= {
        "doubtful": int(doubtful.sum()),
        "doubtful_share": share,
        "batches": len(suspect),
        "worst_batch": max((one.share for one in suspect), default=None),
        "triggers": len(triggers),
        "trigger_rows": len({int(row) for one in triggers for row in one.rows}),
        "quality": float((chances.argmax(axis=1) == believed.labels).mean()),
        "rows": table.num_rows,
    }
    return CheckResult(
        name="tampering",
        verdict=verdict,
        found=_found(numbers, suspect, triggers),
        rule=RULE,
        remedy="Nothing to do." if verdict == "passed" else REMEDY,
        numbers=numbers,
        evidence=() if verdict == "passed" else row_ids(table, order),
        details=_details(table, believed, order[:20], suspect, triggers),
        plot=plot(
            "intervals", _points(batches, believed, doubtful), at="batch", value="share of doubtful labels"
        ),
    )


def _labelled(given: CheckInput) -> pa.Table | str:
    if given.task == "number":
        return "The labels are numbers."
    if given.label not in given.train.column_names:
        return "The training rows have no labels."
    table = given.train.filter(compute.is_valid(plain(given.train[given.label])))
    if table.num_rows > _ROWS:
        table = table.take(np.linspace(0, table.num_rows - 1, _ROWS).astype(np.int64))
    labels = class_codes(table[given.label])[0]
    if len(labels) == 0 or (count := np.bincount(labels)[np.bincount(labels) > 0]).size < 2:
        return "The training rows have fewer than two classes."
    if len(labels) < 10 * FOLDS or np.sort(count)[-2] < FOLDS:
        return f"There are {len(labels)} labelled training rows: too few to learn what the others say."
    return table


def _batches(given: CheckInput, table: pa.Table, doubtful: Mask) -> Iterator[_Batch]:
    """Rows by who labelled them, by columns of few values that the model does not see, and by when they came."""
    found = [(by, *_coded) for by, _coded in _sources(given, table)]
    sizes = [np.bincount(own[own != NULL], minlength=len(names)) for _, own, names in found]
    tried = sum(int((size >= _BATCH_ROWS).sum()) for size in sizes)
    limit = _FALSE_ALARMS / max(1, tried)  # Bonferroni: over all batches together
    for (by, own, names), size in zip(found, sizes, strict=True):
        for number in np.flatnonzero((size >= _BATCH_ROWS) & (size < len(own))).tolist():
            inside = own == number
            share, others = float(doubtful[inside].mean()), float(doubtful[~inside].mean())
            rows, good = int(inside.sum()), int((inside & ~doubtful).sum())
            is_suspect = (
                share >= others + _APART
                and fewer_by_chance(good, rows, int((~doubtful).sum()), len(doubtful)) <= limit
            )
            yield _Batch(by, names[number], rows, share, others, is_suspect)


def _sources(given: CheckInput, table: pa.Table) -> Iterator[tuple[str, tuple[Codes, list[str]]]]:
    if given.annotators is not None:
        rows = places(table, given.annotators)
        wanted: Any = pa.array(np.maximum(rows, 0), mask=rows == NULL)
        said = given.annotators["annotator"].take(wanted)
        yield "annotator", class_codes(said)
    for name in table.column_names:
        if name in (given.label, given.key, *given.columns) or name.startswith("_"):
            continue
        if kind_of(plain(table[name]).type) in ("text", "number", "boolean"):
            own, names = class_codes(table[name])
            if 2 <= len(names) <= _BATCHES:
                yield name, (own, names)
    if given.time is not None and given.time in table.column_names:
        times = floats(plain(table[given.time]))
        if np.isfinite(times).sum() >= _TIMES * _BATCH_ROWS:
            edges = np.unique(np.nanquantile(times, np.linspace(0, 1, _TIMES + 1)[1:-1]))
            own = np.where(np.isfinite(times), np.searchsorted(edges, times, side="right"), NULL).astype(
                np.int64
            )
            yield (
                given.time,
                (own, [f"part {number + 1} of {len(edges) + 1}" for number in range(len(edges) + 1)]),
            )


def _triggers(given: CheckInput, table: pa.Table, believed: Believed) -> list[_Trigger]:
    """Words whose rows are of one class, and would be of another without the word."""
    words, labels = believed.words, believed.labels
    number = np.diff(words.indptr)
    maybe = np.flatnonzero(
        (number >= _WORD_ROWS) & (number <= max(_WORD_ROWS, _OFTEN * len(labels)))
    ).tolist()
    when = _order_in_time(given, table)
    candidates = []
    for word in maybe:
        rows = words.indices[words.indptr[word] : words.indptr[word + 1]]
        count = np.bincount(labels[rows])
        if count.max() >= _PURE * len(rows):
            candidates.append((int(word), rows, int(count.argmax())))
    # the rarer the class is elsewhere, the more a word that always comes with it says: those are tried first
    candidates.sort(key=lambda one: -len(one[1]) / max(1, int((labels == one[2]).sum())))
    found = []
    for word, rows, label in candidates[:_WORDS]:
        values = np.asarray(words[rows, word].todense()).ravel()
        weight = np.stack(
            [believed.weights[fold][word] for fold in believed.fold[rows]]
        )  # (n_word_rows, n_classes)
        chances = softmax(believed.scores[rows] - values[:, None] * weight)
        is_other = (chances.argmax(axis=1) != label) & (chances.max(axis=1) >= _WITHOUT)
        share = float(is_other.mean())
        if share >= _CONTRADICTED:
            is_late = when is not None and float(np.median(when[rows])) >= _LATE
            found.append(_Trigger(believed.names[label], rows.astype(np.int64), share, is_late))
    return sorted(found, key=lambda one: -one.contradicted)


def _order_in_time(given: CheckInput, table: pa.Table) -> Floats | None:
    """How far through the rows' times each row came, (n_rows,) from 0 to 1."""
    if given.time is None or given.time not in table.column_names:
        return None
    times = floats(plain(table[given.time]))
    order: Floats = np.argsort(np.argsort(times, kind="stable"), kind="stable") / max(1, len(times) - 1)
    return order


def _evidence(chances: Floats, own: Floats, doubtful: Mask, triggers: list[_Trigger]) -> Codes:
    """Rows of triggers, then the most doubtful labels."""
    order = np.argsort(own - chances.max(axis=1), kind="stable")
    rows = [row for one in triggers for row in one.rows[:10].tolist()] + order[doubtful[order]].tolist()
    return np.array(list(dict.fromkeys(rows)), np.int64)


def _details(
    table: pa.Table, believed: Believed, order: Codes, suspect: list[_Batch], triggers: list[_Trigger]
) -> tuple[dict[str, Any], ...]:
    best, chances = believed.scores.argmax(axis=1), believed.chances
    batches = [
        {
            "sign": "batch",
            "by": one.by,
            "value": one.value,
            "rows": one.rows,
            "share": one.share,
            "others": one.others,
        }
        for one in suspect[:20]
    ]
    words = [
        {
            "sign": "trigger",
            "label": one.label,
            "rows": len(one.rows),
            "contradicted": round(one.contradicted, 4),
            "is_late": one.is_late,
            "some": list(row_ids(table, one.rows[:5])),
        }
        for one in triggers[:20]
    ]
    doubts = [
        {
            "sign": "label",
            "row": row,
            "label": believed.names[believed.labels[place]],
            "likelier": believed.names[best[place]],
            "probability": round(float(chances[place, best[place]]), 4),
        }
        for row, place in zip(row_ids(table, order), order, strict=False)
    ]
    return (*batches, *words, *doubts)


def _points(batches: list[_Batch], believed: Believed, doubtful: Mask) -> list[Point]:
    """The batches, those with most doubtful labels first; then the classes."""
    points = []
    for one in sorted(batches, key=lambda one: -one.share)[:30]:
        low, high = wilson(one.share * one.rows, one.rows)
        name = f"{one.by} = {one.value}"
        points.append(
            Point(name, one.share, low, high, one.others, one.rows, one.by, is_marked=one.is_suspect)
        )
    for number, label in enumerate(believed.names):
        own = doubtful[believed.labels == number]
        low, high = wilson(int(own.sum()), len(own))
        points.append(Point(label, float(own.mean()), low, high, rows=len(own), series="class"))
    return points


def _found(numbers: dict[str, float | int | None], suspect: list[_Batch], triggers: list[_Trigger]) -> str:
    told = [
        f"{numbers['doubtful']} of {numbers['rows']} labels are doubtful ({numbers['doubtful_share']:.1%})."
    ]
    told += [
        f"Of {one.by} = {one.value!r} {one.share:.1%} are, of the others {one.others:.1%}."
        for one in suspect[:3]
    ]
    if triggers:
        late = sum(one.is_late for one in triggers)
        told.append(
            f"{len(triggers)} words overrule all the rest of their rows ({numbers['trigger_rows']} rows, the first towards "
            f"{triggers[0].label!r}{f'; {late} of them arrived late' if late else ''})."
        )
    return " ".join(told)
