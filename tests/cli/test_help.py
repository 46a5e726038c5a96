"""What a newcomer reads: every command's help begins with a sentence and ends with an example that parses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from docs.generate import all_commands, root
from everloop.cli.entry import COMMANDS, everloop

HELPS = {" ".join(path): command for path, command in all_commands() if path}


@pytest.mark.parametrize("name", HELPS)
def test_help_begins_with_one_sentence(name: str) -> None:
    first = (HELPS[name].help or "").split("\n\n")[0].strip()
    assert re.fullmatch(r"[A-Z].*\.", " ".join(first.split())), first
    assert not re.search(r"\. [A-Z]", first.splitlines()[0]), first


@pytest.mark.parametrize("name", HELPS)
def test_help_ends_with_an_example_that_parses(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (HELPS[name].help or "").strip().splitlines()
    assert lines[-1].strip().startswith("Example: everloop "), lines[-1]
    words = shlex.split(lines[-1].partition("Example: everloop ")[2])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "october.parquet").touch()  # what must be there to be parsed
    (tmp_path / "listings").mkdir()
    check_parses(words)


def check_parses(words: list[str]) -> None:
    """Raises when a command line, without its `everloop`, would be refused."""
    words = [word for word in words if word != "--json"]
    for option in {"--home", "--actor"} & set(words):  # of the entry, which lets them stand anywhere
        at = words.index(option)
        del words[at : at + 2]
    command: click.Command = everloop
    context = root()
    while isinstance(command, click.Group):
        word = words.pop(0)
        found = command.get_command(context, word)
        assert found is not None, word
        command = found
    command.make_context(str(command.name), words, parent=context)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_is(name: str) -> None:
    assert COMMANDS[name][2].endswith(".")
    assert len(COMMANDS[name][2]) < 75
