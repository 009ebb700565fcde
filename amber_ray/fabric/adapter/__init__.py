"""Binds the ports of `shard` and `engine` to Ray, files and the clock; the simulation replaces this alone.

    cluster        Ray itself: starts or joins a cluster, finds or makes the cache actors, stops them
    cache_actor    one `Shard` as a detached Ray actor: adds the process, and nothing else
    shard_ports    a shard's ports: Ray tasks and actors, parts, journal, lease, clock
    stored_parts   what a shard only looks at in a store: the half of `Parts` that changes nothing
    engine_ports   an engine's ports: cache actors, Ray's object store, the catalogue
    engine_start   `start_engine`, by which every way in gets an engine
    introduction   cache actors that are there: found by their names, waited for until they answer
    steward_actor  the process that sees to demands, as an actor of the first shard's
    listings       what a steward lists: media of this machine and of object stores, and runs in the store
    watching       where something happens in folders, as the operating system tells it
    registering    features given by a program to the engine in it: pickled as they are then
    sender         callbacks: one POST over a connection whose address was checked
    machine        what this machine is to both: the catalogue's files, time, names; without Ray
    reading        engine and shard in one process over a store that is only read; without Ray
    gateway        `ray://`: an engine in an actor of the cluster, and the `Service` outside that calls it
    logs           what a process says to an operator: one line for each event, to `amber serve` or on stderr
    worker_main    what Ray runs on workers: the bodies of `worker`, in a process whose lines are heard
    tracing        spans on their way to a collector, where settings name one
    otlp           a span, and a request with many, as OpenTelemetry's protocol has them
    faults         what a death in Ray means: each of Ray's exceptions as a `Fault`, which says what to retry

Must not know: HTTP.
"""
