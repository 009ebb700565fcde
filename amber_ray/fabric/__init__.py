"""Amber inside a Ray cluster. Read in this order: `transport`, `worker`, `shard`, `engine`, `adapter`.

`shard` and `engine` are plain asyncio classes over ports and know no Ray: the simulation in
`tests/simulation` runs them on virtual time. `adapter` binds the ports to Ray, files and time.
"""
