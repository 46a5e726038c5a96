"""Rows for tests of checks: small made-up shops, and the real listings split in two ways."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from everloop.checks import CheckInput


def shop(n: int = 400, *, seed: int = 0) -> CheckInput:
    """Honest rows: `text` and `price` say something about the label, `shade` nothing; no row repeats."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, n)
    words = random.integers(0, 50, (n, 3))
    texts = [
        f"{'tea' if one and luck < 0.6 else 'thing'} w{a} w{b} w{c} n{number}"
        for number, (one, (a, b, c), luck) in enumerate(zip(label, words, random.random(n), strict=True))
    ]
    table = pa.table(
        {
            "_row_id": np.arange(1000, 1000 + n),
            "text": texts,
            "price": label + random.normal(0, 1, n),
            "shade": random.choice(["red", "green", "blue"], n),
            "label": np.where(label == 1, "drink", "other"),
        }
    )
    cut = n * 3 // 4
    return CheckInput(table.slice(0, cut), table.slice(cut), ("text", "price", "shade"))


def with_column(given: CheckInput, name: str, values: Sequence[Any], *, as_input: bool = True) -> CheckInput:
    """The same rows with one more column; `values` run over the training rows, then the test rows."""
    column = pa.array(values)
    cut = given.train.num_rows
    return replace(
        given,
        train=given.train.append_column(name, column.slice(0, cut)),
        test=given.test.append_column(name, column.slice(cut)),
        inputs=(*given.inputs, name) if as_input else given.inputs,
    )


def labels(given: CheckInput) -> list[str]:
    """The labels of all rows, training rows first."""
    return [str(one) for side in (given.train, given.test) for one in side["label"].to_pylist()]


def without_rows(given: CheckInput) -> CheckInput:
    return replace(given, train=given.train.slice(0, 0), test=given.test.slice(0, 0))


def predictions(given: CheckInput, predicted: Sequence[Any]) -> pa.Table:
    """Answers for the test rows, as a model's evaluation holds them."""
    return pa.table(
        {"_row_id": given.test["_row_id"], "label": given.test["label"], "predicted": list(predicted)}
    )


def split(
    table: pa.Table, by: str, inputs: Sequence[str], *, label: str, test: float = 0.2, **more: Any
) -> CheckInput:
    """A split by the hash of a column's value: of a group if rows share values, else of rows."""
    shares = [
        int.from_bytes(hashlib.blake2b(str(one).encode(), digest_size=6).digest(), "big") / 2**48
        for one in table[by].to_pylist()
    ]
    is_test = np.array(shares) < test
    table = table.append_column("_row_id", pa.array(range(table.num_rows)))
    return CheckInput(
        table.filter(pa.array(~is_test)), table.filter(pa.array(is_test)), tuple(inputs), label=label, **more
    )
