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


class LocalFiles:
    """The artifact folders below `roots`.

    Records may name any folder of the machine; what is not below a root is not read, since who imports a store may not
    know who wrote it.
    """

    def __init__(self, beside: Path, named: Path | None, left_out: Callable[[str, str, str], None]) -> None:
        self._beside = beside
        self._roots = [one.resolve() for one in (named, beside) if one is not None]
        self._left_out = left_out

    def below(self, uri: str) -> Iterator[SourceFile]:
        """The files of an artifact folder; none when it was never made. Raises Elsewhere when they cannot be read here."""
        folder = self._folder(uri)
        if folder is not None:
            yield from files_below(folder, self._left_out)

    def _folder(self, uri: str) -> Path | None:
        split = urlsplit(uri)
        if split.scheme not in ("", "file", "mlflow-artifacts") or (
            split.scheme == "file" and split.netloc not in ("", "localhost")
        ):
            raise Elsewhere(
                f"the files are at {split.scheme}://; an import from files reads folders of this machine. Import from the running "
                "server, which can read them"
            )
        told = PurePosixPath(unquote(split.path) if split.scheme else uri)
        if split.scheme != "mlflow-artifacts":
            place = self._beside / told
            if self._may_read(place) and place.is_dir():
                return place
        names = [name for name in told.parts if name not in ("/", "..")]
        for root in self._roots:
            for length in _TAILS:
                moved = root.joinpath(*names[-length:])
                if len(names) >= length and self._may_read(moved) and moved.is_dir():
                    return moved
        if split.scheme == "mlflow-artifacts":
            raise Elsewhere(
                "the server kept the files in a folder of its own. Name that folder with --artifacts"
            )
        if place.is_dir():
            raise Elsewhere(
                f"the files are in {place.parent.parent}, outside of the store. Name that folder with --artifacts"
            )
        if not self._may_read(place) and not place.parent.parent.parent.is_dir():
            raise Elsewhere(
                f"there is no folder {place.parent.parent.parent}. Name where the files are now with --artifacts"
            )
        return None

    def _may_read(self, place: Path) -> bool:
        return any(place.resolve().is_relative_to(root) for root in self._roots)
