"""Work that must happen once, whatever dies: durable rows, leases, limits, schedules and a worker.

Answers: what is to be done, who is doing it, why does it wait, what came of it. Owns the tables `job`, `job_lane`,
`job_pool` and `schedule`. A job is put in the transaction of its cause; a worker takes it under a lease with a fencing
token (a number that rises with each taking), renews the lease by heartbeats, and its result is kept only under the token
that is still in force, so that a worker that was thought dead cannot commit. A job's lane limits how many of its sort run
at once. Leases run on machine time, schedules on domain time. May call ledger, workspace and storage; what a job does is
told by handlers from above.
"""

from everloop.jobs.agenda import instants_of, jobs_between
from everloop.jobs.lanes import ahead, all_lanes, pools, refusal, set_limits, why_waiting
from everloop.jobs.queue import cancel, check_priority, find, is_waiting, job, jobs_of, put
from everloop.jobs.records import LATEST, CatchUp, Handler, Job, Lane, Lease, Schedule, State, WhenFull
from everloop.jobs.schedules import (
    check_cron,
    find_schedule,
    fire_due,
    forget_schedule,
    list_schedules,
    next_instant,
    pause_in,
    pause_schedule,
    remove_schedule,
    resume_in,
    resume_schedule,
    schedule,
    schedule_in,
    schedules_due,
)
from everloop.jobs.worker import Worker, hold

__all__ = [
    "LATEST",
    "CatchUp",
    "Handler",
    "Job",
    "Lane",
    "Lease",
    "Schedule",
    "State",
    "WhenFull",
    "Worker",
    "ahead",
    "all_lanes",
    "cancel",
    "check_cron",
    "check_priority",
    "find",
    "find_schedule",
    "fire_due",
    "forget_schedule",
    "hold",
    "instants_of",
    "is_waiting",
    "job",
    "jobs_between",
    "jobs_of",
    "list_schedules",
    "next_instant",
    "pause_in",
    "pause_schedule",
    "pools",
    "put",
    "refusal",
    "remove_schedule",
    "resume_in",
    "resume_schedule",
    "schedule",
    "schedule_in",
    "schedules_due",
    "set_limits",
    "why_waiting",
]
