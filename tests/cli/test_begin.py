from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_entry import run
from tests.loop.test_begin import goods, table


def test_init_without_a_file_writes_one_to_fill_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("init", "--into", str(tmp_path)) == 0
    assert "el.dataset(" in (tmp_path / "loop.py").read_text()
    assert "everloop apply" in capsys.readouterr().out
    assert run("init", "--into", str(tmp_path)) == 2


def test_init_begins_in_the_folder_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, into = table(tmp_path / "goods.parquet", goods()), tmp_path / "project"
    assert run("init", str(file), "--into", str(into), "--no-train", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["data_version"], told["labels"], told["trained"]) == ("goods@1", 300, None)
    assert told["next"] == [f"everloop run train --home {into / '.everloop'}"]
    assert (into / ".everloop" / "everloop.db").exists()
    assert {Path(one).name for one in told["files"]} == {"loop.py", "request.json"}


@pytest.mark.slow
def test_a_version_that_fails_its_gates_is_exit_code_3_and_says_where_to_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twins = [{**row, "sku": f"s{i}"} for i, row in enumerate([*goods(200), *goods(200)])]
    file = table(tmp_path / "goods.parquet", twins)
    assert run("init", str(file), "--into", str(tmp_path / "project")) == 3
    told = capsys.readouterr().out
    assert "kind@1 FAILED its gates" in told
    assert "everloop models show kind@1" in told
    assert run("run", "train", "--home", str(tmp_path / "project" / ".everloop")) == 3
    assert "FAILED its gates" in capsys.readouterr().out


def test_doctor_answers_as_json_and_why_without_a_reason_lists_what_has_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ("--home", str(tmp_path / "home"))
    assert run("data", "list", *home) == 0
    capsys.readouterr()
    assert run("doctor", "--json", *home) == 0
    signs = json.loads(capsys.readouterr().out)
    assert {"database", "audit", "routes"} <= {one["about"] for one in signs}
    assert run("why", "nothing", *home) == 2
    assert "gr_... (a gate report)" in capsys.readouterr().err
