"""What outlives a cluster, in a directory or a bucket: values, accepted requests, purges, the owner's lease.

    parquet      values in Parquet parts: write, read, list, join, purge      <store>/values/
    │            moves a damaged part away                                    <store>/quarantine/
    ├ provenance what parts tell of values beside the values
    ├ part       one part: the columns, and what its footer tells
    │ └ sealed   a Parquet file that never changes: its name, its row groups; compares checksums, raises
    │   │        `DamagedPart`
    │   └ spans  holds one checksum per row group, and judges nothing
    └ rows       the columns of a part
      └ types    value types as Arrow columns, there and back
        ├ arrays the same for numpy arrays
        └ columns  texts, bytes and numbers as Arrow columns
    assets       what is known of assets: their places, kinds and sizes         <store>/assets/packs/
    ├ asset_pages   those of them that a page tells, in the order of their places
    └ older_assets  what older stores know of them, until it is taken over
    known_keys   keys of parts, so that a start need not open all of them       <store>/index/
    key_index    in memory: which part and row has the value of a key
    journal      accepted requests at rest; when and what: `fabric.shard`,    <store>/requests/
    │            `requests` and `records` there
    purge_log    purges of the last day; repeated by `fabric.shard.purging`   <store>/purges/
    deliveries   webhooks to be sent, and those that were; by `fabric.shard`    <store>/deliveries/
    audit        who changed what: lines in Parquet                             <store>/audit/
    demands      what is wanted of which media, and how that stands             <store>/demands/
    ├ runs       what a demand is true of: long sorted tables; listings         <store>/demands/runs/
    tokens       hashes of API tokens; `amber token` alone writes them          <store>/tokens/
    ├ json_files one record per JSON file; a damaged one goes to quarantine too
    lease        which server owns the store                                  <store>/lease.json
    files        the files below all of these: what counts as written, as unreadable and as not there

When to write and what to evict is decided by `core.ledger.memory`; `fabric.shard.spill` has it done, by
`fabric.worker.store_tasks`.

`ValueStore`, `AssetPacks`, `Journal`, `PurgeLog`, `TokenBook`, `DemandBook`, `DeliveryBook`, `AuditBook`,
`Runs`, `Lease` and `KeyIndex` are what other rooms use. They raise `StoreError` for whatever can't be read or
written now, and a subclass of it for what is known to be damaged.
"""
