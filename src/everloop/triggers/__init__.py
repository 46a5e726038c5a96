"""When a pipeline is run by itself: on a condition, on a call, or by hand, and what came of it.

Answers: what starts which pipeline, how far is each from starting it, when did it last, and who or what did it. Owns the
tables `trigger`, `trigger_firing` and `trigger_call`. A firing is stored with the evidence it was made on in the
transaction that puts the job, so it happens once, whoever looks. A condition may have to hold still for a while first; a
call is signed or comes with a token, and the same call again is the same firing. Fixed times are the schedules of `jobs`.
The pipeline is run by whoever runs the job: this room never calls it. May call retraining and below.
"""

from everloop.triggers.calls import NewCall, call, secret_of
from everloop.triggers.consider import consider, wants_firing
from everloop.triggers.manage import find, firing, firings, pause, resume, set_triggers, standings, why_idle
from everloop.triggers.params import INSTANT, Takes, check_params, takes_of
from everloop.triggers.records import PIPELINE, Firing, Standing, Trigger, lane_of, schedule_of
from everloop.triggers.signing import Signed, sign, verify

__all__ = [
    "INSTANT",
    "PIPELINE",
    "Firing",
    "NewCall",
    "Signed",
    "Standing",
    "Takes",
    "Trigger",
    "call",
    "check_params",
    "consider",
    "find",
    "firing",
    "firings",
    "lane_of",
    "pause",
    "resume",
    "schedule_of",
    "secret_of",
    "set_triggers",
    "sign",
    "standings",
    "takes_of",
    "verify",
    "wants_firing",
    "why_idle",
]
