"""A home with real scikit-learn releases in it, as the registry would write them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import blake3
import msgspec
import numpy as np
import skops.io
import yaml
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from everloop.features import FeatureView
from everloop.predictions import Personal
from everloop.serving import (
    Approval,
    Field,
    Manifest,
    RouteTable,
    Signature,
    read_routes,
    untrusted_types,
    write_manifest,
    write_routes,
)
from tests.serving.records import route

TITLES = ["cool fridge", "big fridge door", "deep freezer", "chest freezer", "steel fridge", "freezer box"]
CLASSES = ("Freezers", "Fridges")
TITLE, COLOUR = Field("title", "string"), Field("colour", "string")


def object_array(rows: list[list[Any]]) -> NDArray[np.object_]:
    array = np.empty((len(rows), len(rows[0])), dtype=np.object_)
    array[:] = rows
    return array


def title_model(*, reverse: bool = False, columns: int = 1) -> Any:
    """Fridges or Freezers by the title; `reverse` answers the opposite, to tell releases apart."""
    labels = [CLASSES[("fridge" in title) != reverse] for title in TITLES]
    model = make_pipeline(ColumnTransformer([("title", TfidfVectorizer(), 0)]), LogisticRegression(C=100))
    return model.fit(object_array([[title, *[0] * (columns - 1)] for title in TITLES]), labels)


def picky_model() -> Any:
    """As `title_model`, but raises on a colour that it has not seen: an ordinary model that fails on some rows."""
    labels = [CLASSES["fridge" in title] for title in TITLES]
    columns = ColumnTransformer([("title", TfidfVectorizer(), 0), ("colour", OneHotEncoder(), [1])])
    rows = [[title, ("red", "white")[index % 2]] for index, title in enumerate(TITLES)]
    return make_pipeline(columns, LogisticRegression(C=100)).fit(object_array(rows), labels)


SIZE = Field("size", "number")
GOOD, CRASHES, HANGS = 1, 1_000_000, 2_000_000  # none that a release makes up


def trap() -> Any:
    """A tree over sizes that is damaged in two places: there it reads memory that is not there, or walks in circles.

    No audit of types finds that: the library walks the arrays of a tree without looking at them.
    """
    sizes = [0, GOOD, CRASHES - 1, CRASHES, CRASHES + 1, HANGS - 1, HANGS, HANGS + 1]
    tree = DecisionTreeClassifier(random_state=0).fit([[size] for size in sizes], [*CLASSES] * 4)
    leaves = {size: int(tree.apply([[size]])[0]) for size in (CRASHES, HANGS)}
    state = tree.tree_.__getstate__()
    for size, child in ((CRASHES, 1 << 40), (HANGS, leaves[HANGS])):
        node = state["nodes"][leaves[size]]
        node["left_child"] = node["right_child"] = child
        node["feature"] = 0
    tree.tree_.__setstate__(state)
    return tree


def size_model() -> Any:
    """A tree over sizes that is whole."""
    return DecisionTreeClassifier().fit([[0], [CRASHES]], CLASSES)


def write_blob(home: Path, content: bytes) -> str:
    digest = blake3.blake3(content).hexdigest()
    place = home / "blobs" / digest[:2] / digest[2:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return digest


def write_release(
    home: Path,
    release: str,
    model: Any,
    *,
    inputs: tuple[Field, ...] = (TITLE,),
    classes: tuple[str, ...] | None = CLASSES,
    features: tuple[FeatureView, ...] = (),
    version: int = 1,
    code: str | None = None,
    personal: dict[str, Personal] | None = None,
) -> Manifest:
    content = skops.io.dumps(model)
    digest = write_blob(home, content)
    manifest = Manifest(
        id=release,
        model="category",
        version=version,
        digest=digest,
        files={"model.skops": digest},
        signature=Signature(inputs, "number" if classes is None else "class", classes),
        created_at=datetime(2026, 9, 1, tzinfo=UTC),
        features=features,
        trusted_types=tuple(untrusted_types(content)),
        code=code,
        personal=personal or {},
    )
    write_manifest(home / "serving", manifest)
    return manifest


def write_function(home: Path, release: str, code: str, signature: Signature, **source: Any) -> Manifest:
    """A trusted release of a function `predict` of a module with this code."""
    described = {
        "flavors": {"everloop_function": {"module": "own", "name": "predict", **source}},
        "metadata": {"everloop": {"signature": msgspec.to_builtins(signature)}},
    }
    files = {"code/own.py": code.encode(), "MLmodel": yaml.safe_dump(described).encode()}
    manifest = Manifest(
        id=release,
        model="category",
        version=1,
        digest=release,
        files={path: write_blob(home, content) for path, content in files.items()},
        signature=signature,
        created_at=datetime(2026, 9, 1, tzinfo=UTC),
        flavor="function",
        trust=Approval("alice", datetime(2026, 9, 1, tzinfo=UTC), "read it"),
    )
    write_manifest(home / "serving", manifest)
    return manifest


def go_live(home: Path, *variants: tuple[str, float], **given: Any) -> int:
    """Route the endpoint `category` to releases rel_NAME; returns the epoch."""
    current = read_routes(home / "serving")
    epoch = 1 if current is None else current.epoch + 1
    write_routes(home / "serving", RouteTable(epoch, {"category": route(*variants, **given)}))
    return epoch
