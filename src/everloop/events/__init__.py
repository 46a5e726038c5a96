"""What happened, told to whoever wants to know: an outbox and its delivery.

Answers: what happened since, and who was told. Owns the table `event`. An event is written in the transaction of what
it tells, so that nothing is told that did not happen and nothing that happened is forgotten; background work delivers
it to the log and to the webhook of the settings, at least once, with the event's id for the receiver to recognise a
repetition. May call ledger and below.
"""

from everloop.events.delivery import deliver, has_undelivered
from everloop.events.outbox import Event, emit, event, newest, since

__all__ = ["Event", "deliver", "emit", "event", "has_undelivered", "newest", "since"]
