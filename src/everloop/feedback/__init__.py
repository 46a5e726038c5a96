"""What the world said about our answers, joined to the predictions it is about.

Answers: which answers were corrected, by whom, and how many of those corrections contradict; how often was the model
right, measured on a random sample; what waits for a reviewer. Owns the tables `correction`, `outcome`, `reported_value`, `review_item`,
`audit_sample` and `waiting_label`. Corrections and outcomes are kept apart: a correction comes because somebody
minded the answer, so it trains and it triggers, but accuracy is estimated from outcomes alone, each with the
probability with which it was looked for.
May call serving (the prediction log and manifests), labels, data, events, ledger and below.
"""

from everloop.feedback.audits import audits, sample_for_audit
from everloop.feedback.contradictions import contradictions
from everloop.feedback.correct import correct, corrections, corrections_of
from everloop.feedback.forget import forget_keys, with_keys
from everloop.feedback.imports import import_corrections
from everloop.feedback.labelling import absorb, waiting
from everloop.feedback.outcomes import outcomes, record_outcome
from everloop.feedback.recent import Exchange, Exchanges, Said, exchanges
from everloop.feedback.records import (
    AuditSample,
    Contradictions,
    Correction,
    ImportReport,
    Outcome,
    ReportedValue,
    ReviewItem,
    VariantCount,
    WaitingLabel,
)
from everloop.feedback.review import answer_review, answer_reviews, open_reviews, review_item, review_queue
from everloop.feedback.truth import differing
from everloop.feedback.values import report_value, reported_values

__all__ = [
    "AuditSample",
    "Contradictions",
    "Correction",
    "Exchange",
    "Exchanges",
    "ImportReport",
    "Outcome",
    "ReportedValue",
    "ReviewItem",
    "Said",
    "VariantCount",
    "WaitingLabel",
    "absorb",
    "answer_review",
    "answer_reviews",
    "audits",
    "contradictions",
    "correct",
    "corrections",
    "corrections_of",
    "differing",
    "exchanges",
    "forget_keys",
    "import_corrections",
    "open_reviews",
    "outcomes",
    "record_outcome",
    "report_value",
    "reported_values",
    "review_item",
    "review_queue",
    "sample_for_audit",
    "waiting",
    "with_keys",
]
