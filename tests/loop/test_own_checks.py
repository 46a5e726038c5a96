"""A loop file with checks of the user's own: run by the training, stored with its report, noticed when they change."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from everloop import checks, loop, pipelines, registry
from everloop.checks import CHECKS
from everloop.loop import DeclaredModel
from everloop.workspace import Workspace
from tests.loop import shop

BESIDE = """
import everloop as el

MOST = 1


@el.check(rule="A title may stand in at most one test row.", remedy="Merge the rows.")
def titles_differ(given: el.CheckInput) -> el.CheckResult:
    titles = given.test["title"].to_pylist()
    rows = [row for row, title in zip(given.test["_row_id"].to_pylist(), titles) if titles.count(title) > MOST]
    found = f"{len(rows)} of {len(titles)} test rows share a title."
    return el.CheckResult(
        "titles_differ", "failed" if rows else "passed", found, numbers={"rows": len(rows)}, evidence=tuple(rows)
    )
"""
LOOP = shop.LOOP.replace(
    "import everloop as el",
    """import everloop as el
import shop_checks


@el.check
def answers_in_time(given: el.CheckInput) -> None:
    assert given.predictions.num_rows > 10_000, f"only {given.predictions.num_rows} answers"

""",
    1,
).replace(
    'gates=[el.gate("macro_f1", at_least=0.5)]',
    "gates=[el.gate(shop_checks.titles_differ), el.gate(answers_in_time)]",
)


@pytest.fixture(autouse=True)
def _as_in_new_processes(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "shop_checks.py").write_text(BESIDE)
    yield
    sys.modules.pop("shop_checks", None)
    for name in ("titles_differ", "answers_in_time"):
        CHECKS.pop(name, None)


def test_checks_of_a_loop_file_and_of_a_module_beside_it_decide_and_are_kept(
    ws: Workspace, tmp_path: Path
) -> None:
    trained = shop.train(ws, shop.set_up(ws, tmp_path, text=LOOP))
    assert not trained.passed
    assert trained.gate_report is not None
    report = checks.report(ws, trained.gate_report)
    ours = [one for one in report.results if one.name in ("titles_differ", "answers_in_time")]
    assert [one.verdict for one in ours] == ["passed", "failed"]
    assert ours[0].numbers == {"rows": 0}
    assert ours[0].rule == "A title may stand in at most one test row."
    assert ours[1].found.startswith("only ")
    assert all(gate.source is not None for gate in report.gates)


def test_a_change_in_the_module_beside_is_in_the_plan_and_asks_for_a_new_report(
    ws: Workspace, tmp_path: Path
) -> None:
    trained = shop.train(ws, shop.set_up(ws, tmp_path, text=LOOP))
    assert trained.version is not None
    (tmp_path / "shop_checks.py").write_text(BESIDE.replace("MOST = 1", "MOST = 12345"))
    del sys.modules["shop_checks"]
    changed = loop.load(tmp_path / "shop_loop.py")
    (model,) = [one for one in loop.apply(ws, changed) if one.kind == "model"]
    assert (model.action, model.fields) == ("change", ("gates",))
    missing = [one for one in registry.readiness(ws, trained.version).obstacles if one.kind == "gate_not_run"]
    assert "titles_differ" in missing[0].message


def test_each_code_snapshot_is_loaded_with_its_own_module_beside(tmp_path: Path) -> None:
    sources = []
    for folder, beside in {
        "one": BESIDE,
        "two": BESIDE.replace("MOST = 1", "MOST = 2"),
        "three": BESIDE,
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "shop_checks.py").write_text(beside)
        (tmp_path / folder / "shop_loop.py").write_text(LOOP)
        (model,) = loop.load(tmp_path / folder / "shop_loop.py").declared.of(DeclaredModel)
        sources.append(model.gates[0].source)
    assert sources[0] == sources[2] != sources[1]


def test_a_process_that_reads_versions_runs_no_code_of_the_user(ws: Workspace, tmp_path: Path) -> None:
    trained = shop.train(ws, shop.set_up(ws, tmp_path, text=LOOP))
    code = (
        "import sys, json; from everloop import governance; from everloop.workspace import open_workspace;"
        f"ws = open_workspace({str(ws.home)!r}); card = governance.version_card(ws, {trained.version!r});"
        "found = [one.name for one in card['gate_report'].results];"
        "print(json.dumps([found, [one for one in ('shop_loop', 'shop_checks') if one in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    names, loaded = json.loads(done.stdout)
    assert {"titles_differ", "answers_in_time"} <= set(names)
    assert loaded == []


def test_a_model_is_handed_to_its_checks(ws: Workspace, tmp_path: Path) -> None:
    gates = 'gates=[el.gate("robustness"), el.gate("calibration"), el.gate("fairness", by=["seller"], min_rows=1)]'
    text = shop.LOOP.replace('gates=[el.gate("macro_f1", at_least=0.5)]', gates)
    trained = shop.train(ws, shop.set_up(ws, tmp_path, text=text))
    assert trained.gate_report is not None
    results = checks.report(ws, trained.gate_report).results
    robust, calibrated, fair = (
        one for one in results if one.name in ("robustness", "calibration", "fairness")
    )
    assert robust.numbers["lost_by_case"] == 0.0  # its words are counted in small letters
    assert (robust.numbers["lost_by_typos"] or 0) > 0.01
    assert calibrated.numbers["rows"] == fair.numbers["rows"]
    assert fair.numbers["groups"] == 7


BEHAVES = """import everloop as el


