"""`Service` over the shards: plans requests, sends each shard its part, follows the answers, reads values.

    engine         `Engine`: each method of `Service`, and which of the modules below answers it
    single_flight  starts, joins, accepts and gives up requests; where a caller's hang-up withdraws one
    callbacks      requests whose end somebody is to be told of: both are kept before either is answered
    audit          has what is changed here written down before it is answered
    registries     what is planned with: the service's own registry, and those that callers brought
    planner        assets resolved, the plan made, and split into each shard's part
    requests       which requests are tracked, their answers and events (progress, result, done); tells shards
                   that an interest has ended (`release`), has copies of changed values forgotten (`updated`)
    └ request      one of them: its state, and how callers wait for it to change; it makes no events
    explaining     what a request would do, put together from what each shard foresees
    shard_client   what is told to a shard, and again after it restarted; the long poll for its updates
    lineage        what a value was made from, down to the media
    value_reader   values by key: from this process's memory, a part, a shard, or the object store
    ├ cache        this process's memory: values that were read, and answers for repeated requests
    └ near         which small stored values this process may read by itself, and reads them
    ports          what an adapter must provide: shards, objects, parts, assets, clock, names

Its interface is `Engine`, and the ports that an adapter must provide (`ports`).
Must not know: what a shard is made of, Ray.
"""
