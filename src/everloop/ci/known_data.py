"""Which rows and labels a check trains on: those of the files that are named, else those of the workspace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from blake3 import blake3

from everloop import data, labels
from everloop.ci.data_files import NAME, Sources
from everloop.ci.records import FORMAT, Look
from everloop.errors import Invalid, NotFound
from everloop.settings import Settings
from everloop.workspace import open_workspace


def declared_data(look: Look) -> tuple[tuple[str, str], ...]:
    """The datasets and label sets that a loop file declares: kind and name of each."""
    parts = (key.partition(":") for key in look.declared)
    return tuple((kind, name) for kind, _, name in parts if kind in ("dataset", "labels"))


def digest_of_data(sources: Sources, look: Look, settings: Settings, place: str) -> str:
    """A name for the rows and labels that a loop file is run on, and for how everloop would run it.

    Raises
    ------
    Invalid
        There are none of a declared dataset or label set.
    """
    stated = sources.digests()
    if not sources.has_files and (declared := declared_data(look)):
        stated |= _in_workspace(declared, settings, place)
    told = [
        FORMAT,
        metadata.version("everloop"),
        place,
        *(f"{name} {one}" for name, one in sorted(stated.items())),
    ]
    return blake3("\0".join(told).encode()).hexdigest()


def check_complete(sources: Sources, look: Look, place: str) -> None:
    """Raises Invalid when files are named but not for each declared dataset and label set (half of the data would be another
    time's), or parameters of a pipeline that is not there.
    """
    pipelines = [one.name for one in look.pipelines]
    for name in sources.params:
        if name not in pipelines:
            raise Invalid(
                f"{NAME} gives parameters for {name!r}, which is no pipeline of {place}; it has {', '.join(pipelines) or 'none'}. "
                "Name one of these."
            )
    if not sources.has_files:
        return
    named = {("dataset", one.name) for one in sources.data} | {("labels", one.name) for one in sources.labels}
    for kind, name in declared_data(look):
        if (kind, name) not in named:
            raise Invalid(
                f"{place} declares the {kind} {name!r}, for which {NAME} names no file; where it is there it names one for "
                f"each dataset and label set. Add [{'data' if kind == 'dataset' else 'labels'}.{name}]."
            )


def moved(before: Sources, after: Sources) -> Mapping[str, tuple[str | None, str | None]]:
    """Digests of the files of both sides, by what they hold; the workspace's data are the same on both."""
    if not (before.has_files and after.has_files):
        return {}
    old, new = before.digests(), after.digests()
    return {name: (old.get(name), new.get(name)) for name in old.keys() | new.keys()}


def paths_in(sources: Sources, root: Path) -> tuple[str, ...]:
    """The files with data by their paths in the repository, as far as they are in it."""
    files = {Path(one.file) for one in sources.data} | {Path(one.file) for one in sources.labels}
    return tuple(sorted(one.relative_to(root).as_posix() for one in files if one.is_relative_to(root)))


def _in_workspace(declared: Iterable[tuple[str, str]], settings: Settings, place: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if not (settings.database_url or (settings.home / "everloop.db").exists()):
        kind, name = next(iter(declared))
        raise _nowhere(place, kind, name, f"{settings.home} is no workspace")
    with open_workspace(settings=settings) as ws:
        for kind, name in declared:
            try:
                if kind == "dataset":
                    found[f"dataset {name}"] = data.version(ws, name).digest
                else:
                    newest = labels.history(ws, name, limit=1)
                    found[f"labels {name}"] = newest[0].id if newest else "none"
            except NotFound as error:
                raise _nowhere(
                    place, kind, name, f"the workspace {settings.home} has no rows of it"
                ) from error
    return found


def _nowhere(place: str, kind: str, name: str, found: str) -> Invalid:
    return Invalid(
        f"{place} declares the {kind} {name!r}, and {found}. A check trains on the files that {NAME} names, else on what is "
        f"in the workspace. Write {NAME} beside the loop file ('everloop init --ci github' begins one), or name the workspace "
        "with --home DIR."
    )
