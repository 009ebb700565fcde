"""What outlives a cluster, in a directory or a bucket: values, accepted requests, purges, the owner's lease.

    parquet      values in Parquet parts: write, read, list, join, purge      <store>/values/
    ├ part       one part: its name, its row groups, its checksums
    ├ rows       the columns of a part; types and arrays map values to Arrow
    └ spans      checksums over row groups
    key_index    in memory: which part and row has the value of a key
    journal      accepted requests                                            <store>/requests/
    purge_log    purges of the last day                                       <store>/purges/
    ├ json_files one record per JSON file
    lease        which server owns the store                                  <store>/lease.json
    files        the files below all of these: what counts as written, as unreadable and as not there

`ValueStore`, `Journal`, `PurgeLog`, `Lease` and `KeyIndex` are what other rooms use. They raise `StoreError`
for whatever can't be read or written now, and a subclass of it for what is known to be damaged.
"""
