"""The workflow files of `everloop init --ci`: they parse, name commands that exist, and give nobody more than is needed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from everloop import ci
from everloop.errors import Conflict
from tests.ci.project import DATA, MODEL, STEPS, Project, begun, people
from tests.cli.test_entry import run
from tests.cli.test_help import check_parses

DELIVERED = MODEL + '\nlive = el.endpoint("left", model, rollout=el.canary(100))\n'
WORKFLOWS = Path(".github/workflows")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return begun(tmp_path / "repo", {"loop.py": MODEL, "people.csv": people()})


def written(project: Project, service: Any, folder: str = "") -> dict[str, dict[Any, Any]]:
    """The files by their path in the repository, as YAML reads them."""
    files = ci.write_flows(project.root / folder / "loop.py", service).files
    read = {one.relative_to(project.root).as_posix(): one.read_text() for one in files}
    return {name: yaml.safe_load(text) for name, text in read.items() if name.endswith(".yml")}


def scripts_in(value: Any, key: str = "") -> Iterator[str]:
    """Every line of a script in a workflow."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from scripts_in(one, str(name))
    elif isinstance(value, list):
        for one in value:
            yield from scripts_in(one, key)
    elif key in ("run", "script", "before_script"):
        yield from str(value).splitlines()


def commands_in(value: Any) -> list[list[str]]:
    """The words of each everloop command in a workflow, without what it is piped into."""
    found = (re.match(r"everloop [^|]+", line.strip()) for line in scripts_in(value))
    return [shlex.split(one.group(), comments=True)[1:] for one in found if one]


@pytest.mark.parametrize("service", ["github", "gitlab"])
def test_every_command_exists_with_its_options(project: Project, service: str) -> None:
    commands = [words for one in written(project, service).values() for words in commands_in(one)]
    assert {words[0] for words in commands} >= {"ci", "apply", "data", "labels", "run", "models", "work"}
    for words in commands:
        check_parses(words)


def test_actions_are_pinned_by_commit_and_rights_are_least(project: Project) -> None:
    flows = written(project, "github")
    for name, flow in flows.items():
        used = [str(step["uses"]) for job in flow["jobs"].values() for step in job["steps"] if "uses" in step]
        assert used, name
        assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", one) for one in used), name
        assert flow["permissions"] == {"contents": "read"}, name
        assert flow["concurrency"]["group"], name
        assert all(job["timeout-minutes"] for job in flow["jobs"].values()), name
        checkouts = [
            step
            for job in flow["jobs"].values()
            for step in job["steps"]
            if "checkout" in str(step.get("uses"))
        ]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts), name


def test_the_code_of_a_pull_request_runs_without_secrets_and_without_the_right_to_write(
    project: Project,
) -> None:
    flow = written(project, "github")[".github/workflows/everloop-check.yml"]
    assert set(flow[True]) == {"pull_request", "push"}  # YAML reads the key on as true
    check, comment = flow["jobs"]["check"], flow["jobs"]["comment"]
    assert "permissions" not in check
    assert "secrets." not in str(flow)
    assert "github.token" not in str(check)
    assert comment["permissions"] == {"pull-requests": "write"}
    assert not commands_in(comment)
    assert not any("checkout" in str(step.get("uses")) for step in comment["steps"])
    assert "head.repo.full_name == github.repository" in comment["if"]


def test_what_a_job_keeps_is_what_a_check_reads(project: Project) -> None:
    flow = written(project, "github")[".github/workflows/everloop-check.yml"]
    steps = flow["jobs"]["check"]["steps"]
    assert steps[0]["with"]["fetch-depth"] == 0
    (kept,) = [step["with"] for step in steps if "cache" in str(step.get("uses"))]
    assert kept["path"] == ".everloop/ci/base"
    assert "base.sha" in kept["key"]


def test_trainings_and_deliveries_wait_for_each_other_and_for_a_person(project: Project) -> None:
    flows = written(project, "github")
    train, deliver = (flows[f".github/workflows/everloop-{name}.yml"] for name in ("train", "deliver"))
    assert train["concurrency"] == deliver["concurrency"]
    assert "schedule" in train[True]
    assert deliver["jobs"]["deliver-left"]["environment"] == "production"
    assert deliver["jobs"]["deliver-left"]["needs"] == "train-left"
    gitlab = written(project, "gitlab")[".gitlab/everloop.yml"]
    assert gitlab["everloop-deliver-left"]["rules"][0]["when"] == "manual"
    assert gitlab[".everloop-workspace"]["resource_group"]


