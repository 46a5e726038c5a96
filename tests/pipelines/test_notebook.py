"""Pipelines in a notebook: code from its cells, progress and results that render. A real kernel runs the slow ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from everloop.errors import NotReady, StepFailed
from everloop.pipelines import Inline, Progress, pipeline, pipeline_run, run_pipeline, step, why
from everloop.pipelines.notebook import Board
from everloop.pipelines.time_limit import limited
from everloop.settings import child_environment
from everloop.tracking import build_locked
from everloop.workspace import Workspace
from tests.docs.page_runner import matches
from tests.pipelines.conftest import UserProject

Run = Callable[..., list[str]]

# What a kernel does with a cell: it is kept where Python looks for source, and run in the main module.
CELLS = """
import __main__, ast, json, linecache, sys
for number, cell in enumerate(json.load(sys.stdin)):
    name = f"<ipython-input-{number}>"
    linecache.cache[name] = len(cell), None, cell.splitlines(True), name
    tree = ast.parse(cell, name)
    exec(compile(tree, name, "exec"), vars(__main__))
"""
OPEN = """
from everloop.pipelines import Inline, pipeline, run_pipeline, step, why
from everloop.workspace import open_workspace
ws = open_workspace()
def ran(body, **options):
    run = run_pipeline(ws, body, reason="try", **options)
    print("states", run.id, {one.node: one.state for one in run.steps})
    return run
"""
HELPER = "def scaled(x):\n    return x * SCALE['by']\n"
SCALE = "SCALE = {'by': 2}"
STEPS = """
@step
def first(value: int) -> int:
    return scaled(value)

@step
def second(value: int) -> int:
    return value + 1

@pipeline
def train(value: int = 3) -> int:
    return second(first(value))
"""
RUN = "run = ran(train)"


@pytest.fixture
def cells(ws: Workspace, tmp_path: Path, project: UserProject) -> Run:
    def run(*cells: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", CELLS],
            input=json.dumps([OPEN, *cells]),
            cwd=project.root,
            env=child_environment(ws.settings, PYTHONPATH=str(project.root)),
            capture_output=True,
            text=True,
            check=False,
        )
        return [*done.stdout.splitlines(), *done.stderr.splitlines()]

    return run


def states(lines: Sequence[str]) -> list[str]:
    return [" ".join(re.findall(r"'(\w+)'[,}]", line)) for line in lines if line.startswith("states")]


def test_steps_in_cells_are_cached_by_their_source(cells: Run) -> None:
    assert states(cells(HELPER, SCALE, STEPS, RUN, RUN)) == ["done done", "cached cached"]
    assert states(cells("# another day", SCALE, HELPER, STEPS, RUN)) == ["cached cached"]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (HELPER.replace("*", "+"), "first ran: source __main__:scaled was rewritten."),
        ("SCALE = {'by': 3}", "first ran: source __main__:SCALE went from {'by': 2} to {'by': 3}."),
        (
            STEPS.replace("scaled(value)", "scaled(value) - 1"),
            "first ran: source __main__:first was rewritten.",
        ),
    ],
)
def test_what_another_cell_defines_anew_is_seen_and_told(cells: Run, cell: str, said: str) -> None:
    lines = cells(HELPER, SCALE, STEPS, RUN, cell, RUN, "print(why(ws, run.id, 'first').sentence)")
    assert states(lines) == ["done done", "done done"]
    assert said in lines


def test_classes_and_the_project_s_files_count_too(cells: Run, project: UserProject) -> None:
    project.write({"lib": "def inner(x):\n    return x + 1\n\ndef clean(x):\n    return inner(x)\n"})
    steps = """
import lib
from lib import clean

class Words:
    def __init__(self, text): self.text = text
    def count(self): return len(self.text.split()) + OFFSET

@step
def counted(text: str) -> int:
    return Words(text).count() + clean(1)

@pipeline
def counts() -> int:
    return counted("a b")
