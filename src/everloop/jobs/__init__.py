"""Work that must happen once, whatever dies: durable rows, leases, schedules and a worker.

Answers: what is to be done, who is doing it, what came of it. Owns the tables `job` and `schedule`. A job is put in
the transaction of its cause; a worker takes it under a lease with a fencing token (a number that rises with each
taking), renews the lease by heartbeats, and its result is kept only under the token that is still in force, so that a
worker that was thought dead cannot commit. Leases run on machine time, schedules on domain time. May call ledger,
workspace and storage; what a job does is told by handlers from above.
"""

from everloop.jobs.agenda import instants_of, jobs_between
from everloop.jobs.queue import cancel, find, job, jobs_of, put, waiting
from everloop.jobs.records import Handler, Job, Lease, Schedule
from everloop.jobs.schedules import fire_due, list_schedules, remove_schedule, schedule, schedules_due
from everloop.jobs.worker import Worker, hold

__all__ = [
    "Handler",
    "Job",
    "Lease",
    "Schedule",
    "Worker",
    "cancel",
    "find",
    "fire_due",
    "hold",
    "instants_of",
    "job",
    "jobs_between",
    "jobs_of",
    "list_schedules",
    "put",
    "remove_schedule",
    "schedule",
    "schedules_due",
    "waiting",
]
