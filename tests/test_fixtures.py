from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from everloop.workspace import Workspace
from tests.needs import missing, required

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_database_is_empty_and_takes_writes(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE only_here (x INTEGER)"))
        assert sa.inspect(connection).get_table_names() == ["only_here"]
    engine.dispose()


@pytest.mark.parametrize("turn", ["first", "second"])
def test_no_test_sees_what_another_left_in_postgres(postgres_url: str, turn: str) -> None:
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == []
        connection.execute(sa.text("CREATE TABLE left_behind (x INTEGER)"))
    engine.dispose()


def test_a_workspace_is_a_simulation_that_starts_in_september(any_ws: Workspace) -> None:
    assert any_ws.is_simulation
    assert any_ws.now().isoformat() == "2026-09-01T00:00:00+00:00"


@pytest.mark.browser
def test_the_browser_runs_scripts(page: Page) -> None:
    page.set_content("<p id=answer></p><script>answer.textContent = 6 * 7</script>")
    assert page.inner_text("#answer") == "42"


def test_a_misspelt_need_is_refused() -> None:
    with pytest.raises(pytest.UsageError, match="posgres"):
        required("browser, posgres")


@pytest.mark.parametrize(
    ("require", "outcome"),
    [
        ("", pytest.skip.Exception),
        ("browser", pytest.skip.Exception),
        ("browser,data", pytest.fail.Exception),
    ],
)
def test_what_is_missing_is_skipped_unless_it_is_required(
    monkeypatch: pytest.MonkeyPatch, require: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("TEST_REQUIRE", require)
    with pytest.raises(outcome, match="no data here"):
        missing("data", "no data here")
