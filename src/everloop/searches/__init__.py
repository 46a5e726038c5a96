"""Which parameters of a pipeline give the best result: many runs of it, in parallel, the hopeless ones stopped early.

Answers: what was tried, what came of each, which is best. Owns the tables `search` and `search_trial`. Each trial is a
run of the pipeline below the search's own tracking run; what trials share comes from the cache. What is tried next is a
pure function of the space, the seed and the trials that were told, so a search that was killed goes on where it was. May
call pipelines and below; other ways to propose trials register under the entry point `everloop.searchers`. Names are
loaded when they are asked for: a loop file that only declares a search needs no database.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everloop.searches.conduct import resume, run_search
    from everloop.searches.look import find, of_run, searches, trials
    from everloop.searches.propose import Searcher, searcher_of
    from everloop.searches.records import Plan, Search, Trial
    from everloop.searches.space import Choice, Space, choice
    from everloop.searches.stopping import Halving, Median, Rule, halving, median

_HOMES = {
    "Choice": "space",
    "Halving": "stopping",
    "Median": "stopping",
    "Plan": "records",
    "Rule": "stopping",
    "Search": "records",
    "Searcher": "propose",
    "Space": "space",
    "Trial": "records",
    "choice": "space",
    "find": "look",
    "of_run": "look",
    "halving": "stopping",
    "median": "stopping",
    "resume": "conduct",
    "run_search": "conduct",
    "searcher_of": "propose",
    "searches": "look",
    "trials": "look",
}

__all__ = [
    "Choice",
    "Halving",
    "Median",
    "Plan",
    "Rule",
    "Search",
    "Searcher",
    "Space",
    "Trial",
    "choice",
    "find",
    "halving",
    "median",
    "of_run",
    "resume",
    "run_search",
    "searcher_of",
    "searches",
    "trials",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
