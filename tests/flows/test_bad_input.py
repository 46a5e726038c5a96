"""Wrong use and broken surroundings, as a newcomer meets them at the command line.

Each case: the command, its exit code, what the message says was found, what the rule is and what to do next; and
nothing is half-written: the counts of versions, labels and runs are as before.
"""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from everloop.cli import main

EVERLOOP = [sys.executable, "-m", "everloop"]
COUNTED = [
    "dataset",
    "dataset_version",
    "label_schema",
    "label_event",
    "label_snapshot",
    "loop_version",
    "model_version",
]

LOOP = """
import everloop as el

goods = el.dataset("goods", key="id", inputs=["title"])
kind = el.label_set("kind", of=goods, classes=["tea", "bikes"])


@el.step
def split(rows: el.Table, labels: el.Table) -> el.Split:
    return el.split(rows, labels, test=0.5)


@el.step
def fit(data: el.Split) -> el.Model:
    raise RuntimeError("the oven is cold")


@el.pipeline
def train() -> el.Model:
    return fit(split(goods, kind))


model = el.model("kind", train)
"""

FILES: dict[str, str | bytes] = {
    "loop.py": LOOP,
    "goods.csv": "id,title\n" + "".join(f"{i},thing {i}\n" for i in range(20)),
    "labels.csv": "id,kind\n" + "".join(f"{i},{'tea' if i % 2 else 'bikes'}\n" for i in range(20)),
    "empty.csv": "",
    "heading.csv": "id,title\n",
    "open.csv": 'id,title\n1,a\n2,"b\n',
    "open_inside.csv": 'id,title\n1,"a\n2,b\n3,c\n',
    "wide.csv": "id,title\n1,a,b\n",
    "latin.csv": b"id,title\n1,caf\xe9\n",
    "index.csv": ",id,title\n0,1,a\n",
    "twice.csv": "id,title\n1,a\n1,b\n",
    "missing.csv": "id,titel\n1,a\n",
    "type.csv": "id,title\none,a\n",
    "text.parquet": "id,title\n1,a\n",
    "cut.jsonl": '{"id": 1, "title": "a"\n',
    "circle.csv": "name,parent\na,b\nb,a\n",
    "unknown.csv": "id,kind\n1,teaa\n",
    "stranger.csv": "id,kind\n999,tea\n",
    "gap.csv": "id,kind\n1,\n",
    "syntax.py": "import everloop as el\ngoods = (\n",
    "module.py": "import no_such_module\n",
    "twice.py": 'import everloop as el\nel.dataset("a", key="id", inputs=["t"])\nel.dataset("a", key="id", inputs=["t"])\n',
    "raises.py": "import everloop as el\n1 / 0\n",
    "name.py": 'import everloop as el\nel.dataset("A b", key="id", inputs=["t"])\n',
    "numbers.csv": "size,target\n" + "".join(f"{i / 7},{i * 1.37}\n" for i in range(40)),
    "one.csv": "size,kind\n" + "".join(f"{i / 7},tea\n" for i in range(40)),
    "all.csv": "size,name\n" + "".join(f"{i / 7},thing {i}\n" for i in range(40)),
}


@dataclass(frozen=True)
class Case:
    """A command, its exit code, and words of the three parts of its message."""

    command: str
    code: int
    found: str
    rule: str
    remedy: str


