"""Which columns give the label away, and by what reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from everloop.checks import power
from everloop.checks.columns import NULL, Column, class_codes, codes, compute, floats, kind_of, plain, pooled
from everloop.checks.power import How, Power
from everloop.checks.records import CheckInput

Level = Literal["none", "suspected", "certain"]

# From which lower bound of its skill on a reading gives the label away. The best honest column of the real tables that
# everloop is tested on reaches 0.43 by its value. One word decides 0.92 to 0.94 of what honest product titles carry,
# so a word must decide nearly everything.
CERTAIN: dict[How, float] = {"value": 0.95, "presence": 0.95, "range": 0.95, "name": 0.95, "word": 0.98}
CERTAIN_NUMBER = 0.99  # sensors that measure nearly the same thing are honest, and explain 0.95 of each other
COVER = 0.2  # a value that repeats in fewer rows than this cannot lift a metric by more than this
_SUSPECT_ERRORS = 10  # of the baseline, below which even a perfect column may be luck
_ENTITY_NEW_SHARE = 0.05

_SAYS: dict[How, str] = {
    "value": "each of its repeated values comes with one label",
    "presence": "whether it is empty tells the label",
    "range": "its ranges tell the label",
    "word": "one word in it tells the label",
    "name": "it contains the label's name",
}


@dataclass(frozen=True)
class Giveaway:
    """A column, the reading by which it predicts the label best, and whether that gives the label away."""

    column: str
    power: Power
    level: Level
    is_entity: bool

    @property
    def says(self) -> str:
        return _SAYS[self.power.how]

    def as_row(self) -> dict[str, Any]:
        skill = self.power.skill
        return {
            "column": self.column,
            "how": self.power.how,
            "skill": None if skill is None else round(skill, 4),
            "skill_at_least": round(self.power.at_least, 4),
            "cover": round(self.power.cover, 4),
            "rows": self.power.rows,
            "level": self.level,
        }


def giveaways(given: CheckInput, columns: Sequence[str] | None = None) -> list[Giveaway]:
    """How each column alone predicts the label, the strongest first.

    Parameters
    ----------
    columns
        Which to look at; None means every column of both tables but the label and `_row_id`.
    """
    if columns is None:
        shared = [name for name in given.train.column_names if name in given.test.column_names]
        columns = [name for name in shared if name != given.label and not name.startswith("_")]
    found = [one for name in columns if (one := _giveaway(given, name)) is not None]
    levels: list[Level] = ["certain", "suspected", "none"]
    return sorted(found, key=lambda one: (levels.index(one.level), -(one.power.skill or 0.0), one.column))


def is_unique_code(given: CheckInput, name: str) -> bool:
    """Whether a column numbers the rows: 100 training rows or more, whole numbers or one word, no two the same."""
    column = plain(given.train[name])
    filled = column.drop_null()
    if len(filled) < 100 or compute.count_distinct(filled).as_py() < len(filled):
        return False
    if kind_of(column.type) == "text":
        return not compute.any(compute.match_substring_regex(filled, r"\s|/")).as_py()
    return pa.types.is_integer(column.type)


def _giveaway(given: CheckInput, name: str) -> Giveaway | None:
    values, labels = pooled(given, name), pooled(given, given.label)
    if values is None or labels is None:
        return None
    column, split = values
    readings = (
        _readings_number(column, split, floats(labels[0]))
        if given.task == "number"
        else _readings_class(column, split, labels[0])
    )
    is_number = given.task == "number"
    levels = {reading.how: _level(reading, is_number=is_number) for reading in readings}
    order: list[Level] = ["none", "suspected", "certain"]
    best = max(readings, key=lambda one: (order.index(levels[one.how]), one.skill or 0.0))
    by_value = readings[0]
    is_entity = levels["value"] == "certain" and by_value.new_share >= _ENTITY_NEW_SHARE
    return Giveaway(name, best, levels[best.how], is_entity)


def _readings_class(column: Column, split: int, label_column: Column) -> list[Power]:
    labels, names = class_codes(label_column)
    values, distinct = codes(column)
    presence = (values != NULL).astype("int64")
    readings = [power.by_value(values, labels), power.by_value(presence, labels, how="presence")]
    kind = kind_of(column.type)
    if kind in ("number", "time") and len(distinct) > 2:
        numbers = floats(column)
        readings.append(power.by_range(numbers[:split], labels[:split], numbers[split:], labels[split:]))
    if kind == "text":
        train, test = column.slice(0, split), column.slice(split)
        readings.append(power.by_word(train, labels[:split], test, labels[split:]))
        readings.append(power.by_name(column, labels, names))
    return readings


def _readings_number(column: Column, split: int, labels: Any) -> list[Power]:
    readings = [power.by_value_number(codes(column)[0], labels)]
    if kind_of(column.type) in ("number", "time"):
        numbers = floats(column)
        readings.append(
            power.by_range_number(numbers[:split], labels[:split], numbers[split:], labels[split:])
        )
    return readings


def _level(reading: Power, *, is_number: bool) -> Level:
    if reading.skill is None or (reading.how == "value" and reading.cover < COVER):
        return "none"
    bound = CERTAIN_NUMBER if is_number else CERTAIN[reading.how]
    if reading.at_least >= bound:
        return "certain"
    enough = reading.baseline_errors >= _SUSPECT_ERRORS
    return "suspected" if reading.skill >= bound and enough else "none"
