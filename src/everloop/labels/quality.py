"""How good a label set is: conflicts, duplicates, thin classes, agreement, coverage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import combinations, groupby, islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everloop import data
from everloop.errors import Invalid
from everloop.labels import store
from everloop.labels.agreement import IntArray, agreeing_pairs, cohen_kappa, krippendorff_alpha
from everloop.labels.define import schema
from everloop.labels.records import (
    Agreement,
    Conflict,
    DuplicateItem,
    PairAgreement,
    QualityReport,
    Rule,
    Value,
)
from everloop.labels.resolve import Resolved, Statement, Translate, current, last_words
from everloop.labels.snapshot import known_at, resolved_at, translations
from everloop.workspace import Workspace

_LISTED = 100
_PAIRS = 10  # pairs of annotators in a report, those with most rows in common
_UNPROMPTED = ("human", "import")  # a correction or a review was made with an earlier answer in view
_CONTENT = ("string", "image", "binary")


def quality(
    ws: Workspace,
    name: str,
    *,
    at: datetime | None = None,
    rule: Rule = "latest",
    thin_below: int = 10,
    content: Sequence[str] | None = None,
) -> QualityReport:
    """What is wrong with the labels as known at a time, against the newest dataset version. Writes nothing.

    Parameters
    ----------
    rule
        By which a row's label is decided, as in `snapshot`.
    thin_below
        A class with fewer rows is thin: too few to measure a model on.
    content
        The columns that make two rows the same item; None: the text and image inputs, or all inputs if there are none.

    Raises
    ------
    NotFound
        There is no such label set or dataset version.
    Invalid
        `at` is in the future or before the label set was defined, or `content` names an unknown column.
    """
    at = known_at(ws, at)
    with ws.read() as connection:
        resolution = resolved_at(connection, schema(ws, name), rule=rule, at=at)
        of = resolution.schema
        said = store.statements(connection, name, at=at)
        opinions = _Opinions(said, translations(connection, of))
    version = data.version(ws, of.dataset)
    per_class = dict.fromkeys(of.labels, 0)
    for row in resolution.rows if of.kind == "class" else ():
        per_class[str(row.label)] += 1
    groups, torn = _duplicates(ws, version, resolution.rows, _content(version.schema, content))
    labelled = len(resolution.rows)
    return QualityReport(
        name=name,
        schema_number=of.number,
        at=at,
        rows=version.rows,
        labelled=labelled,
        below_per_item=sum(1 for count in opinions.annotators_per_row if count < of.per_item),
        left_out=resolution.left_out,
        per_class=per_class,
        thin={one: count for one, count in per_class.items() if count < thin_below},
        conflict_count=len(opinions.conflicts),
        conflicts=tuple(opinions.conflicts[:_LISTED]),
        duplicate_groups=groups,
        duplicate_conflict_count=len(torn),
        duplicate_conflicts=tuple(torn[:_LISTED]),
        agreement=agreement_of(opinions.unprompted),
    )


class _Opinions:
    """What each annotator thinks of each row, in today's words, gathered in one pass."""

    def __init__(self, said: Iterable[Statement], translate: Translate) -> None:
        self.conflicts: list[Conflict] = []
        self.annotators_per_row: list[int] = []
        self.unprompted: list[tuple[int, str, Value]] = []
        for row_id, group in groupby(said, key=lambda one: one.row_id):
            heard = current((one for one in group if one.source != "model"), translate=translate)
            words = last_words(heard)
            if not words:
                continue
            self.annotators_per_row.append(len(words))
            values = {by: one.value for by, one in words.items()}
            is_settled = any(one.source == "review" for one in heard)
            if len(set(values.values())) > 1 and not is_settled:
                self.conflicts.append(Conflict(row_id, heard[0].key, values))
            free = last_words([one for one in heard if one.source in _UNPROMPTED])
            if len(free) > 1:
                self.unprompted += [(row_id, by, one.value) for by, one in free.items()]


def agreement_of(opinions: Sequence[tuple[int, str, Value]]) -> Agreement | None:
    """Agreement over (row id, annotator, value), one an annotator and row; None when no row has two opinions."""
    if not opinions:
        return None
    rows, annotators, values = zip(*opinions, strict=True)
    items, codes = _codes(rows), _codes(values)
    agree = agreeing_pairs(items, codes)
    if agree is None:
        return None
    return Agreement(
        rows=int(items.max()) + 1,
        annotators=len(set(annotators)),
        agree=agree,
        alpha=krippendorff_alpha(items, codes),
        pairs=tuple(_pairs(items, annotators, codes)),
    )


def _pairs(items: IntArray, annotators: Sequence[str], codes: IntArray) -> Iterator[PairAgreement]:
    by_annotator: dict[str, dict[int, int]] = defaultdict(dict)
    for item, annotator, code in zip(items.tolist(), annotators, codes.tolist(), strict=True):
        by_annotator[annotator][item] = code
    shared = [
        (sorted(by_annotator[one].keys() & by_annotator[other].keys()), one, other)
        for one, other in combinations(sorted(by_annotator), 2)
    ]
    for common, one, other in islice(sorted(shared, key=lambda pair: -len(pair[0])), _PAIRS):
        if common:
            first, second = (np.array([by_annotator[who][item] for item in common]) for who in (one, other))
            agree = float(np.mean(first == second))
            yield PairAgreement((one, other), len(common), agree, cohen_kappa(first, second))


def _codes(values: Sequence[object]) -> IntArray:
    places: dict[object, int] = {}
    return np.array([places.setdefault(one, len(places)) for one in values], dtype=np.int64)


def _content(of: data.Schema, content: Sequence[str] | None) -> list[str]:
    if content is not None:
        if unknown := [name for name in content if name not in of.names]:
            raise Invalid(
                f"the dataset has no columns {unknown}; it has {', '.join(of.names)}. Name some of these."
            )
        return list(content)
    types = {column.name: column.type for column in of.columns}
    return [name for name in of.inputs if types[name] in _CONTENT] or list(of.inputs)


def _duplicates(
    ws: Workspace, version: data.DatasetVersion, rows: Sequence[Resolved], content: list[str]
) -> tuple[int, list[DuplicateItem]]:
    """How many groups of labelled rows have equal content, and the groups whose labels differ."""
    if not content or not rows:
        return 0, []
    labels = {row.row_id: row.label for row in rows if row.label is not None}
    table = data.read(ws, version.ref, columns=content)
    table = table.filter(pc.is_in(table.column("_row_id"), value_set=pa.array(list(labels), pa.int64())))
    grouped = table.group_by(content, use_threads=False).aggregate([("_row_id", "list")])
    groups: dict[str, list[list[int]]] = grouped.select(["_row_id_list"]).to_pydict()
    several = [sorted(one) for one in groups["_row_id_list"] if len(one) > 1]
    torn = [
        DuplicateItem(tuple(group), tuple(labels[row_id] for row_id in group))
        for group in sorted(several)
        if len({labels[row_id] for row_id in group}) > 1
    ]
    return len(several), torn
