"""A model is compared with its plan, and tried, in a process that ends with it and ends no other."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from everloop.errors import Invalid
from everloop.serving import Compiled, Field, compare_plan, tryout
from everloop.serving.tryout import Asked, compared
from everloop.storage import FileBlobs
from tests.serving.home import TITLES, title_model, write_release

NUMBERS = (Field("a", "number"), Field("b", "number", nullable=True))
X = np.random.default_rng(5).normal(size=(200, 2)).astype(object)
Y = np.where(X.sum(axis=1) > 0, "x", "y")


def damaged_tree() -> Any:
    """A tree that points out of its array, as in a damaged file."""
    model = DecisionTreeClassifier(max_depth=1).fit(X, Y)
    state = model.tree_.__getstate__()
    state["nodes"]["left_child"][0] = state["nodes"]["right_child"][0] = 1 << 40
    model.tree_.__setstate__(state)
    return model


def compare(home: Path, model: Any, rows: list[list[Any]] | None = None, **given: Any) -> Compiled:
    manifest = write_release(home, "rel_1", model, **given)
    return compare_plan(manifest, FileBlobs(home / "blobs"), lambda: rows or [])


@pytest.mark.parametrize("is_forked", [True, False])
def test_a_model_that_ends_its_process_is_refused_and_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_forked: bool
) -> None:
    monkeypatch.setattr(tryout, "IS_FORKED", is_forked)
    with pytest.raises(Invalid, match=r"the model of rel_1 ended the process .* by SIGSEGV.*Train it again"):
        compare(tmp_path, damaged_tree(), inputs=NUMBERS, classes=("x", "y"))


def test_the_next_is_compared_in_a_process_of_the_same_template(tmp_path: Path) -> None:
    template = tryout._template()._process
    assert template is not None
    found = compare(tmp_path, title_model(), [[title] for title in TITLES])
    assert (found.is_used, found.reason, found.real_rows) == (True, "", len(TITLES))
    assert tryout._template()._process is template
    assert children_of(template.pid) == []


def test_a_conversion_that_ends_its_process_leaves_the_model_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(asked: Asked) -> tuple[bytes, str]:
        return msgspec.msgpack.encode(next(compared(asked))), "by SIGSEGV"  # it ends over the second answer

    monkeypatch.setattr(tryout, "_apart", told)
    found = compare(tmp_path, KNeighborsClassifier().fit(X, Y), inputs=NUMBERS[:1] * 2, classes=("x", "y"))
    assert not found.is_used
    assert re.fullmatch(
        r"KNeighborsClassifier .*; its conversion to ONNX ended the process .*, by SIGSEGV", found.reason
    )


def test_one_that_hangs_is_ended_and_the_model_answers_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tryout, "_started", {})
    monkeypatch.setattr(tryout, "_WITHIN_S", 0.1)
    forest = RandomForestClassifier(300, max_depth=2).fit(X, Y)  # which alone takes longer to load
    found = compare(tmp_path, forest, inputs=NUMBERS, classes=("x", "y"))
    assert not found.is_used
    assert "it could not be compared: ModelStoppedError: the model did not answer in time" in found.reason
    (template,) = tryout._started.values()
    assert template._process is None
    template.close()


def test_a_template_ends_with_its_parent_and_knows_no_secret(tmp_path: Path) -> None:
    """Killed while a question is answered, a process leaves neither processes nor files."""
    asked = tmp_path / "asked"
    os.mkfifo(asked)  # whoever reads it waits
    program = f"""
from everloop.serving import tryout
template = tryout._template()
print(template._process.pid, template.scratch.parent, flush=True)
template.ask({{"folder": {str(tmp_path)!r}}})
"""
    secret = {"EVERLOOP_DATABASE_URL": "postgresql://me:hush@db/x"}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=secret, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        template, folder = parent.stdout.readline().split()
        with asked.open("wb"):  # once it is read
            (child,) = children_of(int(template))
            both = [int(template), child]
            assert not any("hush" in Path(f"/proc/{pid}/environ").read_text() for pid in both)
            ends = [os.pidfd_open(pid) for pid in both]
            parent.kill()
            for end in ends:
                assert select.select([end], [], [], 10)[0] == [end]
                os.close(end)
    assert not Path(folder).exists()


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
