"""The ledger of one shard: what is known of every key, who waits for it, and what is to be done next.

Theory of operation
===================

The ledger is a state machine. `Ledger.handle(event, now)` takes in one event and returns commands. It
performs nothing, waits for nothing and reads no clock, and values never pass through it: the shell holds
those. So a whole history can be replayed, and the simulation runs this code, not a model of it.

**Entries.** An `Entry` is what is known of one key. There is one exactly while the key is on its way (LIVE:
WAITING, QUEUED, RUNNING, RESTORING), has its value in memory (AVAILABLE: HOT, not written or never to be;
KEPT, also in Parquet), or has FAILED. A key without an entry is COLD if the index has it, else ABSENT.
`state.entry.TRANSITIONS` lists every change of state with its cause; `Entry.move` is the only way to make
one, and raises `IllegalTransition` with the key's story (`story`) for a pair that is not in the table.

    ABSENT ─need→ WAITING ─ready→ QUEUED ─start→ RUNNING ─done→ HOT ─store→ KEPT ─evict→ COLD
                     ↑                              │  └fail→ FAILED          ↑            │
                     └─────────── retry ────────────┘                     RESTORING ←──────┘

**An event has three phases.** Its handler changes entries and notes answers. `Graph.collect` then judges
every key in which somebody has less interest than before: late, so that what is let go and needed again
within one event is not touched. `Ledger._follow_up` at last turns the new state into commands: restores,
writes, evictions, drops, questions to other shards, and as many tasks as the scheduler admits.

**Interest** has two forms, each recorded at both of its ends: a *waiter* is a request that wants an answer
(`Request.pending`, `Entry.waiters`), a *dependent* is a step that has yet to read the value
(`Entry.dependents`, and `Entry.needs`). A key that has neither is not wanted. It is dropped if its work has
not begun, stopped after a grace period if it runs, and evictable, or dropped, if its value is in memory.

**Down and up.** A request makes its targets wanted, and a wanted step its inputs, down to keys that have a
value (`ensure`, `plan`); what is in the index is restored instead of computed. A step counts its inputs that
lack a value (`missing`), and is QUEUED when there are none. A value (`available`) counts down its dependents
and answers the waiters. A failure (`fail`) fails the dependents and answers the waiters, each with the same
reason. A value that is gone (`invalidate`) is made again if it is wanted, and its dependents count it as
missing again. An asset that moved after it was planned is read where the newest plan found it (`relocate`).

**Found units.** What is for each range of a finder is in a plan once, as a template (`planning.fanout`). A
template has an entry like a step: it is WAITING for its finder, and has waiters and dependents. It never
runs. A finder's value brings its windows along (`Entry.windows`, for as long as the value is in memory), and
when that makes it available `Ledger._expand` puts the steps of each window in the template's place:
those that gather it are widened to them (`Graph.widen`), and requests that wait for it are told (`Expanded`)
and wait for them instead. So all that is said here of steps is true of units that nobody knew when a request
came. Many windows are unrolled over many events (`Entry.unrolling`), for each of which `wake_at` asks. Nobody
sees any of it before it is whole: until then the template waits as before, may be dropped, and begins anew
with the next value if its finder's is gone. Then one after the other of those who wait is handed the units,
if they leave it within `steps_per_request`; else it is refused what it waits for by this template.

**Urgency.** A step's rank is the highest among its waiters and dependents, passed down to its inputs at once
(`priority`), so that urgent work is never stuck behind an input that somebody else asked for in passing.

**Attempts.** A `Submit` hands steps over as one task; `Entry.task` is the task that a RUNNING key belongs to.
A task ends once, by `Reported` or `TaskLost`, and holds its resources until then, also when it was cancelled.
What it says of a key that no longer names it is dropped. A step of another shard is "run" by asking that
shard (`Task.home`).

**Faults and retries.** A failure of kind "system" is tried again after a pause that doubles, as often as the
recipe says; other kinds are final. Of several steps that lost a worker together, each is tried alone first,
and that is charged to none of them; inputs that could not be read are counted apart from the step's own
tries. A failure is an answer: it is remembered for a time that depends on its kind, and told at once to
whoever asks.

**Memory.** A value that came into memory is charged to the budget. One that is to be stored is written within
`spill_seconds` and is evictable once it is written (KEPT); one that is never stored is evictable, or dropped,
when nobody is about to read it. Over budget, evictable values go, those first that are cheapest to have back
(`memory`). A write that fails is tried again, since the value is still there; what was released while it was
being written makes the write stale, and its end says nothing of a newer value.

**Time.** All that ends by itself is an alarm (`alarms`) or the time of the next write, and `wake_at` is the
earliest. An alarm is never taken back: one that has lost its reason does nothing. *Every pause has an alarm
or an awaited event*:

    WAITING, missing inputs     those are LIVE themselves (a template: its finder)
    WAITING, being expanded     the next event, at once
    WAITING, paused             alarm "retry"
    QUEUED                      the end of some task, or of a write where memory is far over budget
    RUNNING                     its task's end; and alarm "grace" once nobody wants any of the task
    RESTORING                   the end of the read
    HOT, to be written          `Memory.due`, then the end of the write
    FAILED                      alarm "forget"
    a request with a deadline   alarm "deadline"

Invariants
==========

`invariants.check` states them as code. Tests and the simulation run it after every event.

I1  *A key has at most one live attempt.* `Entry.task` names it; START is only possible from WAITING and
    QUEUED, and every report is compared with it.
I2  *A value that was delivered stays until it is evicted, purged or lost, and one that is to be stored is
    evicted only after it is written.* Only `Graph._settle` makes a value evictable, and only if no step is
    about to read it and nothing is to be written; `plan` takes that back when a step needs it.
I3  *Every waiter is answered exactly once.* Waiters are added and removed in `requests` alone, at both ends
    together; `answer` empties an entry's waiters as it tells them.
I4  *A step is as urgent as the most urgent request or step that waits for it.* Ranks are raised where
    interest is added and lowered in `collect`.
I5  *Bytes in memory are within budget once writes are through, but for values that steps are about to read.*
    `_follow_up` evicts after every event; above twice the budget no task is handed over until writes are
    through.
I6  *Work that nobody waits for is stopped after a grace period, and shared work is not.* `collect` judges
    every key that lost interest, and a task is cancelled only if none of its keys is wanted from outside it.

What the shell must do
======================

- Take in one event at a time, with a `now` that never goes back, and perform the commands in order before the
  next: `Deliver` comes before the `Drop` of the same value, so whoever is told of it can still take it.
- Answer each `Submit` with exactly one `Reported` or `TaskLost`, each key of a `Spill` with `Stored` or
  `StoreFailed`, and each key of a `Restore` with `Restored`, `RestoreFailed` or `Unreadable`, whatever
  happens. A lost answer is work that never ends.
- Hold a task's values only if `accepts` says so, and let go of them at `Drop` alone.
- Keep the index in step: a key is in it before `Stored`, and out of it before `RestoreFailed` and `Purged`.
- Say `Lost` when a value in memory turns out to be gone, `CapacityChanged` when nodes come or go, and `Tick`
  at `wake_at`; late is allowed, never is not.

Where to look:

    ledger       `handle`: the events of requests and storage, and the commands that follow from each event;
                 templates that become steps (`_expand_some`)
    graph        entries and edges: how one key's change reaches others; retries (`again`), evictable values;
                 an asset that moved (`relocate`)
    attempts     tasks handed over, whom each end of one is charged to (`graph.again` then retries or
                 fails the step), and tasks cancelled
    requests     waiters: who is told of which key, exactly once
    memory       what must be written, and when; what is evicted first
    priority     ranks passed down to inputs, and lowered again
    alarms       times at which the ledger wants to be woken: retries, grace periods, deadlines
    invariants   I1 to I6 as code
    foresight    what a request would do: the same code on copies, for `explain`
    story        the last changes of state, for messages of errors
    tally        what became of steps, by feature, for operators

The vocabulary is in `core.state`, and which ready steps form a task is `core.scheduler`'s.
Must not know: Ray, files, clocks, what a value is.
"""
