"""The pure core: what may be declared, how a request becomes keyed steps, and what happens to each key.

Nothing below here imports Ray or asyncio, or reads a clock, the environment or a file, but for source code
(`fingerprint`): time and identifiers are arguments, so the simulation runs this very code. Read the rooms in
this order; each imports only from those above it:

    values        which types a value may have, and the check of a value against its type
    model         assets, requests and results, and the protocol `Service`
    fingerprint   the digest of a feature's code
    declare       `@feature` and the registry
    planning      a request becomes steps, each with its key
    state         the states of a key; the ledger's events and commands
    scheduler     which ready steps form the next task
    ledger        what happens to each key; its theory of operation is in its docstring
    deliveries    webhooks: what is signed, when it is sent again, where it may go
"""
