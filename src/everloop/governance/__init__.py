"""Where things come from and what depends on them, across all rooms.

Answers: from which rows, labels (and who gave them), code, environment, gates, approvals and model does this prediction
come; what was made from this row, version or file; why something happened, on which numbers; and is this
installation well; how long predictions are kept, where else, and whose are erased. It walks the records and the lineage that
the rooms below wrote, and owns the table `log_part` alone. A trace is a list of steps, each with the facts of one thing and the things it came from, so that
the command, the page and the JSON answer show the same. May call loop and all rooms below.
"""

from everloop.governance.cards import version_card
from everloop.governance.cleaning import Cleaned, clean_runs
from everloop.governance.doctor import Sign, examine
from everloop.governance.impact import Impact, impact
from everloop.governance.predictions import (
    Erased,
    Expiry,
    erase_predictions,
    expire_predictions,
    has_expiring,
)
from everloop.governance.shipping import Shipped, has_shipping, ship_log
from everloop.governance.trace import Trace, TraceStep, trace
from everloop.governance.why import FORMS, Reason, why

__all__ = [
    "FORMS",
    "Cleaned",
    "Erased",
    "Expiry",
    "Impact",
    "Reason",
    "Shipped",
    "Sign",
    "Trace",
    "TraceStep",
    "clean_runs",
    "erase_predictions",
    "examine",
    "expire_predictions",
    "has_expiring",
    "has_shipping",
    "impact",
    "ship_log",
    "trace",
    "version_card",
    "why",
]
