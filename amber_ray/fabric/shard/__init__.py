"""The shell of one ledger: turns calls, task ends and time into events, and performs its commands.

    shard         `Shard`: the calls it answers, most of them handed on to the modules below; `_feed` into the
                  ledger, `_perform` for its commands
    context       what the other modules share: ledger, index, values in memory, ports
    ports         what an adapter must provide: tasks, parts, journal, lease, other shards, clock

    requests      callers' requests and sessions: admitted (an id that two engines bring is one request),
                  withdrawn, journaled, resumed after a restart; tells engines of changed values
    ├ tallies     what engines have counted by themselves, added up
    ├ records     one request as it is remembered and journaled; its answers outlive the ledger's request
    └ plan_cache  plans that engines have sent before, which they then name instead of sending again

    dispatch      hands tasks over; every way a task can end becomes one event
    ├ actor_pools warm actors of class features: when one is started, given a batch, ended
    └ forwarding  steps that another shard owns: asking it, answering it, borrowing its values

    spill         writes values to Parquet, and brings them back into memory
    ├ restore     reads rows of parts, and tells what can't be read now from what is gone
    └ listing     the index kept in step with the parts in the store
    purging       purges and compaction over all shards: writes held off, parts rewritten, copies called back

    deliveries    callbacks, at the first shard: what is promised, when it is sent, what came of it
    audit         the log of changes, at the first shard: lines taken in and written
    demands       which demands there are and how they stand; names the process that sees to them

    maintenance   runs what is due every few seconds or hours; `shard` lists what that is
    inspection    what a request would do, expected costs, failures and counters, as they are told to engines
    ├ store_size  how much the store holds, measured while somebody asks
    └ traces      spans of requests that wait, of tasks and their steps, of writing

Who decides is always the ledger (`core.ledger`): what runs next, what is retried, written, evicted.

Its interface is `Shard`, which an engine calls, and the ports that an adapter must provide (`ports`).
Must not know: engines, Ray, threads, files, the clock of this machine.
"""
