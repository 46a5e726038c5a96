"""A pipeline as a DAG file: what it says, and that a real Airflow comes with it to what we come to."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from everloop.adapters import airflow_dag, exported
from everloop.errors import Invalid, NotFound
from everloop.loop import load
from tests.adapters.elsewhere import LOOP, applied, came_to, elsewhere, locally, project
from tests.peer import peer

HOME = Path("/srv/shop/.everloop")
DECLARED = """
    listings = el.dataset("listings", key="id", time="at", inputs=["title"])


    @el.step
    def fit(rows: el.Table) -> el.Model: ...


    @el.pipeline
    def retrained() -> el.Model:
        return fit(listings)


    shop = el.model("shop", retrained)
    el.retrain(shop, cron="0 3 * * *", time_zone="Europe/Berlin")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return project(tmp_path / "project")


def dag_of(file: Path, pipeline: str = "train", **options: object) -> str:
    return airflow_dag(exported(load(file), pipeline, {}), home=HOME, **options)  # type: ignore[arg-type]


def line(text: str, variable: str) -> str:
    """What a variable is given, on one line."""
    (found,) = re.findall(rf"^ *{variable} = (?:.*\($(?:.|\n)*?^ *\)|.*)$", text, re.MULTILINE)
    return ast.unparse(ast.parse(textwrap.dedent(found))).replace("'", '"')


def test_it_imports_airflow_alone(file: Path) -> None:
    imported = [
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(dag_of(file)))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert imported == ["json", "datetime", "airflow.providers.standard.operators.bash", "airflow.sdk"]


def test_what_a_step_declares_is_said_in_airflows_words(file: Path) -> None:
    text = dag_of(file)
    assert line(text, "written_letter").endswith(
        "pool_slots=2, retries=2, retry_delay=timedelta(seconds=0.5), retry_exponential_backoff=True, "
        "execution_timeout=timedelta(seconds=120))"
    )
    assert 'trigger_rule="all_done"' in line(text, "sent")
    assert 'trigger_rule="none_failed"' in line(text, "choice")
    assert "--param count='{{{{ params.count | tojson }}}}'" in text
    assert '"count": Param(2),' in text
    assert 'with TaskGroup("written"):' in text


def test_what_waits_for_what_is_an_arrow(file: Path) -> None:
    text = dag_of(file)
    arrows = [one.strip() for one in text.splitlines() if " >> " in one]
    assert "begin_run >> numbers" in arrows
    assert "square_items >> square_each >> square" in arrows
    assert 'is_big >> Label("if so") >> praise' in arrows
    assert 'is_nothing >> Label("if not") >> blame' in arrows
    assert "[total, is_big] >> blame" in arrows
    assert "[choice_2, written_luck] >> written_letter" in arrows
    assert arrows[-1] == "sent >> end_run"


def test_a_pipeline_that_is_used_twice_is_one_group(file: Path) -> None:
    twice = """
    @el.pipeline
    def letters() -> int:
        return sent(written(praise(total([sent(written("one"))]))))
    """
    file.write_text(textwrap.dedent(LOOP) + textwrap.dedent(twice))
    text = dag_of(file, "letters")
    assert text.count('TaskGroup("written")') == 1
    assert '    written_letter_2 = everloop(\n            "letter-2",' in text


def test_schedule_and_assets_are_those_of_the_loop_file(file: Path) -> None:
    file.write_text(textwrap.dedent(LOOP + DECLARED))
    text = dag_of(file, "retrained")
    assert 'schedule=CronTriggerTimetable("0 3 * * *", timezone="Europe/Berlin"),' in text
    assert 'inlets=[Asset("everloop://dataset/listings")]' in line(text, "begin_run")
    assert 'outlets=[Asset("everloop://model/shop")]' in line(text, "end_run")
    assert "schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable(" in dag_of(
        file, "retrained", on_data=True
    )


def test_pods_need_an_image_and_a_volume(file: Path) -> None:
    with pytest.raises(Invalid, match="Give --image and --volume"):
        dag_of(file, operator="kubernetes")
    text = dag_of(file, operator="kubernetes", image="shop:1", volume="shop-home")
    ast.parse(text)
    assert "KubernetesPodOperator(" in text
    assert "BashOperator" not in text
    asked = "{'cpu': '2', 'memory': '1G'}"
    assert f"container_resources=k8s.V1ResourceRequirements(requests={asked}, limits={asked})" in text


def test_a_loop_file_with_several_pipelines_asks_for_one(file: Path) -> None:
    with pytest.raises(NotFound, match="it has written, train"):
        exported(load(file), None, {})


PODS = """
import json, runpy, sys
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

tasks = [one for one in runpy.run_path(sys.argv[1]).values() if isinstance(one, KubernetesPodOperator)]
pods = {task.task_id: task.build_pod_request_obj().to_dict()["spec"] for task in tasks}
print("PODS", json.dumps(pods, default=str))
"""


NO_CLUSTER = """
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: none, context: {cluster: none, user: nobody}}]
users: [{name: nobody, user: {}}]
current-context: none
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_airflow_makes_pods_of_the_dag_for_pods(file: Path, tmp_path: Path) -> None:
    text = dag_of(file, operator="kubernetes", image="shop:1", volume="shop-home")
    (tmp_path / "pods.py").write_text(text)
    (tmp_path / "kubeconfig").write_text(NO_CLUSTER)
    places = {"AIRFLOW_HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "kubeconfig")}
    done = subprocess.run(
        [peer("airflow") / "python", "-c", PODS, str(tmp_path / "pods.py")],
        env={**os.environ, **places},  # noqa: TID251  (of a child process)
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    pods = json.loads(done.stdout.rpartition("PODS")[2])
    assert {"begin_run", "numbers", "total", "end_run"} <= pods.keys()
    (container,) = pods["total"]["containers"]
    assert container["image"] == "shop:1"
    assert "step run" in " ".join([*(container["command"] or []), *(container["args"] or [])])
    assert [one["persistent_volume_claim"]["claim_name"] for one in pods["total"]["volumes"]] == ["shop-home"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_airflow_comes_step_by_step_to_what_we_come_to(file: Path, tmp_path: Path) -> None:
    airflow, home = peer("airflow") / "airflow", tmp_path / "home"
    applied(file, home)
    (tmp_path / "airflow" / "dags").mkdir(parents=True)
    text = airflow_dag(exported(load(file), "train", {}), home=home, command=f"{sys.executable} -m everloop")
    (tmp_path / "airflow" / "dags" / "train.py").write_text(text)
    environment = {
        **os.environ,  # noqa: TID251  (of a child process)
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    for command in (["db", "migrate"], ["dags", "test", "train"]):
        done = subprocess.run(
            [airflow, *command], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    run = elsewhere(home)
    assert run.state == "done"
    assert came_to(home) == locally(file, tmp_path / "own")
