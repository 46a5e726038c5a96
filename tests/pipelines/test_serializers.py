"""Values of a project's own types are kept by the functions that it declares."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import pytest

from everloop.errors import Invalid, StepFailed
from everloop.pipelines import (
    Executor,
    Inline,
    Processes,
    output_of,
    result,
    run_pipeline,
    serializer,
    serializers,
)
from everloop.settings import child_environment
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    from pathlib import Path

    from everloop.pipelines import pipeline, serializer, step

    class Tokens:
        def __init__(self, words): self.words = words

    def write(tokens, folder):
        (folder / "words").mkdir()
        (folder / "words" / "all.txt").write_text("\\n".join(tokens.words))

    def read(folder):
        words = (folder / "words" / "all.txt").read_text().split("\\n")
        if "spoil" in words:  # what is read must not be the kept file itself
            (folder / "words" / "all.txt").write_text("spoilt")
        return Tokens(words)

    serializer(Tokens, write=write, read=read)

    class Lambda:
        def __init__(self, by): self.by = by

    serializer(Lambda, pickle=True)

    class Silent: pass
    serializer(Silent, write=lambda value, folder: None, read=lambda folder: Silent())

    class Broken: pass
    serializer(Broken, write=lambda value, folder: 1 // 0, read=lambda folder: Broken())

    class Unread: pass
    serializer(Unread, write=lambda value, folder: (folder / "x").write_text("x"), read=lambda folder: 1 // 0)

    class Unknown: pass
    class Derived(Tokens): pass

    @step
    def tokens(text: str): return Tokens(text.split())

    @step
    def count(tokens) -> int: return len(tokens.words)

    @step
    def several(text: str): return [Tokens([one]) for one in text.split()]

    @step
    def lambdas(): return Lambda(3)

    @step
    def by(one) -> int: return one.by

    @step
    def make(kind: str): return globals()[kind]() if kind != "Derived" else Derived([])

    @step
    def take(one) -> int: return 1

    @pipeline
    def counts(text: str = "a b c") -> int: return count(tokens(text))

    @pipeline
    def maps() -> list: return count.map(several("a b"))

    @pipeline
    def pickles() -> int: return by(lambdas())

    @pipeline
    def makes(kind: str) -> int: return take(make(kind))
"""


@pytest.fixture(params=["inline", "processes"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return Inline() if request.param == "inline" else Processes()


@pytest.fixture
def loop(project: UserProject) -> Any:
    project.write({"loop": LOOP})
    return project.load()


def test_a_declared_type_goes_from_step_to_step(ws: Workspace, loop: Any, executor: Executor) -> None:
    run = run_pipeline(ws, loop.counts, reason="test", executor=executor)
    assert result(ws, run.id) == 3
    assert output_of(ws, run.id, "tokens").words == ["a", "b", "c"]
    assert run.steps[0].output is not None
    assert run.steps[0].output.kind == "object"
    maps = run_pipeline(ws, loop.maps, reason="test", executor=executor)
    assert result(ws, maps.id) == [1, 1]


def test_equal_values_are_one_result(ws: Workspace, loop: Any) -> None:
    first, second = (
        run_pipeline(ws, loop.counts, params={"text": text}, reason="test", executor=Inline())
        for text in ("a b", "a  b")
    )
    assert [one.state for one in first.steps + second.steps] == ["done", "done", "done", "cached"]


def test_what_a_reader_does_to_its_folder_does_not_touch_the_result(ws: Workspace, loop: Any) -> None:
    run = run_pipeline(ws, loop.counts, params={"text": "spoil"}, reason="test", executor=Inline())
    assert output_of(ws, run.id, "tokens").words == ["spoil"]
    assert output_of(ws, run.id, "tokens").words == ["spoil"]


def test_pickle_is_used_when_it_is_asked_for_and_is_marked(
    ws: Workspace, loop: Any, executor: Executor
) -> None:
    run = run_pipeline(ws, loop.pickles, reason="test", executor=executor)
    assert result(ws, run.id) == 3
    assert run.steps[0].output is not None
    assert run.steps[0].output.kind == "pickle"


def test_a_process_that_did_not_declare_it_reads_nothing_and_unpickles_nothing(
    ws: Workspace, loop: Any
) -> None:
    run = run_pipeline(ws, loop.pickles, reason="test", executor=Inline())
    script = (
        "import sys; from everloop.pipelines import output_of; from everloop.workspace import open_workspace\n"
        f"with open_workspace() as ws: output_of(ws, {run.id!r}, 'lambdas')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=child_environment(ws.settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the result is a loop:Lambda, which is read by a serializer of the project" in done.stderr
    assert "Import loop, or the file that declares it" in done.stderr


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("Unknown", r"a loop.Unknown cannot be kept: .*or declare el.serializer for the type"),
        ("Derived", "a loop.Derived cannot be kept"),
        ("Silent", "the serializer of loop:Silent wrote no file"),
        ("Broken", "the serializer of loop:Broken could not write: ZeroDivisionError"),
        ("Unread", "the serializer of loop:Unread could not read: ZeroDivisionError"),
    ],
)
def test_what_goes_wrong_is_told(ws: Workspace, loop: Any, executor: Executor, kind: str, found: str) -> None:
    with pytest.raises(StepFailed, match=found):
        run_pipeline(ws, loop.makes, params={"kind": kind}, reason="test", executor=executor)


def none_of(_folder: pathlib.Path) -> Any:
    return None


@pytest.mark.parametrize(
    ("kind", "options", "found"),
    [
        (dict, {"pickle": True}, "a class of a project or a library"),
        ("Tokens", {"pickle": True}, "a class of a project or a library"),
        (pathlib.PurePath, {}, "both functions, or pickle=True alone"),
        (pathlib.PurePath, {"read": none_of}, "both functions, or pickle=True alone"),
        (pathlib.PurePath, {"read": none_of, "pickle": True}, "both functions, or pickle=True alone"),
    ],
)
def test_a_declaration_is_whole(kind: Any, options: dict[str, Any], found: str) -> None:
    with pytest.raises(Invalid, match=found):
        serializer(kind, **options)
    assert serializers.serializer_of(pathlib.PurePath()) is None
