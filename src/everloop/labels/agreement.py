"""How far annotators agree beyond what chance would give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def cohen_kappa(first: IntArray, second: IntArray) -> float | None:
    """Cohen's kappa of two annotators who labelled the same rows.

    ``kappa = (p_o - p_e) / (1 - p_e)``, where ``p_o`` is the share of rows on which they agree and ``p_e`` the
    share on which they would if each drew from his own class frequencies (J. Cohen, A coefficient of agreement for
    nominal scales, Educational and Psychological Measurement 20, 1960).

    Parameters
    ----------
    first, second
        ``(n_rows,)`` class codes from 0; the same row at the same place.

    Returns
    -------
    float or None
        At most 1; 0 is chance, below 0 is less than chance. None when there is no row or both used one and the
        same class only: nothing could have been otherwise.

    Examples
    --------
    >>> import numpy as np
    >>> cohen_kappa(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))
    0.5
    """
    if len(first) == 0:
        return None
    n_classes = int(max(first.max(), second.max())) + 1
    observed = float(np.mean(first == second))
    frequencies = np.bincount(first, minlength=n_classes) * np.bincount(second, minlength=n_classes)
    expected = float(frequencies.sum()) / len(first) ** 2
    return None if expected == 1.0 else (observed - expected) / (1.0 - expected)


def krippendorff_alpha(items: IntArray, values: IntArray) -> float | None:
    """Krippendorff's alpha for nominal values: any number of annotators, any of them missing anywhere.

    ``alpha = 1 - D_o / D_e`` with, over the ``n`` opinions on items that have at least two,
    ``D_o = (1/n) sum_u (m_u^2 - sum_c n_uc^2) / (m_u - 1)`` and ``D_e = (n^2 - sum_c n_c^2) / (n (n - 1))``,
    where item ``u`` has ``m_u`` opinions, ``n_uc`` of them for class ``c`` (K. Krippendorff, Content Analysis,
    chapter on reliability, the nominal difference function).

    Parameters
    ----------
    items, values
        ``(n_opinions,)`` codes from 0 of the item and of the class said about it; order does not matter.

    Returns
    -------
    float or None
        1 is perfect, 0 is chance. None when no item has two opinions or only one class was used.

    Examples
    --------
    >>> import numpy as np
    >>> krippendorff_alpha(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
    1.0
    >>> round(krippendorff_alpha(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 0, 1])), 6)
    0.444444
    """
    items, values = _paired(items, values)
    n = len(items)
    if n == 0:
        return None
    per_class = np.bincount(values).astype(np.float64)
    expected = (n**2 - float(np.sum(per_class**2))) / (n * (n - 1))
    if expected == 0.0:
        return None
    per_item = np.bincount(items).astype(np.float64)
    differing = per_item**2 - _squares(items, values)
    observed = float(np.sum(differing / np.maximum(per_item - 1, 1))) / n
    return 1.0 - observed / expected


def agreeing_pairs(items: IntArray, values: IntArray) -> float | None:
    """The share of pairs of opinions on the same item that are equal, None when there is no pair.

    Examples
    --------
    >>> import numpy as np
    >>> agreeing_pairs(np.array([0, 0, 0]), np.array([1, 1, 0]))
    0.3333333333333333
    """
    items, values = _paired(items, values)
    if len(items) == 0:
        return None
    per_item = np.bincount(items).astype(np.float64)
    pairs = float(np.sum(per_item**2 - per_item))
    return float(np.sum(_squares(items, values) - per_item)) / pairs


def _paired(items: IntArray, values: IntArray) -> tuple[IntArray, IntArray]:
    """Only the opinions on items that have at least two."""
    if len(items) == 0:
        return items, values
    kept = np.bincount(items)[items] >= 2
    return items[kept], values[kept]


def _squares(items: IntArray, values: IntArray) -> NDArray[np.float64]:
    """For each item the sum over classes of the squared number of opinions, without a table of items by classes."""
    n_classes = int(values.max()) + 1
    cells, counts = np.unique(items * n_classes + values, return_counts=True)
    return np.bincount(cells // n_classes, weights=counts.astype(np.float64) ** 2).astype(np.float64)
