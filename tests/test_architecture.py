"""What import-linter cannot see: that its contracts are complete, and what is loaded when everloop starts."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import everloop

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src" / "everloop"
ROOMS = sorted(folder.name for folder in SOURCE.iterdir() if (folder / "__init__.py").is_file())
# each costs 0.3 s or more, and a command or a small script needs none of them to start
HEAVY = ("alembic", "duckdb", "pandas", "plotly", "pyarrow", "sklearn", "sqlalchemy", "starlette", "uvicorn")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_protected_from_imports_past_its_init(room: str) -> None:
    contract = (
        f'name = "{room} is used through its __init__", type = "protected", '
        f'protected_modules = ["everloop.{room}.*"], allowed_importers = ["everloop.{room}.*"], '
        f'ignore_imports = ["everloop.{room} -> everloop.{room}.*"], unmatched_ignore_imports_alerting = "none"'
    )
    project = (REPOSITORY / "pyproject.toml").read_text()
    assert contract in project, f"add to tool.importlinter.contracts in pyproject.toml:\n  {{ {contract} }},"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for(room: str) -> None:
    text = ast.get_docstring(ast.parse((SOURCE / room / "__init__.py").read_text())) or ""
    assert 5 <= len(text.splitlines()) <= 15, f"everloop/{room}/__init__.py: a docstring of 5 to 15 lines"


def test_importing_everloop_loads_nothing_heavy() -> None:
    assert _loaded_by("import everloop") == set()


def test_asking_for_help_loads_nothing_heavy() -> None:
    asking = "from everloop.cli import main\nimport sys\nsys.argv = ['everloop', '--help']"
    assert (
        _loaded_by(f"{asking}\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code") == set()
    )


def test_a_process_that_runs_a_step_loads_neither_tables_nor_the_database() -> None:
    assert _loaded_by("import everloop.pipelines.nursery") == set()


def _loaded_by(code: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after `code`."""
    report = f"{code}\nimport sys\nprint('LOADED', *({set(HEAVY)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_no_name_of_the_root_is_the_name_of_a_room() -> None:
    """Importing the room would put it in the name's place (docs/decisions/0002)."""
    assert set(everloop.__all__).isdisjoint(path.stem for path in SOURCE.iterdir())
