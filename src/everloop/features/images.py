"""Numbers from pictures, as a scikit-learn transformer: what colours there are and which way the edges run.

Enough for products on plain grounds and photos of few kinds, with nothing but Pillow and numpy, so that a pipeline
with images trains in seconds and is served from a skops file. For more, give the dataset a column of embeddings.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from sklearn.base import BaseEstimator, TransformerMixin

from everloop.errors import Invalid

_SIDE = 32  # pixels: every image is brought to this square
_LEVELS = 4  # of each colour channel: 64 colours
_CELLS, _DIRECTIONS = 4, 8  # edges are counted in 4 x 4 cells, in 8 directions
N_FEATURES = _LEVELS**3 + _CELLS**2 * _DIRECTIONS


class ImageFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Image bytes to 192 numbers: shares of 64 colours, then strengths of edges in 4 x 4 cells and 8 directions.

    A missing image is a row of zeros. The edge part is a histogram of oriented gradients (Dalal, Triggs, CVPR 2005)
    without block normalisation, scaled to unit length.
    """

    def fit(self, x: Any, y: Any = None) -> ImageFeatures:
        """Learns nothing."""
        return self

    def transform(self, x: Any) -> NDArray[np.float64]:
        """(n_rows,) or (n_rows, 1) bytes or None, to (n_rows, 192) float64. Raises Invalid for bytes that are no image."""
        return np.array([_numbers(image) for image in np.asarray(x, dtype=object).ravel()]).reshape(
            -1, N_FEATURES
        )

    def __sklearn_is_fitted__(self) -> bool:
        return True


def _numbers(image: bytes | None) -> NDArray[np.float64]:
    if image is None:
        return np.zeros(N_FEATURES)
    pixels = _pixels(image)  # (32, 32, 3) uint8
    return np.concatenate([_colours(pixels), _edges(pixels.mean(axis=2))])


def _pixels(image: bytes) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(image)) as opened:
            small = opened.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise Invalid(
            f"{len(image):,} bytes are not an image that can be read: {type(error).__name__}. "
            "Give JPEG, PNG or WebP, or null where there is no image."
        ) from error
    return np.asarray(small, dtype=np.uint8)


def _colours(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Shares of the 64 colours, square-rooted: so that distances count small shares too (Hellinger)."""
    levels = pixels.reshape(-1, 3) // (256 // _LEVELS)
    codes = levels @ np.array([_LEVELS**2, _LEVELS, 1])
    return np.sqrt(np.bincount(codes, minlength=_LEVELS**3) / len(codes))


def _edges(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    down, right = np.gradient(grey)
    direction = (np.arctan2(down, right) % np.pi / np.pi * _DIRECTIONS).astype(int) % _DIRECTIONS
    cell = np.arange(_SIDE) // (_SIDE // _CELLS)
    code = (cell[:, None] * _CELLS + cell[None, :]) * _DIRECTIONS + direction
    strength = np.bincount(
        code.ravel(), weights=np.hypot(down, right).ravel(), minlength=_CELLS**2 * _DIRECTIONS
    )
    return strength / (np.linalg.norm(strength) or 1.0)
