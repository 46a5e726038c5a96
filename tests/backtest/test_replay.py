from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest

from everloop import backtest, data, labels, loop, registry
from everloop.backtest import Backtest, History
from everloop.clock import SimulatedClock
from everloop.errors import GateFailed, Invalid
from everloop.loop import Loop
from everloop.settings import Settings
from everloop.workspace import Workspace, open_workspace
from tests.backtest.history import A_DAY, CHANGE, DAYS, LOOP, past, set_up
from tests.conftest import START

BEGIN = START + timedelta(days=20)
DELAY = timedelta(days=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backtest")


@pytest.fixture(scope="module")
def ws(place: Path) -> Iterator[Workspace]:
    """A workspace whose clock stands long after its rows."""
    with open_workspace(settings=Settings(home=place / "home", actor="ann"), simulation_from=START) as opened:
        assert isinstance(opened.clock, SimulatedClock)
        opened.clock.advance(timedelta(days=400))
        yield opened


@pytest.fixture(scope="module")
def found(ws: Workspace, place: Path) -> Loop:
    return set_up(ws, place, past())


@pytest.fixture(scope="module")
def history(ws: Workspace, found: Loop) -> History:
    return backtest.read_history(ws, found, labels_after=DELAY)


@pytest.fixture(scope="module")
def shown(history: History, found: Loop, place: Path) -> Backtest:
    return backtest.run(history, found, place / "replay", start=BEGIN)


@pytest.mark.slow
def test_each_row_since_the_start_is_asked_about_once(shown: Backtest) -> None:
    assert shown.whole.rows == shown.whole.labelled == (DAYS - 20) * A_DAY
    assert [week.rows for week in shown.weeks] == [7 * A_DAY, 7 * A_DAY, 6 * A_DAY]
    assert (shown.start, shown.end - shown.start) == (BEGIN, timedelta(days=20, hours=-1, microseconds=1))


@pytest.mark.slow
def test_it_shows_when_the_loop_would_have_trained_again(shown: Backtest) -> None:
    retrained = next(one for one in shown.events if one.kind == "retraining.started")
    assert CHANGE + DELAY < retrained.at < CHANGE + timedelta(days=6)
    assert "contradicted" in retrained.message
    started = [one.subject.id for one in shown.events if one.kind == "rollout.started"]
    assert len(started) >= 2
    assert shown.whole.versions[:2] == ("kind@1", "kind@2")


@pytest.mark.slow
def test_it_shows_what_the_loop_was_worth(shown: Backtest) -> None:
    first, *_, last = shown.weeks
    assert first.with_loop == first.without
    assert first.with_loop is not None
    assert first.with_loop > 0.95
    assert last.with_loop is not None
    assert last.without is not None
    assert last.without < 0.8
    assert last.with_loop > last.without + 0.1


@pytest.mark.slow
def test_no_version_was_trained_on_what_was_not_known_yet(shown: Backtest, history: History) -> None:
    known_at = {str(label.key): at for at, label in history.given}
    with open_workspace(shown.home) as replay:
        for version in registry.versions(replay, "kind"):
            assert version.label_snapshot is not None
            used = labels.read_snapshot(replay, version.label_snapshot)["key"].to_pylist()
            assert all(known_at[str(key)] <= version.created_at for key in used)
            assert version.data_version is not None
            newest = pc.max(data.read(replay, version.data_version)["listed_at"]).as_py()
            assert newest <= version.created_at


@pytest.mark.slow
def test_the_workspace_that_is_looked_at_does_not_change(shown: Backtest, ws: Workspace) -> None:
    assert shown.whole.rows
    assert registry.models(ws)[0].name == "kind"
    assert registry.versions(ws, "kind") == []
    assert data.version(ws, "goods").number == 1


@pytest.mark.slow
def test_neither_database_nor_webhook_of_the_environment_is_used(
    history: History, found: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLOOP_DATABASE_URL", f"sqlite:///{tmp_path / 'other.db'}")
    monkeypatch.setenv("EVERLOOP_WEBHOOK_URL", "http://127.0.0.1:9/")
    backtest.run(history, found, tmp_path / "replay", start=BEGIN, end=BEGIN + timedelta(hours=12))
    assert not (tmp_path / "other.db").exists()
    assert (tmp_path / "replay" / "everloop.db").exists()


def test_a_label_is_known_when_it_was_given_unless_said_otherwise(ws: Workspace, found: Loop) -> None:
    recorded = backtest.read_history(ws, found)
    assert {at for at, _ in recorded.given} == {ws.now()}
    later = backtest.read_history(ws, found, labels_after=DELAY)
    assert later.given[0][0] == START + DELAY
    assert len(later.given) == DAYS * A_DAY


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (START + timedelta(days=1), "nothing can be learned by"),
        (START + timedelta(days=60), "no day is left to replay"),
    ],
)
def test_a_start_without_a_past_or_a_future_is_refused(
    history: History, found: Loop, tmp_path: Path, start: object, told: str
) -> None:
    with pytest.raises(Invalid, match=told):
        backtest.run(history, found, tmp_path / "replay", start=start)  # type: ignore[arg-type]  # parametrized
    assert not (tmp_path / "replay").exists()


