"""Amber inside a Ray cluster; read its rooms in the order in which they stand here.

    transport   messages between engines, shards and workers
    worker      what runs in Ray's worker processes: steps, warm models, reads and writes of Parquet
    shard       `Shard`: one ledger and what performs its commands; decides what runs, and where values are
    engine      `Engine`: the `Service` that replicas and Python programs call; sends each shard its part
    demands     `Steward`: sees to it that what demands want becomes true, through an engine
    adapter     the cache actor, and the ports of shard and engine: Ray, files, time
    heap        settings of Python's garbage collector for processes that many wait for

A cache actor is one `Shard` in a Ray actor: `adapter.cache_actor` only gives it a process. The keys are
divided among the shards, by asset; each shard is the one place where its keys are decided about.

`shard`, `engine` and `demands` are plain asyncio classes over ports and know no Ray: the simulation in
`tests/simulation` runs them on virtual time. `adapter` binds the ports to Ray, files and time.
"""
