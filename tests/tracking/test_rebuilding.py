"""A recorded environment is built anew, by uv or pip, from wheels in a folder: no network is used."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from everloop.errors import Invalid, NotReady
from everloop.tracking import Environment, installed, rebuild

NAME = "steadyhand-1.0.dist-info"
WHEEL = {
    "steadyhand.py": "def shift():\n    return 0.5\n",
    f"{NAME}/METADATA": "Metadata-Version: 2.1\nName: steadyhand\nVersion: 1.0\n",
    f"{NAME}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{NAME}/RECORD": "".join(
        f"{name},,\n" for name in ("steadyhand.py", f"{NAME}/METADATA", f"{NAME}/RECORD")
    ),
}


@pytest.fixture(params=["uv", "pip"])
def offline(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installers that have steadyhand 1.0 and nothing else."""
    if request.param == "pip":
        monkeypatch.setenv("PATH", str(tmp_path))
    elif shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "steadyhand-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in WHEEL.items():
            wheel.writestr(name, text)
    for tool in ("UV", "PIP"):
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(wheels))
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")


def recorded(*packages: tuple[str, str]) -> Environment:
    """This environment, but for its packages."""
    return dataclasses.replace(installed(), packages=packages, editable=())


@pytest.mark.usefixtures("offline")
def test_the_recorded_versions_are_installed_and_this_everloop_with_them(tmp_path: Path) -> None:
    python = rebuild(recorded(("everloop", "0.0.1"), ("steadyhand", "1.0")), tmp_path / "environment")
    asked = "import steadyhand, everloop, importlib.metadata as m; print(steadyhand.shift(), m.version('everloop'))"
    told = subprocess.run([python, "-P", "-c", asked], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["0.5", installed().version_of("everloop")]


@pytest.mark.usefixtures("offline")
def test_a_version_that_cannot_be_had_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        NotReady, match=r"(?s)cannot be rebuilt here: .*steadyhand==9\.9.*name a folder of wheels"
    ):
        rebuild(recorded(("steadyhand", "9.9")), tmp_path / "environment")


def test_what_was_installed_in_place_is_refused(tmp_path: Path) -> None:
    in_place = dataclasses.replace(recorded(("mine", "0.1")), editable=("mine",))
    with pytest.raises(Invalid, match=r"mine was installed in place from a folder \(pip install -e\)"):
        rebuild(in_place, tmp_path / "environment")


def test_another_platform_is_refused(tmp_path: Path) -> None:
    elsewhere = dataclasses.replace(recorded(), platform="win-amd64")
    with pytest.raises(Invalid, match="is CPython on win-amd64, this is"):
        rebuild(elsewhere, tmp_path / "environment")