CASES = [
    Case("data ingest goods empty.csv", 2, "empty.csv is empty", "at least one row", "Check what wrote it"),
    Case("data ingest goods heading.csv", 2, "no rows", "at least one", "Check what wrote it"),
    Case(
        "data ingest goods open.csv", 2, "line 3: a quote is not closed", "ends with a quote", "written twice"
    ),
    Case(
        "data ingest goods open_inside.csv",
        2,
        "line 2: a quote is not closed",
        "ends with a quote",
        "written twice",
    ),
    Case("data ingest goods wide.csv", 2, "line 2 has 3 fields", "must be equal", "into quotes"),
    Case("data ingest goods latin.csv", 2, "byte 0xe9", "read as UTF-8", "iconv"),
    Case("data ingest goods index.csv", 2, "column 1 has no name", "names all 3 columns", "index=False"),
    Case("data ingest goods twice.csv", 2, "row 2", "no value is there twice", "Correct the values"),
    Case("data ingest goods missing.csv", 2, "'title' is missing", "must be in every file", "has 'titel'"),
    Case("data ingest goods type.csv", 2, "row 1 has text", "whole number", "Correct the value"),
    Case("data ingest goods text.parquet", 2, "not a readable Parquet file", "Parquet", "Write it again"),
    Case("data ingest goods cut.jsonl", 2, "line 1 is not JSON", "one JSON object", "line"),
    Case("data ingest goods none.csv", 2, "no file or folder none.csv", "", "Check the path"),
    Case("data ingest god goods.csv", 2, "no dataset 'god'", "", "Did you mean 'goods'"),
    Case(
        "labels define sort --dataset goods --classes circle.csv",
        2,
        "a > b > a",
        "cannot stand above itself",
        "change",
    ),
    Case(
        "labels import kind unknown.csv --key id --value kind --annotator me",
        2,
        "'teaa'",
        "does not know",
        "'tea'",
    ),
    Case(
        "labels import kind stranger.csv --key id --value kind --annotator me",
        2,
        "999",
        "does not have",
        "Ingest",
    ),
    Case(
        "labels import kind gap.csv --key id --value kind --annotator me",
        2,
        "row 1",
        "without 'kind'",
        "Fill them in",
    ),
    Case(
        "labels import kind labels.csv --key ID --value kind --annotator me",
        2,
        "no column 'ID'",
        "it has id",
        "Name",
    ),
    Case("apply syntax.py", 2, "line 2", "never closed", "Mend the loop file"),
    Case("apply module.py", 2, "line 1", "no module 'no_such_module'", "pip install no_such_module"),
    Case("apply twice.py", 2, "line 3", "each name stands once", "Rename one"),
    Case("apply raises.py", 2, "line 2", "division by zero", "Mend the loop file"),
    Case("apply name.py", 2, "'A b'", "begins with a small letter", "letter"),
    Case("apply none.py", 2, "no loop file none.py", "", "everloop init FILE.csv"),
    Case("run nothing", 2, "no pipeline 'nothing'", "it has", "train"),
    Case("models show kind@7", 2, "no model version 'kind@7'", "MODEL@NUMBER", "everloop models list"),
    Case("why nothing", 2, "'nothing' is no id", "these have one", "everloop trace"),
    Case("init empty.csv --into new", 2, "empty.csv is empty", "at least one row", "Check what wrote it"),
    Case("init numbers.csv --into new", 2, "'target' is a number", "regression", "--label"),
    Case("init one.csv --label kind --into new", 2, "is 'tea' in all 40", "two classes", "--label"),
    Case(
        "init all.csv --label name --into new",
        2,
        "40 different values in 40 rows",
        "classes repeat",
        "--label",
    ),
    Case("init goods.csv", 2, "loop.py is there already", "not overwritten", "--force"),
    Case(
        "init goods.csv --into new --label titel", 2, "names 'titel'", "the file has", "Did you mean 'title'"
    ),
    Case("up --host 0.0.0.0", 2, "host is 0.0.0.0", "auth is off", "settings.toml"),
    Case("up --port 0", 2, "0 is not in the range", "1<=x", "--help"),
]


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a dataset, labels and an applied loop file, beside all the broken files."""
    folder = tmp_path_factory.mktemp("prepared")
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in (
        "apply loop.py",
        "data ingest goods goods.csv",
        "labels import kind labels.csv --key id --value kind --annotator me",
    ):
        subprocess.run([*EVERLOOP, *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def project(_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(_prepared, folder)
    monkeypatch.chdir(folder)
    return folder


def run(command: str) -> int:
    try:
        main(command.split())
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def counts(project: Path) -> dict[str, int]:
    connection = sqlite3.connect(project / ".everloop" / "everloop.db")
    try:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in COUNTED}  # noqa: S608  (names from here)
    finally:
        connection.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.command)
def test_a_mistake_is_told_in_three_parts_and_leaves_nothing_behind(
    project: Path, capsys: pytest.CaptureFixture[str], case: Case
) -> None:
    before = counts(project)
    assert run(case.command) == case.code
    told = capsys.readouterr().err
    for part in (case.found, case.rule, case.remedy):
        assert part in told
    assert "Traceback" not in told
    assert counts(project) == before
    assert not (project / "new").exists()


def test_a_step_that_raises_fails_the_run_and_registers_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = counts(project)
    assert run("run train") == 1
    told = capsys.readouterr().err
    assert "step fit failed" in told
    assert "RuntimeError: the oven is cold" in told
    assert "finished steps come from the cache" in told
    after = counts(project)
    assert after == {**before, "label_snapshot": before["label_snapshot"] + 1}, (
        "the snapshot that the run pinned"
    )


def test_a_newer_database_is_left_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    connection = sqlite3.connect(project / ".everloop" / "everloop.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = counts(project)
    assert run("data ingest goods goods.csv") == 2
    told = capsys.readouterr().err
    for part in ("has schema 9999", "knows schemas up to", "pip install -U everloop"):
        assert part in told
    assert counts(project) == before
    assert run("doctor") == 3


def test_a_file_that_is_no_database_is_everloops_failure_with_the_remedy(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "other").mkdir()
    (project / "other" / "everloop.db").write_bytes(b"garbage" * 1_000)
    assert run("--home other data list") == 1
    assert "Restore the file from a backup" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('port = "x"', "it is a whole number"),
        ("prot = 1", "Did you mean 'port'"),
        ("port = = 1", "not valid TOML"),
    ],
)
def test_wrong_settings_are_named(
    project: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    (project / ".everloop" / "settings.toml").write_text(text)
    assert run("data list") == 2
    assert told in capsys.readouterr().err


def test_a_port_in_use_is_named_with_the_option(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(f"up --port {port}") == 2
    assert f"port {port} on 127.0.0.1 cannot be used" in capsys.readouterr().err


def test_a_fault_that_nobody_foresaw_is_one_message_and_its_traceback_is_in_a_file(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(project / ".everloop" / "blobs")
    (project / ".everloop" / "blobs").mkdir()
    monkeypatch.setattr("everloop.data.datasets", None)
    assert run("data list") == 1
    told = capsys.readouterr().err
    assert told.startswith("Error: an unexpected fault of everloop: TypeError: ")
    assert "Traceback" not in told
    assert "everloop doctor" in told
    (written,) = (project / ".everloop").glob("everloop-error-*.txt")
    assert str(Path(".everloop") / written.name) in told
    assert written.read_text().startswith("Traceback")


def in_mount(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script with mounts of its own, which is how a full and a read-only disk are made for root too."""
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine gives no mounts of one's own: unshare -m")
    text = script.replace("EVERLOOP", f"{sys.executable} -m everloop").replace("PYTHON", sys.executable)
    command = [unshare, "-m", "bash", "-c", text]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_full_disk_keeps_nothing_of_a_file_and_says_so(project: Path) -> None:
    rows = "".join(f"{i},{i * 7919 % 100_003} {i * 104_729 % 1_299_709}\n" for i in range(150_000))
    (project / "big.csv").write_text("id,title\n" + rows)
    (project / "small").mkdir()
    done = in_mount(
        "mount -t tmpfs -o size=3m none small && EVERLOOP --home small/h data define goods --key id && "
        "EVERLOOP --home small/h data ingest goods big.csv; echo code $?; "
        "EVERLOOP --home small/h data versions goods --json; EVERLOOP --home small/h audit verify",
        project,
    )
    assert "No space left on device. Nothing was kept of it. Free space" in done.stderr
    assert "Traceback" not in done.stderr
    assert "code 1" in done.stdout
    assert "[]" in done.stdout
    assert "The chain is intact." in done.stdout


