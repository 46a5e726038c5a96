"""Deciding what a row's label is from all that was said about it: pure, over values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from everloop.labels.records import Rule, Source, Value

Translate = Mapping[int, Mapping[str, str] | None]  # schema number -> old name -> name today; None: as it is


class Statement(NamedTuple):
    """What resolving needs of a label event."""

    id: str
    schema_number: int
    row_id: int
    key: str
    value: Value
    annotator: str
    source: Source
    at: datetime
    recorded_at: datetime
    file: str | None


class Resolved(NamedTuple):
    """A row's label, None when no statement names a class that still exists, and the statements that decided it."""

    row_id: int
    key: str
    label: Value | None
    decided_by: tuple[Statement, ...]


def resolve(statements: Iterable[Statement], *, rule: Rule, translate: Translate) -> Iterator[Resolved]:
    """One label a row, in the order of the rows; `statements` come ordered by row.

    What models say is a suggestion and decides nothing. `latest`: the newest word. `majority`: each annotator's
    newest word is one vote; of values with equally many votes the one that was said last. `reviewer_wins`: the
    newest word of a reviewer, and the newest of all where no reviewer spoke. The newest is the latest by the time
    it was said, then by the time it was recorded, then by id.
    """
    decide = _RULES[rule]
    for row_id, group in groupby(statements, key=lambda one: one.row_id):
        if heard := [one for one in group if one.source != "model"]:
            said = current(heard, translate=translate)
            deciding = decide(said) if len(said) > 1 else said
            yield Resolved(row_id, heard[0].key, deciding[-1].value if deciding else None, deciding)


def current(heard: Iterable[Statement], *, translate: Translate) -> tuple[Statement, ...]:
    """Statements about one row in today's names, oldest first, without those that name a class that is gone."""
    kept = []
    for one in heard:
        names = translate[one.schema_number]
        value = one.value if names is None else names.get(str(one.value))
        if value is not None:
            kept.append(one if value == one.value else one._replace(value=value))
    return tuple(sorted(kept, key=_age))


def last_words(said: Sequence[Statement]) -> dict[str, Statement]:
    """Each annotator's newest statement, of statements ordered oldest first."""
    words: dict[str, Statement] = {}
    for one in said:
        words.pop(one.annotator, None)  # so that the order is that of the last words
        words[one.annotator] = one
    return words


def _latest(said: tuple[Statement, ...]) -> tuple[Statement, ...]:
    return said[-1:]


def _majority(said: tuple[Statement, ...]) -> tuple[Statement, ...]:
    words = tuple(last_words(said).values())
    votes = Counter(one.value for one in words)
    most = max(votes.values())
    winner = next(one.value for one in reversed(words) if votes[one.value] == most)
    return tuple(one for one in words if one.value == winner)


def _reviewer_wins(said: tuple[Statement, ...]) -> tuple[Statement, ...]:
    return _latest(tuple(one for one in said if one.source == "review") or said)


_RULES: dict[Rule, Callable[[tuple[Statement, ...]], tuple[Statement, ...]]] = {
    "latest": _latest,
    "majority": _majority,
    "reviewer_wins": _reviewer_wins,
}


def _age(one: Statement) -> tuple[datetime, datetime, str]:
    return one.at, one.recorded_at, one.id
