"""Made-up rows that fit a release's signature: what its model knows, what it has never seen, and odd texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from everloop.serving.loaded import Loaded, inner_steps
from everloop.serving.records import Field, Manifest
from everloop.serving.signature import example_of

_MOST_WORDS = 5_000
_ODD = (
    "", " ", "\t\n", "\x00", "a", "A a A a", "\u0130stanbul STRASSE stra\u00dfe", "e\u0301te\u0301 \u00c9t\u00e9 na\u00efve",
    "\ufb01ve \u2460 \u00bd", "\u65e5\u672c\u8a9e \u30c6\u30b9\u30c8", "\U0001f600 \U0001f1e9\U0001f1ea", "1 22 3.5 -7e3", "x" * 300,
    "it's a well-known_name", "\u200bzero\u00a0width", "\u0391\u03a3\u03a3 \u03c2",
)  # fmt: skip


def made_up(manifest: Manifest, model: Loaded, count: int) -> list[list[Any]]:
    """So many rows, the same each time, of the signature's inputs in order, then the features."""
    rng = np.random.default_rng(7)
    known = _texts(model.estimator)
    features = [Field(one.name, one.dtype, nullable=True) for one in manifest.features]
    makers = [_maker(field, known, rng) for field in (*manifest.signature.inputs, *features)]
    return [[make() for make in makers] for _ in range(count)]


def _texts(estimator: Any) -> list[str]:
    """Terms and categories that a model knows; or some words, if it knows none."""
    found = [
        str(text)
        for step in inner_steps(estimator)
        for text in (
            *islice(getattr(step, "vocabulary_", ()), _MOST_WORDS),
            *(one for each in getattr(step, "categories_", ()) for one in each[:_MOST_WORDS]),
        )
    ]
    return found or ["one", "two", "three", "red", "blue"]


def _maker(field: Field, known: list[str], rng: np.random.Generator) -> Callable[[], Any]:
    values = _values(field, known, rng)

    def make() -> Any:
        if field.nullable and rng.random() < 0.15:
            return None
        return next(values)

    return make


def _values(field: Field, known: list[str], rng: np.random.Generator) -> Iterator[Any]:
    while True:
        if field.allowed:
            yield field.allowed[rng.integers(len(field.allowed))]
        elif field.type == "string":
            yield _text(known, rng)
        elif field.type in ("number", "integer"):
            value = _within(field, rng)
            yield round(value) if field.type == "integer" else value
        elif field.type == "boolean":
            yield bool(rng.integers(2))
        else:
            yield example_of(field)


def _text(known: list[str], rng: np.random.Generator) -> str:
    dice = rng.random()
    if dice < 0.2:
        return known[rng.integers(len(known))]
    if dice < 0.4:
        return _ODD[rng.integers(len(_ODD))]
    words = [known[place] for place in rng.integers(len(known), size=rng.integers(1, 12))]
    return " ".join(word.upper() if rng.random() < 0.1 else word for word in [*words, "unheard-of"])


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
