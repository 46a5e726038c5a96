from __future__ import annotations

import io
import sys
import time
import tracemalloc
import zipfile
from typing import Any

import pytest
import yaml

from everloop.errors import GateFailed, Invalid
from everloop.serving import Field, Layout, Signature, layout_of, load_files, load_skops, untrusted_types
from everloop.serving.mlmodel import MOST_BYTES

COLUMNS = '[{"type": "string", "name": "title", "required": true}, {"type": "double", "name": "price", "required": false}]'


def described(**changed: Any) -> dict[str, Any]:
    return {
        "flavors": {
            "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.skops"},
            "sklearn": {"pickled_model": "model.skops", "serialization_format": "skops"},
        },
        "signature": {"inputs": COLUMNS, "outputs": '[{"type": "string"}]'},
        **changed,
    }


def layout(
    content: bytes | dict[str, Any], *, files: tuple[str, ...] = ("model.skops", "model.pkl")
) -> Layout:
    text = content if isinstance(content, bytes) else yaml.safe_dump(content).encode()
    return layout_of(["MLmodel", *files], lambda path: text)


def test_a_model_says_its_form_and_its_columns() -> None:
    found = layout(described())
    assert (found.flavor, found.file, found.has_text_output) == ("sklearn", "model.skops", True)
    assert found.inputs == (Field("title", "string"), Field("price", "number", nullable=True))
    assert found.signature(("a", "b"), is_class=True) == Signature(found.inputs, "class", ("a", "b"))


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        (
            '{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}',
            ["x0 number", "x1 number"],
        ),
        (
            '{"type": "tensor", "name": "a", "tensor-spec": {"dtype": "int64", "shape": [-1, 1]}}',
            ["a integer"],
        ),
        ('{"type": "long", "name": "a"}', ["a integer"]),
        ('{"type": "datetime", "name": "a"}', ["a time"]),
        ('{"type": "binary", "name": "a"}', ["a binary"]),
    ],
)
def test_each_kind_of_input_becomes_a_field(spec: str, fields: list[str]) -> None:
    found = layout(described(signature={"inputs": f"[{spec}]"})).inputs
    assert [f"{one.name} {one.type}" for one in found] == fields


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (None, "without a signature"),
        ("[1, 2", "without a signature"),
        ("[" * 100_000, "without a signature"),
        ('[{"type": "double"}]', "input without a name"),
        ('[{"type": "array", "name": "a", "items": {"type": "long"}}]', "'a' is of type 'array'"),
        (
            '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 28, 28]}}]',
            r"the shape \[-1, 28, 28\]",
        ),
        ('[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 999999999]}}]', "the shape"),
        ('[{"type": "tensor", "tensor-spec": {"dtype": "complex64", "shape": [-1, 2]}}]', "complex64"),
        ('[{"type": "long", "name": "a"}, {"type": "long", "name": "a"}]', "two inputs of one name"),
    ],
)
def test_what_cannot_be_asked_row_by_row_is_named(inputs: str | None, problem: str) -> None:
    found = layout(described(signature={"inputs": inputs}))
    with pytest.raises(Invalid, match=rf"{problem}.*Log it with a signature of columns"):
        found.signature(None, is_class=False)


def forms(name: str, **form: Any) -> dict[str, Any]:
    return described(flavors={"python_function": {"loader_module": "os"}, name: form})


@pytest.mark.parametrize(
    "flavors",
    [
        forms("sklearn", pickled_model="model.pkl", serialization_format="cloudpickle"),
        forms("sklearn", pickled_model="../model.skops"),
        forms("sklearn", pickled_model="/etc/passwd.skops"),
        forms("sklearn", pickled_model=["model.skops"]),
        forms("xgboost", data="model.pkl"),
        forms("lightgbm", data="model.pkl"),
        forms("onnx", data="other.onnx"),
        forms("pytorch", data="model.pkl"),
        described(flavors={"python_function": {"loader_module": "evil", "code": "../../code"}}),
    ],
)
def test_whatever_is_no_plain_file_of_the_version_may_only_run_with_trust(flavors: dict[str, Any]) -> None:
    found = layout(flavors)
    assert (found.flavor, found.file) == ("pyfunc", None)
    with pytest.raises(Invalid, match="pyfunc once somebody trusts it"):
        load_files(found, {"model.pkl": b"", "model.skops": b""})


@pytest.mark.parametrize(
    "module", ["os", "subprocess", "everloop.serving.app", "antigravity", "mlflow.pyfunc.model"]
)
def test_no_module_that_a_file_names_is_imported(module: str) -> None:
    before = set(sys.modules)
    layout(described(flavors={"python_function": {"loader_module": module}}))
    assert set(sys.modules) == before


def aliases() -> bytes:
    """Ten lines that stand for a hundred million texts."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (aliases(), "alias"),
        (b"a: !!python/object/apply:os.system ['touch /tmp/never']", "ConstructorError"),
        (b"a" * (MOST_BYTES + 1), "the most is 262,144"),
        (b"[" * 50_000, "cannot be read"),
        (b"{a: " * 50_000, "cannot be read"),
        (b"- " * 100_000, "cannot be read"),
        (b"? " * 100_000, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"a: [", "cannot be read"),
        (b"a: 2026-99-99", "cannot be read"),
    ],
)
def test_a_file_that_is_an_attack_is_refused_quickly(content: bytes, problem: str) -> None:
    tracemalloc.start()
    begun = time.perf_counter()
    with pytest.raises(Invalid, match=problem):
        layout(content)
    assert time.perf_counter() - begun < 10
    assert tracemalloc.get_traced_memory()[1] < 300 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"- a\n- b", b"flavors: []", b"flavors: {}", b"42"])
def test_a_file_that_says_nothing_leaves_the_one_skops_file(content: bytes) -> None:
    assert layout(content).flavor == "sklearn"
    assert layout(content, files=("a.skops", "b.skops")).flavor == "other"
    assert layout(content, files=("model.pkl",)).flavor == "other"


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["schema_json", "zeros_npy"])
def test_an_archive_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(name: str) -> None:
    bomb = archive(**{name: b" " * (300 << 20), "other_npy": b""})
    assert len(bomb) < 1 << 20
    tracemalloc.start()
    with pytest.raises(Invalid, match="unpack to 314,5"):
        untrusted_types(bomb)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_a_schema_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(Invalid, match="no skops file"):
        untrusted_types(archive(schema_json=b'{"a":' * 100_000))


def test_a_skops_file_with_a_pickle_s_tricks_is_not_loaded() -> None:
    """A type that is trusted nowhere, and a function of the standard library under the name of a type."""
    for module, name in (("os", "system"), ("builtins", "eval"), ("subprocess", "Popen")):
        schema = (
            f'{{"__class__": "{name}", "__module__": "{module}", "__loader__": "TypeNode", "__id__": 1, '
            '"protocol": 2, "_skops_version": "0.16.0"}'
        )
        with pytest.raises((GateFailed, Invalid)):
            load_skops(archive(schema_json=schema.encode()))
