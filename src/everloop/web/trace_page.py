"""`/trace/ID`: where does this come from: one chain from a prediction to rows, labels and people."""

from __future__ import annotations

from everloop import governance, registry, rollout
from everloop.governance import TraceStep
from everloop.web.visits import Shown, Visit

# What a reader asks at each link of the chain.
QUESTIONS = {
    "prediction": "What was asked, and what was answered?",
    "correction": "What did people say of it?",
    "what was live": "Why did this version answer?",
    "model version": "Which model was it?",
    "gates": "What was checked before it could go live?",
    "approval": "Who let it go live?",
    "run": "How was it made?",
    "code": "With which code?",
    "environment": "With which software?",
    "data": "From which rows?",
    "labels": "From which labels, and who gave them?",
    "label of this row": "What did people say of this very row?",
}


def view(visit: Visit) -> Shown:
    found = governance.trace(visit.ws, visit.path["id"])
    people = sorted({name for step in found.steps for name in _people(step)})
    return {"trace": found, "is_complete": found.is_complete, "people": people, "questions": QUESTIONS}


def view_search(visit: Visit) -> Shown:
    """The field to paste an id into, with things to try."""
    ws = visit.ws
    newest = [version for one in registry.models(ws) for version in registry.versions(ws, one.name, limit=1)]
    return {"versions": newest, "endpoints": rollout.endpoints(ws)}


def _people(step: TraceStep) -> list[str]:
    """Who had a hand in a link of the chain."""
    facts = step.facts
    found = [facts.get(name) for name in ("reporter", "by", "author", "created_by", "annotator")]
    found += list(facts.get("annotators", {}))
    return [str(one) for one in found if one]
