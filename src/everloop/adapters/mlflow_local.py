"""Files of an MLflow store on this machine: read where its records say they are, if that is where they may be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from everloop.adapters.carrying import SourceFile, files_below
from everloop.adapters.mlflow_source import Elsewhere

_TAILS = (
    5,
    4,
    3,
)  # names at the end of an artifact folder that say whose it is: mlruns/1/models/m-.../artifacts, 1/RUN/artifacts
_ARTIFACTS = "artifacts"  # what the folder of a run's files is called


class LocalFiles:
    """The artifact folders below `roots`.

    Records may name any folder of the machine; what is not below a root is not read, since who imports a store may not
    know who wrote it. Beside the store, where a whole project may lie, only folders are read that are called as MLflow
    calls them.
    """

    def __init__(self, beside: Path, named: Path | None, left_out: Callable[[str, str, str], None]) -> None:
        self._beside = beside.resolve()
        self._named = None if named is None else named.resolve()
        self._left_out = left_out

    def below(self, uri: str) -> Iterator[SourceFile]:
        """The files of an artifact folder; none when it was never made. Raises Elsewhere when they cannot be read here."""
        folder = self._folder(uri)
        if folder is not None:
            yield from files_below(folder, self._left_out)

    def _folder(self, uri: str) -> Path | None:
        told, is_of_server = _path_in(uri)
        for place in self._candidates(told, is_of_server):
            if self._may_read(place) and place.is_dir():
                return place
        if is_of_server:
            raise Elsewhere(
                "the server kept the files in a folder of its own. Name that folder with --artifacts"
            )
        place = self._beside / told
        if place.is_dir():
            raise Elsewhere(
                f"the files are in {place.parent.parent}, outside of the store. Name that folder with --artifacts"
            )
        root = place.parent.parent.parent
        if not self._may_read(place) and not root.is_dir():
            raise Elsewhere(f"there is no folder {root}. Name where the files are now with --artifacts")
        return None

    def _candidates(self, told: PurePosixPath, is_of_server: bool) -> Iterator[Path]:
        """Where a folder may be: as told, and below a root by the end of its path, for a store that was moved."""
        if not is_of_server:
            yield self._beside / told
        names = [name for name in told.parts if name not in ("/", "..")]
        for root in (self._named, self._beside):
            for length in _TAILS:
                if root is not None and len(names) >= length:
                    yield root.joinpath(*names[-length:])

    def _may_read(self, place: Path) -> bool:
        found = place.resolve()
        if self._named is not None and found.is_relative_to(self._named):
            return True
        return found.name == _ARTIFACTS and found.is_relative_to(self._beside)


def _path_in(uri: str) -> tuple[PurePosixPath, bool]:
    """The path that an address means, and whether it is one in the store of a server. Raises Elsewhere for any other."""
    plain = uri.replace("\0", "")
    try:
        split = urlsplit(plain)
    except ValueError as error:
        raise Elsewhere(f"{uri[:80]!r} is no address of files") from error
    is_local = split.scheme in ("", "mlflow-artifacts")
    is_local |= split.scheme == "file" and split.netloc in ("", "localhost")
    if not is_local:
        raise Elsewhere(
            f"the files are at {split.scheme}://{split.netloc}; an import from files reads folders of this machine. Import from the "
            "running server, which can read them"
        )
    path = unquote(split.path).replace("\0", "") if split.scheme else plain
    return PurePosixPath(path), split.scheme == "mlflow-artifacts"
