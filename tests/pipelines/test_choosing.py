"""An executor is chosen by its name, on the command line or in the settings."""

from __future__ import annotations

import pytest

from everloop.errors import NotFound
from everloop.pipelines import Lean, Processes, executor_named
from everloop.settings import Settings


@pytest.mark.parametrize(
    ("setting", "name", "found"),
    [("inline", None, Lean), ("processes", None, Processes), ("processes", "inline", Lean)],
)
def test_the_name_given_wins_over_the_setting(setting: str, name: str | None, found: type[object]) -> None:
    assert type(executor_named(Settings(executor=setting), name)) is found


def test_an_unknown_executor_is_told_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="no executor 'slurm'; there are inline, processes"):
        executor_named(Settings(executor="slurm"))
