"""What every import shares: runs of a source are carried over one by one, and what could not be is told.

An import keeps no state of its own. A run's id here follows from what it is called there, and each run that came whole
says in which state its source was; so an import that was killed is simply done again, and one that is repeated adds
what is new.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from blake3 import blake3

from everloop import clock, tracking
from everloop.errors import Denied, EverloopError, Invalid, NotFound, NotReady, StorageFailed
from everloop.tracking import Artifact, DatasetInput, ImportedRun, MetricPoint, Run
from everloop.workspace import Workspace

TOO_LONG = "import/too-long.json"  # file of a run with the texts that do not fit into parameters and tags
DEEPEST = 20  # of dicts in dicts that become names with dots; what is deeper is one value
_NAME_LENGTH, _PARAM_LENGTH, _TAG_LENGTH = 250, 6_000, 8_000
_LOOKED_UP_AT_ONCE = 100  # runs: a query each would cost more than all else of a run that is here already
_POINTS_BETWEEN = 5_000  # signs of progress in a long run
_SHOWN = 300  # characters of what a report repeats

Progress = Callable[[str], None]


@dataclass(frozen=True)
class SourceFile:
    """A file of a run there. `fetch` puts its content into the file that it is given, or says where it lies.

    One of the same path, size and, if it is known, digest is taken for the same.
    """

    path: str
    size_bytes: int | None
    fetch: Callable[[Path], Path]
    digest: str | None = None


@dataclass(frozen=True)
class SourceRun:
    """A run as a source tells of it.

    `key` is what it is called there, `run` what is to be kept of it here. `state` is different when anything of it, but
    for its files, may have changed since. `points` and `files` are read only when they are needed.
    """

    key: str
    run: Run
    state: str
    points: Callable[[], Iterable[MetricPoint]]
    files: Callable[[], Iterable[SourceFile]]
    datasets: tuple[DatasetInput, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """What could not be carried over: what, why, how often, and one of them."""

    what: str
    why: str
    count: int
    example: str


@dataclass(frozen=True)
class Carried:
    """What an import did, or with `is_dry_run` would do.

    `known_runs` were here as they are there. `points` and `files` are those that were added.
    """

    source: str
    is_dry_run: bool
    new_runs: int
    changed_runs: int
    known_runs: int
    points: int
    files: int
    size_bytes: int
    models: int
    versions: int
    seconds: float
    left_out: tuple[LeftOut, ...]


class Carrier:
    """Takes runs in, counts, and notes what is left out."""

    def __init__(self, ws: Workspace, *, is_dry_run: bool, progress: Progress) -> None:
        self.ws = ws
        self.is_dry_run = is_dry_run
        self._began = clock.elapsed_s()
        self._progress = progress
        self._carried = Carried("", is_dry_run, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, ())
        self._left_out: dict[tuple[str, str], LeftOut] = {}
        self._orphans: dict[str, str] = {}  # runs whose parent was not here when they came

    def count(self, **more: int) -> None:
        self._carried = replace(
            self._carried, **{name: getattr(self._carried, name) + number for name, number in more.items()}
        )

    def leave_out(self, what: str, why: str, example: str = "") -> None:
        """Note what is not carried over; the texts may be a stranger's, and are shown on a terminal."""
        what, why, example = (_shown(text) for text in (what, why, example))
        known = self._left_out.get((what, why))
        self._left_out[what, why] = LeftOut(what, why, 1, example) if known is None else _once_more(known)

    def carry(self, found: Iterable[SourceRun]) -> None:
        """Carry runs over, in the order given."""
        remaining = iter(found)
        while batch := self._next(remaining):
            here = tracking.imported_runs(self.ws, [one.run.id for one in batch])
            for one in batch:
                try:
                    self._carry(one, here.get(one.run.id))
                except (StorageFailed, NotReady, Denied):
                    raise  # it would be the same with the next run
                except EverloopError as error:
                    self.leave_out("run", str(error), one.key)
                self._tell()

    def _next(self, remaining: Iterator[SourceRun]) -> list[SourceRun]:
        try:
            return list(islice(remaining, _LOOKED_UP_AT_ONCE))
        except OSError as error:
            raise NotReady(
                f"{error.filename} cannot be read: {error.strerror}. What was carried over so far is kept: make it readable, and "
                "run the same command again."
            ) from error

    def _tell(self, more_points: int = 0) -> None:
        done = self._carried
        total = done.new_runs + done.changed_runs + done.known_runs
        self._progress(f"{total:,} runs, {done.points + more_points:,} points, {done.files:,} files")

    def finish(self, where: str) -> Carried:
        """Give late parents to their runs, force everything to disk, and say what was done."""
        for run_id, parent in self._orphans.items():
            try:
                if not tracking.adopt(self.ws, run_id, parent):
                    self.leave_out("parent of a run", "it would be part of itself", run_id)
            except NotFound:
                self.leave_out("parent of a run", "the run that it is part of was not imported", run_id)
        done = self._carried
        if not self.is_dry_run and (brought := done.new_runs + done.changed_runs):
            tracking.end_import(self.ws, where, runs=brought, points=done.points, files=done.files)
        return replace(
            done,
            source=where,
            seconds=round(clock.elapsed_s() - self._began, 2),
            left_out=tuple(sorted(self._left_out.values(), key=lambda one: (one.what, one.why))),
        )

    def _carry(self, there: SourceRun, here: ImportedRun | None) -> None:
        if here is not None and here.source is None:
            self.leave_out("run", "a run of this id was made here, not imported", there.key)
            return
        files = list(there.files())
        kept = {one.path: one for one in tracking.artifacts(self.ws, there.run.id)} if here and files else {}
        missing = [one for one in files if not _is_kept(one, kept.get(one.path))]
        is_same = here is not None and here.state == there.state
        kind = "new_runs" if here is None else "known_runs" if is_same and not missing else "changed_runs"
        self.count(**{kind: 1})
        parent = there.run.parent
        if parent is not None and not self.is_dry_run and self._lacks_parent(parent, here):
            self._orphans[there.run.id] = parent
        if self.is_dry_run or (is_same and not missing):
            self.count(files=len(missing), size_bytes=sum(one.size_bytes or 0 for one in missing))
            return
        run, extra = self._fitting(there)
        new_files = [*(self._fetched(there.key, missing) if missing else ()), *extra]
        points = [] if is_same else self._storable(there.key, there.points())
        added = tracking.keep_imported(
            self.ws,
            run,
            source=there.key,
            state=there.state,
            points=points,
            files=new_files,
            datasets=there.datasets,
        )
        size_bytes = sum(one.size_bytes for one in new_files)
        self.count(points=added.points, files=len(new_files), size_bytes=size_bytes)
        for name in added.differing:
            why = "it has another value here, and parameters do not change"
            self.leave_out("parameter", why, f"{there.key} {name}")

    def _lacks_parent(self, parent: str, here: ImportedRun | None) -> bool:
        if here is not None:
            return here.parent is None
        return parent not in tracking.imported_runs(self.ws, [parent])

    def _fetched(self, key: str, files: Iterable[SourceFile]) -> Iterator[Artifact]:
        """The files, each with its content kept as a blob; those that cannot be read are left out."""
        with tempfile.TemporaryDirectory(prefix="everloop-import-") as folder:
            for number, one in enumerate(files):
                place = Path(folder, str(number))
                try:
                    tracking.check_path(one.path)
                    content = one.fetch(place)
                    size = content.stat().st_size
                    yield Artifact(one.path, self.ws.blobs.put_file(content), size, self.ws.now())
                except (StorageFailed, NotReady, Denied):
                    raise
                except (OSError, EverloopError) as error:
                    self.leave_out("file", _reason(error), f"{key} {one.path}")
                place.unlink(missing_ok=True)

    def _fitting(self, there: SourceRun) -> tuple[Run, list[Artifact]]:
        """The run with what fits its columns, and a file of the texts that are too long for them."""
        run = there.run
        kept, long = {}, {}
        for what, told, limit in (("parameter", run.params, _PARAM_LENGTH), ("tag", run.tags, _TAG_LENGTH)):
            texts = {name: _encodable(text) for name, text in told.items()}
            kept[what] = {
                name: text
                for name, text in texts.items()
                if _is_name(name) and len(text) <= limit and "\0" not in text
            }
            if over := {name: text for name, text in texts.items() if name not in kept[what]}:
                long[what] = over
                for name in over:
                    why = f"longer than {limit:,} characters or with a name that cannot be; it is in the run's file {TOO_LONG}"
                    self.leave_out(what, why, f"{there.key} {name[:60]!r}")
        plain = replace(
            run,
            name=plain_name(run.name) or run.id,
            experiment=plain_name(run.experiment) or "imported",
            params=kept["parameter"],
            tags=kept["tag"],
            client_user=plain_name(run.client_user or "") or None,
        )
        if not long:
            return plain, []
        content = _json(long)
        return plain, [Artifact(TOO_LONG, self.ws.blobs.put(content), len(content), self.ws.now())]

    def _storable(self, key: str, points: Iterable[MetricPoint]) -> Iterator[MetricPoint]:
        for number, one in enumerate(points):
            if number % _POINTS_BETWEEN == 0:
                self._tell(number)
            try:
                yield tracking.checked_point(one)
            except Invalid:
                why = "its name, value or step cannot be stored"
                self.leave_out("point of a metric", why, f"{key} {one.name[:60]!r}")