"""
    run = "run = ran(counts)"
    assert states(cells("OFFSET = 0", steps, run, run)) == ["done", "cached"]
    assert states(cells("OFFSET = 1", steps, run)) == ["done"]
    assert states(cells("OFFSET = 1", steps.replace("split()", "split(' ')"), run)) == ["done"]
    project.edit("lib", "x + 1", "x + 2")
    lines = cells(
        "OFFSET = 1",
        steps.replace("split()", "split(' ')"),
        run,
        "print(why(ws, run.id, 'counted').sentence)",
    )
    assert states(lines) == ["done"]
    assert "counted ran: source lib:inner was rewritten." in lines


def test_a_value_whose_changes_cannot_be_seen_is_refused_unless_nothing_is_cached(cells: Run) -> None:
    body = "@step{}\ndef rows() -> int:\n    return table.num_rows\n\n@pipeline\ndef counts() -> int:\n    return rows()\n"
    given = "import pyarrow as pa\ntable = pa.table({'x': [1]})"
    lines = cells(given, body.format(""), "ran(counts)")
    assert "step rows uses the notebook's variable table, a Table, whose changes cannot be seen" in lines[-1]
    assert "Make it in a step and pass its result, or declare the step with cache=False." in lines[-1]
    assert states(cells(given, body.format("(cache=False)"), "ran(counts)")) == ["done"]


def test_the_cells_are_kept_with_the_run(cells: Run) -> None:
    lines = cells(
        "print('not part of it')",
        HELPER,
        SCALE,
        STEPS,
        RUN,
        "from everloop import tracking\nprint(tracking.read_artifact(ws, run.id, 'code/cells.py').decode())",
    )
    assert lines.count("# %%") == 2
    assert "def scaled(x):" in lines
    assert "def train(value: int = 3) -> int:" in lines


def test_a_step_in_a_cell_is_interrupted_at_its_time_limit(cells: Run) -> None:
    slow = """
import time
@step(timeout_s=0.2)
def slow() -> None:
    try:
        time.sleep(60)
    except Exception:
        pass

@pipeline
def waits() -> None:
    return slow()
"""
    lines = cells(slow, "ran(waits)")
    assert any("the step took longer than its timeout_s=0.2 and was interrupted" in line for line in lines)


def test_a_time_limit_in_this_process_leaves_another_s_alarm_alone(ws: Workspace) -> None:
    @step(timeout_s=0.05)
    def endless() -> None:
        while True:
            time.sleep(0.001)

    @pipeline
    def waits() -> None:
        return endless()

    with pytest.raises(StepFailed, match="was interrupted"), limited(60):
        run_pipeline(ws, waits, reason="test", executor=Inline())


def test_outside_the_main_thread_there_is_no_limit() -> None:
    def work() -> None:
        with limited(0.000_1):
            time.sleep(0.01)
            done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


class Shown:
    """Stands where IPython's display stands, and keeps what a browser would be sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def __call__(self, board: Any, *, display_id: bool) -> Shown:
        assert display_id
        self.update(board)
        return self

    def update(self, board: Any) -> None:
        self.sent.append(board._repr_html_())


def test_progress_is_one_output_that_is_written_over_and_escaped(ws: Workspace) -> None:
    @step
    def give(value: Any) -> Any:
        return value

    @step
    def refuse(value: Any, why: str) -> Any:
        raise ValueError("<script>alert(1)</script>")

    @pipeline
    def body() -> Any:
        done = give.map(["<i>x</i>", 2, 3])
        return give([done, refuse(done, "<b>no</b>")])

    shown = Shown()
    board = Board(shown)
    with pytest.raises(StepFailed):
        run_pipeline(ws, body, reason="<u>why</u>", executor=Inline(), on_progress=board)
    last = shown.sent[-1]
    assert "3 calls" in last
    assert "&lt;b&gt;no&lt;/b&gt;" in last
    assert "ValueError: &lt;script&gt;alert(1)" in last
    assert not re.search(r"<(script|i>|b>no|u>)", last)
    assert "✗ failed" in last
    assert "failed" in repr(board)


