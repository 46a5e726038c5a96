"""The user's own history once more, day by day, with what was known on each day.

Answers: when would this loop have raised an alarm, trained again and rolled back, and how right would its answers have
been, with the loop and without. `run` copies rows and labels as they became known into a simulated workspace of its
own and lets the same rooms work there as in a live one: answers, watches, triggers, gates, canaries. The workspace
that is looked at is not changed. Owns no table. May call background and below.
"""

from everloop.backtest.history import History, read_history
from everloop.backtest.replay import run
from everloop.backtest.results import Backtest, Week

__all__ = ["Backtest", "History", "Week", "read_history", "run"]
