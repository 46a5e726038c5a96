from __future__ import annotations

import logging

import pytest

from everloop.background import Tick, Ticker
from everloop.errors import StorageFailed
from everloop.workspace import Workspace


class Broken:
    """A tick that fails until it is mended."""

    def __init__(self) -> None:
        self.tries = 0
        self.is_mended = False

    def verb(self, _ws: Workspace) -> int:
        self.tries += 1
        if not self.is_mended:
            raise StorageFailed("the disk is full. Free space.")
        return 1


@pytest.fixture
def elapsed_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("everloop.clock.elapsed_s", lambda: now[0])
    return now


def test_a_tick_that_fails_rests_longer_each_time_and_the_others_go_on(
    ws: Workspace, elapsed_s: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken()
    ticks = (
        Tick("break", "jobs", lambda _ws: True, broken.verb),
        Tick("go on", "jobs", lambda _ws: True, lambda _ws: 1),
    )
    ticker = Ticker(ws, ticks)
    with caplog.at_level(logging.ERROR):
        for tenth in range(700):
            elapsed_s[0] = tenth / 10
            assert ticker.turn() == 1
    assert broken.tries == 7  # at 0, 1, 3, 7, 15, 31 and 63 seconds
    assert len(caplog.messages) == 7


def test_a_tick_that_works_again_runs_each_turn(ws: Workspace, elapsed_s: list[float]) -> None:
    broken = Broken()
    ticker = Ticker(ws, [Tick("break", "jobs", lambda _ws: True, broken.verb)])
    assert ticker.turn() == 0
    broken.is_mended = True
    assert ticker.turn() == 0
    elapsed_s[0] = 1.0
    assert [ticker.turn() for _ in range(3)] == [1, 1, 1]


def test_a_tick_with_a_share_of_the_time_rests_by_what_it_took(ws: Workspace, elapsed_s: list[float]) -> None:
    """A judge that reads all since its rollout began must not read without a pause when that is much."""
    begun: list[float] = []

    def verb(_ws: Workspace) -> int:
        begun.append(elapsed_s[0])
        elapsed_s[0] += 0.5 if len(begun) < 3 else 2.0
        return 1

    ticker = Ticker(ws, [Tick("judge", "rollout", lambda _ws: True, verb, share=0.1)])
    while elapsed_s[0] < 45:
        ticker.turn()
        elapsed_s[0] += 0.5
    assert begun == [0.0, 1.0, 2.0, 22.0, 42.0]  # it takes half a second at first, then two


def test_what_a_tick_does_is_recorded_as_done_by_the_system(ws: Workspace) -> None:
    actors: list[str] = []

    def verb(acting: Workspace) -> int:
        actors.append(acting.actor)
        return 1

    assert Ticker(ws, [Tick("go on", "rollout", lambda _ws: True, verb)]).turn() == 1
    assert actors == ["system:rollout"]
