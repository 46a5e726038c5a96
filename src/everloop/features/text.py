"""Text columns with gaps, as a scikit-learn transformer: what stands before a TfidfVectorizer, which takes no gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin


class FilledText(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Texts as they are, missing ones as the empty text."""

    def fit(self, x: Any, y: Any = None) -> FilledText:
        """Learns nothing."""
        return self

    def transform(self, x: Any) -> NDArray[np.object_]:
        """(n_rows,) or (n_rows, 1) str or None, to (n_rows,) str."""
        texts = np.asarray(x, dtype=object).ravel()
        return np.array(["" if one is None else str(one) for one in texts], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True
