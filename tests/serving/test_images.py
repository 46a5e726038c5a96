"""Images through every protocol: real files of each format, limits, damaged ones; served by a pipeline and by a function."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from blake3 import blake3
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from everloop.features.images import ImageFeatures
from everloop.serving import Field, Signature, check
from tests.serving.asgi import Got, InProcess
from tests.serving.home import go_live, object_array, write_function, write_release

PHOTO = Field("photo", "image")
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
rng = np.random.default_rng(1)


def photo(colour: str, form: str = "PNG", size: tuple[int, int] = (24, 18)) -> bytes:
    """A picture of a colour with some noise, as no two cameras see the same."""
    plain = np.asarray(Image.new("RGB", size, colour), dtype=np.int16)
    noisy = (plain + rng.integers(-20, 20, plain.shape)).clip(0, 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(noisy).save(content, form)
    return content.getvalue()


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def says_to_be(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header says that it is so large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """Tells red from green."""
    home = tmp_path_factory.mktemp("home")
    rows = [[photo(colour, form)] for colour in ("red", "green") for form in FORMATS]
    model = make_pipeline(ImageFeatures(), LogisticRegression(C=100))
    model.fit(object_array(rows), ["red"] * len(FORMATS) + ["green"] * len(FORMATS))
    write_release(home, "rel_control", model, inputs=(PHOTO,), classes=("green", "red"))
    go_live(home, ("control", 100))
    with InProcess(home) as app:
        yield app


def own(app: InProcess, content: bytes, **more: Any) -> Got:
    return app.post("/endpoints/category/predict", {"inputs": {"photo": text(content)}, **more})


def mlflow(app: InProcess, content: bytes) -> Got:
    return app.post("/invocations", {"dataframe_split": {"columns": ["photo"], "data": [[text(content)]]}})


def kserve(app: InProcess, content: bytes) -> Got:
    return app.post("/v1/models/category:predict", {"instances": [{"photo": text(content)}]})


def tensor(app: InProcess, content: bytes) -> Got:
    given = {"name": "photo", "datatype": "BYTES", "shape": [1], "data": [text(content)]}
    return app.post("/v2/models/category/infer", {"inputs": [given]})


def binary(app: InProcess, content: bytes) -> Got:
    behind = struct.pack("<I", len(content)) + content
    given = {
        "name": "photo",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": len(behind)},
    }
    head = msgspec.json.encode({"inputs": [given]})
    return app.post(
        "/v2/models/category/infer", head + behind, inference_header_content_length=str(len(head))
    )


@pytest.mark.parametrize("ask", [own, mlflow, kserve, tensor, binary])
@pytest.mark.parametrize("form", FORMATS)
def test_an_image_of_each_format_is_answered_in_each_protocol_and_logged_by_its_digest(
    app: InProcess, ask: Any, form: str
) -> None:
    content = photo("red", form)
    got = ask(app, content)
    assert got.status == 200
    record = app.record(got)
    assert record.output == "red"
    assert record.inputs == {"photo": f"blake3:{blake3(content).hexdigest()}"}


@pytest.mark.parametrize("ask", [own, mlflow, kserve, tensor, binary])
def test_an_image_that_unpacks_to_gigabytes_is_refused_by_its_header(app: InProcess, ask: Any) -> None:
    got = ask(app, says_to_be(60_000, 10_000))
    assert got.status == 422
    record = app.record(got)
    assert (record.status, record.output) == ("refused", None)
    assert "pixels; the most allowed are 50,000,000" in str(record.error)


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        ((9_000, 6_000), "has 9,000 x 6,000 pixels; the most allowed are 50,000,000"),
        ((20_000, 10_000), "unpacks to over 178,956,970 pixels; the most allowed are 50,000,000"),
        ((8_000, 6_000), None),
    ],
)
def test_the_limit_is_on_pixels(size: tuple[int, int], problem: str | None) -> None:
    found = check(Signature((PHOTO,), "number"), {"photo": text(says_to_be(*size))})
    assert [one.problem for one in found] == ([] if problem is None else [problem])


def test_a_field_may_set_its_own_limit() -> None:
    small = Signature((Field("photo", "image", most_pixels=400),), "number")
    assert check(small, {"photo": text(photo("red", size=(20, 20)))}) == []
    (found,) = check(small, {"photo": text(photo("red", size=(20, 21)))})
    assert found.problem == "has 20 x 21 pixels; the most allowed are 400"


def test_a_damaged_image_fails_its_row_with_the_reason_in_the_log(app: InProcess) -> None:
    content = photo("red", "PNG")
    got = own(app, content[: len(content) // 2])
    assert (got.status, got.json()["error"]["code"]) == (500, "model_failed")
    assert "are not an image that can be read" in str(app.record(got).error)


def test_what_is_no_image_is_refused(app: InProcess) -> None:
    got = own(app, b"import os")
    assert got.status == 422
    assert "must be the bytes of a JPEG" in got.json()["error"]["fields"][0]["problem"]


def test_an_image_is_explained_as_one_input(app: InProcess) -> None:
    found = own(app, photo("green"), explain=True).json()["explanation"]
    (whole,) = found["contributions"]
    assert (found["class"], whole["input"]) == ("green", "photo")
    assert found["base"] + whole["contribution"] == pytest.approx(found["score"])


BRIGHTNESS = """
import io

from PIL import Image


def predict(rows):
    images = [Image.open(io.BytesIO(row["photo"])).convert("L").resize((1, 1)) for row in rows]
    return [image.getpixel((0, 0)) / 255 for image in images]
"""


def test_a_function_of_images_is_given_bytes(tmp_path: Path) -> None:
    write_function(tmp_path, "rel_control", BRIGHTNESS, Signature((PHOTO,), "number"))
    go_live(tmp_path, ("control", 100))
    with InProcess(tmp_path) as app:
        dark, light = (
            binary(app, photo(colour)).json()["outputs"][0]["data"][0] for colour in ("black", "white")
        )
    assert dark < 0.2 < 0.8 < light
