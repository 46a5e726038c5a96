from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from everloop.cli.entry import main
from everloop.clock import SimulatedClock
from everloop.settings import Settings
from everloop.workspace import open_workspace
from tests.backtest.history import past, set_up
from tests.conftest import START

BRIEF = ["--from", "2026-09-21", "--until", "2026-09-23T12:00:00Z", "--labels-after-days", "2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace `home` and the loop file `shop_loop.py`."""
    place = tmp_path_factory.mktemp("backtest")
    with open_workspace(settings=Settings(home=place / "home", actor="ann"), simulation_from=START) as ws:
        assert isinstance(ws.clock, SimulatedClock)
        ws.clock.advance(timedelta(days=400))
        set_up(ws, place, past())
    return place


@pytest.fixture
def command(place: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command on the place; exit code, answer, talk."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            main(["--home", str(place / "home"), "backtest", str(place / "shop_loop.py"), *arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.mark.slow
def test_it_tells_accuracy_by_week_then_what_the_loop_did(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, answer, talk = command(*BRIEF, "--keep", str(tmp_path / "kept"))
    assert code == 0, talk
    heading, week, whole, empty, first, *_ = answer.splitlines()
    assert heading.split()[:5] == ["week", "of", "rows", "labelled", "with"]
    assert week.split() == ["2026-09-21", "60", "60", "1.000", "1.000", "kind@1"]
    assert whole.split()[0] == "all"
    assert (empty, first) == ("", "2026-09-21 00:00  registry.gated             kind@1 passed its gates")
    assert answer.rstrip().endswith(f"everloop up --home {tmp_path / 'kept'}")
    assert "until 2026-09-22 00:00      24 rows  kind@1" in talk
    assert (tmp_path / "kept" / "everloop.db").exists()


@pytest.mark.slow
def test_its_answer_is_json_when_asked_for(command: Callable[..., tuple[int, str, str]]) -> None:
    found = json.loads(command(*BRIEF, "--json")[1])
    assert found["whole"]["rows"] == 60
    assert found["events"][0]["kind"] == "registry.gated"
    assert not Path(found["home"]).exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Say how long after its row a label is known: --labels-after-days 3."),
        (["--from", "yesterday"], "'yesterday' is no time"),
        (["--keep", "."], "is not empty"),
        (["--labels-after-days", "-1"], "is not in the range"),
    ],
)
def test_what_cannot_be_is_told(
    command: Callable[..., tuple[int, str, str]], arguments: list[str], told: str
) -> None:
    code, answer, talk = command(*arguments)
    assert (code, answer) == (2, "")
    assert told in " ".join(talk.split())
