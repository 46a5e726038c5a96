"""Other engines in environments of their own, for tests that run there what everloop writes for them.

`tests/peers/NAME.txt` pins what is installed, with hashes; `make lock` makes it from `NAME.in`. An environment is made at
its first use, with uv or pip, and kept in `.peers`.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.needs import missing

REPOSITORY = Path(__file__).resolve().parent.parent
PEERS = REPOSITORY / ".peers"


def peer(name: str, *, with_us: bool = False) -> Path:
    """The folder of an environment's commands; the test is skipped, or fails, where it cannot be made.

    `with_us` installs this checkout in it, for which it has to have what everloop needs.
    """
    lock = REPOSITORY / "tests" / "peers" / f"{name}.txt"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    made_of = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    folder = PEERS / f"{name}-{version}-{made_of}"
    PEERS.mkdir(exist_ok=True)
    with (PEERS / f"{name}.lock").open("w") as waiting:
        fcntl.flock(waiting, fcntl.LOCK_EX)  # another worker of the same test run may be making it
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, lock, with_us=with_us)
            (folder / "complete").touch()
    return folder / "bin"


def _make(folder: Path, lock: Path, *, with_us: bool) -> None:
    python = str(folder / "bin" / "python")
    ours = ["--no-deps", "--no-build-isolation", "-e", str(REPOSITORY)]
    if (uv := shutil.which("uv")) is not None:
        commands = [[uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)]]
        install = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        commands = [[sys.executable, "-m", "venv", str(folder)]]
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    commands += [[*install, "--require-hashes", "-r", str(lock)], *([[*install, *ours]] if with_us else [])]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            told = "\n".join(done.stderr.strip().splitlines()[-5:])
            missing("peers", f"the environment of tests/peers/{lock.name} cannot be made: {told}")
