"""Moving in from TensorBoard: event files, each folder that holds some as a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from everloop.adapters.carrying import (
    Carried,
    Carrier,
    Progress,
    SourceRun,
    flattened,
    id_from,
    plain_name,
    state_of,
    told_as_file,
)
from everloop.adapters.event_files import numbers, read_folder
from everloop.clock import from_micros
from everloop.errors import NotFound
from everloop.tracking import Run
from everloop.workspace import Workspace

_TEXTS = "text.json"  # file of a run with the texts of the text plugin


def import_tensorboard(
    ws: Workspace, folder: Path, *, is_dry_run: bool = False, progress: Progress = lambda _: None
) -> Carried:
    """Carry over the event files below a folder, or what is new in them since the last time.

    Each folder with event files is a run, named by its path, and part of the run of the nearest folder above it that
    has some; several files in one folder are one run. Raises NotFound when there are none.
    """
    found: dict[Path, list[Path]] = defaultdict(list)
    for file in sorted(folder.rglob("*tfevents*")):
        if file.is_file() and not file.is_symlink():
            found[file.parent].append(file)
    if not found:
        raise NotFound(
            f"there is no event file of TensorBoard in {folder} or below: none with 'tfevents' in its name. Name the log folder."
        )
    carrier = Carrier(ws, is_dry_run=is_dry_run, progress=progress)
    carrier.carry(
        _source_runs(folder.resolve(), {place.resolve(): files for place, files in found.items()}, carrier)
    )
    return carrier.finish(str(folder.resolve()))


def _source_runs(root: Path, found: dict[Path, list[Path]], carrier: Carrier) -> Iterator[SourceRun]:
    known: dict[Path, str] = {}
    for place in sorted(found):
        told = read_folder(found[place], partial(_note_problem, carrier))
        for what, tag in told.left_out:
            why = "an import carries over numbers, texts, pictures and parameters"
            carrier.leave_out(what, why, f"{place.name} {tag}")
        if told.began_s is None:
            carrier.leave_out("run", "none of its event files holds an event", str(place))
            continue
        name = place.relative_to(root).as_posix() if place != root else root.name
        key = f"tensorboard:{name}@{told.began_s:.6f}"
        parent = next((known[above] for above in place.parents if above in known), None)
        known[place] = id_from(int(told.began_s * 1000), key)
        run = Run(
            id=known[place],
            experiment=plain_name(root.name) or "tensorboard",
            name=name[-250:],
            kind="run",
            status=told.status,
            parent=parent,
            actor=carrier.ws.actor,
            started_at=from_micros(round(told.began_s * 1e6)),
            ended_at=None if told.status == "running" else from_micros(round(told.ended_s * 1e6)),
            error=None,
            code=None,
            environment=None,
            params=flattened(told.params),
            tags={},
        )
        texts = [told_as_file(_TEXTS, told.texts)] if told.texts else []
        yield SourceRun(
            key=key,
            run=run,
            state=state_of([(one.name, one.stat().st_size) for one in found[place]]),
            points=partial(numbers, found[place]),
            files=partial(iter, [*texts, *told.pictures]),
        )


def _note_problem(carrier: Carrier, file: Path, problem: str) -> None:
    carrier.leave_out("part of an event file", problem, str(file))