@el.invariance
def shouted(rows: el.Table) -> el.Table:
    titles = [str(title).upper() for title in rows["title"].to_pylist()]
    return rows.set_column(rows.column_names.index("title"), "title", [titles])


@el.direction("down", of="Tea")
def nameless(rows: el.Table) -> el.Table:
    return rows.set_column(rows.column_names.index("title"), "title", [["x"] * rows.num_rows])


@el.feature_test
def two_are_two() -> None:
    assert len([1, 2]) == 2

"""


def test_behaviour_and_feature_tests_are_gates_of_a_trained_version(ws: Workspace, tmp_path: Path) -> None:
    gates = "gates=[el.gate(shouted), el.gate(nameless, at_least=0.1, min_rows=1), el.gate(two_are_two)]"
    text = shop.LOOP.replace("import everloop as el\n", BEHAVES, 1)
    trained = shop.train(
        ws, shop.set_up(ws, tmp_path, text=text.replace('gates=[el.gate("macro_f1", at_least=0.5)]', gates))
    )
    assert trained.gate_report is not None
    results = {one.name: one for one in checks.report(ws, trained.gate_report).results}
    assert (results["shouted"].numbers["value"], results["two_are_two"].verdict) == (1.0, "passed")
    assert (results["nameless"].numbers["value"] or 0) > 0.1
    assert results["nameless"].plot is not None
    for name in ("shouted", "nameless", "two_are_two"):
        CHECKS.pop(name)


def test_golden_predictions_are_made_kept_with_the_code_and_accepted_knowingly(
    ws: Workspace, tmp_path: Path
) -> None:
    trained = shop.train(ws, shop.set_up(ws, tmp_path))
    assert trained.version is not None
    file = tmp_path / "kinds.golden.json"
    assert loop.make_golden(ws, trained.version, file, rows=9) == 9
    assert {one.expected for one in checks.read_golden(file)} <= set(shop.NOUNS)
    text = shop.LOOP.replace(
        'el.gate("macro_f1", at_least=0.5)', 'el.golden("kinds.golden.json", at_most=0.2)'
    )
    (tmp_path / "shop_loop.py").write_text(text)
    loop.apply(ws, loop.load(tmp_path / "shop_loop.py"))
    second = shop.train(ws, loop.loaded(ws))  # from the code that was kept, not from the folder
    assert second.gate_report is not None
    (result,) = [one for one in checks.report(ws, second.gate_report).results if one.name == "golden:kinds"]
    assert (result.verdict, result.numbers["rows"]) == ("passed", 9)
    file.write_text(file.read_text().replace('"expected": "Tea"', '"expected": "Lamps"'))
    wrong = loop.answer_golden(ws, trained.version, file).changed
    assert 0 < len(wrong) < 9
    loop.accept_golden(ws, trained.version, file)
    assert loop.answer_golden(ws, trained.version, file).changed == []
    CHECKS.pop("golden:kinds")


def test_golden_rows_are_part_of_a_runs_own_code(ws: Workspace, tmp_path: Path) -> None:
    trained = shop.train(ws, shop.set_up(ws, tmp_path))
    assert trained.version is not None
    loop.make_golden(ws, trained.version, tmp_path / "kinds.golden.json", rows=9)
    text = shop.LOOP.replace(
        'el.gate("macro_f1", at_least=0.5)', 'el.golden("kinds.golden.json", at_most=0.2)'
    )
    (tmp_path / "shop_loop.py").write_text(text)
    second = shop.train(ws, loop.load(tmp_path / "shop_loop.py"))
    CHECKS.pop("golden:kinds")
    run = pipelines.pipeline_run(ws, second.run)
    again = loop.load(pipelines.entry_file(ws, run))  # what forks, reruns and outside engines do
    assert [one.name for one in again.declared.of(DeclaredModel)] == ["kind"]
    assert pipelines.reproduce(ws, second.run).verdict == "identical"
    CHECKS.pop("golden:kinds")
