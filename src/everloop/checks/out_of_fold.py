"""What a model of the other rows says of each row's label: trained on four fifths of the rows, asked about the last, in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from everloop.checks.columns import (
    NULL,
    Codes,
    Floats,
    class_codes,
    codes,
    compute,
    content_columns,
    floats,
    kind_of,
    normalised,
    plain,
)
from everloop.checks.records import CheckInput

FOLDS = 5
_WORD = r"\S+"


@dataclass(frozen=True)
class Believed:
    """What the model of the other rows says of each row. `scores` are logits, `weights` those of words by fold."""

    labels: Codes  # (n_rows,)
    names: list[str]
    scores: Floats  # (n_rows, n_classes)
    words: Any  # sparse (n_rows, n_words)
    weights: list[Floats]  # per fold (n_words, n_classes)
    fold: Codes  # (n_rows,)

    @property
    def chances(self) -> Floats:
        return softmax(self.scores)


def believe(given: CheckInput, table: pa.Table) -> Believed | None:
    """Ask, about each fold, a logistic regression of the other folds; the folds are dealt by a fixed seed.

    None when no input can be looked into.
    """
    from scipy import sparse  # both come with scikit-learn, which takes a second to load
    from sklearn.linear_model import LogisticRegression

    labels, names = class_codes(table[given.label])
    words, others = _words(given, table), _others(given, table)
    features = sparse.hstack([words, others], format="csr")
    if features.nnz == 0:
        return None
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    scores = np.full((len(labels), len(names)), -1e3)
    weights = []
    for number in range(FOLDS):
        inside = fold == number
        model = LogisticRegression(C=10.0, max_iter=60, tol=1e-2)
        known = labels[~inside]
        own = np.zeros((features.shape[1], len(names)))
        if len(np.unique(known)) < 2:  # all but this fold's rows are of one class
            weights.append(own[: words.shape[1]])
            continue
        with threadpool_limits(1):  # the vectors are short: threads would wait for each other
            model.fit(features[~inside], known)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # one row of weights stands for both
            coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
            intercepts = np.concatenate([[0.0], intercepts])
        own[:, model.classes_] = coefficients.T
        scores[np.ix_(inside, model.classes_)] = features[inside] @ coefficients.T + intercepts
        weights.append(own[: words.shape[1]])
    return Believed(labels, names, scores, words.tocsc(), weights, fold)


def _words(given: CheckInput, table: pa.Table) -> Any:
    """Which words stand in a row, of all its free text, (n_rows, n_words) sparse, each row of length 1."""
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    names = [
        name for name in content_columns(table, given.inputs) if kind_of(plain(table[name]).type) == "text"
    ]
    parts = [compute.fill_null(normalised(plain(table[name])), "").to_pylist() for name in names]
    texts = [" ".join(one) for one in zip(*parts, strict=True)]
    try:
        return TfidfVectorizer(token_pattern=_WORD, min_df=2, binary=True, max_features=50_000).fit_transform(
            texts
        )
    except ValueError:  # no text, or no word stands twice
        return sparse.csr_matrix((table.num_rows, 0))


def _others(given: CheckInput, table: pa.Table) -> Any:
    """Categories as one column each, numbers and times scaled; other inputs are not looked into."""
    from scipy import sparse

    parts: list[Any] = [sparse.csr_matrix((table.num_rows, 0))]
    for name in given.columns:
        if name not in table.column_names or name in (given.key, given.group):
            continue
        column = plain(table[name])
        kind = kind_of(column.type)
        found, values = codes(column)
        if kind in ("text", "boolean") and 2 <= len(values) <= 1_000:
            keep = np.flatnonzero(found != NULL)
            shape = (table.num_rows, len(values))
            parts.append(sparse.csr_matrix((np.ones(len(keep)), (keep, found[keep])), shape=shape))
        elif kind in ("number", "time"):
            numbers = floats(column)
            known = numbers[np.isfinite(numbers)]
            if len(known) and known.std() > 0:
                scaled = np.clip((numbers - known.mean()) / known.std(), -5, 5)
                parts.append(sparse.csr_matrix(np.nan_to_num(scaled)[:, None]))
    return sparse.hstack(parts, format="csr")


def softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances: Floats = powers / powers.sum(axis=1, keepdims=True)
    return chances
