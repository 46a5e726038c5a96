"""Models that a real mlflow client logged, registered and served here; and ours, read by that client."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from everloop import registry, rollout, serving
from everloop.errors import Denied, GateFailed, Invalid
from everloop.ledger import Node, entries
from everloop.pipelines.model_files import write_model
from everloop.registry import ModelVersion
from everloop.serving import Predictor
from everloop.settings import load_settings
from everloop.workspace import Workspace, open_workspace
from tests.conftest import START
from tests.flows.running import running
from tests.peer import peer
from tests.pipelines.test_model_files import a_split, known
from tests.registry.versions import check

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CLIENT = Path(__file__).with_name("mlflow_client.py")
SAFE = {
    "forest": "sklearn", "mixed": "sklearn", "tensor": "sklearn", "line": "sklearn",
    "xgb_classifier": "xgboost", "xgb_two": "xgboost", "xgb_booster": "xgboost",
    "lgb_classifier": "lightgbm", "lgb_two": "lightgbm", "lgb_regressor": "lightgbm", "lgb_booster": "lightgbm",
    "onnx": "onnx",
}  # fmt: skip
WITH_CODE = ["cloudpickle", "own_pyfunc", "own_code", "spy"]


@pytest.fixture(scope="module")
def client() -> str:
    """The Python of an environment with mlflow."""
    return str(peer("mlflow_models") / "python")


@pytest.fixture(scope="module")
def logged(client: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each kind, and beside each what mlflow answers."""
    folder = tmp_path_factory.mktemp("logged")
    done = subprocess.run(
        [client, str(CLIENT), "log", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture
def ws(tmp_path: Path, client: str) -> Iterator[Workspace]:
    with _opened(tmp_path / "home", client) as opened:
        yield opened


def _opened(home: Path, client: str) -> Workspace:
    settings = load_settings(home, actor="tester", model_python=client)
    return open_workspace(settings=settings, simulation_from=START, actor="tester")


def register(ws: Workspace, folder: Path, **given: Any) -> ModelVersion:
    """As the registry's routes do for a client: the files alone, and nothing said about them."""
    files = {
        path.relative_to(folder).as_posix(): ws.blobs.put_file(path)
        for path in folder.rglob("*")
        if path.is_file()
    }
    return registry.register(ws, "category", run=None, files=files, signature=None, metrics={}, **given)


def released(ws: Workspace, folder: Path) -> Predictor:
    version = register(ws, folder)
    check(ws, version)
    if folder.name in WITH_CODE:
        registry.trust(ws.acting_as("alice"), version.ref, reason="I read it")
    return load(ws, version)


def load(ws: Workspace, version: ModelVersion) -> Predictor:
    release = registry.release(ws, version.ref)
    manifest = serving.verified_manifest(ws.home / "serving", release.id)
    return Predictor.load(
        manifest, ws.blobs, hidden=ws.home.absolute(), model_python=ws.settings.model_python
    )


def rows_of(logged: Path, name: str) -> tuple[np.ndarray[Any, Any], list[Any]]:
    told = json.loads((logged / f"{name}.json").read_text())
    rows = np.empty((len(told["rows"]), len(told["rows"][0])), dtype=object)
    rows[:] = told["rows"]
    return rows, told["answers"]


@pytest.mark.parametrize("name", [*SAFE, *WITH_CODE[:2], pytest.param("own_code", marks=pytest.mark.long)])
def test_a_model_answers_here_as_in_mlflow(ws: Workspace, logged: Path, name: str) -> None:
    predictor = released(ws, logged / name)
    rows, expected = rows_of(logged, name)
    outputs, scores = predictor.predict(rows)
    predictor.close()
    made = predictor.manifest
    assert made.flavor == SAFE.get(name, "pyfunc")
    assert [one.name for one in made.signature.inputs] in (
        ["title", "price", "kind"],
        ["x0", "x1", "x2", "x3"],
        ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"],
    )
    if made.signature.output == "number":
        assert outputs == pytest.approx(expected, rel=1e-6)
    else:
        assert outputs == [str(one) for one in expected]
        assert made.flavor == "pyfunc" or sum(scores[0].values()) == pytest.approx(1, abs=1e-5)


def test_registering_loads_nothing_of_a_model(ws: Workspace, logged: Path) -> None:
    version = register(ws, logged / "bomb")
    assert (version.flavor, version.signature, version.trusted_types) == ("pyfunc", None, ())
    assert not (logged / "went-off").exists()


@pytest.mark.parametrize("name", [*WITH_CODE, "bomb"])
def test_code_of_its_own_is_not_run_until_somebody_trusts_it(ws: Workspace, logged: Path, name: str) -> None:
    version = register(ws, logged / name)
    check(ws, version)
    with pytest.raises(GateFailed, match=r"code.*everloop models trust category@1"):
        registry.release(ws, version.ref)
    assert not (logged / "went-off").exists()


def test_the_bomb_is_real(logged: Path, client: str) -> None:
    """What the two tests around this one keep from happening."""
    program = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    bomb = str(logged / "bomb" / "python_model.pkl")
    subprocess.run([client, "-c", program, bomb], check=True)
    (logged / "went-off").unlink()


def test_a_trusted_pickle_writes_nothing_outside_its_scratch_folder(ws: Workspace, logged: Path) -> None:
    needs_landlock()
    version = register(ws, logged / "bomb")
    check(ws, version)
    registry.trust(ws.acting_as("alice"), version.ref, reason="I did not look closely")
    with pytest.raises(Invalid, match=r"cannot be loaded in its own process.*PermissionError"):
        registry.release(ws, version.ref)
    assert not (logged / "went-off").exists()


def test_a_trusted_pyfunc_answers_over_http_as_in_mlflow(
    ws: Workspace, logged: Path, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(ws, logged / "own_pyfunc").close()
    rollout.create_endpoint(ws, "category", "category", canary=rollout.canary(100))
    rollout.start(ws, "category", "category@1", reason="a test")
    monkeypatch.setenv("EVERLOOP_MODEL_PYTHON", client)
    rows, expected = rows_of(logged, "own_pyfunc")
    with running(ws.home) as up:
        up.wait_until_ready()
        question = {"inputs": dict(zip(("title", "price", "kind"), rows[3].tolist(), strict=True))}
        address = f"http://127.0.0.1:{up.port}/endpoints/category/predict"
        answer = httpx.post(address, json=question, timeout=60, trust_env=False).json()
    assert (answer["output"], answer["version"]) == (expected[3], 1)


def test_who_trusts_is_kept_signed_and_audited(ws: Workspace, logged: Path) -> None:
    predictor = released(ws, logged / "own_pyfunc")
    predictor.close()
    trust = predictor.manifest.trust
    assert trust is not None
    assert (trust.by, trust.reason) == ("alice", "I read it")
    entry = entries(ws, subject=Node("model_version", "category@1"))[0]
    assert (entry.act, entry.actor, entry.detail["reason"]) == ("registry.trust", "alice", "I read it")


def test_the_author_s_own_trust_does_not_count_where_other_people_are_asked(
    ws: Workspace, logged: Path
) -> None:
    version = register(ws, logged / "own_pyfunc", approval=registry.people(1, not_author=True))
    with pytest.raises(Denied, match="asks for other people's word"):
        registry.trust(ws, version.ref, reason="mine")
    with pytest.raises(Invalid, match="without a reason"):
        registry.trust(ws.acting_as("alice"), version.ref, reason=" ")


@pytest.fixture(scope="module")
def spied(tmp_path_factory: pytest.TempPathFactory, client: str) -> Iterator[Workspace]:
    """The workspace that the spy is after."""
    with _opened(tmp_path_factory.mktemp("spied"), client) as opened:
        yield opened


@pytest.fixture(scope="module")
def spy(spied: Workspace, logged: Path) -> Iterator[Predictor]:
    """A trusted model whose code answers what it can reach, while there are credentials to be had."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERLOOP_DATABASE_URL", "postgresql://everloop:hunter2@db/everloop")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
        with (spied.home / "everloop.db").open("rb") as database, socket.socket() as listening:
            os.set_inheritable(database.fileno(), True)
            listening.set_inheritable(True)
            predictor = released(spied, logged / "spy")
    yield predictor
    predictor.close()


def ask(spy: Predictor, expression: str) -> str:
    rows = np.array([[expression, 1.0, "a"]], dtype=object)
    return str(spy.predict(rows)[0][0])


def test_a_trusted_model_finds_no_credentials_in_its_environment(spy: Predictor) -> None:
    assert ask(spy, "1 + 1") == "2"
    found = ask(spy, "dict(__import__('os').environ)")
    assert "HOME" in found
    assert not any(secret in found for secret in ("hunter2", "EVERLOOP", "AWS", "DATABASE"))


def test_a_trusted_model_inherits_no_open_file(spied: Workspace, spy: Predictor) -> None:
    links = "[__import__('os').readlink('/proc/self/fd/' + n) for n in __import__('os').listdir('/proc/self/fd')[:-1]]"
    found = ask(spy, links)
    assert "pipe:" in found
    assert str(spied.home) not in found
    assert "socket:" not in found


def test_a_trusted_model_reads_nothing_of_ours(spied: Workspace, spy: Predictor) -> None:
    needs_landlock()
    for path in (spied.home / "everloop.db", spied.home / "keys" / "model-signing.key", Path("/etc/passwd")):
        assert path.exists()
        assert ask(spy, f"open({str(path)!r}, 'rb').read()").startswith("PermissionError")
        assert "Permission denied" in ask(
            spy,
            f"__import__('subprocess').run(['cat', {str(path)!r}], capture_output=True, text=True).stderr",
        )
    parent = "'/proc/%d/environ' % __import__('os').getppid()"
    assert ask(spy, f"open({parent}, 'rb').read()").startswith("PermissionError")


def test_a_trusted_model_connects_to_nobody(spy: Predictor) -> None:
    needs_landlock(version=4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        found = ask(spy, f"__import__('socket').create_connection({address!r}, 2)")
    assert found.startswith("PermissionError")


def test_a_trusted_model_kills_nobody_outside(spy: Predictor) -> None:
    needs_landlock(version=6)
    assert ask(spy, "__import__('os').kill(__import__('os').getppid(), 0)").startswith("PermissionError")


def test_a_model_that_ends_its_process_fails_its_row_and_is_started_again(spy: Predictor) -> None:
    answers = spy.answer([["__import__('os')._exit(1)", 1.0, "a"]])
    assert isinstance(answers[0], serving.Failure)
    assert "the model's process ended" in answers[0].text
    assert ask(spy, "1 + 1") == "2"


def test_a_trusted_model_that_leaks_is_stopped_at_its_limit_and_started_again(
    spied: Workspace, spy: Predictor
) -> None:
    """100 MB a request: mlflow and pandas alone take up to 500."""
    limits = serving.Limits(memory_mb=1_000)
    with closing(
        Predictor.load(
            spy.manifest,
            spied.blobs,
            hidden=spied.home.absolute(),
            model_python=spied.settings.model_python,
            limits=limits,
        )
    ) as leaky:
        leak = "globals().setdefault('kept', []).append(bytearray(100_000_000)) or len(kept)"
        answers = [leaky.answer([[leak, 1.0, "a"]])[0] for _ in range(11)]
        end = next(number for number, one in enumerate(answers) if isinstance(one, serving.Failure))
        stopped = answers[end]
        assert isinstance(stopped, serving.Failure)
        assert stopped.code == "model_stopped"
        assert stopped.text == "MemoryError. Its limit is memory_mb=1000. It is started again"
        assert ask(leaky, "1 + 1") == "2"


def test_what_a_model_prints_is_no_answer(spy: Predictor) -> None:
    assert ask(spy, "print('{}' * 1000) or __import__('os').system('echo loud') or 'quiet'") == "quiet"


@pytest.mark.parametrize("name", ["logistic", "forest", "boosting"])
def test_mlflow_reads_our_models_and_answers_the_same(tmp_path: Path, client: str, name: str) -> None:
    model, data = known(name), a_split()
    folder, rows = tmp_path / "model", tmp_path / "rows.json"
    folder.mkdir()
    write_model(model, folder)
    table = data.test.select(list(data.columns))
    rows.write_text(
        json.dumps({"columns": table.column_names, "data": [list(row.values()) for row in table.to_pylist()]})
    )
    done = subprocess.run(
        [client, str(CLIENT), "read", str(folder), str(rows)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["pyfunc"] == told["sklearn"] == model.evaluation["predicted"].to_pylist()
    assert told["inputs"] == ["title", "price", "sold", "volume"]
    assert told["example"][0] in model.signature.classes  # type: ignore[operator]  # a classifier has classes


def needs_landlock(*, version: int = 1) -> None:
    found = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) if sys.platform == "linux" else -1
    if found < version:
        pytest.skip(f"this kernel has no Landlock of version {version}")
