"""From a row to the numbers that a model sees, as fitted transformers make them, without their price per call.

Where a transformer's rules are many (which category goes where, what is infrequent, dropped, missing, unknown) it is asked
once, for each category that it knows, and its answers are kept in a table. Texts go through scikit-learn's own analyzers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any

import numpy as np

from everloop.compiled.parts import (
    Entries,
    NotCompiledError,
    Part,
    UnsureError,
    name_of,
    number,
    numbers,
    require,
)

_MOST_CATEGORIES = 200_000
_ASKED_AT_ONCE = 256  # one-hot answers to all of 10,000 categories together would be a square of 800 MB
_UNKNOWN_TEXT = "\x00 nobody's category"
Weigh = Callable[[list[int], list[float]], list[float]]


def transformed(step: Any, before: Part) -> Part:
    """What a fitted transformer makes of the part before it. Raises NotCompiledError."""
    if step is None or step == "passthrough":
        return before
    kind = name_of(step)
    if kind not in _MAKERS or type(step).__module__.split(".")[0] not in ("sklearn", "everloop"):
        raise NotCompiledError(f"{kind} is no transformer that is compiled")
    container = getattr(step, "_sklearn_output_config", {}).get("transform", "default")
    require(container in ("default", None), f"the output of {kind} was set to {container}")
    return _MAKERS[kind](step, before)


def _pipeline(step: Any, before: Part) -> Part:
    for _, one in step.steps:
        before = transformed(one, before)
    return before


def _columns(step: Any, before: Part) -> Part:
    require(before.kind == "cells", "a ColumnTransformer stands behind a step that gives no columns")
    require(step.transformer_weights is None, "a ColumnTransformer has weights")
    parts = []
    for _, one, columns in step.transformers_:
        positions = positions_of(columns, before.width)
        if positions == [] or (isinstance(one, str) and one == "drop"):
            continue
        parts.append(transformed(one, _picked(positions)))
    require(parts, "a ColumnTransformer takes no column")
    return _side_by_side(parts, before)


def positions_of(columns: Any, width: int) -> int | list[int]:
    """Columns by number, as a ColumnTransformer names them; one alone is handed on as a single dimension."""
    if isinstance(columns, int | np.integer):
        return int(columns) % width
    if isinstance(columns, slice):
        require(not isinstance(columns.start, str), "a ColumnTransformer names its columns")
        return list(range(width))[columns]
    found = np.asarray(columns)
    if found.dtype.kind == "b":
        return [int(one) for one in np.flatnonzero(found)]
    require(found.dtype.kind in "iu" or found.size == 0, "a ColumnTransformer names its columns")
    return [int(one) % width for one in found]


def _picked(positions: int | list[int]) -> Part:
    if isinstance(positions, int):
        return Part("value", 1, itemgetter(positions))
    if len(positions) == 1:
        only = positions[0]
        return Part("cells", 1, lambda row: (row[only],))
    return Part("cells", len(positions), itemgetter(*positions))


def _side_by_side(parts: Sequence[Part], before: Part) -> Part:
    require(all(one.kind != "value" for one in parts), "a ColumnTransformer hands a single column on")
    width = sum(one.width for one in parts)
    if all(one.kind == "cells" for one in parts):

        def cells(row: Sequence[Any]) -> list[Any]:
            given, found = before.run(row), []
            for one in parts:
                found += one.run(given)
            return found

        return Part("cells", width, cells)
    placed, offset = [], 0
    for one in parts:
        placed.append((one, offset, range(offset, offset + one.width)))
        offset += one.width

    def entries(row: Sequence[Any]) -> Entries:
        given = before.run(row)
        places: list[int] = []
        values: list[float] = []
        for one, offset, span in placed:
            found = one.run(given)
            if one.kind == "cells":
                places += span
                values += numbers(found)
            else:
                places += [place + offset for place in found[0]] if offset else found[0]
                values += found[1]
        return places, values

    return Part("entries", width, entries)


def _filled_text(_step: Any, before: Part) -> Part:
    require(before.kind == "value" or before.width == 1, "FilledText takes several columns")
    is_value = before.kind == "value"

    def text(row: Sequence[Any]) -> str:
        found = before.run(row) if is_value else before.run(row)[0]
        return "" if found is None else str(found)

    return Part("value", 1, text)


def _counts(step: Any, before: Part) -> Part:
    analyze, read = _analyzer(step), before.run
    known = {term: int(place) for term, place in step.vocabulary_.items()}
    find, is_binary = known.get, step.binary

    def entries(row: Sequence[Any]) -> Entries:
        counts = Counter(map(find, analyze(_text(read(row)))))
        counts.pop(None, None)
        places: list[int] = list(counts)  # type: ignore[arg-type]  # None is gone
        return places, [1.0] * len(places) if is_binary else [float(one) for one in counts.values()]

    return _texts_only(step, before, Part("entries", len(known), entries))


def _tfidf(step: Any, before: Part) -> Part:
    return _term_weights(step._tfidf, _counts(step, before))


def _hashed(step: Any, before: Part) -> Part:
    from sklearn.utils import murmurhash3_32

    analyze, read, width = _analyzer(step), before.run, step.n_features
    weigh = _weigher(norm=step.norm)
    is_signed, is_binary = step.alternate_sign, step.binary

    def entries(row: Sequence[Any]) -> Entries:
        found: dict[int, float] = {}
        for term in analyze(_text(read(row))):
            code = murmurhash3_32(term.encode())
            # the one 32-bit number whose absolute value is none; as scikit-learn's hasher has it
            place = (2147483647 - (width - 1)) % width if code == -2147483648 else abs(code) % width
            found[place] = found.get(place, 0.0) + (-1.0 if is_signed and code < 0 else 1.0)
        places = list(found)
        return places, weigh(places, [1.0] * len(places) if is_binary else list(found.values()))

    return _texts_only(step, before, Part("entries", width, entries))


def _texts_only(step: Any, before: Part, made: Part) -> Part:
    kind = name_of(step)
    require(before.kind == "value", f"{kind} is not given a single column by its number")
    require(step.input == "content", f"{kind} reads files")
    dtypes = (np.float64,) if kind != "CountVectorizer" else (np.float64, np.int64)
    require(np.dtype(step.dtype) in dtypes, f"{kind} counts in {np.dtype(step.dtype)}")
    return made


def _analyzer(step: Any) -> Callable[[str], list[str]]:
    for name in ("analyzer", "tokenizer", "preprocessor", "strip_accents"):
        require(not callable(getattr(step, name)), f"{name_of(step)} has a custom {name}")
    made: Callable[[str], list[str]] = step.build_analyzer()
    return made


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise UnsureError


def _term_weights(step: Any, before: Part) -> Part:
    require(before.kind == "entries", "TfidfTransformer stands behind a step that gives no terms")
    idf = step.idf_.tolist() if step.use_idf else None
    weigh = _weigher(norm=step.norm, idf=idf, is_sublinear=step.sublinear_tf)
    return _weighed(weigh, before)


def _normalised(step: Any, before: Part) -> Part:
    require(before.kind == "entries", "Normalizer stands behind a step that gives no terms")
    return _weighed(_weigher(norm=step.norm), before)


def _weighed(weigh: Weigh, before: Part) -> Part:
    run = before.run

    def entries(row: Sequence[Any]) -> Entries:
        places, values = run(row)
        return places, weigh(places, values)

    return Part("entries", before.width, entries)


def _weigher(*, norm: str | None, idf: list[float] | None = None, is_sublinear: bool = False) -> Weigh:
    def weigh(places: list[int], values: list[float]) -> list[float]:
        if is_sublinear:
            values = [math.log(one) + 1.0 for one in values]
        if idf is not None:
            values = [one * idf[place] for place, one in zip(places, values, strict=True)]
        if norm is None:
            return values
        if norm == "l2":
            size = math.sqrt(sum([one * one for one in values]))
        else:
            size = (sum if norm == "l1" else max)([abs(one) for one in values] or [0.0])
        return [one / size for one in values] if size else values

    return weigh


def _one_hot(step: Any, before: Part) -> Part:
    require(before.kind == "cells", "OneHotEncoder is not given columns")
    widths = [int(one) for one in step._n_features_outs]
    starts = [sum(widths[:column]) for column in range(len(widths))]
    alone = place_of_one(step, widths)

    def places(answer: Any, column: int) -> list[int]:
        return [starts[column] + place if place >= 0 else -1 for place in alone(answer, column)]

    tables = answers_of(step, places)

    def entries(row: Sequence[Any]) -> Entries:
        found = [_look_up(table, cell) for table, cell in zip(tables, before.run(row), strict=True)]
        found = [place for place in found if place >= 0]
        return found, [1.0] * len(found)

    return Part("entries", sum(widths), entries)


def place_of_one(step: Any, widths: Sequence[int]) -> Callable[[Any, int], list[int]]:
    """Where among a column's places the one stands that each category gives; -1: nowhere, for what is dropped or unknown."""
    starts = [sum(widths[:column]) for column in range(len(widths))]

    def places(answer: Any, column: int) -> list[int]:
        block = answer[:, starts[column] : starts[column] + widths[column]]
        rows = np.asarray(block.toarray() if step.sparse_output else block, dtype=np.float64)
        return [int(row.argmax()) if row.any() else -1 for row in rows]

    return places


