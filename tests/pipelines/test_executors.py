"""All executors do the same; processes also survive what a step does to its own."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from everloop.errors import Invalid
from everloop.pipelines import Executor, Inline, Processes, executor_named
from everloop.pipelines.executors import Work
from everloop.pipelines.launching import spec_of
from everloop.pipelines.perform import Outcome, Task
from everloop.pipelines.plan import plan_run
from everloop.pipelines.project import project_of
from everloop.pipelines.records import Pinned, Stored
from everloop.pipelines.results import Results
from everloop.pipelines.snapshot import capture, check_out
from everloop.settings import Settings, child_environment, load_settings
from everloop.workspace import Workspace, open_workspace
from tests.pipelines.conftest import UserProject, user_project

LOOP = '''
    import ctypes
    import importlib
    import os
    import resource
    import signal
    import subprocess
    import sys
    import threading
    import time
    from dataclasses import dataclass
    from pathlib import Path

    import numpy
    import pyarrow as pa

    from everloop.errors import Invalid, NotReady
    from everloop.pipelines import Pinned, pipeline, step


    @dataclass(frozen=True)
    class Rows:
        name: str = "rows"

        def pin(self, ws):
            return Pinned("dataset_version", "rows@1")

        def load(self, ws, ref):
            return pa.table({"ref": [ref], "actor": [ws.actor]})


    @step
    def seven() -> int:
        return 7

    @step
    def give_back(value):
        return value

    @step
    def gathered(values, *, named) -> list:
        return [*values, *named.values()]

    @step
    def count(rows: pa.Table) -> dict:
        return rows.to_pylist()[0]

    @step
    def table() -> pa.Table:
        return pa.table({"x": [1, 2, 3]})

    @step
    def nothing() -> None:
        """Returns nothing."""

    @step
    def raises() -> int:
        return 1 // 0

    @step
    def refuses() -> int:
        raise Invalid("the value is odd. Give an even one.")

    @step
    def not_now() -> int:
        raise NotReady("the mirror is down. Try later.")

    @step
    def thing() -> object:
        return object()

    @step
    def leaves() -> int:
        sys.exit(3)

    @step
    def exits() -> int:
        print("about to go", flush=True)
        os._exit(3)

    @step
    def crashes() -> int:
        return ctypes.string_at(0)

    @step
    def is_killed() -> int:
        os.kill(os.getpid(), signal.SIGKILL)

    @step(timeout_s=0.2)
    def hangs() -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(os.environ["NOTE"]).write_text(str(os.getpid()))
        time.sleep(600)

    @step
    def sleeps() -> int:
        Path(os.environ["NOTE"]).write_text(str(os.getpid()))
        time.sleep(600)

    @step
    def starts_others() -> int:
        child = subprocess.Popen(["sleep", "600"])
        Path(os.environ["NOTE"]).write_text(str(child.pid))
        threading.Thread(target=time.sleep, args=(600,)).start()
        return 1

    @step
    def prints() -> int:
        for number in range(60_000):
            print(number, "x" * 60)
        sys.stderr.write("the end")
        return 1

    @step
    def kills_nursery() -> int:
        Path(os.environ["NOTE"]).write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)

    @step
    def imports_by_computed_name() -> int:
        return importlib.import_module("not" + "_captured").value

    @step
    def draws() -> float:
        return float(numpy.random.random())

    @step
    def forks() -> int:
        """The copy comes back too, later, and with something else."""
        if os.fork() == 0:
            time.sleep(0.1)
            return 2
        return 1

    @step
    def forks_and_raises() -> int:
        if os.fork() == 0:
            raise ValueError("in the copy")
        os.wait()
        return 1

    @step
    def raises_in_a_thread() -> int:
        thread = threading.Thread(target=lambda: 1 // 0)
        thread.start()
        thread.join()
        return 1

    @step
    def eats_memory() -> int:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
        end = pages * resource.getpagesize() + (256 << 20)  # as a machine has an end too
        resource.setrlimit(resource.RLIMIT_AS, (end, end))
        eaten = []
        while True:
            eaten.append(bytearray(64 << 20))

    @step
    def holds_itself() -> list:
        values = [1]
        values.append(values)
        return values

    @step
    def half_a_character() -> str:
        return "\\ud800"

    @step
    def generator() -> object:
        return (number for number in range(3))

    @step
    def reads_input() -> str:
        return sys.stdin.read()

    @pipeline
    def train(rows: bool = True):
        seven(), nothing(), raises(), refuses(), not_now(), thing(), leaves(), exits(), crashes(), is_killed()
        hangs(), sleeps(), starts_others(), prints(), reads_input(), kills_nursery(), imports_by_computed_name(), [draws(), draws()]
        forks(), forks_and_raises(), raises_in_a_thread(), eats_memory()
        holds_itself(), half_a_character(), generator()
        count(Rows())
        give_back(table())
        return gathered([seven(), 2], named={"a": seven(), "b": 3})
'''


@dataclass(frozen=True)
class Bench:
    """One executor with a planned run of LOOP."""

    executor: Executor
    work: Work
    note: Path

    def begin(self, node: str, *, inputs: dict[str, Any] | None = None) -> Callable[[], Outcome]:
        kept = {name: self.results.keep(value) for name, value in (inputs or {}).items()}
        step = self.work.plan.by_name[node]
        pins = {"rows": Pinned("dataset_version", "rows@1")}
        task = Task("run_1", node, 1, self.work.plan.params, kept, pins, step.timeout_s, step.described())
        return self.executor.start(self.work, task).result

    def do(self, node: str, **options: Any) -> Outcome:
        return self.begin(node, **options)()

    def value(self, outcome: Outcome) -> Any:
        assert outcome.error is None
        assert outcome.stored is not None
        return self.results.bring(outcome.stored)

    @property
    def results(self) -> Results:
        return Results(self.work.ws.blobs, self.work.scratch)


def work_of(ws: Workspace, project: UserProject) -> Work:
    train = project.load().train
    files = project_of("loop", project.root / "loop.py")
    planned = plan_run(train, {}, files)
    code = check_out(ws, capture(ws, files, "loop").digest)
    scratch = ws.home / "runs" / "run_1"
    scratch.mkdir(parents=True)
    return Work(ws, planned.plan, planned.graph, code, scratch)


@contextmanager
def bench_of(executor: Executor, folder: Path) -> Iterator[Bench]:
    note = folder / "note"
    with user_project(folder) as project, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTE", str(note))
        project.write({"loop": LOOP})
        settings = load_settings(folder / "home", environ={}, actor="tester")
        with open_workspace(settings=settings) as ws:
            yield Bench(executor, work_of(ws, project), note)
            executor.close()


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_of(Inline(), tmp_path_factory.mktemp("inline")) as bench:
        yield bench


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_of(Processes(2, forked=True, grace_s=0.2), tmp_path_factory.mktemp("forked")) as bench:
        yield bench


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_of(executor_named(Settings(), "ray"), tmp_path_factory.mktemp("on_ray")) as bench:
        yield bench


# where Ray is: in the environment that tests/adapters/test_ray.py makes
ON_RAY = ["on_ray"] if importlib.util.find_spec("ray") else []


@pytest.fixture(params=["inline", "forked", *ON_RAY])
def bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["forked", *ON_RAY])
def processes(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(request.param)
    found.note.unlink(missing_ok=True)
    return found


def test_a_result_comes_back(bench: Bench) -> None:
    assert bench.value(bench.do("seven")) == 7
    assert bench.value(bench.do("nothing")) is None


def test_arguments_arrive_where_they_were_bound(bench: Bench) -> None:
    outcome = bench.do("gathered", inputs={"seven-2": 10, "seven-3": 20})
    assert bench.value(outcome) == [10, 2, 20, 3]


def test_tables_pass_through_blobs(bench: Bench) -> None:
    made = bench.do("table")
    assert isinstance(made.stored, Stored)
    assert made.stored.kind == "table"
    given = bench.do("give_back", inputs={"table": bench.value(made)})
    assert given.stored == made.stored


def test_declared_inputs_are_loaded_as_pinned(bench: Bench) -> None:
    assert bench.value(bench.do("count")) == {"ref": "rows@1", "actor": "tester"}


def test_an_error_shows_the_users_lines_and_not_ours(bench: Bench) -> None:
    outcome = bench.do("raises")
    assert outcome.stored is None
    assert outcome.error is not None
    assert outcome.error.endswith("ZeroDivisionError: integer division or modulo by zero")
    assert "return 1 // 0" in outcome.error
    assert "perform.py" not in outcome.error
    assert not outcome.is_final


@pytest.mark.parametrize(
    ("node", "found", "is_final"),
    [
        ("refuses", "the value is odd. Give an even one.", True),
        ("not_now", "the mirror is down. Try later.", False),
        ("thing", "step thing returned what cannot be kept: a builtins.object", True),
        ("generator", "step generator returned what cannot be kept: a builtins.generator", True),
        ("holds_itself", "step holds_itself returned a list that cannot be kept: RecursionError", True),
        ("half_a_character", "step half_a_character returned a str that cannot be kept: Unicode", True),
        ("leaves", "the step called sys.exit(3)", False),
    ],
)
def test_failures_are_told_and_known_to_be_final(bench: Bench, node: str, found: str, is_final: bool) -> None:
    outcome = bench.do(node)
    assert outcome.error is not None
    assert outcome.error.startswith(found)
    assert outcome.is_final is is_final


@pytest.mark.parametrize(
    ("node", "found"),
    [
        ("exits", "exited with code 3 before the step returned"),
        ("exits", "The last it printed:\nabout to go"),
        ("crashes", "died of SIGSEGV"),
        ("crashes", "in crashes"),  # the Python line, from faulthandler
        ("is_killed", "was killed (SIGKILL)"),
    ],
)
def test_a_process_that_dies_is_explained(processes: Bench, node: str, found: str) -> None:
    assert found in (processes.do(node).error or "")
    assert processes.value(processes.do("seven")) == 7


def test_a_step_over_its_time_is_killed_even_when_it_will_not_end(processes: Bench) -> None:
    outcome = processes.do("hangs")
    assert "took longer than its timeout_s=0.2" in (outcome.error or "")
    if processes.note.exists():  # else it was killed while it was still importing
        wait_for_end(int(processes.note.read_text()))


def test_nothing_that_a_step_started_outlives_it(processes: Bench) -> None:
    assert processes.value(processes.do("starts_others")) == 1
    wait_for_end(int(processes.note.read_text()))


def test_what_a_copy_of_the_process_returns_is_nobodys(bench: Bench) -> None:
    assert bench.value(bench.do("forks")) == 1
    assert bench.value(bench.do("forks_and_raises")) == 1
    assert bench.value(bench.do("seven")) == 7


def test_an_error_in_a_thread_is_in_the_log(processes: Bench) -> None:
    outcome = processes.do("raises_in_a_thread")
    assert processes.value(outcome) == 1
    assert "ZeroDivisionError" in Path(outcome.log or "").read_text()


def test_a_step_that_eats_all_memory_fails_alone(processes: Bench) -> None:
    assert "MemoryError" in (processes.do("eats_memory").error or "")
    assert processes.value(processes.do("seven")) == 7


def test_all_that_is_printed_is_in_the_log(processes: Bench) -> None:
    outcome = processes.do("prints")
    assert processes.value(outcome) == 1
    lines = Path(outcome.log or "").read_text().splitlines()
    assert len(lines) == 60_001
    assert lines[-1] == "the end"


def test_a_step_has_an_empty_input(processes: Bench) -> None:
    assert processes.value(processes.do("reads_input")) == ""


def test_stopping_kills_what_runs_and_the_executor_goes_on(processes: Bench) -> None:
    ended = processes.begin("sleeps")
    wait_until(lambda: processes.note.exists() and processes.note.read_text() != "")
    processes.executor.stop()
    assert "SIGKILL" in (ended().error or "")
    wait_for_end(int(processes.note.read_text()))
    assert processes.value(processes.do("seven")) == 7


def test_edits_made_meanwhile_are_not_seen(processes: Bench) -> None:
    place = Path(processes.work.plan.root) / "loop.py"
    text = place.read_text()
    place.write_text(text.replace("return 7", "return 8"))
    try:
        assert processes.value(processes.do("seven")) == 7
    finally:
        place.write_text(text)


def test_what_was_not_captured_is_not_there(processes: Bench) -> None:
    (Path(processes.work.plan.root) / "not_captured.py").write_text("value = 1")
    assert "No module named 'not_captured'" in (processes.do("imports_by_computed_name").error or "")


def test_a_step_dies_with_the_process_it_was_forked_from(processes: Bench) -> None:
    outcome = processes.do("kills_nursery")
    assert "the process that steps are forked from died" in (outcome.error or "")
    wait_for_end(int(processes.note.read_text()))
    assert processes.value(processes.do("seven")) == 7


def test_forked_steps_draw_different_random_numbers(processes: Bench) -> None:
    assert processes.value(processes.do("draws")) != processes.value(processes.do("draws-2"))


def test_a_process_ends_when_nobody_waits_for_it(ws: Workspace, project: UserProject) -> None:
    note = project.root / "note"
    project.write({"loop": LOOP})
    work = work_of(ws, project)
    call = work.plan.by_name["sleeps"].described()
    order = {
        "task": asdict(Task("run_1", "sleeps", 1, {}, {}, {}, None, call)),
        "result": str(work.scratch / "result.json"),
    }
    file = work.scratch / "order.json"
    file.write_text(json.dumps({"order": order, "spec": spec_of(work)}))
    command = [sys.executable, "-P", "-m", "everloop.pipelines.child", str(file)]
    environment = child_environment(ws.settings, NOTE=str(note))
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    ) as process:
        assert process.stdin is not None
        wait_until(note.exists)
        process.stdin.close()
        assert process.wait(timeout=30) == -signal.SIGKILL


def test_two_run_beside_each_other(processes: Bench) -> None:
    ended = [processes.begin(node) for node in ("table", "seven")]
    assert [processes.value(one()) is not None for one in ended] == [True, True]


def test_fresh_processes_do_the_same(tmp_path: Path) -> None:
    executor = Processes(6, forked=False, grace_s=0.2)
    with bench_of(executor, tmp_path) as bench:
        nodes = ("seven", "count", "raises", "exits", "starts_others", "crashes")
        ended = {node: bench.begin(node) for node in nodes}
        outcomes = {node: one() for node, one in ended.items()}
        assert bench.value(outcomes["seven"]) == 7
        assert bench.value(outcomes["count"]) == {"ref": "rows@1", "actor": "tester"}
        assert "ZeroDivisionError" in (outcomes["raises"].error or "")
        assert "exited with code 3" in (outcomes["exits"].error or "")
        assert "in crashes" in (outcomes["crashes"].error or "")
        wait_for_end(int(bench.note.read_text()))
        bench.note.unlink()
        slept = bench.begin("sleeps")
        wait_until(lambda: bench.note.exists() and bench.note.read_text() != "")
        executor.stop()
        assert "SIGKILL" in (slept().error or "")
        assert "took longer than its timeout_s=0.2" in (bench.do("hangs").error or "")


BROKEN = {
    "raises on import": ("1 / 0", "loop cannot be imported: ZeroDivisionError: division by zero"),
    "imports what is not there": (
        "import not_there",
        "module 'not_there', which loop:train needs, is neither",
    ),
    "has another graph": (
        "from everloop.pipelines import pipeline, step\n"
        "@step\ndef other(x: int = 1) -> int:\n    return x\n"
        "@pipeline\ndef train(rows: bool = True):\n    return other(5)\n",
        "has no step 'seven'",
    ),
    "calls with another parameter": (
        "from everloop.pipelines import pipeline, step\n"
        "@step\ndef seven(x: int = 1) -> int:\n    return x\n"
        "@pipeline\ndef train(rows: bool = True):\n    return seven(5)\n",
        "gives another step seven here than when the run was planned",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_code_that_does_not_fit_the_plan_is_told(project: UserProject, ws: Workspace, case: str) -> None:
    project.write({"loop": LOOP})
    work = work_of(ws, project)
    text, found = BROKEN[case]
    assert work.code is not None
    (work.code / "loop.py").write_text(text)
    executor = Processes(1)
    outcome = Bench(executor, work, project.root / "note").do("seven")
    executor.close()
    assert found in (outcome.error or "")
    assert outcome.is_final


def test_an_executor_says_what_it_cannot_run(ws: Workspace, project: UserProject) -> None:
    project.write({"loop": LOOP})
    work = work_of(ws, project)
    without_code = Work(ws, work.plan, work.graph, None, work.scratch)
    with pytest.raises(Invalid, match="cannot be imported by another process"):
        Bench(Processes(1), without_code, project.root).do("seven")
    with pytest.raises(Invalid, match="needs the traced pipeline"):
        Bench(Inline(), Work(ws, work.plan, None, work.code, work.scratch), project.root).do("seven")


def wait_for_end(pid: int) -> None:
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in state_of(pid))


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        os.sched_yield()
