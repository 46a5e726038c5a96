"""What counts as a step's code: all that it reaches in the project, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from everloop.errors import Conflict, Invalid
from everloop.pipelines import step
from everloop.pipelines.fingerprint import StepSource, source_of
from everloop.pipelines.project import file_of, project_of
from tests.pipelines.conftest import UserProject

LOOP = '''
    import os
    from typing import TYPE_CHECKING

    import everloop.pipelines as el
    import lib.numbers
    from lib import text as words
    from lib.shapes import Square
    from lib.everything import *

    if TYPE_CHECKING:
        from lib.types_only import Unseen

    LIMIT = 3
    WORKERS = int(os.environ.get("WORKERS", "1"))
    TABLE = {"a": 1}
    TABLE["b"] = 2
    UNUSED = "x"
    model = "what a step calls model is its own variable"


    def helper(value):
        """Helps."""
        return deeper(value) + LIMIT


    def deeper(value):
        return value * WORKERS


    def unused():
        return UNUSED


    @el.step(retries=1)
    def fit(rows: int, c: float = 1.0) -> int:
        """Fits."""
        from lib import late

        # a comment
        model = helper(rows) + TABLE["a"]
        return words.clean(model) + lib.numbers.add(1, 2) + Square(2).area() + late.value() + starred()


    @el.pipeline
    def train() -> int:
        return fit(1)
'''

FILES = {
    "lib/numbers": """
        def add(a, b):
            return a + b

        def other():
            return 0
    """,
    "lib/text": """
        import re

        PATTERN = re.compile("a")

        def clean(value):
            return PATTERN.sub("b", str(value))

        def other():
            return 0
    """,
    "regular": """
        from re import compile as made

        def compile(pattern):
            return made(pattern)
    """,
    "lib/shapes": """
        from .base import Shape

        class Square(Shape):
            def area(self):
                return self.side ** 2
    """,
    "lib/base": """
        class Shape:
            def __init__(self, side):
                self.side = side
    """,
    "lib/late": """
        def value():
            return 4
    """,
    "lib/everything": """
        def starred():
            return 5
    """,
    "lib/types_only": "Unseen = int",
}


@pytest.fixture(params=["package", "folder"])
def loop(project: UserProject, request: pytest.FixtureRequest) -> UserProject:
    project.write({"loop": LOOP, **FILES})
    if request.param == "package":
        project.write({"lib/__init__": ""})
    return project


def fingerprint(project: UserProject, function: str = "fit") -> StepSource:
    made = getattr(project.load(), function)
    file = file_of(made.function)
    assert file is not None
    return source_of(made, project_of("loop", file))


def test_the_same_code_has_the_same_digest(loop: UserProject) -> None:
    assert fingerprint(loop) == fingerprint(loop)


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("loop", '+ TABLE["a"]', '- TABLE["a"]'),
        ("loop", "deeper(value) + LIMIT", "deeper(value) - LIMIT"),
        ("loop", "value * WORKERS", "value // WORKERS"),
        ("loop", "LIMIT = 3", "LIMIT = 4"),
        ("loop", '"WORKERS", "1"', '"WORKERS", "2"'),
        ("loop", 'TABLE["b"] = 2', 'TABLE["b"] = 3'),
        ("loop", "c: float = 1.0", "c: float = 2.0"),
        ("lib/numbers", "a + b", "a - b"),
        ("lib/text", 're.compile("a")', 're.compile("c")'),
        ("lib/text", "import re", "import regular as re"),
        ("lib/shapes", "** 2", "** 3"),
        ("lib/base", "= side", "= side + 1"),
        ("lib/late", "return 4", "return 5"),
        ("lib/everything", "return 5", "return 6"),
    ],
)
def test_what_a_step_reaches_counts(loop: UserProject, file: str, before: str, after: str) -> None:
    earlier = fingerprint(loop)
    loop.edit(file, before, after)
    assert fingerprint(loop).digest != earlier.digest


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("loop", '"""Fits."""', '"""Fits well."""'),
        ("loop", '"""Helps."""\n', "\n"),
        ("loop", "# a comment", "# another\n\n"),
        ("loop", 'TABLE["a"]', "TABLE[\n            'a'\n        ]"),
        ("loop", "@el.step(retries=1)", "@el.step(retries=2, timeout_s=5)"),
        ("loop", 'UNUSED = "x"', 'UNUSED = "y"'),
        ("loop", "return UNUSED", "return UNUSED * 2"),
        ("loop", "return fit(1)", "return fit(2)"),
        ("loop", 'model = "what', 'model = "something else that'),
        ("lib/numbers", "return 0", "return 1"),
        ("lib/text", "return 0", "return 1"),
        ("lib/types_only", "int", "str"),
    ],
)
def test_what_it_does_not_reach_does_not(loop: UserProject, file: str, before: str, after: str) -> None:
    earlier = fingerprint(loop)
    loop.edit(file, before, after)
    assert fingerprint(loop) == earlier


def test_a_value_computed_at_import_counts(loop: UserProject, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = fingerprint(loop)
    monkeypatch.setenv("WORKERS", "8")
    later = fingerprint(loop)
    assert later.digest != earlier.digest
    assert later.parts["loop:WORKERS ="] == "8"
    assert {key for key in later.parts if later.parts[key] != earlier.parts[key]} == {"loop:WORKERS ="}


def test_parts_name_what_counts(loop: UserProject) -> None:
    parts = fingerprint(loop).parts
    assert {
        "loop:fit",
        "loop:helper",
        "loop:deeper",
        "lib.text:clean",
        "lib.base:Shape",
    } <= set(parts)
    assert not {key for key in parts if "other" in key or "unused" in key or "train" in key}


def test_code_changed_after_its_import_is_refused(loop: UserProject) -> None:
    module = loop.load()
    loop.edit("lib/numbers", "a + b", "a * b")
    file = file_of(module.fit.function)
    assert file is not None
    with pytest.raises(Conflict, match=r"lib/numbers.py was changed after .* add in memory"):
        source_of(module.fit, project_of("loop", file))


def test_code_that_only_moved_in_its_file_is_the_same(loop: UserProject) -> None:
    module = loop.load()
    earlier = fingerprint(loop)
    module = loop.load()
    loop.edit("loop", "LIMIT = 3", "# one more line\nLIMIT = 3")
    file = file_of(module.fit.function)
    assert file is not None
    assert source_of(module.fit, project_of("loop", file)) == earlier


def test_a_file_that_is_no_python_says_where(loop: UserProject) -> None:
    module = loop.load()
    loop.edit("loop", "LIMIT = 3", "LIMIT = = 3")
    file = file_of(module.fit.function)
    assert file is not None
    with pytest.raises(Invalid, match=r"loop.py, line 14, is not valid Python"):
        source_of(module.fit, project_of("loop", file))


def _made(offset: Any) -> Any:
    def inner(value: int) -> int:
        return value + int(offset)

    def make(value: int) -> int:
        return inner(value) + local_limit()

    return step(make)


def local_limit() -> int:
    return 1


def test_a_step_made_inside_a_function_counts_what_it_closes_over() -> None:
    assert source_of(_made(1), None) == source_of(_made(1), None)
    assert source_of(_made(1), None).digest != source_of(_made(2), None).digest
    assert any("local_limit" in key for key in source_of(_made(1), None).parts)


def test_what_cannot_be_watched_is_refused_in_such_a_step() -> None:
    with pytest.raises(Invalid, match="uses offset from there, a list, whose changes cannot be seen"):
        source_of(_made([1]), None)


def test_a_folder_may_be_closed_over(tmp_path: Path) -> None:
    def make(place: Path) -> Callable[[], str]:
        return step(lambda: str(place))

    one, other = (source_of(make(tmp_path / name), None) for name in ("a", "b"))  # type: ignore[arg-type]  # steps
    assert one.digest != other.digest
