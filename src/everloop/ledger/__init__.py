"""Where things come from and who did what: lineage and audit, written in the transaction of the act itself.

Answers: what was this made from, what was made from this, who did what when, and has anybody changed that record.
Owns the tables `lineage` and `audit`. Lineage is a graph of nodes (kind, id) with edges from what was used to what
was made. Audit is an append-only chain: each entry's hash covers its content and the hash before it, and is signed
with a key kept outside the database, so that a changed, removed, inserted or cut-off entry and a recomputed chain
are found by `verify`. May call workspace and storage.
"""

from everloop.ledger.chain import AuditEntry, Verdict, audit, derived_key, entries, head, verify
from everloop.ledger.lineage import Edge, Kind, Node, downstream, link, upstream

__all__ = [
    "AuditEntry",
    "Edge",
    "Kind",
    "Node",
    "Verdict",
    "audit",
    "derived_key",
    "downstream",
    "entries",
    "head",
    "link",
    "upstream",
    "verify",
]
