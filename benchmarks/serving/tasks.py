"""The two models that are served: a TF-IDF + logistic regression over a title, and a HistGradientBoosting over numbers and
categories that says whether somebody earns over 50,000 dollars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from everloop import serving
from everloop.clock import wall
from everloop.serving import Field, Manifest, Route, RouteTable, Signature, Variant
from everloop.storage import FileBlobs

MOST_BODIES = 2000


@dataclass(frozen=True)
class Task:
    """A trained model, its inputs, and rows of them to ask about."""

    fields: tuple[Field, ...]
    rows: NDArray[np.object_]
    model: Any

    @property
    def kinds(self) -> dict[str, tuple[str, bool]]:
        """For each input in order its type and whether it may be null, as the peers are told."""
        return {field.name: (field.type, field.nullable) for field in self.fields}

    def bodies(self, form: str) -> bytes:
        """Requests of one row each, one a line, in the form that a server takes."""
        names = [field.name for field in self.fields]
        found: list[Any] = []
        for number, row in enumerate(self.rows[:MOST_BODIES].tolist()):
            inputs = dict(zip(names, row, strict=True))
            if form == "bentoml":
                found.append({"batch": [inputs]})
            elif form == "mlflow":
                found.append({"dataframe_split": {"columns": names, "data": [row]}})
            else:
                found.append({"inputs": inputs, "key": str(number)})
        return b"\n".join(map(msgspec.json.encode, found))


def listings(path: Path) -> Task:
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    table = pq.read_table(path, columns=["title", "category"]).drop_null()
    rows = np.array(table["title"].to_pylist(), dtype=object).reshape(-1, 1)
    model = make_pipeline(ColumnTransformer([("title", TfidfVectorizer(), 0)]), LogisticRegression(C=10))
    return Task((Field("title", "string"),), rows, model.fit(rows, table["category"].to_pylist()))


def census(path: Path) -> Task:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    table = pq.read_table(path).drop_columns(["person_id", "final_weight"])
    labels = ["over" if one else "under" for one in table["income_over_50k"].to_pylist()]
    table = table.drop_columns(["income_over_50k"])
    rows = np.empty(table.shape, dtype=object)
    for position, column in enumerate(table.columns):
        rows[:, position] = column.to_pylist()
    is_text = [not pa.types.is_integer(one.type) for one in table.schema]
    fields = tuple(
        Field(one.name, "string" if text else "integer", nullable=True)
        for one, text in zip(table.schema, is_text, strict=True)
    )
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer(
        [
            ("numbers", "passthrough", [place for place, text in enumerate(is_text) if not text]),
            ("words", encoder, [place for place, text in enumerate(is_text) if text]),
        ]
    )
    return Task(fields, rows, make_pipeline(columns, HistGradientBoostingClassifier()).fit(rows, labels))


def release(home: Path, task: Task, *, versions: int = 1) -> Path:
    """The trained model, released under so many versions in `home`, the first live; gives its file for the peers."""
    import skops.io

    content = skops.io.dumps(task.model)
    file = home / "model.skops"
    file.write_bytes(content)
    blobs = FileBlobs(home / "blobs")
    digest = blobs.put(content)
    signature = Signature(task.fields, "class", tuple(str(name) for name in task.model.classes_))
    compiled = None
    for number in range(1, versions + 1):
        manifest = Manifest(
            f"rel_{number}",
            "category",
            number,
            digest,
            {"model.skops": digest},
            signature,
            wall(),
            trusted_types=tuple(serving.untrusted_types(content)),
        )
        if compiled is None:
            compiled = serving.compare_plan(manifest, blobs, task.rows.tolist)
            assert compiled.is_used, compiled.reason
        serving.write_manifest(home / "serving", msgspec.structs.replace(manifest, compiled=compiled))
    go_live(home, [("control", 1, 100.0)])
    return file


def go_live(
    home: Path,
    variants: Sequence[tuple[str, int, float]],
    *,
    epoch: int = 1,
) -> None:
    """Name, version and weight of the variants of the one endpoint."""
    made = tuple(Variant(name, f"rel_{version}", weight) for name, version, weight in variants)
    route = Route("category", "salt", made)
    serving.write_routes(home / "serving", RouteTable(epoch, {"category": route}))


def go_live_mirrored(home: Path) -> None:
    """Beside the endpoint another, `mirrored`, of the same version, which has each of its requests copied to the second."""
    alone = Route("category", "salt", (Variant("control", "rel_1", 100.0),))
    copied = msgspec.structs.replace(alone, endpoint="mirrored", shadow=(Variant("next", "rel_2", 100.0),))
    serving.write_routes(home / "serving", RouteTable(2, {"category": alone, "mirrored": copied}))
