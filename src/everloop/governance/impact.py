"""Forwards: what was made from a row, what a person said, a file, a dataset version, a snapshot, a run or a model version."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from everloop import data, labels, ledger, predictions
from everloop.errors import NotFound
from everloop.ledger import Node
from everloop.workspace import Workspace

_ANNOTATOR = "annotator:"


@dataclass(frozen=True)
class Impact:
    """Everything downstream of one thing, by kind, and how many predictions its releases answered."""

    subject: Node
    reached: dict[str, tuple[str, ...]]
    predictions: dict[str, int]


def impact(ws: Workspace, identifier: str, *, count_predictions: bool = True) -> Impact:
    """What depends on a thing.

    Parameters
    ----------
    identifier
        A dataset version (`listings@3`), a row by its key (`listings:30519`), somebody who gave labels
        (`annotator:alice`), a label snapshot's or a file's digest, a run (`run_...`), or a model version (`category@2`).

    count_predictions
        False leaves `predictions` empty: counting them reads the whole log.

    Raises
    ------
    NotFound
        Nothing of that name is known.
    """
    starts = _starts(ws, identifier)
    reached: dict[str, list[str]] = defaultdict(list)
    for start in starts:
        for edge in ledger.downstream(ws, start):
            if edge.target.id not in reached[edge.target.kind]:
                reached[edge.target.kind].append(edge.target.id)
        if start.id != identifier and start.id not in reached[start.kind]:
            reached[start.kind].insert(0, start.id)
    return Impact(
        _subject(identifier, starts),
        {kind: tuple(ids) for kind, ids in reached.items() if ids},
        _predictions(ws, set(reached["release"])) if count_predictions else {},
    )


def _starts(ws: Workspace, identifier: str) -> list[Node]:
    """The nodes of the graph that stand for what was named."""
    if identifier.startswith("run_"):
        return [Node("run", identifier)]
    if identifier.startswith(_ANNOTATOR):
        return _uses_of_annotator(ws, identifier.removeprefix(_ANNOTATOR))
    if ":" in identifier:
        return _uses_of_row(ws, *identifier.split(":", 1))
    if "@" in identifier:
        name = identifier.partition("@")[0]
        known = {one.name for one in data.datasets(ws)}
        return [Node("dataset_version" if name in known else "model_version", identifier)]
    for kind in ("label_snapshot", "file", "code", "environment"):
        node = Node(kind, identifier)
        if ledger.downstream(ws, node):
            return [node]
    raise NotFound(
        f"nothing is known of {identifier!r}. Give a row (listings:30519), a person (annotator:alice), a dataset version "
        "(listings@3), a digest, a run or a model version."
    )


def _subject(identifier: str, starts: list[Node]) -> Node:
    if identifier.startswith(_ANNOTATOR):
        return Node("annotator", identifier.removeprefix(_ANNOTATOR))
    return Node("row" if ":" in identifier else starts[0].kind, identifier)


def _uses_of_annotator(ws: Workspace, name: str) -> list[Node]:
    """The label snapshots that rest on what somebody said."""
    found = [
        Node("label_snapshot", one.digest)
        for label_set in labels.label_sets(ws)
        for one in labels.snapshots(ws, label_set.name, limit=1_000)
        if name in one.annotators
    ]
    if not found:
        raise NotFound(
            f"no label snapshot rests on labels of {name!r}; it is nobody known, or their labels were not used yet. "
            "'everloop labels quality NAME' shows who gave labels."
        )
    return found


def _uses_of_row(ws: Workspace, dataset: str, key: str) -> list[Node]:
    """The dataset versions and label snapshots that hold a row."""
    found = [
        Node("dataset_version", version.ref)
        for version in data.versions(ws, dataset, limit=1_000)
        if data.rows_by_key(ws, version.ref, [key]).num_rows
    ]
    if not found:
        raise NotFound(f"no version of {dataset!r} has a row with the key {key!r}.")
    row_id = int(data.rows_by_key(ws, found[0].id, [key])[data.ROW_ID].to_numpy()[0])
    for label_set in labels.label_sets(ws):
        if label_set.dataset == dataset:
            used = labels.snapshots_with_row(ws, label_set.name, row_id)
            found += [Node("label_snapshot", one.digest) for one in used]
    return found


def _predictions(ws: Workspace, releases: set[Any]) -> dict[str, int]:
    """How many predictions each release answered, read batch by batch; estimated where the log is sampled."""
    found: dict[str, float] = dict.fromkeys(sorted(releases), 0.0)
    if not releases:
        return {}
    for batch in predictions.batches(ws.home / "serving", columns=["release", "probability"]):
        names, place = np.unique(np.asarray(batch["release"].to_pylist(), dtype=object), return_inverse=True)
        times = np.bincount(place, weights=predictions.weights(batch), minlength=len(names))
        for name, count in zip(names.tolist(), times.tolist(), strict=True):
            if name in found:
                found[name] += count
    return {name: round(count) for name, count in found.items()}
