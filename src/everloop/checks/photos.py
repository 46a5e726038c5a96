"""Photos as they also come: darker, flatter, out of focus, askew, packed too tightly, cut off."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from everloop.checks.columns import Column

if TYPE_CHECKING:
    from PIL import Image

_FACTORS = (0.6, 1.4)  # of brightness and contrast: one of these for each photo
_BLUR = 0.01  # radius as a share of the shorter side, one pixel at least
_DEGREES = 10.0  # that a photo is turned by at most
_QUALITY = 20  # of a JPEG that is packed too tightly
_KEPT = 0.85  # of each side that a crop leaves at least
_FORMATS = {"JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"quality": 95}}

Random = np.random.Generator


def is_photo(content: Any) -> bool:
    """Whether bytes are an image that can be read."""
    return _read(content) is not None


def disturbed(column: Column, by: str, random: Random) -> list[bytes | None]:
    """Each photo disturbed in one way and written in its own format; what is no photo stays as it is."""
    return [None if one is None else _disturbed(one, by, random) for one in column.to_pylist()]


def _disturbed(content: bytes, by: str, random: Random) -> bytes:
    opened = _read(content)
    if opened is None:
        return content
    name = opened.format if opened.format in _FORMATS else "PNG"
    image = opened.convert("RGB")
    buffer = io.BytesIO()
    if by == "jpeg":
        image.save(buffer, "JPEG", quality=_QUALITY)
    else:
        CHANGES[by](image, random).save(buffer, name, **_FORMATS[str(name)])
    return buffer.getvalue()


def _read(content: Any) -> Image.Image | None:
    """The image that bytes are, its pixels decoded; None when they are none."""
    from PIL import Image  # noqa: PLC0415  (here and below: for data that has photos alone)

    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    # an unknown format is an OSError, too
    except (OSError, Image.DecompressionBombError, TypeError, ValueError, SyntaxError):
        return None
    return image


def _brighter(image: Image.Image, random: Random) -> Image.Image:
    from PIL import ImageEnhance  # noqa: PLC0415

    return ImageEnhance.Brightness(image).enhance(float(random.choice(_FACTORS)))


def _flatter(image: Image.Image, random: Random) -> Image.Image:
    from PIL import ImageEnhance  # noqa: PLC0415

    return ImageEnhance.Contrast(image).enhance(float(random.choice(_FACTORS)))


def _blurred(image: Image.Image, random: Random) -> Image.Image:
    from PIL import ImageFilter  # noqa: PLC0415

    return image.filter(ImageFilter.GaussianBlur(max(1.0, _BLUR * min(image.size))))


def _turned(image: Image.Image, random: Random) -> Image.Image:
    """Turned about its middle, the corners filled with the mean colour of its edge."""
    from PIL import Image  # noqa: PLC0415

    pixels = np.asarray(image)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean(axis=0)
    colour = tuple(int(one) for one in edge)
    return image.rotate(
        float(random.uniform(-_DEGREES, _DEGREES)), Image.Resampling.BILINEAR, fillcolor=colour
    )


def _cropped(image: Image.Image, random: Random) -> Image.Image:
    """A part of it, brought to its size again."""
    from PIL import Image  # noqa: PLC0415

    kept = [max(1, round(side * float(random.uniform(_KEPT, 1.0)))) for side in image.size]
    left, top = (int(random.integers(0, side - own + 1)) for side, own in zip(image.size, kept, strict=True))
    return image.crop((left, top, left + kept[0], top + kept[1])).resize(
        image.size, Image.Resampling.BILINEAR
    )


CHANGES: Mapping[str, Callable[[Image.Image, Random], Image.Image]] = {
    "brightness": _brighter,
    "contrast": _flatter,
    "blur": _blurred,
    "rotation": _turned,
    "jpeg": lambda image, random: image,  # changed by how it is written
    "crop": _cropped,
}
