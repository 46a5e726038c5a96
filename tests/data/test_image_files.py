from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from everloop.data.image_files import header_of, read_images
from everloop.errors import Invalid


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three images in two folders, with what file managers leave behind."""
    folder = tmp_path / "photos"
    for place, size in (("fruit/apple.png", (4, 3)), ("fruit/pear.jpg", (5, 2)), ("top.png", (1, 1))):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "red").save(folder / place)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "fruit" / "Thumbs.db").write_bytes(b"x")
    return folder


def test_a_row_an_image_in_order_of_the_path(photos: Path) -> None:
    rows, _ = read_images(photos, key="file")
    assert rows.drop_columns(["image"]).to_pylist() == [
        {"file": "fruit/apple.png", "folder": "fruit", "width": 4, "height": 3},
        {"file": "fruit/pear.jpg", "folder": "fruit", "width": 5, "height": 2},
        {"file": "top.png", "folder": None, "width": 1, "height": 1},
    ]
    assert rows["image"][0].as_py() == (photos / "fruit/apple.png").read_bytes()


def test_the_record_changes_with_a_byte_and_with_a_name(photos: Path) -> None:
    _, first = read_images(photos, key=None)
    (photos / "top.png").rename(photos / "other.png")
    _, renamed = read_images(photos, key=None)
    Image.new("RGB", (1, 1), "blue").save(photos / "other.png")
    _, changed = read_images(photos, key=None)
    assert first["files"] == 3
    assert len({first["digest"], renamed["digest"], changed["digest"]}) == 3


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="has no images"):
        read_images(tmp_path, key="path")


def test_a_file_that_is_no_image_is_named(photos: Path) -> None:
    (photos / "fruit" / "notes.txt").write_text("buy apples")
    with pytest.raises(Invalid, match=r"fruit/notes\.txt is not an image"):
        read_images(photos, key="path")


def test_a_link_out_of_the_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes((photos / "top.png").read_bytes())
    (photos / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(Invalid, match=r"link\.png is a symbolic link"):
        read_images(photos, key="path")


def test_a_name_that_is_not_utf8_is_refused(photos: Path) -> None:
    (photos / "top.png").rename(photos / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(Invalid, match="not a name in UTF-8"):
        read_images(photos, key="path")


def test_the_key_may_not_be_one_of_the_other_columns(photos: Path) -> None:
    with pytest.raises(Invalid, match="key of images is their path"):
        read_images(photos, key="image")


def test_a_cut_off_header_is_no_image(photos: Path) -> None:
    data = (photos / "top.png").read_bytes()
    assert header_of(data) == ("PNG", 1, 1)
    assert header_of(data[:20]) is None
    assert header_of(b"<svg/>") is None


def test_a_decompression_bomb_is_no_image(photos: Path) -> None:
    data = bytearray((photos / "top.png").read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2  # what the header says; Pillow looks before it decodes
    assert header_of(bytes(data)) is None