def test_labels_imported_in_one_go_need_a_word_about_when_they_were_known(
    ws: Workspace, found: Loop, tmp_path: Path
) -> None:
    with pytest.raises(Invalid, match="--labels-after-days"):
        backtest.run(backtest.read_history(ws, found), found, tmp_path / "replay", start=BEGIN)


@pytest.mark.slow
def test_a_first_version_that_fails_its_gates_ends_it(tmp_path: Path) -> None:
    text = LOOP.replace("at_least=0.5", "at_least=1.1")
    with open_workspace(settings=Settings(home=tmp_path / "home", actor="ann"), simulation_from=START) as ws:
        assert isinstance(ws.clock, SimulatedClock)
        ws.clock.advance(timedelta(days=400))
        found = set_up(ws, tmp_path, past(), text=text)
        history = backtest.read_history(ws, found, labels_after=DELAY)
        with pytest.raises(GateFailed, match="makes no version that may go live"):
            backtest.run(history, found, tmp_path / "replay", start=BEGIN)


@pytest.mark.slow
def test_the_first_version_spends_its_time_in_the_stages_before_anybody_asks_it(
    ws: Workspace, place: Path, tmp_path: Path
) -> None:
    stages = 'stages=[el.stage("staging", approve=el.people(2)), el.stage("production", approve=el.people(0), soak_h=20)], '
    found = set_up(ws, tmp_path, past(), text=LOOP.replace("gates=", f"{stages}gates="))
    history = backtest.read_history(ws, found, labels_after=DELAY)
    shown = backtest.run(history, found, tmp_path / "replay", start=BEGIN, end=BEGIN + timedelta(days=2))
    assert shown.start == BEGIN + timedelta(hours=24)  # looked at every six hours
    assert (shown.whole.rows, shown.whole.versions) == (A_DAY, ("kind@1",))
    with pytest.raises(GateFailed, match=r"in staging for 12 h; production asks for 20 h"):
        backtest.run(history, found, tmp_path / "short", start=BEGIN, end=BEGIN + timedelta(hours=12))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "el.retrain(model",
            'el.endpoint("other", model, rollout=el.canary(100))\nel.retrain(model',
            "declares 2 of the kind 'endpoint'",
        ),
    ],
)
def test_a_loop_that_cannot_be_replayed_is_refused(
    ws: Workspace, tmp_path: Path, old: str, new: str, told: str
) -> None:
    file = tmp_path / "shop_loop.py"
    file.write_text(LOOP.replace(old, new))
    with pytest.raises(Invalid, match=told):
        backtest.read_history(ws, loop.load(file))


def test_a_dataset_without_a_time_cannot_be_replayed(ws: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "shop_loop.py"
    timeless = re.sub(r"@el\.feature.*?past\.num_rows\n", "", LOOP, flags=re.DOTALL)
    file.write_text(timeless.replace(', time="listed_at"', ""))
    with pytest.raises(Invalid, match="the dataset 'goods' has no time"):
        backtest.read_history(ws, loop.load(file))
