"""Logging to the run that goes on, without naming it: inside a step, or inside `with el.start_run():`.

Everything is written straight to the workspace, with no server between. What a step logs is a run of its own below the
pipeline's; a step that logs nothing leaves none. A thread that a step starts itself logs through a copy of the step's
context (`contextvars.copy_context`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from everloop import tracking
from everloop.pipelines import current
from everloop.tracking import Artifact, Run
from everloop.workspace import open_workspace


@contextmanager
def start_run(
    name: str | None = None,
    *,
    experiment: str = tracking.DEFAULT_EXPERIMENT,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    home: str | Path | None = None,
) -> Iterator[Run]:
    """A run that what is logged meanwhile belongs to; it ends with the block, and is part of the run around it.

    Parameters
    ----------
    experiment
        Created when there is none of this name; a run inside another is in that one's.
    home
        The workspace's folder; None: that of the run around it, else as for every command.

    Raises
    ------
    Invalid, Conflict
        A name, parameter or tag cannot be stored, or the experiment is deleted.
    """
    outer = current.around() if home is None else None
    if outer is not None:
        ws, parent = outer.ws, outer.run_id
        experiment = tracking.run(ws, parent).experiment
    else:
        ws, parent = open_workspace(home), None
    try:
        begun = tracking.start_run(
            ws, experiment=experiment, name=name, parent=parent, params=params, tags=tags
        )
        with current.logging_to(current.Place(lambda: ws, lambda _: begun.id, begun.id)):
            yield begun
    finally:
        if outer is None:
            ws.close()


def log_params(values: Mapping[str, Any]) -> None:
    """Write down what the run that goes on was told to do: texts as they are, other values as JSON.

    Raises Conflict for one that has another value already, Invalid for one that cannot be stored.
    """
    place = current.here()
    tracking.log_params(place.ws, place.run_id, values)


def log_metrics(values: Mapping[str, float], *, step: int = 0) -> None:
    """Add one value to the history of each metric of the run that goes on, at a step of the training."""
    place = current.here()
    tracking.log_metrics(place.ws, place.run_id, values, step=step)


def log_tags(values: Mapping[str, str]) -> None:
    """Set tags of the run that goes on; a tag may change."""
    place = current.here()
    tracking.log_tags(place.ws, place.run_id, values)


def log_artifact(path: str, source: Path | bytes) -> Artifact:
    """Keep a file with the run that goes on, under `path`, replacing the one that was there."""
    place = current.here()
    return tracking.log_artifact(place.ws, place.run_id, path, source)
