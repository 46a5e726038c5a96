"""A user's project in a folder of its own, whose files a test writes and edits."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest


class UserProject:
    """Files below `root`, imported as a user's process would import them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, files: Mapping[str, str]) -> None:
        """Write modules by their paths without .py."""
        for name, text in files.items():
            place = self.root / f"{name}.py"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(textwrap.dedent(text))

    def edit(self, name: str, before: str, after: str) -> None:
        place = self.root / f"{name}.py"
        text = place.read_text()
        assert before in text
        place.write_text(text.replace(before, after))

    def load(self, name: str = "loop") -> ModuleType:
        """Import a module as a new process would find it."""
        self.forget()
        importlib.invalidate_caches()
        return importlib.import_module(name)

    def forget(self) -> None:
        """Take the project's modules out of this process, those of folders without __init__.py too."""
        own = {place.stem for place in self.root.iterdir()}
        for name in list(sys.modules):
            if name.partition(".")[0] in own:
                del sys.modules[name]


@contextmanager
def user_project(folder: Path) -> Iterator[UserProject]:
    """An empty project in `folder`, importable while it lasts."""
    root = folder / "project"
    root.mkdir()
    user = UserProject(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        # two forms of a file within a second and of one length would share a .pyc
        patch.setattr(sys, "dont_write_bytecode", True)
        yield user
        user.forget()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[UserProject]:
    with user_project(tmp_path) as user:
        yield user
