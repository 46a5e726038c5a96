"""`everloop up`, with two serving processes, is killed under traffic while a canary grows: nothing answered is lost, the rollout
comes to its end."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from everloop import predictions, rollout
from everloop.settings import load_settings
from everloop.workspace import Workspace, open_workspace
from tests.flows.calling import traffic
from tests.flows.running import Everloop, Part, running, wait_for
from tests.loop import living

KILLS: tuple[Part, ...] = ("up", "up", "serve", "ticks")
STEPS = (20, 40, 60, 80, 100)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [11])
@pytest.mark.parametrize(
    "any_trained",
    [pytest.param(one, marks=pytest.mark.long) for one in ("sqlite", "postgres")],  # CI kills by stage
    indirect=True,
)
def test_nothing_answered_is_lost_and_the_rollout_ends_once(any_trained: tuple[Path, str], seed: int) -> None:
    home, url = any_trained
    (home / "settings.toml").write_text("serving_workers = 2\n")
    settings = load_settings(home, environ={}, actor="tester", database_url=url)
    with open_workspace(settings=settings) as ws, running(home, url) as everloop:
        slowly_growing(ws)
        everloop.wait_until_ready()
        living.approve(ws, "kind@2")
        with traffic(everloop.port + 1) as clients:
            kill_at_random(ws, everloop, random.Random(seed))  # noqa: S311  (moments, not secrets)
            ended = wait_for(lambda: ended_rollout(ws), f"the rollout ends: {everloop.said()}")
        assert everloop.stop() == 0
        assert everloop.parts() == {}, "whoever stops everloop stops its children"

        logged = Counter(predictions.read(home / "serving", columns=["id"])["id"].to_pylist())
        assert len(clients.answered) > 300, (clients.refused, everloop.said())
        assert not clients.answered.keys() - logged.keys(), "an answered prediction is not in the log"
        assert set(logged.values()) == {1}
        assert (ended.state, ended.version) == ("done", "kind@2")
        assert [one.version for one in rollout.live(ws, "kind")] == ["kind@2"]
        moves = rollout.history(ws, rollout=ended.id, without_looks=True)
        assert [one.act for one in reversed(moves)] == ["started", *["advanced"] * 3, "finished"]
        epochs = [one.epoch or 0 for one in reversed(moves)]
        assert epochs == sorted(set(epochs))
        assert (
            len([one for one in rollout.rollouts(ws, endpoint_name="kind") if one.version == "kind@2"]) == 1
        )
    verify = [sys.executable, "-m", "everloop", "audit", "verify", "--home", str(home)]
    assert (
        subprocess.run(verify, env=everloop.environment(), capture_output=True, check=False).returncode == 0
    )


def slowly_growing(ws: Workspace) -> None:
    """A canary of many steps that asks for a hundred answers or two at each."""
    plan = rollout.canary(*STEPS, excess_at_most={"errors": 0.05})
    ws.write(lambda tx: rollout.define_endpoint(ws, tx, "kind", model="kind", canary=plan))


def kill_at_random(ws: Workspace, everloop: Everloop, chance: random.Random) -> None:
    """Kill one part after another; when it was `up` itself, start it again at once, while its children end."""
    wait_for(lambda: rollout.rollouts(ws, states=["running"]), f"the rollout begins: {everloop.said()}")
    order = list(KILLS)
    chance.shuffle(order)
    for part in order:
        time.sleep(chance.uniform(0.05, 1.2))  # the moment is what the test is about
        stage = newest(ws).stage
        wait_for(lambda part=part: everloop.kill(part), f"there is a {part} to kill")  # type: ignore[misc]  # bound per turn
        if part == "up":
            orphans = everloop.parts()
            everloop.start()
            everloop.wait_until_ready()
            wait_for(
                lambda orphans=orphans: not orphans.keys() & everloop.parts().keys(),  # type: ignore[misc]  # bound per turn
                f"no orphan stays: {orphans}",
            )
        assert newest(ws).stage >= stage


def newest(ws: Workspace) -> rollout.Rollout:
    return rollout.rollouts(ws, endpoint_name="kind", limit=1)[0]


def ended_rollout(ws: Workspace) -> rollout.Rollout | None:
    return newest(ws) if newest(ws).state in ("done", "rolled_back") else None
