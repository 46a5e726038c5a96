"""`everloop-ci.toml`: which files of the repository hold the rows and labels that a check trains on, and its parameters.

    [data.customers]                 # a dataset of the loop file
    file = "customers.csv"

    [labels.churned]                 # a label set of the loop file
    file = "customers.csv"
    key = "customer_id"
    value = "churned"
    skip_unknown = true              # leave labels out that are no class of the set; otherwise they are refused

    [params.train]                   # values for a pipeline's parameters; those without a default need one
    c = 4.0

Paths are relative to the file. A file that is not in the base's checkout, as one that is fetched
before and that git does not hold, is the same on both sides.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from blake3 import blake3

from everloop.errors import Invalid, NotFound

NAME = "everloop-ci.toml"
S = TypeVar("S", "DataFile", "LabelFile")


@dataclass(frozen=True)
class DataFile:
    """A file with the rows of a dataset. `digest` is of its bytes."""

    name: str
    file: str
    digest: str = ""


@dataclass(frozen=True)
class LabelFile:
    """A file with the labels of a label set. `digest` is of its bytes."""

    name: str
    file: str
    key: str
    value: str
    skip_unknown: bool = False
    digest: str = ""


@dataclass(frozen=True)
class Sources:
    """Where the rows and labels of one side come from, and the values of its pipelines' parameters."""

    data: tuple[DataFile, ...] = ()
    labels: tuple[LabelFile, ...] = ()
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def has_files(self) -> bool:
        """Whether rows and labels come from files; otherwise they come from the workspace."""
        return bool(self.data or self.labels)

    def only(self, declared: Collection[str]) -> Sources:
        """The sources of what is declared, by `dataset:name` and `labels:name`."""
        return Sources(
            tuple(one for one in self.data if f"dataset:{one.name}" in declared),
            tuple(one for one in self.labels if f"labels:{one.name}" in declared),
            self.params,
        )

    def digests(self) -> dict[str, str]:
        """What each source is, by kind and name: another text is other data."""
        told: dict[str, str] = {f"dataset {one.name}": one.digest for one in self.data}
        for one in self.labels:
            told[f"labels {one.name}"] = f"{one.digest} {one.key} {one.value} {one.skip_unknown}"
        return told | {f"params {name}": repr(values) for name, values in self.params.items()}


def read_sources(folder: Path) -> Sources | None:
    """What the file in a project's folder names; None when there is none.

    Raises
    ------
    Invalid
        It is not TOML, or names something that is not known.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        stated = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not valid TOML: {error}. Mend it.") from error
    _check_names(path, "", stated, ("data", "labels", "params"))
    return Sources(
        tuple(
            DataFile(name, **_texts(path, f"data.{name}", values, ("file",)))
            for name, values in _tables(path, stated, "data").items()
        ),
        tuple(_labels(path, name, values) for name, values in _tables(path, stated, "labels").items()),
        _tables(path, stated, "params"),
    )


def located(sources: Sources, folder: Path, otherwise: Path) -> Sources:
    """The sources with the absolute path and digest of each file: in `folder`, or, where it is not there, in `otherwise`.

    Raises
    ------
    NotFound
        A file is in neither.
    """
    return Sources(
        tuple(_located(one, folder, otherwise) for one in sources.data),
        tuple(_located(one, folder, otherwise) for one in sources.labels),
        sources.params,
    )


def _labels(path: Path, name: str, values: Mapping[str, Any]) -> LabelFile:
    table = f"labels.{name}"
    skip = values.get("skip_unknown", False)
    if not isinstance(skip, bool):
        raise Invalid(f"{path}, [{table}]: skip_unknown is {skip!r}; it is true or false. Mend it.")
    rest = {key: value for key, value in values.items() if key != "skip_unknown"}
    return LabelFile(name, skip_unknown=skip, **_texts(path, table, rest, ("file", "key", "value")))


def _tables(path: Path, stated: Mapping[str, Any], kind: str) -> Mapping[str, Mapping[str, Any]]:
    tables = stated.get(kind, {})
    for name, values in tables.items() if isinstance(tables, dict) else [(None, None)]:
        if not isinstance(values, dict):
            raise Invalid(
                f"{path}: {kind} holds no table {'' if name is None else repr(name)}; each of them is one, such as "
                f"[{kind}.{'train' if kind == 'params' else 'customers'}]. Mend it."
            )
    found: Mapping[str, Mapping[str, Any]] = tables
    return found


def _texts(path: Path, table: str, values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    _check_names(path, table, values, names)
    for name in names:
        if not isinstance(values.get(name), str) or not values[name]:
            raise Invalid(f'{path}, [{table}] does not say {name}; it is a text. Write it: {name} = "..."')
    return {name: values[name] for name in names}


def _check_names(path: Path, table: str, values: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            where = f", [{table}]" if table else ""
            hint = f"Did you mean {near[0]!r}?" if near else f"Known are: {', '.join(known)}."
            raise Invalid(f"{path}{where} says {name!r}, which means nothing here. {hint}")


def _located(source: S, folder: Path, otherwise: Path) -> S:
    for path in (folder / source.file, otherwise / source.file):
        if path.exists():
            digest = _digest_of_folder(path) if path.is_dir() else _digest_of(path)
            return replace(source, file=str(path), digest=digest)
    raise NotFound(
        f"{NAME} names {source.file}, which is not in {otherwise}. A file that git does not hold has to be fetched before "
        "'everloop ci' runs."
    )


def _digest_of_folder(folder: Path) -> str:
    hasher = blake3()
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        hasher.update(f"{path.relative_to(folder).as_posix()}\0{_digest_of(path)}\0".encode())
    return hasher.hexdigest()


def _digest_of(file: Path) -> str:
    return blake3(max_threads=blake3.AUTO).update_mmap(file).hexdigest()
