"""When a model is trained again, and why.

Answers: does what was found since the last training justify another one. Owns the tables `retraining_policy` and
`retraining_decision`. A policy is a condition over findings and contradictions, with a cool-down; deciding is a pure
function of the evidence, and a decision to retrain is stored with the numbers it was made on, in the transaction that
puts the job. The training itself is done by whoever runs that job: this room never calls it. May call monitoring,
feedback and below.
"""

from everloop.retraining.conditions import (
    Alarmed,
    Arrived,
    Both,
    Condition,
    Contradicted,
    Drifted,
    Either,
    Evidence,
    Found,
    Labelled,
    alarmed,
    arrived,
    contradicted,
    drifted,
    labelled,
    to_value,
)
from everloop.retraining.decide import (
    TRAIN,
    Armed,
    Decision,
    Outlook,
    Verdict,
    consider,
    decision,
    decisions,
    outlook,
    policies,
    set_policy,
    wants_training,
)

__all__ = [
    "TRAIN",
    "Alarmed",
    "Armed",
    "Arrived",
    "Both",
    "Condition",
    "Contradicted",
    "Decision",
    "Drifted",
    "Either",
    "Evidence",
    "Found",
    "Labelled",
    "Outlook",
    "Verdict",
    "alarmed",
    "arrived",
    "consider",
    "contradicted",
    "decision",
    "decisions",
    "drifted",
    "labelled",
    "outlook",
    "policies",
    "set_policy",
    "to_value",
    "wants_training",
]
