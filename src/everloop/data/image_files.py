"""Reads a folder of images: one row an image."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from blake3 import blake3

from everloop.data.folders import files_below
from everloop.errors import Invalid, StorageFailed

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_COLUMNS = ("folder", "image", "width", "height")


class Header(NamedTuple):
    """What an image says of itself before it is decoded."""

    format: str
    width: int
    height: int


def header_of(data: bytes) -> Header | None:
    """The image's format and size in pixels, or None when these bytes are no image of a known format.

    Pixels are not decoded. An image of more pixels than Pillow allows (a decompression bomb) is none.
    """
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415  (for data that has images alone)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return Header(str(image.format), image.width, image.height)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        OSError,
        ValueError,
        SyntaxError,  # what Pillow's PNG reader raises for a broken header
    ):
        return None


def read_images(folder: Path, *, key: str | None) -> tuple[pa.Table, dict[str, Any]]:
    """A table of the images below `folder`, and the record of what was read.

    The columns are the key (or `path`): the path below `folder` with '/'; `folder`: the path of the image's own
    folder, missing for images at the top; `image`: the bytes; `width` and `height` in pixels. Rows are in order
    of their path. Hidden files are left out.

    Raises
    ------
    Invalid
        There is no image, or a file is none, or a symbolic link leads away.
    """
    if key in _COLUMNS:
        raise Invalid(
            f"the key is {key!r}, and images bring a column of that name; the key of images is their path. "
            "Define the dataset with the key 'path'."
        )
    rows: list[tuple[str, str | None, bytes, int, int]] = []
    for path, place in files_below(folder):
        data, header = _image(path, place)
        parent = place.parent.as_posix()
        rows.append((place.as_posix(), None if parent == "." else parent, data, header.width, header.height))
    if not rows:
        raise Invalid(
            f"the folder {folder} has no images; a folder is read as images ({', '.join(FORMATS)}). "
            "Name a folder of images, or a CSV, JSONL or Parquet file."
        )
    names, *columns = map(list, zip(*rows, strict=True))
    types = (pa.large_string(), pa.large_binary(), pa.int64(), pa.int64())
    table = pa.table(
        {
            key or "path": pa.array(names, pa.large_string()),
            **{
                column: pa.array(values, kind)
                for column, values, kind in zip(_COLUMNS, columns, types, strict=True)
            },
        }
    )
    images = [row[2] for row in rows]
    listing = "".join(
        f"{blake3(data).hexdigest()} {name}\n" for name, data in zip(names, images, strict=True)
    )
    record = {
        "name": folder.name,
        "digest": blake3(listing.encode()).hexdigest(),
        "bytes": sum(map(len, images)),
        "files": len(images),
    }
    return table, record


def _image(path: Path, place: Path) -> tuple[bytes, Header]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageFailed(f"{path} cannot be read: {error.strerror}. Check its permissions.") from error
    header = header_of(data)
    if header is None:
        raise Invalid(
            f"{place} is not an image; a folder is read as images ({', '.join(FORMATS)}), all of them or none. "
            "Remove the file, or name a CSV, JSONL or Parquet file instead of the folder."
        )
    return data, header
