"""Reading and checking a taxonomy: which classes there are and how they stand above each other."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from everloop.errors import Invalid
from everloop.labels.records import LabelClass, LabelSchema, Value

_SHOWN = 5  # names that a message lists before it says how many more there are


def classes_from_names(given: Sequence[str | LabelClass]) -> tuple[LabelClass, ...]:
    """Classes from names (each its own id, none above another) and ready-made classes, checked."""
    return checked_classes(
        [LabelClass(one, one) if isinstance(one, str) else one for one in given], origin="classes"
    )


def classes_from_table(table: pa.Table, *, origin: str) -> tuple[LabelClass, ...]:
    """Classes from a table in one of two layouts.

    Either the columns `name` and, if wanted, `id` and `parent` (another row's id or name); or `<x>_id` and `<x>`
    with the levels above in the columns that follow, the nearest first.

    Raises
    ------
    Invalid
        The columns are of neither layout, the table is empty, or the classes break a rule of `checked_classes`.
    """
    columns = table.column_names
    if "name" in columns:
        return checked_classes(_from_parents(table), origin=origin)
    stems = [name for name in columns if f"{name}_id" in columns]
    if len(stems) != 1:
        raise Invalid(
            f"{origin} has the columns {_listed(columns)}; a taxonomy has either 'name' (with 'id' and 'parent' if "
            "there are any) or '<x>_id' and '<x>' followed by the levels above. Rename the columns."
        )
    return checked_classes(_from_levels(table, stems[0]), origin=origin)


def checked_classes(classes: Sequence[LabelClass], *, origin: str) -> tuple[LabelClass, ...]:
    """The classes, if they form a taxonomy.

    Raises
    ------
    Invalid
        There are none; one has no name; an id, or a name that rows can be labelled with, occurs twice; a parent
        is unknown; or the parents lead in a circle.
    """
    if not classes:
        raise Invalid(f"{origin} holds no class; a label schema has at least one. Add them, one a row.")
    if nameless := [one.id or one.name for one in classes if not one.name.strip() or not one.id.strip()]:
        raise Invalid(
            f"{origin} has classes without a name or id: {_listed(nameless)}. Complete them or take them out."
        )
    if twice := _repeated(one.id for one in classes):
        raise Invalid(
            f"{origin} names the class {_listed(twice)} more than once; each stands once. Take one out."
        )
    known = {one.id: one for one in classes}
    if orphans := [one for one in classes if one.parent is not None and one.parent not in known]:
        pairs = _listed([f"{one.name} (below {one.parent})" for one in orphans])
        raise Invalid(
            f"{origin} puts classes below one that it does not have: {pairs}. Add the missing parents."
        )
    if circle := _circle(known):
        raise Invalid(
            f"{origin} leads in a circle: {' > '.join(known[one].name for one in circle)}. "
            "A class cannot stand above itself; change one of these parents."
        )
    inner = {one.parent for one in classes}
    if twice := _repeated(one.name for one in classes if one.id not in inner):
        raise Invalid(
            f"{origin} has several classes named {_listed(twice)}; rows are labelled by name, so each name stands "
            "once. Make them differ, for example by putting the parent's name in front."
        )
    return tuple(classes)


def checked_value(schema: LabelSchema, value: object) -> Value:
    """The value as it is stored, if rows of this label set can have it.

    Raises
    ------
    Invalid
        The schema has no such class (the message names near ones), or the value is not a finite number.
    """
    if schema.kind == "number":
        return _number(schema, value)
    text = str(value)  # a class may be called 0 or True, and files hold those as numbers and booleans
    if text in schema.labels:
        return text
    raise Invalid(f"{schema.ref} has no label {text!r}. {_remedy(schema, text)}")


def refuse_unknown(schema: LabelSchema, values: Iterable[object], *, origin: str) -> None:
    """Raise Invalid with all values that rows of this label set cannot have, each with its near names."""
    if schema.kind == "number":
        for value in values:
            _number(schema, value)
        return
    counts = Counter(text for text in map(str, values) if text not in schema.labels)
    if counts:
        first = list(counts.items())[:_SHOWN]
        told = " ".join(f"{name!r} ({times} rows): {_remedy(schema, name)}" for name, times in first)
        raise Invalid(
            f"{origin} has {len(counts)} labels that {schema.ref} does not know. {told} "
            "Correct them, or add the classes to the taxonomy and define it again. Nothing was recorded."
        )


def translation(old: LabelSchema, new: LabelSchema) -> Mapping[str, str]:
    """What the labels of one version are called in another, by class id; a class that is gone is missing."""
    names = {one.id: one.name for one in new.labels.values()}
    return {name: names[one.id] for name, one in old.labels.items() if one.id in names}


def _from_parents(table: pa.Table) -> list[LabelClass]:
    names = _texts(table, "name")
    ids = _texts(table, "id") if "id" in table.column_names else names
    parents = _texts(table, "parent") if "parent" in table.column_names else [""] * len(names)
    by_name = dict(zip(reversed(names), reversed(ids), strict=True))
    known = set(ids)
    return [
        LabelClass(
            one, name, None if not parent else parent if parent in known else by_name.get(parent, parent)
        )
        for one, name, parent in zip(ids, names, parents, strict=True)
    ]


def _from_levels(table: pa.Table, stem: str) -> list[LabelClass]:
    levels = [name for name in table.column_names if name not in (stem, f"{stem}_id")]
    columns = [_texts(table, name) for name in levels]
    classes: dict[str, LabelClass] = {}
    leaves = []
    for i, (one, name) in enumerate(zip(_texts(table, f"{stem}_id"), _texts(table, stem), strict=True)):
        # A group's id says its level, so that a group may bear the name of a class or of a group elsewhere.
        path = [f"{level}:{column[i]}" for level, column in zip(levels, columns, strict=True) if column[i]]
        leaves.append(LabelClass(one, name, path[0] if path else None))
        for group, above in zip(path, [*path[1:], None], strict=True):
            known = classes.setdefault(group, LabelClass(group, group.split(":", 1)[1], above))
            if known.parent != above:
                raise Invalid(
                    f"the taxonomy puts {group!r} below both {known.parent!r} and {above!r}; a class stands below "
                    "one. Correct the rows that differ."
                )
    return [*classes.values(), *leaves]


def _texts(table: pa.Table, column: str) -> list[str]:
    return ["" if one is None else str(one).strip() for one in table.column(column).to_pylist()]


def _circle(known: Mapping[str, LabelClass]) -> list[str]:
    """Class ids that lead from one back to itself, the first repeated at the end; empty when there is no circle."""
    settled: set[str] = set()
    for start in known:
        way: dict[str, None] = {}
        at: str | None = start
        while at is not None and at not in settled:
            if at in way:
                ids = list(way)
                return [*ids[ids.index(at) :], at]
            way[at] = None
            at = known[at].parent
        settled.update(way)
    return []


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _number(schema: LabelSchema, value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # what fails is told
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number):
        return number
    raise Invalid(f"{schema.ref} holds numbers and {str(value)!r} is none. Give a finite number.")


def _remedy(schema: LabelSchema, text: str) -> str:
    groups = [one.id for one in schema.classes if one.name == text]
    if members := [one.name for one in schema.classes if one.parent in groups]:
        return f"It is a group; label with one of its members: {_listed(members)}."
    lowered = {name.lower(): name for name in schema.labels}
    near = difflib.get_close_matches(text.strip().lower(), lowered, n=3)
    if near:
        return f"Did you mean {' or '.join(repr(lowered[one]) for one in near)}?"
    return f"It has {_listed(schema.labels)}."


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(repr(one) for one in every[:_SHOWN]) + more
