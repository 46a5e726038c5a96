"""Looking at searches."""

from __future__ import annotations

from everloop.errors import NotFound
from everloop.searches import store
from everloop.searches.records import Search, Trial
from everloop.workspace import Workspace


def find(ws: Workspace, search_id: str) -> Search:
    """One search. Raises NotFound."""
    with ws.read() as connection:
        found = store.search_by_id(connection, search_id)
    if found is None:
        raise NotFound(f"there is no search {search_id}. 'everloop search list' shows the newest.")
    return found


def of_run(ws: Workspace, run_id: str) -> Search | None:
    """The search whose tracking run it is, the parent of its trials' runs."""
    with ws.read() as connection:
        return store.search_by_run(connection, run_id)


def searches(ws: Workspace, *, limit: int = 50) -> list[Search]:
    """The newest searches, newest first."""
    with ws.read() as connection:
        return store.newest_searches(connection, limit=limit)


def trials(ws: Workspace, search_id: str) -> list[Trial]:
    """The trials of a search, in the order they began. Raises NotFound."""
    find(ws, search_id)
    with ws.read() as connection:
        return store.trials_of(connection, search_id)
