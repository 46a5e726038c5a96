"""What MLflow stores, as records, and the three places that it can be read from."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from everloop.adapters.carrying import SourceFile


@dataclass(frozen=True)
class Experiment:
    id: str
    name: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Point:
    """A value of a metric at `at_ms` milliseconds since 1970."""

    name: str
    value: float
    step: int
    at_ms: int


@dataclass(frozen=True)
class FoundRun:
    """A run there. `latest` are the newest values; `extent` grows with its histories, where the source knows it cheaply.

    `inputs` are its data sets, each a JSON object with name, digest, source_type, source, schema, profile and tags.
    """

    id: str
    experiment: str
    name: str
    user: str
    status: str
    is_deleted: bool
    began_ms: int | None
    ended_ms: int | None
    artifact_uri: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    latest: tuple[Point, ...]
    inputs: tuple[Mapping[str, Any], ...] = ()
    extent: int = 0


@dataclass(frozen=True)
class LoggedModel:
    """A model that a run logged, from MLflow 3 on; before, its files were among the run's."""

    id: str
    name: str
    run: str | None
    artifact_uri: str
    created_ms: int
    told: Mapping[str, Any]


@dataclass(frozen=True)
class Version:
    number: int
    source: str
    run: str | None
    stage: str
    description: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Model:
    name: str
    description: str
    tags: Mapping[str, str]
    aliases: Mapping[str, int]
    versions: tuple[Version, ...]


class MlflowSource(Protocol):
    """A place where MLflow keeps its records: a server, a database, a folder. All of it is read only."""

    where: str

    def experiments(self, *, with_deleted: bool) -> Iterator[Experiment]: ...

    def runs(self, experiment: Experiment, *, with_deleted: bool) -> Iterator[FoundRun]:
        """Its runs, oldest first."""
        ...

    def history(self, run: FoundRun) -> Iterable[Point]: ...

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]: ...

    def files(self, run: FoundRun) -> Iterator[SourceFile]: ...

    def model_files(self, model: LoggedModel) -> Iterator[SourceFile]: ...

    def models(self) -> Iterator[Model]: ...

    def unread(self) -> Mapping[str, int]:
        """What there is besides that an import does not carry over, each with its number."""
        ...

    def close(self) -> None: ...


class Elsewhere(Exception):  # noqa: N818  (it says where the files are, not that anything failed)
    """Files lie where a source cannot be asked for them; the message says why and what to do."""


def own_path(path: Path | str) -> str:
    """A folder as it is named in a report."""
    return str(Path(path).resolve())


def with_infinity(value: float) -> float:
    """The value that was logged: MLflow's databases hold the largest float for an infinity."""
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value