def test_a_fast_run_sends_little(ws: Workspace) -> None:
    shown = Shown()
    board = Board(shown)
    for number in range(1_000):
        board(Progress("step_done", "run_1", f"fit[{number}]", f"fit[{number}]", number, 1_000, 0.001))
    board(Progress("run_ended", "run_1", "", "train", 1_000, 1_000, 1.0))
    assert len(shown.sent) < 20
    assert "1,000 calls" in shown.sent[-1]


def test_runs_and_reasons_render_without_colours_of_their_own(ws: Workspace) -> None:
    @step
    def give(value: str) -> str:
        return value

    @pipeline
    def body() -> str:
        return give("<i>")

    run = run_pipeline(ws, body, reason="<u>", executor=Inline())
    html = run._repr_html_()
    assert "&lt;u&gt;" in html
    assert "✓ done" in html
    assert re.findall(r"(?<![-\w])(?:color|background):([^;\"]+)", html) == ["inherit", "transparent"] * 2 + [
        "transparent"
    ]
    assert "no earlier run" in why(ws, run.id, "give")._repr_html_()


def test_the_how_to_page_does_what_it_says(cells: Run) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "train-in-a-notebook.md"
    blocks = re.findall(r"^```(python|text)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    said = cells(*(text for kind, text in blocks if kind == "python"))
    shown = "".join(text for kind, text in blocks if kind == "text")
    assert matches("\n".join(said) + "\n", shown), said


@pytest.fixture(scope="session")
def kernel_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with a real kernel beside everloop, which itself does without."""
    folder = tmp_path_factory.mktemp("notebook")
    lock = Path(__file__).with_name("notebook-lock.txt")
    try:
        return build_locked(lock.name, lock.read_bytes(), folder / "environment", log=folder / "log")
    except NotReady as error:
        pytest.skip(f"a kernel cannot be had here: {error}")


EXECUTE = """
import json, sys, nbformat
from nbclient import NotebookClient
told = json.load(sys.stdin)
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in told])
NotebookClient(book, timeout=120, kernel_name="python3", allow_errors=True).execute()
json.dump([cell.outputs for cell in book.cells], sys.stdout)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_kernel_runs_redefines_explains_and_renders(
    ws: Workspace, kernel_python: str, tmp_path: Path
) -> None:
    book = [
        OPEN,
        HELPER,
        SCALE,
        STEPS,
        RUN,
        "run",
        RUN,
        HELPER.replace("*", "+"),
        RUN,
        "why(ws, run.id, 'first')",
    ]
    slow = "import time\n@step(timeout_s=0.2)\ndef slow() -> None:\n    time.sleep(60)\n\n@pipeline\ndef waits() -> None:\n    return slow()\nran(waits)"
    done = subprocess.run(
        [kernel_python, "-c", EXECUTE],
        input=json.dumps([*book, slow]),
        cwd=tmp_path,
        env=child_environment(ws.settings, PYTHONPATH="", IPYTHONDIR=str(tmp_path / "ipython")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outputs = json.loads(done.stdout)
    printed = ["".join(one.get("text", "") for one in cell) for cell in outputs]
    assert states([printed[4].strip(), printed[6].strip(), printed[8].strip()]) == [
        "done done",
        "cached cached",
        "done done",
    ]
    boards = [one for one in outputs[4] if one["output_type"] == "display_data"]
    assert len(boards) == 1
    assert "train 2 of 2" in boards[0]["data"]["text/html"]
    assert "run_" in boards[0]["data"]["text/plain"]
    assert "✓ done" in outputs[5][0]["data"]["text/html"]
    assert "source __main__:scaled was rewritten" in outputs[9][0]["data"]["text/html"]
    assert "was interrupted" in json.dumps(outputs[10])
    run = pipeline_run(ws, printed[4].split()[1])
    assert (run.state, run.code) == ("done", None)
