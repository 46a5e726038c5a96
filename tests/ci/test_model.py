"""Whole checks of a project that trains a model, through the command line, as a CI job runs it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from everloop import data, labels, loop, registry
from everloop.settings import load_settings
from everloop.workspace import open_workspace
from tests.ci.project import DATA, MODEL, Project, begun, people
from tests.cli.test_entry import run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose rows are in the repository; the results of main are kept by the first check."""
    files = {"loop.py": MODEL, "people.csv": people(), "everloop-ci.toml": DATA}
    return begun(tmp_path_factory.mktemp("model") / "repo", files)


def ci(project: Project, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code of `everloop ci`, and its report."""
    monkeypatch.chdir(project.root)
    code = run("ci", "--base", "main", "--report", "out", *words)
    return code, json.loads((project.root / "out" / "report.json").read_text())


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["verdict"] for one in report["pipelines"][0]["head"]["gates"]}


def test_a_worse_model_fails_with_its_numbers_beside_the_bases(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    worse = MODEL.replace("LogisticRegression(C=c)", 'DummyClassifier(strategy="most_frequent")').replace(
        "from sklearn.linear_model", "from sklearn.dummy import DummyClassifier\nfrom sklearn.linear_model"
    )
    project.branch("worse", {"loop.py": worse})
    code, report = ci(project, monkeypatch)
    assert (code, report["verdict"]) == (3, "failed")
    one = report["pipelines"][0]
    (accuracy,) = [each for each in one["compared"]["metrics"] if each["name"] == "accuracy"]
    assert accuracy["before"] > 0.8 > 0.7 > accuracy["after"]
    assert accuracy["low"] < accuracy["difference"] < accuracy["high"] < 0
    assert accuracy["moved"] == "worse"
    assert verdicts(report)["accuracy:at_least"] == "failed"
    assert verdicts(report)["accuracy:against_live"] == "failed"
    assert any(part["moved"] == "worse" and part["column"] == "label" for part in one["compared"]["slices"])
    assert {step["name"]: step["state"] for step in one["head"]["steps"]} == {
        "split": "cached",
        "fit": "done",
    }
    line = 1 + worse[: worse.index('el.gate("accuracy", at')].count("\n")
    told = capsys.readouterr().out
    assert (
        f"::error file=loop.py,line={line},title=left%3A gate accuracy%3Aat_least failed::accuracy is 0."
        in told
    )
    assert "that of the base 0." in told
    assert "### everloop: failed" in (tmp_path / "summary").read_text()
    suites = ET.parse(project.root / "out" / "junit.xml").getroot()  # noqa: S314  (our own)
    assert suites.get("failures") == "2"


def test_a_leaked_label_is_caught_though_the_model_looks_better(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaking = MODEL.replace('inputs=["age", "calls"]', 'inputs=["age", "calls", "because"]').replace(
        '("numbers", "passthrough"',
        '("because", OneHotEncoder(), [data.position("because")]), ("numbers", "passthrough"',
    )
    leaking = leaking.replace(
        "from sklearn.linear_model",
        "from sklearn.preprocessing import OneHotEncoder\nfrom sklearn.linear_model",
    )
    project.branch("leak", {"loop.py": leaking})
    code, report = ci(project, monkeypatch)
    assert code == 3
    assert verdicts(report)["leakage"] == "failed"
    (remark,) = [one for one in report["annotations"] if one["level"] == "error"]
    assert "'because'" in remark["message"]


def test_other_rows_and_labels_are_counted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows added, one removed, one relabelled, one left without a label."""
    lines = people().splitlines()
    first, second = lines[1].split(","), lines[2].split(",")
    first[-1] = "no" if first[-1] == "yes" else "yes"
    changed = [lines[0], ",".join(first), ",".join([*second[:-1], ""]), *lines[4:]]
    more = [line.replace("p", "q", 1) for line in people(20, seed=8).splitlines()[1:]]
    project.branch("data", {"people.csv": "\n".join([*changed, *more]) + "\n"})
    code, report = ci(project, monkeypatch)
    assert code == 0
    compared = report["pipelines"][0]["compared"]
    assert [
        (one["rows_before"], one["rows_after"], one["added"], one["removed"]) for one in compared["data"]
    ] == [(240, 259, 20, 1)]
    assert [(one["name"], one["added"], one["changed"]) for one in compared["labels"]] == [("left", 20, 1)]
    assert "people.csv labels 1 rows no more that the base labels" in " ".join(report["notes"])
    assert report["pipelines"][0]["touched"]["steps"][0]["reasons"] == [
        "dataset people has other content",
        "labels left has other content",
    ]


def test_a_softer_gate_is_judged_on_the_results_of_the_base(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.branch("strict", {"loop.py": MODEL.replace("at_least=0.7", "at_least=0.999")})
    code, report = ci(project, monkeypatch)
    assert code == 3
    one = report["pipelines"][0]
    assert {step["state"] for step in one["head"]["steps"]} == {"cached"}
    assert one["touched"]["reasons"] == ["model left is declared with other gates"]
    assert {each["moved"] for each in one["compared"]["metrics"]} == {"same"}


def test_a_workspace_with_the_data_is_used_where_no_file_is_named_and_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = begun(tmp_path / "repo", {"loop.py": MODEL})
    (tmp_path / "people.csv").write_text(people())
    home = project.root / ".everloop"
    with open_workspace(settings=load_settings(home, environ={}, actor="tester")) as ws:
        found = loop.load(project.root / "loop.py")
        loop.apply(ws, found)
        data.ingest(ws, "people", tmp_path / "people.csv")
        labels.import_labels(ws, "left", tmp_path / "people.csv", key="id", value="left", annotator="a")
        loop.train(ws, found, "train", reason="a first one")
    project.branch("topic", {"loop.py": MODEL.replace("1.0)", "2.0)")})
    code, report = ci(project, monkeypatch)
    assert code == 0
    one = report["pipelines"][0]
    assert {step["state"] for step in one["base"]["steps"]} == {"cached"}  # the workspace had trained it
    assert {step["name"]: step["state"] for step in one["head"]["steps"]} == {
        "split": "cached",
        "fit": "done",
    }
    with open_workspace(settings=load_settings(home, environ={}, actor="tester")) as ws:
        assert [each.ref for each in registry.versions(ws, "left")] == ["left@1"]
