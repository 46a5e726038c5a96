"""Made-up rows that fit a release's signature: what its model knows, what it has never seen, and odd texts."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from everloop.serving.loaded import Loaded, inner_steps
from everloop.serving.records import Field, Manifest
from everloop.serving.signature import example_of

_MOST_WORDS = 5_000
_WORDS = ["one", "two", "three", "red", "blue"]
_ODD = (
    "", " ", "\t\n", "\x00", "a", "A a A a", "\u0130stanbul STRASSE stra\u00dfe", "e\u0301te\u0301 \u00c9t\u00e9 na\u00efve",
    "\ufb01ve \u2460 \u00bd", "\u65e5\u672c\u8a9e \u30c6\u30b9\u30c8", "\U0001f600 \U0001f1e9\U0001f1ea", "1 22 3.5 -7e3", "x" * 300,
    "it's a well-known_name", "\u200bzero\u00a0width", "\u0391\u03a3\u03a3 \u03c2",
)  # fmt: skip


def made_up(manifest: Manifest, model: Loaded, count: int) -> list[list[Any]]:
    """So many rows, the same each time, of the signature's inputs in order, then the features.

    The first half is plain: all of it is known to the model, for those that refuse what they have not seen.
    """
    rng = np.random.default_rng(7)
    fields = [
        *manifest.signature.inputs,
        *(Field(one.name, one.dtype, nullable=True) for one in manifest.features),
    ]
    known = _known(model.estimator)
    return [
        [
            _value(field, known.get(position, []), rng, is_plain=number < count // 2)
            for position, field in enumerate(fields)
        ]
        for number in range(count)
    ]


def _known(estimator: Any) -> dict[int, list[Any]]:
    """What a model has seen in each column: the words of a text, the categories of others."""
    found: dict[int, list[Any]] = {}
    for step in inner_steps(estimator):
        for _, one, columns in getattr(step, "transformers_", ()):
            positions = np.atleast_1d(columns).tolist() if not isinstance(columns, slice) else []
            for inner in inner_steps(one):
                for position, categories in zip(positions, getattr(inner, "categories_", ()), strict=False):
                    found[position] = categories[:_MOST_WORDS].tolist()
                for position in positions[:1] if hasattr(inner, "vocabulary_") else ():
                    found[position] = list(islice(inner.vocabulary_, _MOST_WORDS))
    return found


def _value(field: Field, known: list[Any], rng: np.random.Generator, *, is_plain: bool) -> Any:
    if field.nullable and not is_plain and rng.random() < 0.15:
        return None
    if field.allowed and (is_plain or field.unseen != "pass" or rng.random() < 0.5):
        return field.allowed[rng.integers(len(field.allowed))]
    if field.type == "string":
        return _text(known or _WORDS, rng, is_plain=is_plain)
    if field.type not in ("number", "integer"):
        return bool(rng.integers(2)) if field.type == "boolean" else example_of(field)
    if known and is_plain:
        return known[rng.integers(len(known))]
    value = _within(field, rng)
    return round(value) if field.type == "integer" else value


def _text(known: list[Any], rng: np.random.Generator, *, is_plain: bool) -> str:
    word = known[rng.integers(len(known))]
    if is_plain or rng.random() < 0.2:
        return word  # type: ignore[no-any-return]  # a category or a term
    if rng.random() < 0.3:
        return _ODD[rng.integers(len(_ODD))]
    words = [str(known[place]) for place in rng.integers(len(known), size=rng.integers(1, 12))]
    return " ".join(_varied(word, rng.random()) for word in [*words, "unheard-of"])


def _varied(word: str, chance: float) -> str:
    """A word, now and then in capitals, or within another one: where a word ends is a matter of what counts as a letter."""
    if chance < 0.1:
        return word.upper()
    return f"{word}\u00e9" if chance < 0.2 else word


def _within(field: Field, rng: np.random.Generator) -> float:
    """Mostly near what is usual, now and then none, negative or large; within the field's limits."""
    value = float(
        (0, 1, rng.normal(), rng.normal(0, 30), rng.integers(100), rng.normal(0, 1e4))[rng.integers(6)]
    )
    least = -np.inf if field.minimum is None else field.minimum
    most = np.inf if field.maximum is None else field.maximum
    if np.isfinite(least) and np.isfinite(most):
        return float(rng.uniform(least, most))
    return float(min(max(value, least), most))