def test_gitlab_reads_the_reports_and_includes_the_file(project: Project) -> None:
    flows = written(project, "gitlab")
    assert flows[".gitlab-ci.yml"] == {"include": [{"local": "/.gitlab/everloop.yml"}]}
    reports = flows[".gitlab/everloop.yml"]["everloop-check"]["artifacts"]["reports"]
    assert set(reports) == {"junit", "codequality"}


def test_a_gitlab_ci_file_of_the_users_stays_and_the_line_is_told(project: Project) -> None:
    (project.root / ".gitlab-ci.yml").write_text("mine: {script: [make]}\n")
    left = ci.write_flows(project.root / "loop.py", "gitlab").left
    assert left == ("Add to .gitlab-ci.yml: include: [{local: /.gitlab/everloop.yml}]",)
    assert (project.root / ".gitlab-ci.yml").read_text() == "mine: {script: [make]}\n"


def test_the_files_with_rows_and_labels_are_found(project: Project) -> None:
    written(project, "github")
    text = (project.root / "everloop-ci.toml").read_text()
    assert text.partition("\n")[2].strip() == DATA.strip().replace("'", '"')


def test_without_such_a_file_that_is_told(project: Project) -> None:
    project.commit({"people.csv": None})
    flows = ci.write_flows(project.root / "loop.py", "github")
    assert "no file with the rows of people is in" in flows.left[0]
    assert not (project.root / "everloop-ci.toml").exists()


def test_a_project_in_a_folder_has_its_workflows_at_the_root(tmp_path: Path) -> None:
    project = begun(tmp_path / "repo", {"ml/loop.py": MODEL, "ml/people.csv": people()})
    flows = written(project, "github", "ml")
    check = flows[".github/workflows/everloop-check.yml"]["jobs"]["check"]
    assert check["defaults"]["run"]["working-directory"] == "ml"
    assert "ml/.everloop/ci/base" in str(check["steps"])
    assert (project.root / "ml" / "everloop-ci.toml").exists()


def test_packages_come_from_the_projects_lock(project: Project) -> None:
    (project.root / "requirements.txt").write_text("everloop\n")
    flow = written(project, "github")[".github/workflows/everloop-check.yml"]
    assert {"run": "python -m pip install -r requirements.txt"} in flow["jobs"]["check"]["steps"]


def test_nothing_is_written_over(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    first = written(project, "github")
    mine = project.root / WORKFLOWS / "everloop-check.yml"
    mine.write_text("mine")
    with pytest.raises(Conflict, match="a file of yours is not overwritten"):
        ci.write_flows(project.root / "loop.py", "github")
    assert run("init", "--into", str(project.root), "--ci", "github") == 2
    assert mine.read_text() == "mine"
    assert run("init", "--into", str(project.root), "--ci", "github", "--force") == 0
    assert yaml.safe_load(mine.read_text()) == first[".github/workflows/everloop-check.yml"]


def test_a_project_without_a_model_is_checked_and_trained(tmp_path: Path) -> None:
    project = begun(tmp_path / "repo", {"loop.py": STEPS})
    flows = written(project, "github")
    assert ["run", "report", "--reason", "scheduled, run $GITHUB_RUN_ID"] in commands_in(
        flows[".github/workflows/everloop-train.yml"]
    )


@pytest.mark.slow
def test_the_lines_of_a_delivery_put_a_merged_model_live(project: Project, tmp_path: Path) -> None:
    project.commit({"loop.py": DELIVERED})
    jobs = written(project, "github")[".github/workflows/everloop-deliver.yml"]["jobs"]
    script = [
        step["run"]
        for job in ("train-left", "deliver-left")
        for step in jobs[job]["steps"]
        if "run" in step and not step["run"].startswith("python -m pip")
    ]
    output = tmp_path / "output"
    variables = {
        "GITHUB_SHA": "abc",
        "GITHUB_RUN_ID": "7",
        "GITHUB_ACTOR": "alice",
        "GITHUB_OUTPUT": str(output),
    }
    code, told = shell(project, [*script[:4], f'VERSION=$(cut -d= -f2 "{output}")', *script[4:]], variables)
    assert code == 0, told
    code, told = shell(project, ["everloop endpoints list"], {})
    assert "left@1 100 %" in told


def shell(project: Project, lines: list[str], variables: dict[str, str]) -> tuple[int, str]:
    from everloop.settings import child_environment, load_settings  # noqa: PLC0415  (of this test alone)

    settings = load_settings(project.root / ".everloop", environ={}, actor="github-actions")
    env = child_environment(settings, **variables)
    ended = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(lines)],  # noqa: S607  (as the service runs it)
        cwd=project.root,
        env={**env, "PATH": f"{Path(sys.executable).parent}:{env['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr
