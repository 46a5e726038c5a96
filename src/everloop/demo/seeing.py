"""What a simple model sees of a photo: the silhouette on a coarse grid, and how much there is of which colour."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int16]

_SIDE = 48
_GRID = 12
_LEVELS = 3  # of each of red, green and blue
_DIFFERENT = (
    100  # a pixel belongs to the thing when it differs by more from the edge of its row, all colours together
)
_FEW = 2  # pixels in a row or column are grain, not thing
_BATCH = 512  # photos in memory at once, 28 KB each

FEATURES = _GRID * _GRID + _LEVELS**3 + 2


def image_features(images: Sequence[bytes]) -> Floats:
    """Numbers about photos that a linear model can use beside TF-IDF.

    Parameters
    ----------
    images : (n_images,) encoded pictures of any size and format that pillow reads

    Returns
    -------
    (n_images, FEATURES) float32: the silhouette within its bounding box on a grid of 12 x 12, as the mean of left and
    right half (which says the same of a mirrored photo) and their difference; the share of its pixels in each of 27
    colours; the box's width and height against the picture's. Rows have length 1, like those of TF-IDF.
    """
    batches = [
        _features(np.stack([_pixels(one) for one in images[start : start + _BATCH]]))
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(batches) if batches else np.empty((0, FEATURES), np.float32)


def _pixels(image: bytes) -> Integers:
    with Image.open(BytesIO(image)) as opened:
        picture = opened.convert("RGB")
    return np.asarray(picture if picture.size == (_SIDE, _SIDE) else picture.resize((_SIDE, _SIDE)), np.int16)


def _features(pixels: Integers) -> Floats:
    edge = np.concatenate(
        [pixels[:, :, :3], pixels[:, :, -3:]], axis=2
    )  # (n, 48, 6, 3): floors differ from walls
    wall = np.median(edge, axis=2, keepdims=True)  # (n, 48, 1, 3)
    thing = np.abs(pixels - wall).sum(axis=3) > _DIFFERENT  # (n, 48, 48)
    top, height = _extent(thing.sum(axis=2) > _FEW)
    left, width = _extent(thing.sum(axis=1) > _FEW)
    rows, columns = _sampled(top, height), _sampled(left, width)  # (n, 12)
    grid = thing[np.arange(len(thing))[:, None, None], rows[:, :, None], columns[:, None, :]]  # (n, 12, 12)
    halves = grid[:, :, : _GRID // 2].astype(np.float32), grid[:, :, : _GRID // 2 - 1 : -1].astype(np.float32)
    found = np.concatenate(
        [
            ((halves[0] + halves[1]) / 2).reshape(len(thing), -1),
            np.abs(halves[0] - halves[1]).reshape(len(thing), -1),
            3 * _colours(pixels, thing),
            np.stack([width, height], axis=1) * (3 / _SIDE),
        ],
        axis=1,
    )
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return (found / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _extent(occupied: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the first occupied place of each row is, and how many there are up to the last; (n, 48) -> (n,), (n,)."""
    first = occupied.argmax(axis=1)
    last = _SIDE - 1 - occupied[:, ::-1].argmax(axis=1)
    return first, last - first + 1


def _sampled(start: npt.NDArray[np.int64], length: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """12 places spread evenly over each extent; (n,), (n,) -> (n, 12)."""
    return start[:, None] + (length[:, None] * (2 * np.arange(_GRID) + 1)) // (2 * _GRID)


def _colours(pixels: Integers, thing: npt.NDArray[np.bool_]) -> Floats:
    """The share of each thing's pixels in each colour; (n, 48, 48, 3), (n, 48, 48) -> (n, 27)."""
    bins = (pixels.astype(np.int64) * _LEVELS // 256) @ np.array([_LEVELS**2, _LEVELS, 1])  # (n, 48, 48)
    whose = np.arange(len(pixels))[:, None, None] * _LEVELS**3 + bins
    counts = np.bincount(whose[thing], minlength=len(pixels) * _LEVELS**3).reshape(len(pixels), -1)
    shares: Floats = (counts / np.maximum(1, counts.sum(axis=1, keepdims=True))).astype(np.float32)
    return shares