def _ordinal(step: Any, before: Part) -> Part:
    require(before.kind == "cells", "OrdinalEncoder is not given columns")
    require(np.dtype(step.dtype) == np.float64, f"OrdinalEncoder counts in {np.dtype(step.dtype)}")
    tables = answers_of(step, lambda answer, column: np.asarray(answer)[:, column].tolist())

    def cells(row: Sequence[Any]) -> list[float]:
        return [_look_up(table, cell) for table, cell in zip(tables, before.run(row), strict=True)]

    return Part("cells", len(tables), cells)


NAN, OTHER = object(), object()  # keys of a table beside the categories


def answers_of(step: Any, read: Callable[[Any, int], list[Any]]) -> list[dict[Any, Any]]:
    """For each column, what an encoder answers to each category, to null, to nan and to any other; by asking it.

    What it refuses has no entry.
    """
    known = [categories.tolist() for categories in step.categories_]
    require(
        sum(map(len, known)) <= _MOST_CATEGORIES, f"{name_of(step)} has over {_MOST_CATEGORIES:,} categories"
    )

    def ask(column: int, cells: list[Any]) -> list[Any]:
        asked = np.empty((len(cells), len(known)), dtype=object)
        asked[:] = [each[0] for each in known]
        asked[:, column] = cells
        return read(step.transform(asked), column)

    tables: list[dict[Any, Any]] = []
    for column, categories in enumerate(known):
        answers = [
            answer
            for first in range(0, len(categories), _ASKED_AT_ONCE)
            for answer in ask(column, categories[first : first + _ASKED_AT_ONCE])
        ]
        table = {NAN if one != one else one: answer for one, answer in zip(categories, answers, strict=True)}
        for key, cell in ((None, None), (NAN, np.nan), (OTHER, _stranger(categories))):
            if key not in table:
                with suppress(ValueError, TypeError):  # it refuses what is unknown, and so does its table
                    table[key] = ask(column, [cell])[0]
        tables.append(table)
    return tables


def _stranger(categories: list[Any]) -> Any:
    """A value of the kind of these categories that is none of them."""
    numeric = [one for one in categories if isinstance(one, int | float) and one == one]
    return 1 + max(map(abs, numeric)) if numeric else _UNKNOWN_TEXT


def _look_up(table: dict[Any, Any], cell: Any) -> Any:
    found = table.get(cell)
    if found is None and cell is not None:
        found = table.get(NAN if cell != cell else OTHER)
    if found is None:
        raise UnsureError
    return found


def _imputed(step: Any, before: Part) -> Part:
    require(before.kind == "cells", "SimpleImputer is not given columns")
    require(not step.add_indicator, "SimpleImputer adds columns for what is missing")
    missing = step.missing_values
    require(missing is None or missing != missing, f"SimpleImputer takes {missing!r} for missing")
    fill = step.statistics_.tolist()
    require(all(one is not None and one == one for one in fill), "SimpleImputer drops columns without values")
    if step._fit_dtype.kind == "f":

        def cells(row: Sequence[Any]) -> list[Any]:
            found = numbers(before.run(row))
            return [one if cell != cell else cell for cell, one in zip(found, fill, strict=True)]

    elif missing is None:

        def cells(row: Sequence[Any]) -> list[Any]:
            return [
                one if cell is None else _whole(cell) for cell, one in zip(before.run(row), fill, strict=True)
            ]

    else:

        def cells(row: Sequence[Any]) -> list[Any]:
            return [one if cell != cell else cell for cell, one in zip(before.run(row), fill, strict=True)]

    return Part("cells", len(fill), cells)


def _whole(cell: Any) -> Any:
    if cell != cell:
        raise UnsureError
    return cell


def _standard(step: Any, before: Part) -> Part:
    return _scaled(before, step, subtract=step.mean_ if step.with_mean else None, divide=step.scale_)


def _robust(step: Any, before: Part) -> Part:
    return _scaled(
        before,
        step,
        subtract=step.center_ if step.with_centering else None,
        divide=step.scale_ if step.with_scaling else None,
    )


def _max_abs(step: Any, before: Part) -> Part:
    return _scaled(before, step, subtract=None, divide=step.scale_)


def _min_max(step: Any, before: Part) -> Part:
    require(before.kind == "cells", "MinMaxScaler is not given columns")
    require(not step.clip, "MinMaxScaler clips")
    pairs = list(zip(step.scale_.tolist(), step.min_.tolist(), strict=True))

    def cells(row: Sequence[Any]) -> list[float]:
        return [number(cell) * by + add for cell, (by, add) in zip(before.run(row), pairs, strict=True)]

    return Part("cells", len(pairs), cells)


def _scaled(before: Part, step: Any, *, subtract: Any, divide: Any) -> Part:
    width, run = before.width, before.run
    require(before.kind != "value", f"{name_of(step)} is not given columns")
    less = [0.0] * width if subtract is None else subtract.tolist()
    by = [1.0] * width if divide is None else divide.tolist()
    if before.kind == "entries":
        require(subtract is None, f"{name_of(step)} moves what is zero")

        def entries(row: Sequence[Any]) -> Entries:
            places, values = run(row)
            return places, [one / by[place] for place, one in zip(places, values, strict=True)]

        return Part("entries", width, entries)
    pairs = list(zip(less, by, strict=True))

    def cells(row: Sequence[Any]) -> list[float]:
        return [(number(cell) - less) / by for cell, (less, by) in zip(run(row), pairs, strict=True)]

    return Part("cells", width, cells)


def _same(step: Any, before: Part) -> Part:
    require(step.func is None, "FunctionTransformer has a function")
    return before


_MAKERS: dict[str, Callable[[Any, Part], Part]] = {
    "ColumnTransformer": _columns,
    "CountVectorizer": _counts,
    "FilledText": _filled_text,
    "FunctionTransformer": _same,
    "HashingVectorizer": _hashed,
    "MaxAbsScaler": _max_abs,
    "MinMaxScaler": _min_max,
    "Normalizer": _normalised,
    "OneHotEncoder": _one_hot,
    "OrdinalEncoder": _ordinal,
    "Pipeline": _pipeline,
    "RobustScaler": _robust,
    "SimpleImputer": _imputed,
    "StandardScaler": _standard,
    "TfidfTransformer": _term_weights,
    "TfidfVectorizer": _tfidf,
}
