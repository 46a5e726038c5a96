"""What happened, told to whoever wants to know: an outbox, webhooks, and their delivery.

Answers: what happened since, and who was told. Owns the tables `event`, `webhook` and `webhook_delivery`. An event is
written in the transaction of what it tells, so that nothing is told that did not happen and nothing that happened is
forgotten; background work delivers it to the log, to the webhook of the settings and to the webhooks that people added,
at least once, with an id for the receiver to recognise a repetition. May call access and below.
"""

from everloop.events.delivery import deliver, has_undelivered
from everloop.events.outbox import Event, emit, event, newest, since
from everloop.events.webhooks import (
    Attempt,
    Webhook,
    add_webhook,
    announce,
    change_webhook,
    list_webhooks,
    remove_webhook,
    try_webhook,
    webhook,
)

__all__ = [
    "Attempt",
    "Event",
    "Webhook",
    "add_webhook",
    "announce",
    "change_webhook",
    "deliver",
    "emit",
    "event",
    "has_undelivered",
    "list_webhooks",
    "newest",
    "remove_webhook",
    "since",
    "try_webhook",
    "webhook",
]
