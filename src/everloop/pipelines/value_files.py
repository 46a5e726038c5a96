"""Values as folders of files, each kind in its own form; the same value gives the same bytes.

A folder holds `value.json`, which says the kind and what is small, and the files that it speaks of. Pickle is not
among the forms, unless a project declares it for a type of its own: what is read back must not be able to run code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from everloop.errors import Invalid
from everloop.pipelines.canonical import is_json
from everloop.pipelines.model_files import read_model, write_model
from everloop.pipelines.serializers import read_with, serializer_of, write_with
from everloop.pipelines.values import Model, Split, Table

_GROUP_ROWS = 1 << 17  # of a Parquet file
_NOTE = "value.json"
Note = dict[str, Any]


@dataclass(frozen=True)
class _Form:
    """How one kind is kept: `write` fills the folder and returns what goes into `value.json` beside the kind."""

    fits: Callable[[Any], bool]
    write: Callable[[Any, Path], Note]
    read: Callable[[Note, Path], Any]


def kind_of(value: Any) -> str:
    """The kind of a value: json, table, split, model, array, scalar, bytes, path, or object and pickle by a serializer.

    Raises Invalid for any other type.
    """
    for kind, form in _FORMS.items():
        if form.fits(value):
            return kind
    raise Invalid(
        f"a {type(value).__module__}.{type(value).__qualname__} cannot be kept: steps hand on JSON values (with text as keys, "
        "without tuples), tables, splits, models, arrays without objects, bytes, paths, and lists of these; pickle is not used. "
        "Return one of these, or declare el.serializer for the type."
    )


def save(value: Any, folder: Path) -> None:
    """Write a value into `folder`, which is made and must hold nothing yet.

    Raises
    ------
    Invalid
        There is no form for the value's type, it cannot be written in its form, or the folder is not empty.
    GateFailed
        A model holds types that are not audited.
    """
    kind = kind_of(value)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Invalid(f"{folder} is not empty; a value is written into a folder of its own. Name another.")
    note = {"kind": kind, **_FORMS[kind].write(value, folder)}
    (folder / _NOTE).write_text(json.dumps(note, separators=(",", ":")))


def load(folder: Path) -> Any:
    """Read back what `save` wrote; a path comes back as the path of the file or folder below `folder`.

    Raises Invalid when the folder holds no value, or one of a kind that this version does not know.
    """
    try:
        note = json.loads((folder / _NOTE).read_text())
        form = _FORMS[note["kind"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Invalid(
            f"{folder} holds no value that this everloop can read: {error!r}. A newer version may have written it; "
            "upgrade, or run the step again."
        ) from error
    return form.read(note, folder)


def _write_json(value: Any, _folder: Path) -> Note:
    return {"value": value}  # NaN and infinities in Python's own spelling


def _write_table(table: Table, path: Path) -> Note:
    """One Parquet file, the same for the same rows however they were cut into chunks.

    Written a group of rows at a time: all of them in one piece would be in memory twice. Numbers have no dictionary: looking each up costs as
    much again as all else, and the next are seldom the same.
    """
    whole = table.unify_dictionaries()
    texts = [path for field in table.schema for path in _texts(field, field.name)]
    options: Any = {"compression": "zstd", "use_dictionary": texts}
    with pq.ParquetWriter(path, whole.schema, **options) as writer:
        for start in range(0, max(whole.num_rows, 1), _GROUP_ROWS):
            writer.write_table(whole.slice(start, _GROUP_ROWS).combine_chunks(), row_group_size=_GROUP_ROWS)
    return {}


def _texts(field: pa.Field[Any], path: str) -> Iterator[str]:
    """The columns of a Parquet file, by their paths, that come of a field and are no numbers or times."""
    kind = field.type
    if pa.types.is_struct(kind):
        for child in kind.fields:
            yield from _texts(child, f"{path}.{child.name}")
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts(kind.value_field, f"{path}.list.element")
    elif not (pa.types.is_primitive(kind) or pa.types.is_boolean(kind)):
        yield path


def _read_table(path: Path) -> Table:
    with pq.ParquetFile(path) as file:
        return file.read()


def _write_split(data: Split, folder: Path) -> Note:
    _write_table(data.train, folder / "train.parquet")
    _write_table(data.test, folder / "test.parquet")
    return {name: getattr(data, name) for name in ("inputs", "label", "features", "group")}


def _read_split(note: Note, folder: Path) -> Split:
    return Split(
        train=_read_table(folder / "train.parquet"),
        test=_read_table(folder / "test.parquet"),
        inputs=tuple(note["inputs"]),
        label=note["label"],
        features=tuple(note["features"]),
        group=note["group"],
    )


def _write_model(model: Model, folder: Path) -> Note:
    (folder / "model").mkdir()
    write_model(model, folder / "model")
    _write_table(model.evaluation, folder / "evaluation.parquet")
    if model.per_class is not None:
        _write_table(model.per_class, folder / "per_class.parquet")
    return {"metrics": dict(model.metrics), "split_ref": model.split_ref}


def _read_model(note: Note, folder: Path) -> Model:
    stored = read_model(folder / "model")
    per_class = folder / "per_class.parquet"
    return Model(
        load=stored.load,
        signature=stored.signature,
        metrics=note["metrics"],
        evaluation=_read_table(folder / "evaluation.parquet"),
        split_ref=note["split_ref"],
        feature_fields=stored.feature_fields,
        per_class=_read_table(per_class) if per_class.exists() else None,
        example=stored.example,
    )


def _write_array(array: Any, folder: Path) -> Note:
    np.save(folder / "array.npy", array, allow_pickle=False)
    return {}


def _read_array(_note: Note, folder: Path) -> Any:
    return np.load(folder / "array.npy", allow_pickle=False)


def _write_bytes(value: bytes, folder: Path) -> Note:
    (folder / "data.bin").write_bytes(value)
    return {}


def _write_path(source: Path, folder: Path) -> Note:
    place = folder / "content" / source.name
    if any(one.is_symlink() for one in (source, *source.rglob("*"))):
        raise Invalid(f"{source} is or holds a symbolic link; steps hand on files. Copy what it leads to.")
    if source.is_dir():
        shutil.copytree(source, place, copy_function=shutil.copyfile)
    elif source.is_file():
        place.parent.mkdir()
        shutil.copyfile(source, place)
    if not place.is_file() and not any(one.is_file() for one in place.rglob("*")):
        raise Invalid(
            f"{source} is no file and no folder with a file in it; a step returned it. Write it first."
        )
    return {"name": source.name}


def _has_serializer(value: Any, *, is_pickle: bool) -> bool:
    found = serializer_of(value)
    return found is not None and found.is_pickle == is_pickle


def _write_object(value: Any, folder: Path) -> Note:
    found = serializer_of(value)
    assert found is not None  # noqa: S101  (it fits)
    (folder / "content").mkdir()
    write_with(found, value, folder / "content")
    return {"type": found.name}


def _read_object(note: Note, folder: Path) -> Any:
    return read_with(note["type"], folder / "content")


# In the order in which they are tried.
_FORMS: dict[str, _Form] = {
    "json": _Form(is_json, _write_json, lambda note, _folder: note["value"]),
    "table": _Form(
        lambda value: isinstance(value, pa.Table),
        lambda value, folder: _write_table(value, folder / "table.parquet"),
        lambda _note, folder: _read_table(folder / "table.parquet"),
    ),
    "split": _Form(lambda value: isinstance(value, Split), _write_split, _read_split),
    "model": _Form(lambda value: isinstance(value, Model), _write_model, _read_model),
    "array": _Form(
        lambda value: type(value) is np.ndarray and not value.dtype.hasobject, _write_array, _read_array
    ),
    "scalar": _Form(
        lambda value: isinstance(value, np.generic) and not isinstance(value, np.object_),
        _write_array,
        lambda note, folder: _read_array(note, folder)[()],
    ),
    "bytes": _Form(
        lambda value: type(value) is bytes,
        _write_bytes,
        lambda _note, folder: (folder / "data.bin").read_bytes(),
    ),
    "path": _Form(
        lambda value: isinstance(value, Path),
        _write_path,
        lambda note, folder: folder / "content" / note["name"],
    ),
    "object": _Form(lambda value: _has_serializer(value, is_pickle=False), _write_object, _read_object),
    "pickle": _Form(lambda value: _has_serializer(value, is_pickle=True), _write_object, _read_object),
}
