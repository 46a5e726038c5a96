"""The prediction path against a hand-written FastAPI server that does the same work.

Both serve one model in one process: parse and check the request, predict the class and the three best scores, log the
prediction with write(2) before the answer. The peer asks scikit-learn; everloop does too, or answers by the compiled plan
that was verified against it. They run in turns, so that what else the machine does hits all: the ratios mean more than the
figures. The model is a TF-IDF + logistic regression over a title, or, with --table, a HistGradientBoosting over
numbers and categories: whether somebody earns over 50,000 dollars.

    python benchmarks/serving/prediction_path.py --titles ../shared/data/marketplace/seed_labelled.parquet
    python benchmarks/serving/prediction_path.py --table ../shared/data/adult/train.parquet

The peer gets an environment of its own in --peer-env, made on the first run (that needs a package index).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from everloop import serving
from everloop.clock import wall
from everloop.serving import Field, Manifest, Route, RouteTable, Signature, Variant
from everloop.settings import child_environment, load_settings
from everloop.storage import FileBlobs

HERE = Path(__file__).resolve().parent
PATH = "/endpoints/category/predict"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SERVE = (
    "import sys; from everloop.serving import run; from everloop.settings import load_settings\n"
    "run(load_settings(sys.argv[1], log_fsync=sys.argv[3] == 'power-safe', compiled_models=sys.argv[3] != 'original'), port=int(sys.argv[2]))"
)


@dataclass(frozen=True)
class Measured:
    requests_per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Task:
    """A model, what it takes, and the rows it learnt from."""

    fields: tuple[Field, ...]
    rows: NDArray[np.object_]
    model: Any


@dataclass(frozen=True)
class Server:
    name: str
    process: subprocess.Popen[bytes]
    port: int


def main() -> None:
    options = _options()
    task = _census(options.table) if options.table else _listings(options.titles)
    names = [field.name for field in task.fields]
    bodies = b"\n".join(
        msgspec.json.encode({"inputs": dict(zip(names, row, strict=True)), "key": str(number)})
        for number, row in enumerate(task.rows[:2000].tolist())
    )
    with tempfile.TemporaryDirectory() as folder:
        model = _release(Path(folder), task)
        python = _peer_environment(options.peer_env)
        kinds = {field.name: (field.type, field.nullable) for field in task.fields}
        ours = [sys.executable, "-c", SERVE, folder, "PORT"]
        with (
            _started("everloop, compiled", [*ours, "compiled"], folder, bodies) as compiled,
            _started("everloop, unmodified", [*ours, "original"], folder, bodies) as original,
            _started("everloop, compiled, power-safe", [*ours, "power-safe"], folder, bodies) as safe,
            _started(
                "FastAPI",
                [
                    python,
                    str(HERE / "fastapi_peer.py"),
                    model,
                    f"{folder}/peer.log",
                    "PORT",
                    json.dumps(kinds),
                ],
                folder,
                bodies,
            ) as peer,
        ):
            servers = [compiled, original, safe, peer]
            _show(options, _measure(servers, bodies, options))
            print(
                "resident MB: "
                + ", ".join(f"{one.name} {_resident_mb(one.process.pid):.0f}" for one in servers)
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--titles", type=Path, help="Parquet file with columns title and category")
    model.add_argument("--table", type=Path, help="Parquet file of the Adult census data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--peer-env", type=Path, default=Path(tempfile.gettempdir()) / "everloop-peer")
    return parser.parse_args()


def _listings(path: Path) -> Task:
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    table = pq.read_table(path, columns=["title", "category"]).drop_null()
    rows = np.array(table["title"].to_pylist(), dtype=object).reshape(-1, 1)
    model = make_pipeline(ColumnTransformer([("title", TfidfVectorizer(), 0)]), LogisticRegression(C=10))
    return Task((Field("title", "string"),), rows, model.fit(rows, table["category"].to_pylist()))


def _census(path: Path) -> Task:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    table = pq.read_table(path).drop_columns(["person_id", "final_weight"])
    labels = ["over" if one else "under" for one in table["income_over_50k"].to_pylist()]
    table = table.drop_columns(["income_over_50k"])
    rows = np.empty(table.shape, dtype=object)
    for position, column in enumerate(table.columns):
        rows[:, position] = column.to_pylist()
    is_text = [not pa.types.is_integer(one.type) for one in table.schema]
    fields = tuple(
        Field(one.name, "string" if text else "integer", nullable=True)
        for one, text in zip(table.schema, is_text, strict=True)
    )
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer(
        [
            ("numbers", "passthrough", [place for place, text in enumerate(is_text) if not text]),
            ("words", encoder, [place for place, text in enumerate(is_text) if text]),
        ]
    )
    return Task(fields, rows, make_pipeline(columns, HistGradientBoostingClassifier()).fit(rows, labels))


def _release(home: Path, task: Task) -> str:
    """The trained model, released and live in `home`; returns its file for the peer."""
    import skops.io

    content = skops.io.dumps(task.model)
    (home / "model.skops").write_bytes(content)
    blobs = FileBlobs(home / "blobs")
    digest = blobs.put(content)
    signature = Signature(task.fields, "class", tuple(str(name) for name in task.model.classes_))
    manifest = Manifest(
        "rel_1",
        "category",
        1,
        digest,
        {"model.skops": digest},
        signature,
        wall(),
        trusted_types=tuple(serving.untrusted_types(content)),
    )
    compiled = serving.compare_plan(manifest, blobs, task.rows.tolist)
    print(f"compared: {compiled}")
    assert compiled.is_used, compiled.reason
    serving.write_manifest(home / "serving", msgspec.structs.replace(manifest, compiled=compiled))
    route = Route("category", "salt", (Variant("control", "rel_1", 100.0),))
    serving.write_routes(home / "serving", RouteTable(1, {"category": route}))
    return str(home / "model.skops")


def _peer_environment(place: Path) -> str:
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
        same = [
            f"{name}=={version(name)}"
            for name in ("scikit-learn", "skops", "numpy", "uvicorn", "uvloop", "httptools")
        ]
        subprocess.run([python, "-m", "pip", "install", "--quiet", "fastapi", *same], check=True)
    return str(python)


@contextmanager
def _started(name: str, command: list[str], home: str, bodies: bytes) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # one thread in numeric libraries for both: a row is too small for more
    environment = child_environment(load_settings(home), OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    process = subprocess.Popen([str(port) if word == "PORT" else word for word in command], env=environment)
    try:
        _wait_until_ready(process, port, bodies.split(b"\n", 1)[0])
        yield Server(name, process, port)
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    while process.poll() is None:
        try:
            answer = httpx.post(f"http://127.0.0.1:{port}{PATH}", content=body, headers=headers)
            if answer.status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("a server did not start")


def _measure(
    servers: list[Server], bodies: bytes, options: argparse.Namespace
) -> dict[tuple[str, int], list[Measured]]:
    found: dict[tuple[str, int], list[Measured]] = {}
    for number in range(options.rounds + 1):
        for connections in (32, 1):
            for server in servers:
                measured = _one(server, bodies, connections, options.seconds if number else 1.0)
                if number:  # the first round warms up
                    found.setdefault((server.name, connections), []).append(measured)
    return found


def _one(server: Server, bodies: bytes, connections: int, seconds: float) -> Measured:
    before = _cpu_s(server.process.pid)
    command = [sys.executable, str(HERE / "load.py"), str(server.port), PATH, str(connections), str(seconds)]
    done = subprocess.run(command, input=bodies, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["failed"] == 0, f"{server.name}: {result['failed']} answers were not 200"
    cpu_us = (_cpu_s(server.process.pid) - before) * 1e6 / result["requests"]
    return Measured(result["requests"] / result["seconds"], cpu_us, result["p50_ms"], result["p99_ms"])


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _cpu_s(pid: int) -> float:
    """User and system time of a process and its threads."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS_PER_S


def _show(options: argparse.Namespace, found: dict[tuple[str, int], list[Measured]]) -> None:
    rounds = f"median of {options.rounds} rounds of {options.seconds:g} s"
    print(
        f"\n{rounds}, {os.cpu_count()} cores, Python {sys.version.split()[0]}, scikit-learn {version('scikit-learn')}\n"
    )
    print("| server | connections | requests/s | CPU us a request | p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|")
    for (name, connections), runs in found.items():
        middle = [
            median(getattr(run, field) for run in runs)
            for field in ("requests_per_s", "cpu_us", "p50_ms", "p99_ms")
        ]
        print("| {} | {} | {:,.0f} | {:,.0f} | {:.2f} | {:.2f} |".format(name, connections, *middle))
    for connections, field in ((32, "requests_per_s"), (32, "cpu_us"), (1, "p50_ms")):
        for name in ("everloop, compiled", "everloop, unmodified", "everloop, compiled, power-safe"):
            pairs = zip(found[name, connections], found["FastAPI", connections], strict=True)
            ratios = [getattr(ours, field) / getattr(peer, field) for ours, peer in pairs]
            print(
                f"\n{name} / FastAPI, {field} at {connections}: "
                f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                end="",
            )
    print()


if __name__ == "__main__":
    main()
