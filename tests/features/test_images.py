from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from everloop.errors import Invalid
from everloop.features.images import N_FEATURES, ImageFeatures


def picture(colour: str, *, shape: str = "round", size: int = 40, kind: str = "PNG") -> bytes:
    image = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(image)
    box = (size // 5, size // 5, size * 4 // 5, size * 4 // 5)
    if shape == "round":
        draw.ellipse(box, fill=colour)
    else:
        draw.rectangle(box, fill=colour)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def numbers(*images: bytes | None) -> np.ndarray:
    return ImageFeatures().fit_transform(np.array([[image] for image in images], dtype=object))  # type: ignore[no-any-return]  # untyped base


def test_each_image_becomes_a_row_of_finite_numbers() -> None:
    made = numbers(picture("red"), None, picture("blue", kind="JPEG"))
    assert made.shape == (3, N_FEATURES)
    assert np.isfinite(made).all()
    assert not made[1].any()


def test_colour_and_shape_both_show() -> None:
    red, blue, square = numbers(picture("red"), picture("blue"), picture("red", shape="square"))
    assert np.abs(red[:64] - blue[:64]).max() > 0.3
    assert np.abs(red[64:] - square[64:]).max() > 0.1


def test_the_size_of_the_file_hardly_matters() -> None:
    small, large = numbers(picture("red", size=40), picture("red", size=200))
    assert np.abs(small - large).max() < 0.25


def test_an_empty_batch_has_the_right_width() -> None:
    assert ImageFeatures().transform(np.empty((0, 1), dtype=object)).shape == (0, N_FEATURES)


@pytest.mark.parametrize("junk", [b"", b"not an image", picture("red")[:60]])
def test_bytes_that_are_no_image_are_refused(junk: bytes) -> None:
    with pytest.raises(Invalid, match="not an image"):
        numbers(junk)
