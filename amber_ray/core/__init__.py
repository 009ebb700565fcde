"""The pure core: what may be declared, how a request becomes keyed steps, and what happens to each key.

Nothing below here imports Ray or asyncio, or reads a clock, a file or the environment: time and identifiers
are arguments, so the simulation runs this very code. Read the rooms in this order; each imports only from
those above it: `values`, `model`, `fingerprint`, `declare`, `planning`, `state`, `scheduler`, `ledger`.
"""
