from __future__ import annotations

import numpy as np
import skops.io
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from everloop.features.text import FilledText
from everloop.serving import untrusted_types


def test_a_missing_text_is_the_empty_one_whatever_the_shape() -> None:
    column = np.array([["a b"], [None]], dtype=object)
    assert FilledText().fit_transform(column).tolist() == ["a b", ""]
    assert FilledText().fit_transform(column.ravel()).tolist() == ["a b", ""]


def test_words_are_counted_over_a_column_with_gaps_and_the_model_may_be_served() -> None:
    texts = np.array(["red tea", None, "tea"], dtype=object)
    fitted = make_pipeline(FilledText(), TfidfVectorizer()).fit(texts)
    stored = skops.io.dumps(fitted)
    again = skops.io.loads(stored, trusted=untrusted_types(stored))
    assert (
        again.transform(texts).sum(axis=1).ravel().tolist()
        == fitted.transform(texts).sum(axis=1).ravel().tolist()
    )
