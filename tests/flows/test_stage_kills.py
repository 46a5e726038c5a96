"""Processes are killed in each stage of a rollout, under traffic: nothing answered is lost, it ends as planned, once."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from everloop import events, predictions, rollout, serving
from everloop.settings import load_settings
from everloop.workspace import Workspace, open_workspace
from tests.flows.calling import Clients, traffic
from tests.flows.running import Everloop, running, wait_for
from tests.loop import living

Killed = Literal["worker", "ticks", "control", "both"]
Moment = Literal["approved", "mirrored", "10 %", "25 %", "50 %", "watched", "rolled back"]
STAGES: tuple[Moment, ...] = ("mirrored", "10 %", "25 %", "50 %", "watched")
CALLERS = 4


@dataclass
class Story:
    """A home on which a version that was approved takes over, or is taken back because sellers come whom it does not know."""

    home: Path
    ws: Workspace
    everloop: Everloop
    clients: Clients
    cut_off_at_most: int = 0
    killed: list[tuple[Moment, Killed]] = field(default_factory=list)

    def wait_until(self, moment: Moment) -> None:
        if moment == "approved":
            return
        waited = f"{moment}, after {self.killed}; {self.clients.refused} {self.acts()} {self.everloop.said()}"
        wait_for(lambda: moment in self._begun(), waited)

    def kill(self, moment: Moment, killed: Killed) -> None:
        self.killed.append((moment, killed))
        pids = self._pids(killed)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if killed != "ticks":
            self.cut_off_at_most += CALLERS  # each caller has one request on its way at most
        if killed in ("control", "both"):
            assert self.everloop.process is not None
            self.everloop.process.wait()
            orphans = self.everloop.parts()
            self.everloop.start()
            self.everloop.wait_until_ready()
            wait_for(lambda: not orphans.keys() & self.everloop.parts().keys(), f"no orphan stays: {orphans}")

    def acts(self) -> list[str]:
        moves = rollout.history(self.ws, rollout=self.newest().id, without_looks=True)
        return [one.act for one in reversed(moves)]

    def newest(self) -> rollout.Rollout:
        return rollout.rollouts(self.ws, endpoint_name="kind", limit=1)[0]

    def _begun(self) -> list[Moment]:
        """What the rollout of the new version has come to."""
        found = self.newest()
        if found.version != "kind@2":
            return []
        begun = list(STAGES[: found.stage + 1])
        return [*begun, "rolled back"] if found.state == "rolled_back" else begun

    def _pids(self, killed: Killed) -> list[int]:
        workers = [one.pid for one in serving.workers(self.home / "serving")][:1]
        if killed == "worker":
            return workers
        parts = self.everloop.parts().items()
        if killed == "ticks":
            return [pid for pid, part in parts if part == "ticks"]
        control = [pid for pid, part in parts if part in ("up", "ticks")]
        return control if killed == "control" else [*workers, *control]


def tell(trained: tuple[Path, str], kills: Sequence[tuple[Moment, Killed]]) -> None:
    """Roll a version out, kill at these moments, and look at what is left; taken back if a kill is to fall into that."""
    home, url = trained
    is_bad = any(moment == "rolled back" for moment, _ in kills)
    settings = load_settings(home, environ={}, actor="tester", database_url=url)
    with open_workspace(settings=settings) as ws, running(home, url) as everloop:
        in_stages(ws)
        everloop.wait_until_ready()
        with traffic(everloop.port + 1, callers=CALLERS) as clients:
            story = Story(home, ws, everloop, clients)
            living.approve(ws, "kind@2")
            for moment, killed in kills:
                story.wait_until(moment)
                if is_bad:  # before the kill: while it is mended good answers would pass the stage
                    clients.strangers = (90, 91)
                story.kill(moment, killed)
            if not is_bad:
                wait_for(lambda: "finished" in story.acts(), f"it finishes: {story.acts()} {everloop.said()}")
                living.pass_time(ws, hours=2)  # the watch
            ending = "rolled_back" if is_bad else "watched"
            wait_for(lambda: ending in story.acts(), f"it ends: {story.acts()} {everloop.said()}")
            before = len(clients.answered)
            wait_for(
                lambda: len(clients.answered) > before + 20, f"it is answered after that: {everloop.said()}"
            )
        assert everloop.stop() == 0
        assert everloop.parts() == {}, "whoever stops everloop stops its children"
        nothing_is_lost(story)
        ended_once(story, is_bad=is_bad)


def nothing_is_lost(story: Story) -> None:
    answered = predictions.read(story.home / "serving", columns=["id", "shadow_of"])
    logged = Counter(answered.filter(answered["shadow_of"].is_null())["id"].to_pylist())
    assert not story.clients.answered.keys() - logged.keys(), "an answered prediction is not in the log"
    assert set(logged.values()) == {1}
    assert story.clients.cut_off.total() <= story.cut_off_at_most, (story.clients.cut_off, story.killed)


def ended_once(story: Story, *, is_bad: bool) -> None:
    steps = ["started", *["advanced"] * 3]
    assert story.acts() == [*steps, *(["rolled_back"] if is_bad else ["finished", "watched"])]
    answering = [one.version for one in rollout.live(story.ws, "kind")]
    assert answering == ["kind@1" if is_bad else "kind@2"]
    kind = "rollout.rolled_back" if is_bad else "rollout.finished"
    assert len(events.newest(story.ws, kind=kind, limit=10)) == 1
    assert (
        len([one for one in rollout.rollouts(story.ws, endpoint_name="kind") if one.version == "kind@2"]) == 1
    )
    if not is_bad:
        assert story.clients.refused.keys() <= {503}, story.clients.refused


def in_stages(ws: Workspace) -> None:
    """A plan with every kind of stage; each asks for a few hundred answers."""
    plan = rollout.canary(10, 25, 50, 100, shadow=50, excess_at_most={"errors": 0.25}, watch_h=1)
    ws.write(lambda tx: rollout.define_endpoint(ws, tx, "kind", model="kind", canary=plan))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("any_trained", ["sqlite"], indirect=True)
def test_kills_in_three_stages_lose_no_answer_and_no_step(any_trained: tuple[Path, str]) -> None:
    tell(any_trained, [("mirrored", "ticks"), ("10 %", "worker"), ("50 %", "both"), ("watched", "ticks")])


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("killed", ["worker", "ticks", "control", "both"])
@pytest.mark.parametrize("any_trained", ["sqlite", "postgres"], indirect=True)
def test_a_kill_in_every_stage_loses_no_answer_and_no_step(
    any_trained: tuple[Path, str], killed: Killed
) -> None:
    moments: tuple[Moment, ...] = ("approved", *STAGES)
    tell(any_trained, [(moment, killed) for moment in moments])


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("killed", ["worker", "ticks", "control", "both"])
@pytest.mark.parametrize("any_trained", ["sqlite", "postgres"], indirect=True)
def test_a_kill_while_it_is_taken_back_ends_with_the_version_before(
    any_trained: tuple[Path, str], killed: Killed
) -> None:
    tell(any_trained, [("50 %", killed), ("rolled back", killed)])
