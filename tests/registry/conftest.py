from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def skops_model() -> bytes:
    """A small trained classifier of two texts, as skops writes it; its tree is an audited type."""
    import skops.io
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.tree import DecisionTreeClassifier

    rows = np.array([["red tea"], ["green tea"], ["old pen"], ["steel pen"]], dtype=object)
    model = make_pipeline(
        make_column_transformer((CountVectorizer(), 0)), DecisionTreeClassifier(random_state=0)
    )
    content: bytes = skops.io.dumps(model.fit(rows, ["drink", "drink", "other", "other"]))
    return content
