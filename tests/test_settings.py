from __future__ import annotations

from pathlib import Path

import pytest

from everloop.errors import Invalid
from everloop.settings import home_of, load_settings, secret_values


def test_defaults_work_with_nothing_set(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, environ={})
    assert (settings.host, settings.port, settings.auth) == ("127.0.0.1", 8400, "off")
    assert settings.database.startswith("sqlite:///")
    assert settings.actor


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("port = 1\nhost = '127.0.0.2'\nactor = 'file'\n")
    settings = load_settings(tmp_path, environ={"EVERLOOP_PORT": "2", "EVERLOOP_ACTOR": "env"}, actor="line")
    assert (settings.host, settings.port, settings.actor) == ("127.0.0.2", 2, "line")


def test_the_home_comes_from_the_environment(tmp_path: Path) -> None:
    assert load_settings(environ={"EVERLOOP_HOME": str(tmp_path)}).home == tmp_path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "Did you mean 'port'"),
        ("port = 'many'", "whole number"),
        ("log_segment_s = 0", "it is 1 or more"),
        ("log_fsync = 'perhaps'", "true or false"),
        ("auth = 'maybe'", "'off' or 'token'"),
        ("port =", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(Invalid, match=message):
        load_settings(tmp_path, environ={})


def test_an_unknown_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="EVERLOOP_DATABASEURL"):
        load_settings(tmp_path, environ={"EVERLOOP_DATABASEURL": "x"})


def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={}).home == tmp_path / ".everloop"


def test_the_home_is_known_without_reading_settings_that_may_be_broken() -> None:
    assert home_of({"EVERLOOP_HOME": "/srv/loop"}) == Path("/srv/loop")
    assert home_of({"EVERLOOP_HOME": ""}) == Path(".everloop")


def test_secrets_are_known_by_the_names_of_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"GH_TOKEN": "one-of-four", "DB_PASSWORD": "two-of-four", "OPENAI_API_KEY": "three-of-four"}
    for name, value in {**told, "AN_EMPTY_SECRET": "", "A_SHORT_TOKEN": "on", "KEYBOARD": "not-one"}.items():
        monkeypatch.setenv(name, value)
    found = secret_values()
    assert set(told.values()) <= found
    assert not {"", "on", "not-one"} & found