@pytest.mark.slow
def test_a_read_only_home_is_everloops_failure_with_the_remedy(project: Path) -> None:
    done = in_mount(
        "mount --bind .everloop .everloop && mount -o remount,ro,bind .everloop && "
        "EVERLOOP data ingest goods goods.csv; echo code $?; EVERLOOP doctor; echo code $?",
        project,
    )
    assert "Traceback" not in done.stderr
    assert "can be reached and written, then run the same command again" in done.stderr
    assert "code 1" in done.stdout
    assert "FAILED     home" in done.stdout
    assert "code 3" in done.stdout


PREDICT = [
    ({"inputs": {"titel": "a thing"}}, "title"),
    ({"inputs": {"title": 7}}, "title"),
    ({"inputs": {"title": "a thing", "price": 3}}, "price"),
    ({"inputs": "a thing"}, "inputs"),
    ({}, "inputs"),
]


@pytest.fixture
def served(project: Path) -> Iterator[httpx.Client]:
    """A real server on a project whose version is live."""
    # one in ten is named like the other kind: a word that always decides would be a giveaway
    named = [
        ("leaf" if (i % 2 == 0) == (i % 10 != 0) else "saddle", "tea" if i % 2 == 0 else "bikes")
        for i in range(200)
    ]
    # and no two titles are nearly alike, which with another label would be contradictions
    rows = "".join(
        f"{i},a {word} of make {i * 7919 + 4096:b} {i**5 + 97:o},{kind}\n"
        for i, (word, kind) in enumerate(named)
    )
    (project / "shop.csv").write_text("id,title,kind\n" + rows)
    home = ["--home", str(project / "new" / ".everloop")]
    for command in (
        ["init", "shop.csv", "--into", "new"],
        ["models", "approve", "kind@1", "--reason", "a test", *home],
        ["work", *home],
    ):
        subprocess.run([*EVERLOOP, *command], cwd=project, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        subprocess.Popen(
            [*EVERLOOP, "serve", "--port", str(port), *home], stderr=subprocess.PIPE, text=True
        ) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        try:
            assert server.stderr is not None
            assert f"are at http://127.0.0.1:{port}/" in server.stderr.readline()
            wait_until_live(client, (project / "new" / "request.json").read_bytes())
            yield client
        finally:
            server.terminate()


def wait_until_live(client: httpx.Client, body: bytes) -> None:
    """Ask until the release is loaded."""
    deadline = time.monotonic() + 60
    while True:
        try:
            answer = client.post("/endpoints/kind/predict", content=body)
        except httpx.ConnectError:
            answer = None
        if answer is not None and answer.status_code == 200:
            return
        assert answer is None or answer.status_code in (404, 503), answer.text
        assert time.monotonic() < deadline, "the endpoint does not answer"


@pytest.mark.slow
def test_a_prediction_with_wrong_fields_names_them(served: httpx.Client) -> None:
    for body, named in PREDICT:
        answer = served.post("/endpoints/kind/predict", json=body)
        assert answer.status_code == 422, answer.text
        assert named in answer.json()["error"]["message"]