def state_of(*facts: object) -> str:
    """A digest of all that a source says of a run, for `SourceRun.state`."""
    return blake3(_json(facts)).hexdigest()[:32]


def id_from(began_ms: int, *names: str) -> str:
    """A run's id that follows from when it began and what it is called elsewhere: a UUIDv7, as `ids.new_id` makes them."""
    tail = int.from_bytes(blake3("\0".join(names).encode()).digest()[:10])
    number = (
        (began_ms & (1 << 48) - 1) << 80
        | 0x7 << 76
        | (tail >> 62 & 0xFFF) << 64
        | 0b10 << 62
        | tail & (1 << 62) - 1
    )
    return f"run_{number:032x}"


def told_as_file(path: str, value: object) -> SourceFile:
    """A file of a run that holds, as JSON, what has no place of its own here."""
    content = _json(value)

    def write(place: Path) -> Path:
        place.write_bytes(content)
        return place

    return SourceFile(path, len(content), write, blake3(content).hexdigest())


def flattened(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested settings as parameters: outer.inner, with texts as they are and everything else as JSON."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value and above.count(".") < DEEPEST:
            found |= flattened(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = (
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            )
    return found


def plain_name(name: str) -> str:
    """A name without control characters, cut where names end."""
    return "".join(letter for letter in name if letter.isprintable())[:_NAME_LENGTH]


def files_below(folder: Path, left_out: Callable[[str, str, str], None]) -> Iterator[SourceFile]:
    """The files of a folder in order of their paths; a symbolic link is left out, since it may lead anywhere."""
    for place in sorted(folder.rglob("*")):
        if place.is_symlink():
            left_out("file", "a symbolic link, which may lead anywhere", str(place))
        elif place.is_file():
            path = place.relative_to(folder).as_posix()
            yield SourceFile(path, place.stat().st_size, partial(_in_place, place))


def _json(value: object) -> bytes:
    """JSON of anything that a source may tell: also of texts that are no Unicode, and of NaN."""
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _encodable(text: str) -> str:
    """The text with each half of a surrogate pair that stands alone replaced: no database stores one."""
    return text.encode("utf-8", "replace").decode()


def _shown(text: str) -> str:
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:_SHOWN]
    )


def _in_place(place: Path, _copy: Path) -> Path:
    return place


def _is_kept(there: SourceFile, here: Artifact | None) -> bool:
    return (
        here is not None
        and there.size_bytes in (None, here.size_bytes)
        and there.digest in (None, here.digest)
    )


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _NAME_LENGTH and name.isprintable()


def _once_more(known: LeftOut) -> LeftOut:
    return replace(known, count=known.count + 1)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
