"""A pipeline as IR YAML: what it says, and that kfp itself comes with it to what we come to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from everloop.adapters import exported, kubeflow_ir
from everloop.loop import load
from tests.adapters.containers import daemon
from tests.adapters.elsewhere import applied, came_to, elsewhere, locally, project
from tests.peer import peer

RUNS = """
import json, sys
from kfp import components, local

local.init(local.DockerRunner(), pipeline_root=sys.argv[2], raise_on_error=True)
components.load_component_from_file(sys.argv[1])(**json.loads(sys.argv[3]))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return project(tmp_path / "project")


def documents(file: Path, **options: Any) -> list[dict[str, Any]]:
    text = kubeflow_ir(exported(load(file), "train", {}), image="shop:1", home=Path("/srv/home"), **options)
    return list(yaml.safe_load_all(text))


def tasks(document: dict[str, Any], dag: str = "comp-steps") -> dict[str, Any]:
    found: dict[str, Any] = document["components"][dag]["dag"]["tasks"]
    return found


def test_a_branch_is_a_dag_that_its_condition_triggers(file: Path) -> None:
    (document,) = documents(file)
    steps = tasks(document)
    wanted = "inputs.parameter_values['pipelinechannel--is-big-Output'] == 'true'"
    assert steps["if-is-big"]["triggerPolicy"] == {"condition": wanted}
    assert steps["unless-is-big"]["triggerPolicy"] == {"condition": f"!({wanted})"}
    assert steps["if-is-big"]["dependentTasks"] == ["is-big", "total"]
    assert list(tasks(document, "comp-if-is-big")) == ["praise"]
    assert set(steps["choice-2"]["dependentTasks"]) == {"is-big", "if-is-big", "unless-is-big"}


def test_a_branch_in_a_branch_is_told_of_a_condition_outside_of_both(file: Path) -> None:
    (document,) = documents(file)
    channel = "pipelinechannel--is-nothing-Output"
    assert tasks(document)["unless-is-big"]["inputs"]["parameters"][channel] == {
        "taskOutputParameter": {"outputParameterKey": "Output", "producerTask": "is-nothing"}
    }
    inner = tasks(document, "comp-unless-is-big")["unless-is-big-unless-is-nothing"]
    assert inner["inputs"]["parameters"][channel] == {"componentInputParameter": channel}
    assert "is-nothing" in tasks(document)["unless-is-big"]["dependentTasks"]


def test_a_map_is_a_loop_over_the_items_that_it_lists(file: Path) -> None:
    (document,) = documents(file)
    steps = tasks(document)
    listed = "pipelinechannel--square-items-Output"
    iterator = {"itemInput": f"{listed}-loop-item", "items": {"inputParameter": listed}}
    assert steps["square-each"]["parameterIterator"] == iterator
    assert steps["square"]["dependentTasks"] == ["square-each"]
    assert steps["square-items"]["dependentTasks"] == ["numbers"]


def test_retries_resources_and_the_volume_are_said_in_kubeflows_words(file: Path) -> None:
    document, platform = documents(file, volume="shop-home", cpu="2", memory="4Gi")
    assert tasks(document)["written-letter"]["retryPolicy"]["maxRetryCount"] == 2
    container = document["deploymentSpec"]["executors"]["exec-total"]["container"]
    assert container["resources"]["resourceMemoryLimit"] == "4Gi"
    own = document["deploymentSpec"]["executors"]["exec-written-letter"]["container"]["resources"]
    assert (own["resourceCpuRequest"], own["resourceMemoryLimit"]) == ("2", "1G")
    mounts = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(mounts) == set(document["deploymentSpec"]["executors"])
    assert mounts["exec-total"]["pvcMount"][0]["mountPath"] == "/srv/home"


def test_the_run_is_ended_whatever_happens_and_what_always_runs_does_before(file: Path) -> None:
    (document,) = documents(file)
    end = document["root"]["dag"]["tasks"]["end-run"]
    assert end["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    (shell,) = [document["deploymentSpec"]["executors"]["exec-end-run"]["container"]["command"][-1]]
    assert shell.index("--step sent;") < shell.index("step end --run")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kfp_itself_comes_step_by_step_to_what_we_come_to(file: Path, tmp_path: Path) -> None:
    python, home = peer("kfp") / "python", tmp_path / "home"
    applied(file, home)
    found = exported(load(file), "train", {})
    text = kubeflow_ir(
        found, image="shop:1", home=home, command=f"{sys.executable} -m everloop", volume="shop-home"
    )
    (tmp_path / "train.yaml").write_text(text)
    arguments = [str(tmp_path / "train.yaml"), str(tmp_path / "root"), json.dumps({"count": 1})]
    with daemon("shop:1") as (address, commands):
        environment = {**os.environ, "DOCKER_HOST": address}  # noqa: TID251  (of a child process)
        done = subprocess.run(
            [str(python), "-c", RUNS, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    run = elsewhere(home)
    assert run.state == "done"
    assert came_to(home) == locally(file, tmp_path / "own", count=1)
    shells = [command[2] for command in commands.values()]
    assert [one for one in shells if "--step blame" in one]
    assert not [one for one in shells if "--step praise" in one]
